// Starts the page, and connects its parts: keys, buttons, decisions, and what is shown.
"use strict";
DedupReview.main = (() => {
  const MESSAGE_MS = 6000;
  const PARTS = ["groups", "run", "rejected"];

  const byId = (id) => document.getElementById(id);
  let messageTimer;

  /** Shows a message for a few seconds, and to screen readers. */
  function say(message) {
    byId("status").textContent = message;
    clearTimeout(messageTimer);
    messageTimer = setTimeout(() => byId("status").replaceChildren(), MESSAGE_MS);
  }

  // What the keys and buttons do.
  const actions = {
    accept() {
      const { decisions, detail } = DedupReview;
      const { group } = detail;
      if (group === undefined) return;
      if (!decisions.get(group)) decisions.set(group, decisions.acceptance(group));
      goOn();
    },
    keep(number) {
      const { decisions, detail } = DedupReview;
      const { group, pictures } = detail;
      if (!pictures?.[number]) return;
      const decision = decisions.get(group);
      const before = decision ? decisions.keptBy(decision, pictures) : [];
      const keep = before.includes(number) ? before.filter((one) => one !== number) : [...before, number];
      decisions.set(group, keep.length ? decisions.keeping(pictures, keep) : undefined);
    },
    all: () => decide(() => DedupReview.decisions.ALL),
    none: () => decide((pictures) => DedupReview.decisions.keeping(pictures, [])),
    different() {
      if (DedupReview.detail.pictures?.length === 1) say("Files with the same bytes can't be different pictures.");
      else decide(() => DedupReview.decisions.DIFFERENT);
    },
    clear() {
      const { decisions, detail } = DedupReview;
      if (decisions.get(detail.group)) decisions.set(detail.group, undefined);
    },
    undo() {
      const groups = DedupReview.decisions.undo();
      if (!groups) say("There is nothing to undo.");
      else if (groups.length === 1) DedupReview.list.chooseGroup(groups[0]);
      else say(`${DedupReview.text.count(groups.length, "decision")} undone.`);
    },
    next: () => DedupReview.list.move(1),
    previous: () => DedupReview.list.move(-1),
    nextPage: () => DedupReview.list.move(DedupReview.list.pageRows),
    previousPage: () => DedupReview.list.move(-DedupReview.list.pageRows),
    first: () => DedupReview.list.choose(0),
    last: () => DedupReview.list.choose(DedupReview.filters.shown.length - 1),
    undecided() {
      if (!DedupReview.list.chooseUndecided()) say("All groups of the list are decided.");
    },
    compare() {
      const { pictures } = DedupReview.detail;
      if (pictures?.length > 1) DedupReview.compare.open(pictures);
    },
    async save() {
      try {
        await DedupReview.decisionFile.save();
        say(`${DedupReview.text.count(DedupReview.decisions.count, "decision")} saved as decisions.jsonl.`);
      } catch (error) {
        say(error.message);
      }
    },
    filter() {
      byId("more-filters").open = true;
      byId("place").focus();
    },
    help: () => byId("help").showModal(),
  };

  /** Decides on the chosen group, and goes on. */
  function decide(decisionOn) {
    const { pictures, group } = DedupReview.detail;
    if (!pictures) return;
    DedupReview.decisions.set(group, decisionOn(pictures));
    goOn();
  }

  /** Chooses the next group; after the last one, the first that is not decided. */
  function goOn() {
    const { list, filters } = DedupReview;
    if (list.position + 1 < filters.shown.length) list.move(1);
    else actions.undecided();
  }

  const KEYS = {
    Enter: "accept",
    a: "all",
    n: "none",
    d: "different",
    u: "undo",
    Backspace: "clear",
    Delete: "clear",
    j: "next",
    ArrowDown: "next",
    k: "previous",
    ArrowUp: "previous",
    PageDown: "nextPage",
    PageUp: "previousPage",
    Home: "first",
    End: "last",
    g: "undecided",
    c: "compare",
    s: "save",
    "/": "filter",
    "?": "help",
  };
  const IN_COMPARE = ["accept", "all", "none", "different"]; // decisions that close the comparison

  function act(name, ...values) {
    actions[name](...values);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target;
    const isField = target.closest?.("input, select, textarea");
    if (isField) {
      if (event.key === "Escape") byId("list").focus();
      return;
    }
    if (byId("help").open || byId("confirm").open) return;
    if (byId("part-groups").hidden && event.key !== "?" && event.key !== "s") return;
    const inCompare = byId("compare").open;
    if (inCompare && DedupReview.compare.onKey(event)) return;
    // Enter and the space bar press the button that has the focus.
    if (event.key === "Enter" && target.closest?.("button, summary, a")) return;
    if (/^[1-9]$/.test(event.key)) {
      act("keep", Number(event.key) - 1);
      event.preventDefault();
      return;
    }
    const name = KEYS[event.key];
    if (!name || (inCompare && !IN_COMPARE.includes(name))) return;
    if (target.closest?.(".page-part") && name !== "save" && name !== "help") return;
    event.preventDefault();
    if (inCompare) byId("compare").close();
    act(name);
  }

  /** Shows how much is decided. */
  function showProgress() {
    const { data, decisions, text } = DedupReview;
    byId("progress-bar").value = data.count ? decisions.count / data.count : 1;
    const freed = decisions.freed ? `, frees ${text.size(decisions.freed)}` : "";
    byId("progress-text").textContent = `${text.numbers.format(decisions.count)} of ${text.numbers.format(data.count)} decided${freed}`;
    if (decisions.storageFailed) say("This browser can't remember decisions. Save them before you close the page.");
  }

  function showSummary() {
    const { data, text } = DedupReview;
    const { counts, leftOut, columns } = data.facts;
    const gain = columns.gain.reduce((sum, one) => sum + one, 0);
    const parts = [
      text.count(data.count, "group"),
      text.count(counts.duplicate ?? 0, "duplicate"),
      `${text.size(gain)} could be freed`,
    ];
    if (leftOut) parts.push(`${text.count(leftOut, "duplicate")} left out`);
    byId("summary").textContent = parts.join(" · ");
  }

  /** Shows one part of the report: groups, run or rejected. */
  function showPart(wanted) {
    for (const part of PARTS) {
      byId(`part-${part}`).hidden = part !== wanted;
      byId(`tab-${part}`).setAttribute("aria-selected", String(part === wanted));
      byId(`tab-${part}`).tabIndex = part === wanted ? 0 : -1;
    }
    if (wanted === "run") DedupReview.run.showRun();
    if (wanted === "rejected") DedupReview.run.showRejected();
  }

  function startTabs() {
    for (const part of PARTS) byId(`tab-${part}`).addEventListener("click", () => showPart(part));
    document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const at = PARTS.findIndex((part) => byId(`tab-${part}`) === document.activeElement);
      const part = PARTS[(at + step + PARTS.length) % PARTS.length];
      showPart(part);
      byId(`tab-${part}`).focus();
      event.preventDefault();
    });
  }

  function startBulk() {
    byId("accept-shown").addEventListener("click", () => {
      const open = DedupReview.filters.shown.filter((group) => !DedupReview.decisions.get(group));
      if (!open.length) {
        say("All groups of the list are decided.");
        return;
      }
      ask(`Accept the proposal for ${DedupReview.text.count(open.length, "undecided group")} of the list? One undo takes it back.`, () =>
        DedupReview.decisions.setAll(open.map((group) => [group, DedupReview.decisions.acceptance(group)])),
      );
    });
  }

  /** Asks a question, and calls a function if the answer is yes. */
  function ask(question, onYes) {
    byId("confirm-text").textContent = question;
    byId("confirm").returnValue = "no";
    byId("confirm").addEventListener("close", () => byId("confirm").returnValue === "yes" && onYes(), { once: true });
    byId("confirm").showModal();
    byId("confirm-yes").focus();
  }

  function startFiles() {
    byId("save").addEventListener("click", () => act("save"));
    byId("show-help").addEventListener("click", () => act("help"));
    byId("load").addEventListener("change", async (event) => {
      const [file] = event.target.files;
      event.target.value = "";
      if (!file) return;
      try {
        const count = await DedupReview.decisionFile.load(file);
        say(`${DedupReview.text.count(count, "decision")} loaded.`);
      } catch (error) {
        say(`The decisions can't be loaded. ${error.message}`);
      }
    });
  }

  /** Where there is room for one of both only, shows the list, or the chosen group. */
  function showList() {
    document.body.classList.remove("shows-detail");
    byId("list").focus();
  }

  function onChoose(group, open) {
    if (open) document.body.classList.add("shows-detail");
    DedupReview.detail.show(group).then(markFirst, (error) => say(error.message));
  }

  /** Notes when the first group is shown, for benchmarks. */
  function markFirst() {
    if (!performance.getEntriesByName("first-group").length) performance.mark("first-group");
  }

  function start() {
    const { data, decisions, filters, list, detail } = DedupReview;
    if (!data.facts) {
      say("data/index.js can't be loaded. Is the report complete?");
      return;
    }
    decisions.restore();
    decisions.onChange((groups) => {
      list.refresh(groups);
      detail.refresh();
      showProgress();
    });
    showSummary();
    showProgress();
    startTabs();
    startBulk();
    startFiles();
    list.start(onChoose);
    filters.start(() => list.reset(detail.group));
    document.addEventListener("keydown", onKey);
    byId("list").focus({ preventScroll: true });
  }

  return { start, act, say, ask, showList, showPart };
})();
DedupReview.main.start();
