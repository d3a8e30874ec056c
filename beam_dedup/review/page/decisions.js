// Holds the decisions, with undo, and stores them in the browser.
//
// A decision is {keep: [numbers of pictures]} or {different: true}, with `freed`, the bytes that it would free.
// Accepting the proposal is {keep: [0]}; keeping none is {keep: []}.
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

  const encoded = (decision) => (decision.different ? "d" : `k${decision.keep.join(",")}`);

  function decoded(code, bytes) {
    if (code === "d") return { different: true, freed: 0 };
    const keep = code.length > 1 ? code.slice(1).split(",").map(Number) : [];
    return { keep, freed: bytes };
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

  /** Returns the decision to keep these pictures, given by number. */
  function keeping(pictures, numbers) {
    const keep = [...numbers].sort((a, b) => a - b);
    return { keep, freed: freedBytes(pictures, keep) };
  }

  /** Returns the bytes of local files that go if these pictures are kept. */
  function freedBytes(pictures, keep) {
    let total = 0;
    pictures.forEach((picture, number) => {
      const plain = picture.files.filter((row) => row[3]).length;
      if (!keep.includes(number)) total += plain * (picture.bytes ?? 0);
      else if (number === 0) total += picture.files.slice(1).filter((row) => row[3]).length * (picture.bytes ?? 0);
    });
    return total;
  }

  const acceptance = (group) => ({ keep: [0], freed: DedupReview.data.column("gain", group) });

  const isAccepted = (decision) => decision?.keep?.length === 1 && decision.keep[0] === 0;

  /** Returns a decision in words. */
  function words(decision, pictures) {
    if (!decision) return "";
    if (decision.different) return "different";
    if (isAccepted(decision)) return "accepted";
    if (!decision.keep.length) return "none kept";
    if (decision.keep.length === pictures) return "all kept";
    return `kept: ${decision.keep.map((number) => number + 1).join(", ")}`;
  }

  return {
    restore,
    set,
    setAll,
    undo,
    keeping,
    acceptance,
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
    get storageFailed() {
      return storageFailed;
    },
  };
})();
