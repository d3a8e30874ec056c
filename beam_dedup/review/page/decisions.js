// Holds the decisions, with undo, and stores them in the browser.
//
// A decision has one of these kinds, and `freed`, the bytes that it would free:
//
//   {kind: "keep", keep: [numbers of pictures]}   [0] accepts the proposal; [] keeps none
//   {kind: "all"}                                 every file stays, also those with the same bytes
//   {kind: "different"}                           the pictures are no duplicates of each other
"use strict";
DedupReview.decisions = (() => {
  const decided = new Map(); // group -> decision
  const past = []; // for undo: Maps of group -> the decision before, undefined for none
  const listeners = [];
  let freed = 0;
  let storageFailed = false;

  const key = () => `dedup-review:${DedupReview.data.facts.id}`;

  /** Restores the decisions that the browser has stored for this report. */
  function restore() {
    let stored;
    try {
      stored = JSON.parse(localStorage.getItem(key()) ?? "{}");
    } catch {
      return;
    }
    for (const [group, [code, bytes]] of Object.entries(stored)) {
      if (Number(group) < DedupReview.data.count) put(Number(group), decoded(code, bytes));
    }
  }

  function store() {
    const rows = {};
    for (const [group, decision] of decided) rows[group] = [encoded(decision), decision.freed];
    try {
      localStorage.setItem(key(), JSON.stringify(rows));
      storageFailed = false;
    } catch {
      storageFailed = true;
    }
  }

  const encoded = ({ kind, keep }) => (kind === "keep" ? keep.join(",") : kind);

  function decoded(code, bytes) {
    if (code === "all" || code === "different") return { kind: code, freed: 0 };
    return { kind: "keep", keep: code ? code.split(",").map(Number) : [], freed: bytes };
  }

  function put(group, decision) {
    freed -= decided.get(group)?.freed ?? 0;
    freed += decision?.freed ?? 0;
    if (decision) decided.set(group, decision);
    else decided.delete(group);
  }

  /** Decides on some groups, as one step for undo. A decision of undefined takes the earlier one back. */
  function setAll(changes) {
    const before = new Map();
    for (const [group, decision] of changes) {
      before.set(group, decided.get(group));
      put(group, decision);
    }
    past.push(before);
    changed(changes.map(([group]) => group));
  }

  const set = (group, decision) => setAll([[group, decision]]);

  /** Takes the last step back, and returns its groups; undefined if there is none. */
  function undo() {
    const before = past.pop();
    if (!before) return undefined;
    for (const [group, decision] of before) put(group, decision);
    const groups = [...before.keys()];
    changed(groups);
    return groups;
  }

  function changed(groups) {
    store();
    for (const listener of listeners) listener(groups);
  }

  const ALL = { kind: "all", freed: 0 };
  const DIFFERENT = { kind: "different", freed: 0 };

  /** Returns the decision to keep these pictures, given by number. */
  function keeping(pictures, numbers) {
    const keep = [...numbers].sort((a, b) => a - b);
    if (keep.length === pictures.length && keep.length > 1) return ALL;
    return { kind: "keep", keep, freed: freedBytes(pictures, keep) };
  }

  /** Returns the bytes of local files that go if these pictures, and not all, are kept. */
  function freedBytes(pictures, keep) {
    const going = pictures.map((picture, number) => {
      if (!keep.includes(number)) return picture.files;
      return number === 0 ? picture.files.slice(1) : [];
    });
    return going.reduce((sum, files, number) => sum + files.filter(DedupReview.data.isPlain).length * (pictures[number].bytes ?? 0), 0);
  }

  const acceptance = (group) => ({ kind: "keep", keep: [0], freed: DedupReview.data.column("gain", group) });

  const isAccepted = (decision) => decision?.kind === "keep" && decision.keep.length === 1 && decision.keep[0] === 0;

  /** Returns the numbers of the pictures that a decision keeps. */
  function keptBy(decision, pictures) {
    return decision.kind === "keep" ? decision.keep : [...pictures.keys()];
  }

  /** Returns a decision in words. */
  function words(decision) {
    if (!decision) return "";
    if (decision.kind === "different") return "different";
    if (decision.kind === "all") return "all kept";
    if (isAccepted(decision)) return "accepted";
    if (!decision.keep.length) return "none kept";
    return `kept: ${decision.keep.map((number) => number + 1).join(", ")}`;
  }

  return {
    restore,
    set,
    setAll,
    undo,
    keeping,
    acceptance,
    ALL,
    DIFFERENT,
    keptBy,
    isAccepted,
    words,
    get: (group) => decided.get(group),
    groups: () => [...decided.keys()].sort((a, b) => a - b),
    onChange: (listener) => listeners.push(listener),
    get count() {
      return decided.size;
    },
    get freed() {
      return freed;
    },
    get canUndo() {
      return past.length > 0;
    },
    get storageFailed() {
      return storageFailed;
    },
  };
})();
