// Shows the list of groups. Only the rows that can be seen exist as elements, so that any number of groups is fluent.
"use strict";
DedupReview.list = (() => {
  const ROW_HEIGHT = 76; // pixels; the same in the style
  const SPARE_ROWS = 6; // above and below those that can be seen
  const MOST_TILES = 3; // thumbnails in a row
  const TILE_SIDE = 44;

  const box = () => document.getElementById("list");
  const rows = () => document.getElementById("rows");
  const made = new Map(); // position in the list -> element
  let chosen = 0; // position
  let onChoose = () => {};
  let isWaiting = false; // for the next frame

  function start(listener) {
    onChoose = listener;
    box().addEventListener("scroll", later, { passive: true });
    new ResizeObserver(later).observe(box());
    box().addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) choose(Number(row.dataset.position), true);
    });
  }

  function later() {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      draw();
    });
  }

  /** Shows the groups of the filters anew, with a group chosen if it is among them. */
  function reset(group) {
    made.forEach((row) => row.remove());
    made.clear();
    const { shown } = DedupReview.filters;
    rows().style.height = `${shown.length * ROW_HEIGHT}px`;
    const position = shown.indexOf(group);
    chosen = Math.max(position, 0);
    if (position < 0) box().scrollTop = 0;
    draw();
    choose(chosen);
  }

  /** Makes the rows that can be seen, and removes the others. */
  function draw() {
    const { shown } = DedupReview.filters;
    const top = box().scrollTop;
    const first = Math.max(Math.floor(top / ROW_HEIGHT) - SPARE_ROWS, 0);
    const last = Math.min(Math.ceil((top + box().clientHeight) / ROW_HEIGHT) + SPARE_ROWS, shown.length);
    for (const [position, row] of made) {
      if (position < first || position >= last) {
        row.remove();
        made.delete(position);
      }
    }
    for (let position = first; position < last; position += 1) {
      if (!made.has(position)) add(position, shown[position]);
    }
    mark();
  }

  function add(position, group) {
    const row = DedupReview.text.element("div", {
      id: `group-${group}`,
      className: "row",
      role: "option",
      "aria-setsize": DedupReview.filters.shown.length,
      "aria-posinset": position + 1,
      "data-position": position,
      "data-group": group,
    });
    row.style.transform = `translateY(${position * ROW_HEIGHT}px)`;
    made.set(position, row);
    rows().append(row);
    fill(row, group);
  }

  /** Fills a row, now or when its group is loaded. */
  function fill(row, group) {
    const pictures = DedupReview.data.loaded(group);
    if (pictures) {
      row.replaceChildren(...content(group, pictures));
      return;
    }
    DedupReview.data.load(group).then(
      (found) => row.isConnected && row.replaceChildren(...content(group, found)),
      (error) => DedupReview.main.say(error.message),
    );
  }

  function content(group, pictures) {
    const { element, shown } = DedupReview.text;
    const kept = DedupReview.data.file(pictures[0].files[0]);
    const tiles = pictures.slice(0, MOST_TILES).map((picture) => tile(picture, TILE_SIDE, true));
    const decision = DedupReview.decisions.get(group);
    return [
      element("div", { className: "row-tiles", "aria-hidden": "true" }, tiles),
      element(
        "div",
        { className: "row-text" },
        element("div", { className: "row-name" }, shown(kept.name)),
        element("div", { className: "row-facts" }, facts(group, pictures)),
        element(
          "div",
          { className: `row-state ${decision ? "is-decided" : ""}` },
          decision ? `✓ ${DedupReview.decisions.words(decision)}` : gain(group),
        ),
      ),
    ];
  }

  function facts(group, pictures) {
    const { count, distance } = DedupReview.text;
    const { k, verify } = DedupReview.data.facts;
    const files = count(DedupReview.data.column("files", group), "file");
    if (pictures.length === 1) return `${files}, same bytes`;
    const farthest = pictures.reduce((far, one) => ((one.distance ?? 0) > (far.distance ?? 0) ? one : far), pictures[1]);
    return `${files}, ${distance(farthest, k, verify)}`;
  }

  function gain(group) {
    const bytes = DedupReview.data.column("gain", group);
    return bytes ? `frees ${DedupReview.text.size(bytes)}` : "frees nothing";
  }

  /** Returns the thumbnail of a picture in a square of `side` pixels: all of it, or its centre, which fills the square. */
  function tile(picture, side, isFilled = false) {
    const { element } = DedupReview.text;
    const frame = element("div", { className: "tile" });
    frame.style.width = frame.style.height = `${side}px`;
    if (!picture.tile) {
      frame.classList.add("tile-missing");
      frame.append(element("span", {}, picture.format ? DedupReview.text.shownText(picture.format) : "no picture"));
      return frame;
    }
    const image = element("div", { className: "tile-image" });
    const [, , width, height] = picture.tile;
    cut(image, picture.tile, isFilled ? side / Math.min(width, height) : side / DedupReview.data.facts.tileSide);
    frame.append(image);
    return frame;
  }

  /** Makes an element show one thumbnail, enlarged by a factor. */
  function cut(image, [sprite, place, width, height], factor) {
    const { tileSide, tileColumns } = DedupReview.data.facts;
    const side = tileSide * factor;
    image.style.width = `${width * factor}px`;
    image.style.height = `${height * factor}px`;
    image.style.backgroundImage = `url("sprites/${String(sprite).padStart(4, "0")}.jpg")`;
    image.style.backgroundSize = `${tileColumns * side}px auto`;
    image.style.backgroundPosition = `${-(place % tileColumns) * side}px ${-Math.floor(place / tileColumns) * side}px`;
  }

  /** Marks the chosen row, also for screen readers. */
  function mark() {
    for (const [position, row] of made) row.setAttribute("aria-selected", String(position === chosen));
    const row = made.get(chosen);
    if (row) box().setAttribute("aria-activedescendant", row.id);
    else box().removeAttribute("aria-activedescendant");
  }

  /** Chooses the group at a position of the list. `open` also shows it where there is room for only one of both. */
  function choose(position, open = false) {
    const { shown } = DedupReview.filters;
    chosen = Math.min(Math.max(position, 0), Math.max(shown.length - 1, 0));
    scrollTo(chosen);
    mark();
    onChoose(shown[chosen], open);
  }

  function scrollTo(position) {
    const { scrollTop, clientHeight } = box();
    const top = position * ROW_HEIGHT;
    if (top < scrollTop) box().scrollTop = top;
    else if (top + ROW_HEIGHT > scrollTop + clientHeight) box().scrollTop = top + ROW_HEIGHT - clientHeight;
    draw();
  }

  /** Chooses the next group that is not decided, from the chosen one on and then from the start. */
  function chooseUndecided() {
    const { shown } = DedupReview.filters;
    for (let step = 1; step <= shown.length; step += 1) {
      const position = (chosen + step) % shown.length;
      if (!DedupReview.decisions.get(shown[position])) {
        choose(position);
        return true;
      }
    }
    return false;
  }

  /** Shows the decisions on some groups anew. */
  function refresh(groups) {
    const wanted = new Set(groups);
    for (const row of made.values()) {
      const group = Number(row.dataset.group);
      if (wanted.has(group)) fill(row, group);
    }
  }

  /** Chooses a group, if the filters show it. */
  function chooseGroup(group) {
    const position = DedupReview.filters.shown.indexOf(group);
    if (position >= 0) choose(position);
    return position >= 0;
  }

  return {
    start,
    reset,
    choose,
    chooseGroup,
    chooseUndecided,
    refresh,
    tile,
    cut,
    move: (steps) => choose(chosen + steps),
    get position() {
      return chosen;
    },
    get pageRows() {
      return Math.max(Math.floor(box().clientHeight / ROW_HEIGHT) - 1, 1);
    },
  };
})();
