// Shows the run: its counts, its plan, plots, the directories that share duplicates; and the rejected images.
"use strict";
DedupReview.run = (() => {
  const MOST_PAIRS = 20; // of directories
  const MOST_PLACES = 12; // directories of one group whose pairs are counted
  const REJECTED_AT_ONCE = 200;
  const BAR_WIDTH = 46;
  const PLOT_HEIGHT = 150;
  const IN_RECORDS = ["Initial_Image_Count", "Final_Image_Count", "Rejected_Count"]; // counters that records give as well

  let isRunShown = false;
  let isRejectedShown = false;

  const part = (name) => document.getElementById(`part-${name}`);

  function showRun() {
    if (isRunShown) return;
    isRunShown = true;
    const { element } = DedupReview.text;
    part("run").replaceChildren(
      element("h2", {}, "The run"),
      counts(),
      plan(),
      element("div", { className: "plots" }, distances(), sizes()),
      pairs(),
    );
  }

  function counts() {
    const { element, numbers, shownText } = DedupReview.text;
    const { counts: ours, run, k, verify } = DedupReview.data.facts;
    const rows = [
      ["Images", (ours.kept ?? 0) + (ours.duplicate ?? 0) + (ours.rejected ?? 0)],
      ["Kept", ours.kept ?? 0],
      ["Duplicates", ours.duplicate ?? 0],
      ["Rejected", ours.rejected ?? 0],
    ];
    for (const [name, value] of Object.entries(run ?? {})) {
      if (typeof value === "number" && !IN_RECORDS.includes(name)) rows.push([wordsOf(name), value]);
    }
    rows.push(["Thresholds", `${k} and ${verify} bits`]);
    return element(
      "dl",
      { className: "counts" },
      rows.map(([name, value]) =>
        element(
          "div",
          {},
          element("dt", {}, shownText(name)),
          element("dd", {}, typeof value === "number" ? numbers.format(value) : shownText(String(value))),
        ),
      ),
    );
  }

  /** Returns the name of a counter in words: "Near_Duplicate_Count" becomes "Near duplicates". */
  function wordsOf(name) {
    const words = name.replace(/_Count$/, "s").replaceAll("_", " ").toLowerCase();
    return words.charAt(0).toUpperCase() + words.slice(1);
  }

  /** Returns how the run looked for near duplicates, if that is known. */
  function plan() {
    const { element, shownText } = DedupReview.text;
    const text = DedupReview.data.facts.run?.Plan;
    return typeof text === "string" ? element("p", { className: "plan" }, element("strong", {}, "Plan "), shownText(text)) : "";
  }

  function distances() {
    const found = DedupReview.data.facts.distances;
    const bars = found.map((count, distance) => [String(distance), count]);
    return plot("Near duplicates by distance", "bits by which they differ from the kept picture", bars);
  }

  function sizes() {
    const { files } = DedupReview.data.facts.columns;
    const steps = [2, 3, 4, 5, 10, 20, 50, 100, Infinity];
    const labels = ["2", "3", "4", "5–9", "10–19", "20–49", "50–99", "100+"];
    const bars = labels.map((label, at) => [label, files.filter((count) => count >= steps[at] && count < steps[at + 1]).length]);
    return plot("Groups by size", "files in the group", bars);
  }

  /** Returns a bar chart, with its numbers as text. */
  function plot(title, axis, bars) {
    const { element, svg, numbers } = DedupReview.text;
    const most = Math.max(...bars.map(([, value]) => value), 1);
    const width = bars.length * BAR_WIDTH;
    const description = bars.map(([label, value]) => `${label}: ${value}`).join(", ");
    const chart = svg("svg", { viewBox: `0 0 ${width} ${PLOT_HEIGHT + 44}`, role: "img", "aria-label": `${title}. ${description}`, class: "plot" });
    bars.forEach(([label, value], at) => {
      const height = (value / most) * PLOT_HEIGHT;
      const middle = at * BAR_WIDTH + BAR_WIDTH / 2;
      const bar = svg("rect", { x: at * BAR_WIDTH + 4, y: 20 + PLOT_HEIGHT - height, width: BAR_WIDTH - 8, height, rx: 2 });
      bar.append(svg("title", {}, `${label}: ${numbers.format(value)}`));
      const number = svg("text", { x: middle, y: 14 + PLOT_HEIGHT - height, class: "value" }, value ? short(value) : "");
      chart.append(bar, number, svg("text", { x: middle, y: PLOT_HEIGHT + 36 }, label));
    });
    const total = bars.reduce((sum, [, value]) => sum + value, 0);
    return element("figure", {}, element("figcaption", {}, title, element("small", {}, `${axis}; ${numbers.format(total)} in all`)), chart);
  }

  const short = (value) => (value < 10_000 ? String(value) : `${Math.round(value / 1000)}k`);

  /** Returns a table of the pairs of directories that share most duplicates. */
  function pairs() {
    const { element, numbers, size, shown, shownText } = DedupReview.text;
    const { columns, directories } = DedupReview.data.facts;
    const found = new Map(); // "one other" -> [groups, bytes]
    columns.places.forEach((places, group) => {
      const few = places.slice(0, MOST_PLACES);
      few.forEach((one, at) => {
        for (const other of few.slice(at + 1)) {
          const key = `${one} ${other}`;
          const [groups, bytes] = found.get(key) ?? [0, 0];
          found.set(key, [groups + 1, bytes + columns.gain[group]]);
        }
      });
    });
    const top = [...found].sort((a, b) => b[1][0] - a[1][0]).slice(0, MOST_PAIRS);
    if (!top.length) return "";
    const row = ([key, [groups, bytes]]) => {
      const [one, other] = key.split(" ").map((number) => directories[Number(number)]);
      const show = () => {
        DedupReview.main.showPart("groups");
        DedupReview.filters.setPlaces(shownText(one), shownText(other));
      };
      return element(
        "tr",
        {},
        element("td", { className: "directory" }, shown(one)),
        element("td", { className: "directory" }, shown(other)),
        element("td", { className: "number" }, numbers.format(groups)),
        element("td", { className: "number" }, size(bytes)),
        element("td", {}, element("button", { type: "button", onclick: show }, "Show")),
      );
    };
    const head = ["Directory", "Other directory", "Groups", "Bytes", ""];
    return element(
      "div",
      { className: "table-box" },
      element("h2", {}, "Directories that share duplicates"),
      element("table", {}, element("thead", {}, element("tr", {}, head.map((name) => element("th", { scope: "col" }, name)))), element("tbody", {}, top.map(row))),
    );
  }

  async function showRejected() {
    if (isRejectedShown) return;
    isRejectedShown = true;
    const { element, count, numbers } = DedupReview.text;
    const { rejected } = DedupReview.data.facts;
    const total = Object.values(rejected).reduce((sum, one) => sum + one, 0);
    const box = part("rejected");
    box.replaceChildren(element("h2", {}, `${count(total, "rejected image")}`));
    if (!total) return;
    const byReason = Object.entries(rejected).sort((a, b) => b[1] - a[1]);
    box.append(
      element("dl", { className: "counts" }, byReason.map(([reason, number]) => element("div", {}, element("dt", {}, reason.replaceAll("_", " ")), element("dd", {}, numbers.format(number))))),
    );
    try {
      addRejected(box, await DedupReview.data.loadRejected(), total);
    } catch (error) {
      DedupReview.main.say(error.message);
    }
  }

  function addRejected(box, rows, total) {
    const { element, numbers, shown } = DedupReview.text;
    const body = element("tbody");
    const head = ["Image", "Reason", "Detail"];
    const add = (start) => {
      for (const [uri, reason, detail] of rows.slice(start, start + REJECTED_AT_ONCE)) {
        body.append(
          element(
            "tr",
            {},
            element("td", { className: "directory" }, shown(uri)),
            element("td", {}, reason.replaceAll("_", " ")),
            element("td", {}, shown(detail)),
          ),
        );
      }
      more.hidden = start + REJECTED_AT_ONCE >= rows.length;
    };
    const more = element("button", { type: "button", onclick: () => add(body.children.length) }, "Show more");
    add(0);
    box.append(
      element("div", { className: "table-box" }, element("table", {}, element("thead", {}, element("tr", {}, head.map((name) => element("th", { scope: "col" }, name)))), body)),
      more,
    );
    if (total > rows.length) box.append(element("p", {}, `The first ${numbers.format(rows.length)} are listed; the records have all.`));
  }

  return { showRun, showRejected };
})();
