// Converts decisions to the lines of decisions.jsonl, and back.
//
// `dedup` reads `decision`, `digest` and `digests`, and ignores all else: `uri`, `uris` and `time` are for people, and
// `accepted` marks groups of equal bytes, which need no decision, for this page.
"use strict";
DedupReview.decisionFile = (() => {
  const MOST_IN_ONE_LIST = 100; // digests; a list stands for all its pairs

  const uriOf = (picture) => DedupReview.data.file(picture.files[0]).uri;

  function line(decision, pictures, more = {}) {
    const digests = pictures.map((picture) => picture.digest);
    const uris = pictures.map(uriOf);
    const fields = pictures.length === 1 ? { digest: digests[0], uri: uris[0] } : { digests, uris };
    return { decision, ...fields, ...more };
  }

  /** Returns the lines for the decision on one group. */
  function linesOf(pictures, decision) {
    const known = pictures.filter((picture) => picture.digest);
    const [kept, ...others] = pictures;
    const pairs = (name) =>
      others.filter((other) => other.digest && kept.digest).map((other) => line(name, [kept, other]));
    if (decision.kind === "different") return differentLines(pictures, known, pairs);
    if (decision.kind === "all") return known.map((picture) => line("keep", [picture]));
    if (DedupReview.decisions.isAccepted(decision)) {
      const lines = pairs("same");
      return lines.length || !kept.digest ? lines : [line("none", [kept], { accepted: true })];
    }
    return known.flatMap((picture) => {
      const isKept = decision.keep.includes(pictures.indexOf(picture));
      if (!decision.keep.includes(0)) return [line(isKept ? "keep" : "drop", [picture])];
      // The proposal stays without a decision, and so its copies of the same bytes may go.
      if (picture === kept) return [];
      if (isKept) return [line("keep", [picture])];
      return kept.digest ? [line("same", [kept, picture])] : [];
    });
  }

  function differentLines(pictures, known, pairs) {
    if (known.length < pictures.length) return known.map((picture) => line("keep", [picture]));
    if (known.length > MOST_IN_ONE_LIST) return pairs("different");
    return [line("different", known)];
  }

  /** Returns the text of decisions.jsonl. */
  async function text() {
    const { data, decisions } = DedupReview;
    const time = new Date().toISOString();
    const parts = [];
    await data.forEachGroup((group, pictures) => {
      for (const one of linesOf(pictures, decisions.get(group))) parts.push(`${JSON.stringify({ ...one, time })}\n`);
    }, decisions.groups());
    return parts;
  }

  /** Returns the decisions in a text, by digest and by pair of digests; later lines win. */
  function parse(content) {
    const ofDigest = new Map();
    const ofPair = new Map();
    content.split("\n").forEach((row, index) => {
      if (!row.trim()) return;
      let given;
      try {
        given = JSON.parse(row);
      } catch {
        throw new Error(`Line ${index + 1} is not JSON.`);
      }
      if (!["same", "different", "keep", "drop", "none"].includes(given?.decision)) {
        throw new Error(`Line ${index + 1} is no decision.`);
      }
      if (typeof given.digest === "string") {
        ofDigest.set(given.digest, given.accepted === true ? "accepted" : given.decision);
      } else if (Array.isArray(given.digests)) {
        addPairs(ofPair, given.digests, given.decision);
      } else throw new Error(`Line ${index + 1} has no digest.`);
    });
    return { ofDigest, ofPair };
  }

  function addPairs(ofPair, digests, decision) {
    digests.forEach((one, at) => {
      for (const other of digests.slice(at + 1)) ofPair.set(pairKey(one, other), decision);
    });
  }

  const pairKey = (one, other) => (one < other ? `${one} ${other}` : `${other} ${one}`);

  /** Returns the decision on a group that parsed lines stand for; undefined for none. */
  function decisionOn(pictures, { ofDigest, ofPair }) {
    const { ALL, DIFFERENT, keeping } = DedupReview.decisions;
    const marks = pictures.map((picture) => ofDigest.get(picture.digest));
    if (marks.every((mark) => mark === "drop")) return keeping(pictures, []);
    if (marks.every((mark) => mark === "keep")) return ALL;
    const isKept = (mark, number) => mark === "keep" || (number === 0 && mark !== "drop");
    if (marks.includes("keep")) return keeping(pictures, [...pictures.keys()].filter((number) => isKept(marks[number], number)));
    const [kept, ...others] = pictures;
    const relations = others.map((other) => ofPair.get(pairKey(kept.digest ?? "", other.digest ?? "")));
    if (others.length && relations.every((one) => one === "different")) return DIFFERENT;
    const isAccepted = others.length ? relations.every((one) => one === "same") : marks[0] === "accepted";
    return isAccepted ? keeping(pictures, [0]) : undefined;
  }

  /** Saves the decisions as a file of the browser. */
  async function save() {
    const blob = new Blob(await text(), { type: "application/jsonl" });
    const address = URL.createObjectURL(blob);
    const link = DedupReview.text.element("a", { href: address, download: "decisions.jsonl" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  /** Adds the decisions of a file, and returns on how many groups it decides. */
  async function load(file) {
    const parsed = parse(await file.text());
    const { data, decisions } = DedupReview;
    const changes = [];
    await data.forEachGroup((group, pictures) => {
      const decision = decisionOn(pictures, parsed);
      if (decision) changes.push([group, decision]);
    }, Array.from({ length: data.count }, (_, group) => group));
    if (changes.length) decisions.setAll(changes);
    return changes.length;
  }

  return { save, load };
})();
