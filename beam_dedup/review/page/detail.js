// Shows the chosen group: its pictures with their facts, the proposal or decision, and the buttons to decide.
"use strict";
DedupReview.detail = (() => {
  const CARDS_AT_ONCE = 24; // more are added on request
  const FILES_AT_ONCE = 6; // of one picture
  const ORIGINALS = 12; // pictures that are shown from their files
  const ORIGINAL_DELAY_MS = 250; // so that a quick look through the list opens no files
  const MOST_ORIGINAL_BYTES = 40_000_000;
  const CARD_SIDE = 176; // pixels
  const SHOWN_BY_BROWSERS = ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "ICO", "SVG"];

  const box = () => document.getElementById("detail");
  let group; // undefined if the list is empty
  let pictures;
  let timer;

  /** Shows a group; undefined shows that there is none. */
  async function show(wanted) {
    clearTimeout(timer);
    group = wanted;
    pictures = undefined;
    if (group === undefined) {
      box().replaceChildren(DedupReview.text.element("p", { className: "empty" }, DedupReview.data.count ? "No group matches the filters." : "The run found no duplicates."));
      return;
    }
    const found = DedupReview.data.loaded(group) ?? (await DedupReview.data.load(group));
    if (group !== wanted) return; // another one was chosen meanwhile
    pictures = found;
    draw();
    box().scrollTop = 0;
    timer = setTimeout(showOriginals, ORIGINAL_DELAY_MS);
  }

  function draw() {
    const { element } = DedupReview.text;
    const grid = element("ol", { className: "cards" });
    box().replaceChildren(heading(), actions(), grid);
    addCards(grid, 0);
    refresh();
  }

  function heading() {
    const { element, count, size, shown } = DedupReview.text;
    const { data } = DedupReview;
    const files = count(data.column("files", group), "file");
    const what = pictures.length > 1 ? `${count(pictures.length, "picture")} in ${files}` : `${files} with the same bytes`;
    const bytes = data.column("gain", group);
    return element(
      "header",
      { className: "detail-heading" },
      element("button", { type: "button", className: "back", onclick: () => DedupReview.main.showList() }, "← Groups"),
      element("div", { className: "steps" }, step("previous", "↑", "k", "Previous group"), step("next", "↓", "j", "Next group")),
      element("h2", {}, shown(data.file(pictures[0].files[0]).name)),
      element("p", {}, `${what}; the proposal frees ${bytes ? size(bytes) : "nothing"}. `, element("strong", { id: "decision" })),
    );
  }

  function actions() {
    const { element } = DedupReview.text;
    const single = pictures.length === 1;
    const action = (name, key, label, properties = {}) =>
      element(
        "button",
        { type: "button", "data-action": name, onclick: () => DedupReview.main.act(name), ...properties },
        label,
        " ",
        element("kbd", {}, key),
      );
    return element(
      "div",
      { className: "actions", role: "toolbar", "aria-label": "Decide on this group" },
      action("accept", "Enter", "Accept", { className: "primary" }),
      action("all", "a", "Keep all"),
      action("none", "n", "None"),
      action("different", "d", "Different", { disabled: single }),
      action("undo", "u", "Undo"),
      action("compare", "c", "Compare", { disabled: single }),
    );
  }

  function step(name, label, key, title) {
    const { element } = DedupReview.text;
    const onclick = () => DedupReview.main.act(name);
    return element("button", { type: "button", title, "aria-label": title, onclick }, label, " ", element("kbd", {}, key));
  }

  function addCards(grid, start) {
    const { element, count } = DedupReview.text;
    const best = bestValues(pictures);
    const end = Math.min(start + CARDS_AT_ONCE, pictures.length);
    for (let number = start; number < end; number += 1) grid.append(card(number, best));
    if (end === pictures.length) return;
    const more = element("li", { className: "more-cards" });
    const onclick = () => {
      more.remove();
      addCards(grid, end);
      refresh();
      showOriginals();
    };
    more.append(element("button", { type: "button", onclick }, `Show more of the other ${count(pictures.length - end, "picture")}`));
    grid.append(more);
  }

  /** Returns, by fact, which values differ between the pictures, and which is the best: of these a card shows marks. */
  function bestValues(all) {
    const facts = {
      pixels: (picture) => (picture.width ?? 0) * (picture.height ?? 0),
      bytes: (picture) => picture.bytes ?? 0,
      format: (picture) => picture.format ?? "",
      date: (picture) => -timeOf(picture), // the oldest is the best
    };
    return Object.fromEntries(
      Object.entries(facts).map(([name, value]) => {
        const values = all.map(value);
        const differs = values.some((one) => one !== values[0]);
        const top = typeof values[0] === "number" ? values.reduce((one, other) => Math.max(one, other)) : undefined;
        return [name, (picture) => (differs ? (value(picture) === top ? "best" : "differs") : "")];
      }),
    );
  }

  /** Returns when a picture was taken, or else when the oldest of its files was modified: ms, in whole minutes. */
  function timeOf(picture) {
    const times = picture.files.map((row) => row[2]).filter((time) => time > 0);
    const time = picture.taken ? Date.parse(picture.taken.replace(" ", "T")) : times.reduce((one, other) => Math.min(one, other), Infinity);
    return Number.isFinite(time) ? time - (time % 60_000) : Number.MAX_SAFE_INTEGER;
  }

  function card(number, best) {
    const { element, distance, distanceDetail, view } = DedupReview.text;
    const picture = pictures[number];
    const { k, verify } = DedupReview.data.facts;
    const name = DedupReview.data.file(picture.files[0]).name;
    const words = picture.near ? distance(picture, k, verify) : picture.known ? "known before the run" : "kept by the run";
    return element(
      "li",
      { className: "card", "data-picture": number },
      element(
        "div",
        { className: "card-picture", role: "img", "aria-label": `Picture ${number + 1}: ${DedupReview.text.shownText(name)}` },
        DedupReview.list.tile(picture, CARD_SIDE),
      ),
      element(
        "button",
        { type: "button", className: "keep", "aria-pressed": "false", onclick: () => DedupReview.main.act("keep", number) },
        element("kbd", {}, String(number + 1)),
        " ",
        element("span", { className: "keep-word" }),
      ),
      element("p", { className: "distance", title: picture.near ? distanceDetail(picture, k, verify) : "" }, words),
      view(picture.view) && element("p", { className: "view" }, view(picture.view)),
      preference(picture),
      flags(picture),
      factList(picture, best),
      files(picture),
    );
  }

  /** Returns which rule prefers the kept picture; nothing if only the order of paths does. */
  function preference({ keptBy }) {
    if (!keptBy || keptBy === "first") return null;
    const { element, shownText } = DedupReview.text;
    return element("p", { className: "view" }, `the kept one is preferred by: ${shownText(keptBy)}`);
  }

  function flags(picture) {
    const { element, shownText } = DedupReview.text;
    const names = [...(picture.flags ?? []), ...(picture.changed ? ["changed since the run"] : [])];
    if (!names.length) return null;
    const title = picture.detail ? shownText(picture.detail) : "";
    return element("p", { className: "flags", title }, names.map((name) => element("span", { className: "flag" }, shownText(name))));
  }

  function factList(picture, best) {
    const { element, numbers, size, date, shownText } = DedupReview.text;
    const time = timeOf(picture);
    const rows = [
      ["Pixels", "pixels", picture.width ? `${numbers.format(picture.width)} × ${numbers.format(picture.height)}` : "unknown"],
      ["Size", "bytes", picture.bytes === undefined ? "unknown" : size(picture.bytes)],
      ["Format", "format", picture.format ? shownText(picture.format) : "unknown"],
      [picture.taken ? "Taken" : "Modified", "date", picture.taken?.slice(0, 16) ?? (time < Number.MAX_SAFE_INTEGER ? date(time) : "unknown")],
    ];
    return element(
      "dl",
      { className: "facts" },
      rows.map(([label, fact, value]) =>
        element(
          "div",
          { className: best[fact](picture) },
          element("dt", {}, label),
          element("dd", {}, value, best[fact](picture) === "best" ? element("span", { className: "visually-hidden" }, " (best)") : null),
        ),
      ),
    );
  }

  function files(picture) {
    const { element, count, shown } = DedupReview.text;
    const list = element("ul", { className: "files" });
    const add = (start, end) => {
      for (const row of picture.files.slice(start, end)) {
        const file = DedupReview.data.file(row);
        const isKept = !picture.near && row === picture.files[0];
        const state = file.modified < 0 ? " (gone)" : "";
        const other = file.isLink ? "link" : "same bytes";
        const copy = picture.files.length > 1 && !picture.near ? (isKept ? "kept" : other) : "";
        list.append(
          element(
            "li",
            {},
            element("span", { className: "directory" }, shown(file.directory)),
            element("wbr"),
            element("span", { className: "name" }, shown(file.name)),
            state,
            copy ? element("span", { className: `copy ${isKept ? "copy-kept" : ""}` }, copy) : null,
          ),
        );
      }
    };
    add(0, FILES_AT_ONCE);
    const rest = picture.files.length - FILES_AT_ONCE;
    if (rest <= 0) return list;
    const button = element("button", { type: "button", className: "quiet" }, `Show ${count(rest, "more file")}`);
    button.addEventListener("click", () => {
      add(FILES_AT_ONCE, picture.files.length);
      button.remove();
    });
    return element("div", {}, list, button);
  }

  /** Shows the decision, or else the proposal, on the cards. */
  function refresh() {
    if (!pictures) return;
    const decision = DedupReview.decisions.get(group);
    const words = DedupReview.decisions.words(decision);
    const kept = decision ? DedupReview.decisions.keptBy(decision, pictures) : [];
    document.getElementById("decision").textContent = words ? `Decision: ${words}.` : "";
    box().classList.toggle("is-decided", Boolean(decision));
    const undo = box().querySelector("[data-action=undo]");
    // A disabled button with the focus would swallow keys.
    if (!DedupReview.decisions.canUndo && document.activeElement === undo) document.getElementById("list").focus({ preventScroll: true });
    undo.disabled = !DedupReview.decisions.canUndo;
    for (const made of box().querySelectorAll(".card")) {
      const number = Number(made.dataset.picture);
      const isKept = decision ? kept.includes(number) : number === 0;
      made.classList.toggle("is-kept", isKept);
      made.classList.toggle("is-going", !isKept);
      const button = made.querySelector(".keep");
      button.setAttribute("aria-pressed", String(Boolean(decision && isKept)));
      made.querySelector(".keep-word").textContent = wordFor(pictures[number], isKept, Boolean(decision));
    }
  }

  /** Returns what happens to a picture. Links, members of archives and objects of stores are never touched. */
  function wordFor(picture, isKept, isDecided) {
    if (isKept) return isDecided ? "kept" : "keep";
    if (!picture.files.some(DedupReview.data.isPlain)) return "duplicate, not touched";
    return isDecided ? "goes" : "would go";
  }

  /** Returns the address of a picture's file if a browser can show it; "" otherwise. */
  function original(picture) {
    if (!SHOWN_BY_BROWSERS.includes(picture.format) || (picture.bytes ?? 0) > MOST_ORIGINAL_BYTES) return "";
    for (const row of picture.files) {
      const { address } = DedupReview.data.file(row);
      if (address) return address;
    }
    return "";
  }

  /** Replaces the first thumbnails by the pictures themselves, where the browser can show them. */
  function showOriginals() {
    for (const made of [...box().querySelectorAll(".card")].slice(0, ORIGINALS)) {
      const picture = pictures?.[Number(made.dataset.picture)];
      const address = picture && original(picture);
      const tile = made.querySelector(".tile");
      if (!address || !tile || !picture.tile) continue;
      const image = DedupReview.text.element("img", { alt: "", decoding: "async", className: "original" });
      image.addEventListener("load", () => tile.append(image));
      image.src = address;
    }
  }

  return {
    show,
    refresh,
    original,
    get group() {
      return group;
    },
    get pictures() {
      return pictures;
    },
  };
})();
