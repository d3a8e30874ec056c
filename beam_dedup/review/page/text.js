// Makes elements, and words for people. All text from records passes through text nodes: it is never parsed as HTML.
"use strict";
window.DedupReview ??= {};
DedupReview.text = (() => {
  const UNITS = ["kB", "MB", "GB", "TB"];
  // Control, format (such as those that turn the direction of writing), private and unassigned characters; line and
  // paragraph separators; spaces other than the usual one; letters that fill a place without a picture; and bytes that are
  // not UTF-8 (lone surrogates).
  const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/u;
  const TURNS = ["mirror", "flip", "rot180", "rot90", "rot270", "transpose", "transverse"];
  const numbers = new Intl.NumberFormat("en");

  /** Makes an element. Properties that begin with "aria-" or "data-", and "role", "for" and "list", become attributes. */
  function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (value === undefined || value === null || value === false) continue;
      if (/^(aria-|data-)|^(role|for|list|tabindex)$/.test(name)) made.setAttribute(name, value);
      else if (name === "onclick") made.addEventListener("click", value);
      else made[name] = value;
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
    return made;
  }

  /** Makes an element of SVG. */
  function svg(tag, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  /** Returns the escape that stands for a character that can't be seen. */
  function escapeOf(character) {
    const code = character.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code - 0xdc00).toString(16)}`;
    return `\\u{${code.toString(16)}}`;
  }

  /** Returns a name as nodes: what can't be seen is shown as an escape, and marked as one. */
  function shown(name) {
    const nodes = [];
    let plain = "";
    for (const character of name) {
      if (!HIDDEN.test(character)) {
        plain += character;
        continue;
      }
      nodes.push(plain, element("span", { className: "escape" }, escapeOf(character)));
      plain = "";
    }
    return [...nodes, plain];
  }

  /** Returns a name as text without characters that can't be seen. */
  function shownText(name) {
    return Array.from(name, (character) => (HIDDEN.test(character) ? escapeOf(character) : character)).join("");
  }

  /** Returns the address of a local file. Bytes that are not UTF-8 are kept. */
  function fileAddress(path) {
    const parts = Array.from(path, (character) => {
      const code = character.codePointAt(0);
      if (code >= 0xdc80 && code <= 0xdcff) return `%${(code - 0xdc00).toString(16)}`;
      if (code >= 0xd800 && code <= 0xdfff) return "%3F";
      return character === "/" ? "/" : encodeURIComponent(character);
    });
    return `file://${parts.join("")}`;
  }

  function count(number, noun) {
    return `${numbers.format(number)} ${noun}${number === 1 ? "" : "s"}`;
  }

  /** Returns a number of bytes in powers of 1000, as `dedup` prints it. */
  function size(bytes) {
    if (bytes < 1000) return count(bytes, "byte");
    let value = bytes / 1000;
    let unit = 0;
    while (Math.round(value * 10) / 10 >= 1000 && unit < UNITS.length - 1) {
      value /= 1000;
      unit += 1;
    }
    return `${value.toFixed(1)} ${UNITS[unit]}`;
  }

  function date(milliseconds) {
    const made = new Date(milliseconds);
    const two = (number) => String(number).padStart(2, "0");
    return (
      `${made.getFullYear()}-${two(made.getMonth() + 1)}-${two(made.getDate())} ` +
      `${two(made.getHours())}:${two(made.getMinutes())}`
    );
  }

  /** Returns how near a picture is to the kept one, in words. */
  function distance(picture, k, verify) {
    if (!picture.near) return "same bytes";
    const bits = picture.distance ?? 0;
    const share = Math.max(bits / Math.max(k, 1), (picture.long ?? 0) / Math.max(verify, 1));
    const numbersOf = `${bits} of ${k}`;
    if (share <= 0.1) return `looks the same (${numbersOf})`;
    if (share <= 0.4) return `almost equal (${numbersOf})`;
    if (share <= 0.7) return `similar (${numbersOf})`;
    return `near the limit (${numbersOf})`;
  }

  /** Returns the exact distances, for those who want them. */
  function distanceDetail(picture, k, verify) {
    const long = picture.long === undefined ? "" : `; ${picture.long} of at most ${verify} bits of the long code`;
    return `${picture.distance ?? 0} of at most ${k} bits of the short code${long}`;
  }

  /** Returns a view of the records in words; "" for the whole picture. */
  function view(name) {
    if (!name || name === "base") return "";
    if (name === "trim") return "matches without its border";
    if (TURNS.includes(name)) return "matches when turned or mirrored";
    if (name.startsWith("tilt")) return "matches when tilted";
    const centre = /^centre(\d+)$/.exec(name);
    if (centre) return `matches as a crop: the centre, ${centre[1]}\u00a0% of each side`;
    const cut = /^(left|right|top|bottom|topleft|topright|bottomleft|bottomright)(\d\d)$/.exec(name);
    if (cut) return `matches as a crop: ${Number(cut[2])}\u00a0% cut off, ${cut[1].replace(/^(top|bottom)(?=.)/, "$1 ")}`;
    return `matches as a crop to ${name}`;
  }

  return { element, svg, shown, shownText, fileAddress, count, size, date, distance, distanceDetail, view, numbers };
})();
