// Compares two pictures of a group: side by side with linked zoom, by a slider, blinking, or as their difference.
//
// Both pictures lie in one frame. A crop lies on the part of the other picture that it shows, and a turned picture is
// turned back, so that equal parts lie on each other. The frame has as many pixels as the picture with more detail.
"use strict";
DedupReview.compare = (() => {
  const MODES = { side: "Side by side", slider: "Slider", blink: "Blink", difference: "Difference" };
  const HINTS = {
    side: "Drag, or use the wheel: both pictures move together.",
    slider: "Left of the line the kept picture, right of it the other one.",
    blink: "Press b, or the button, to see the other picture in the same place.",
    difference: "Black where the pictures are equal; differences are brightened.",
  };
  const ZOOM_STEP = 1.25;
  const PAN_STEP = 60; // pixels
  const WHOLE = [0, 0, 1, 1];
  // CSS that turns a picture as stored to the picture as shown, by EXIF orientation.
  const TURNS = {
    1: "",
    2: "scaleX(-1)",
    3: "rotate(180deg)",
    4: "scaleY(-1)",
    5: "rotate(90deg) scaleY(-1)",
    6: "rotate(90deg)",
    7: "rotate(90deg) scaleX(-1)",
    8: "rotate(270deg)",
  };
  const QUARTER = { 1: 6, 6: 3, 3: 8, 8: 1, 2: 7, 7: 4, 4: 5, 5: 2 }; // the orientation after a further quarter turn

  const box = () => document.getElementById("compare");
  let pictures;
  let other; // number of the picture that is compared with the kept one
  let turn; // orientation by which it is turned
  let mode = "side";
  let showsOther; // while blinking
  let split = 0.5; // of the slider
  let scale; // screen pixels per pixel of the frame; undefined shows the whole frame
  let centre; // of what is seen, in pixels of the frame
  let frame;
  let stages;

  function open(given) {
    pictures = given;
    box().showModal();
    choose(1);
  }

  /** Compares another picture with the kept one. */
  function choose(number) {
    const others = pictures.length - 1;
    other = ((number - 1 + others) % others) + 1;
    turn = pictures[other].aligned?.turn ?? 1;
    showWhole();
    draw();
  }

  function showWhole() {
    scale = undefined;
    centre = undefined;
  }

  function setMode(wanted) {
    mode = wanted;
    showsOther = false;
    draw();
  }

  function draw() {
    const { element } = DedupReview.text;
    const focused = document.activeElement?.dataset?.control;
    frame = frameOf(pictures[0], pictures[other]);
    stages = mode === "side" ? [stage([0]), stage([other])] : [stage([0, other])];
    const parts = [toolbar(), captions(), element("div", { className: `stages stages-${mode}` }, stages)];
    if (mode === "slider") parts.push(slider());
    box().replaceChildren(...parts, element("p", { className: "hint" }, HINTS[mode]));
    place();
    const control = focused && !(focused in MODES) ? focused : mode;
    box().querySelector(`[data-control="${control}"]`)?.focus();
  }

  function toolbar() {
    const { element } = DedupReview.text;
    const button = (name, label, key, onclick, pressed) =>
      element(
        "button",
        { type: "button", "data-control": name, "aria-pressed": pressed === undefined ? null : String(pressed), onclick },
        label,
        key ? [" ", element("kbd", {}, key)] : null,
      );
    const modes = Object.entries(MODES).map(([name, label]) => button(name, label, "", () => setMode(name), mode === name));
    const tools = [
      button("turn", "Turn", "t", turnOther),
      button("zoom", scale === undefined ? "100 %" : "Whole", "z", toggleZoom),
      button("close", "Close", "Esc", () => box().close()),
    ];
    if (mode === "blink") tools.unshift(button("swap", "Blink", "b", blink));
    if (pictures.length > 2) {
      tools.unshift(button("before", "Previous", "[", () => choose(other - 1)), button("after", "Next", "]", () => choose(other + 1)));
    }
    return element("div", { className: "compare-bar", role: "toolbar", "aria-label": "How to compare" }, modes, element("span", { className: "gap" }), tools);
  }

  function captions() {
    const { element, distance, numbers, shown, size, view } = DedupReview.text;
    const { k, verify } = DedupReview.data.facts;
    const caption = (number) => {
      const picture = pictures[number];
      const facts = [
        picture.width && `${numbers.format(picture.width)} × ${numbers.format(picture.height)}`,
        picture.bytes !== undefined && size(picture.bytes),
        picture.format && DedupReview.text.shownText(picture.format),
        picture.near ? distance(picture, k, verify) : "kept by the run",
        view(picture.view),
      ];
      return element(
        "p",
        { className: "caption", "data-picture": number },
        element("strong", {}, `${number + 1}`),
        " ",
        shown(DedupReview.data.file(picture.files[0]).name),
        element("small", {}, facts.filter(Boolean).join(" · ")),
      );
    };
    return element("div", { className: "captions" }, caption(0), caption(other));
  }

  function slider() {
    const made = DedupReview.text.element("input", { type: "range", className: "slider", "aria-label": "Where the two pictures meet" });
    Object.assign(made, { min: "0", max: "1", step: "0.002", value: String(split) });
    made.addEventListener("input", () => {
      split = Number(made.value);
      place();
    });
    return made;
  }

  /** Returns the size of a picture in pixels, as it is turned. */
  function sizeOf(picture, orientation) {
    const { tileSide } = DedupReview.data.facts;
    const [, , tileWidth, tileHeight] = picture.tile ?? [0, 0, tileSide, tileSide];
    const size = picture.width ? [picture.width, picture.height] : [tileWidth, tileHeight];
    return orientation >= 5 ? size.reverse() : size;
  }

  /** Returns the size of the frame, and where the two pictures lie in it. */
  function frameOf(kept, copy) {
    const sizes = [sizeOf(kept, 1), sizeOf(copy, turn)];
    const part = copy.aligned?.box ?? WHOLE;
    const outer = copy.aligned?.of === "other" ? 1 : 0; // the picture of which the other one shows a part
    const [width, height] = sizes[outer];
    const factor = Math.max(1, sizes[1 - outer][0] / (width * (part[2] - part[0])));
    const inPixels = ([left, top, right, bottom]) => ({
      left: left * width * factor,
      top: top * height * factor,
      width: (right - left) * width * factor,
      height: (bottom - top) * height * factor,
    });
    const places = [inPixels(outer === 0 ? WHOLE : part), inPixels(outer === 1 ? WHOLE : part)];
    return { width: width * factor, height: height * factor, places, part, outer };
  }

  /** Returns an element that shows pictures in the frame, and moves it. */
  function stage(numbers) {
    const { element } = DedupReview.text;
    const inner = element("div", { className: "frame" }, numbers.map(layer));
    if (mode === "side" && frame.part !== WHOLE && (numbers[0] === 0) === (frame.outer === 0)) inner.append(outline());
    if (mode === "difference") inner.style.clipPath = clipTo(frame.part);
    const missing = numbers.filter((number) => !pictures[number].tile && !DedupReview.detail.original(pictures[number]));
    const notes = missing.map((number) => element("p", { className: "stage-note" }, `Picture ${number + 1} can't be shown.`));
    const made = element("div", { className: "stage" }, inner, notes);
    made.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoomBy(event.deltaY < 0 ? ZOOM_STEP : 1 / ZOOM_STEP);
    }, { passive: false });
    made.addEventListener("pointerdown", (event) => made.setPointerCapture(event.pointerId));
    made.addEventListener("pointermove", (event) => {
      if (made.hasPointerCapture(event.pointerId)) moveBy(-event.movementX, -event.movementY);
    });
    return made;
  }

  /** Returns one picture at its place in the frame: from its file if the browser shows it, else its thumbnail. */
  function layer(number) {
    const { element } = DedupReview.text;
    const picture = pictures[number];
    const place = frame.places[number === 0 ? 0 : 1];
    const orientation = number === 0 ? 1 : turn;
    const [width, height] = orientation >= 5 ? [place.height, place.width] : [place.width, place.height];
    const turned = element("div", { className: "turned" });
    Object.assign(turned.style, { width: `${width}px`, height: `${height}px`, transform: `translate(-50%, -50%) ${TURNS[orientation]}` });
    if (picture.tile) {
      const tile = element("div", { className: "layer-tile" });
      DedupReview.list.cut(tile, picture.tile, width / picture.tile[2]);
      turned.append(tile);
    }
    const address = DedupReview.detail.original(picture);
    if (address) {
      const image = element("img", { alt: "", className: "layer-image", draggable: false });
      image.addEventListener("load", () => turned.replaceChildren(image));
      image.src = address;
    }
    const label = `Picture ${number + 1}`;
    const made = element("div", { className: "layer", "data-picture": number, role: "img", "aria-label": label }, turned);
    Object.assign(made.style, inStyle(place));
    return made;
  }

  const inStyle = (place) => Object.fromEntries(Object.entries(place).map(([name, value]) => [name, `${value}px`]));

  /** Returns an element that marks the part of a picture that the other one shows. */
  function outline() {
    const made = DedupReview.text.element("div", { className: "outline" });
    Object.assign(made.style, inStyle(frame.places[1 - frame.outer]));
    return made;
  }

  /** Returns the CSS that shows one part of the frame only, without its edge, at which pixels are mixed. */
  function clipTo([left, top, right, bottom]) {
    const edge = 0.3;
    const insets = [top, 1 - right, 1 - bottom, left].map((share) => `${share * 100 + edge}%`);
    return `inset(${insets.join(" ")})`;
  }

  /** Lays the frame into the stages, by scale and centre. */
  function place() {
    centre ??= { x: frame.width / 2, y: frame.height / 2 };
    for (const made of stages) {
      const { clientWidth, clientHeight } = made;
      const by = scale ?? wholeScale(made);
      const inner = made.firstElementChild;
      inner.style.width = `${frame.width}px`;
      inner.style.height = `${frame.height}px`;
      inner.style.transform = `translate(${clientWidth / 2 - centre.x * by}px, ${clientHeight / 2 - centre.y * by}px) scale(${by})`;
      inner.style.setProperty("--line", `${2 / by}px`);
      const top = inner.children[1];
      if (mode === "slider") {
        const { left, width } = frame.places[1];
        inner.style.setProperty("--split", `${split * frame.width}px`);
        inner.style.setProperty("--cut", `${Math.min(Math.max(split * frame.width - left, 0), width)}px`);
      }
      if (mode === "blink") top.hidden = !showsOther;
    }
    box().querySelectorAll(".caption").forEach((caption, at) => {
      caption.classList.toggle("is-shown", mode !== "blink" || (at === 1) === Boolean(showsOther));
    });
  }

  const wholeScale = (made) => Math.min(made.clientWidth / frame.width, made.clientHeight / frame.height, 1);

  function zoomBy(factor) {
    const least = wholeScale(stages[0]);
    scale = Math.min((scale ?? least) * factor, 1);
    if (scale <= least) showWhole();
    place();
  }

  function toggleZoom() {
    if (scale === undefined) scale = 1;
    else showWhole();
    draw();
  }

  function moveBy(x, y) {
    const by = scale ?? wholeScale(stages[0]);
    const within = (value, most) => Math.min(Math.max(value, 0), most);
    centre = { x: within(centre.x + x / by, frame.width), y: within(centre.y + y / by, frame.height) };
    place();
  }

  function turnOther() {
    turn = QUARTER[turn];
    draw();
  }

  function blink() {
    if (mode !== "blink") setMode("blink");
    showsOther = !showsOther;
    place();
  }

  const KEYS = {
    m: () => {
      const names = Object.keys(MODES);
      setMode(names[(names.indexOf(mode) + 1) % names.length]);
    },
    b: blink,
    t: turnOther,
    z: toggleZoom,
    "+": () => zoomBy(ZOOM_STEP),
    "=": () => zoomBy(ZOOM_STEP),
    "-": () => zoomBy(1 / ZOOM_STEP),
    "[": () => choose(other - 1),
    "]": () => choose(other + 1),
    ArrowLeft: () => moveBy(-PAN_STEP, 0),
    ArrowRight: () => moveBy(PAN_STEP, 0),
    ArrowUp: () => moveBy(0, -PAN_STEP),
    ArrowDown: () => moveBy(0, PAN_STEP),
  };

  /** Handles a key, and returns whether it had a meaning here. */
  function onKey(event) {
    const action = KEYS[event.key];
    if (!action) return false;
    action();
    event.preventDefault();
    return true;
  }

  window.addEventListener("resize", () => box().open && place());

  return { open, onKey };
})();
