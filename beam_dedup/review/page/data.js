// Holds the data of the report, and loads groups and rejected images when they are shown.
//
// A page from the disk may not read files, but it may load scripts. So the data are scripts that call `addGroups` and
// `addRejected`. Groups are numbered as in the report.
"use strict";
DedupReview.data = (() => {
  const MOST_SHARDS = 48; // in memory
  const PLAIN = 1; // kinds of local files
  const LINK = 2;

  const shards = new Map(); // number -> groups; the least recently used first
  const waiting = new Map(); // number -> the functions of its promise
  let facts = null;
  let rejected = null;
  let rejectedWaiting = null;

  // The only scripts that may be added are those of the report.
  const policy = window.trustedTypes?.createPolicy("dedup-data", {
    createScriptURL: (address) => {
      if (/^data\/(groups-\d{4,}|rejected)\.js$/.test(address)) return address;
      throw new TypeError("no script of the report");
    },
  });

  function addScript(address, onError) {
    const script = document.createElement("script");
    script.addEventListener("load", () => script.remove());
    script.addEventListener("error", () => {
      script.remove();
      onError();
    });
    script.src = policy ? policy.createScriptURL(address) : address;
    document.head.append(script);
  }

  /** Called by data/index.js. */
  function start(given) {
    facts = given;
  }

  /** Called by data/groups-NNNN.js. */
  function addGroups(number, groups) {
    shards.set(number, groups);
    waiting.get(number)?.resolve(groups);
    waiting.delete(number);
    for (const oldest of shards.keys()) {
      if (shards.size <= MOST_SHARDS) break;
      shards.delete(oldest);
    }
  }

  /** Called by data/rejected.js. */
  function addRejected(rows) {
    rejected = rows;
    rejectedWaiting?.resolve(rows);
  }

  function shardOf(group) {
    return Math.floor(group / facts.shardGroups);
  }

  /** Returns the pictures of a group if they are in memory, else undefined. */
  function loaded(group) {
    const number = shardOf(group);
    const groups = shards.get(number);
    if (!groups) return undefined;
    shards.delete(number); // and to the end, as the most recently used
    shards.set(number, groups);
    return groups[group % facts.shardGroups];
  }

  /** Loads all groups that are in one file with a group. */
  function loadShard(number) {
    if (shards.has(number)) return Promise.resolve(shards.get(number));
    if (!waiting.has(number)) {
      const entry = {};
      entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
      waiting.set(number, entry);
      const name = `data/groups-${String(number).padStart(4, "0")}.js`;
      addScript(name, () => {
        waiting.delete(number);
        entry.reject(new Error(`${name} can't be loaded. Is the report complete?`));
      });
    }
    return waiting.get(number).promise;
  }

  async function load(group) {
    const groups = await loadShard(shardOf(group));
    return groups[group % facts.shardGroups];
  }

  /** Calls a function with the number and the pictures of each group, file by file. */
  async function forEachGroup(visit, groups) {
    const wanted = new Map();
    for (const group of groups) {
      const number = shardOf(group);
      if (!wanted.has(number)) wanted.set(number, []);
      wanted.get(number).push(group);
    }
    for (const [number, members] of wanted) {
      const pictures = await loadShard(number);
      for (const group of members) visit(group, pictures[group % facts.shardGroups]);
    }
  }

  function loadRejected() {
    if (rejected) return Promise.resolve(rejected);
    if (!rejectedWaiting) {
      rejectedWaiting = {};
      rejectedWaiting.promise = new Promise((resolve, reject) => Object.assign(rejectedWaiting, { resolve, reject }));
      addScript("data/rejected.js", () => rejectedWaiting.reject(new Error("data/rejected.js can't be loaded.")));
    }
    return rejectedWaiting.promise;
  }

  /** Returns one value of the index about a group. */
  function column(name, group) {
    return facts.columns[name][group];
  }

  /** Returns whether `dedup clean` may free the bytes of a file: a local one that is no link and no member of an archive. */
  const isPlain = (row) => row[3] === PLAIN;

  /** Returns the parts of a file: its directory, its name, its time in ms (0 unknown, -1 gone), and its address. */
  function file(row) {
    const [place, name, modified, kind] = row;
    const directory = facts.directories[place];
    return {
      directory,
      name,
      modified,
      uri: directory + name,
      isLink: kind === LINK,
      address: kind && modified >= 0 ? DedupReview.text.fileAddress(directory + name) : "",
    };
  }

  return {
    start,
    addGroups,
    addRejected,
    loaded,
    load,
    loadRejected,
    forEachGroup,
    column,
    file,
    isPlain,
    get facts() {
      return facts;
    },
    get count() {
      return facts.columns.files.length;
    },
  };
})();
