// Chooses and sorts the groups that the list shows, by the index alone.
"use strict";
DedupReview.filters = (() => {
  const MOST_SUGGESTED = 500; // directories that the two fields suggest
  const FIELDS = ["sort", "state", "kind", "view", "flag", "size", "place", "other-place"];

  const field = (name) => document.getElementById(name);
  let shown = []; // groups, in the order of the list
  let onApply = () => {};

  function start(listener) {
    onApply = listener;
    const { facts } = DedupReview.data;
    const { element, shownText, view } = DedupReview.text;
    facts.views.forEach((name, number) => {
      field("view").append(element("option", { value: String(number) }, view(name).replace(/^matches /, "") || "the whole picture"));
    });
    facts.flags.forEach((name, number) => {
      field("flag").append(element("option", { value: String(number) }, shownText(name)));
    });
    field("places").append(
      ...facts.directories.slice(0, MOST_SUGGESTED).map((name) => element("option", { value: shownText(name) })),
    );
    const form = field("filters");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", apply);
    form.addEventListener("reset", () => setTimeout(apply));
    apply();
  }

  /** Returns the numbers of the directories whose names contain a text; null if the text is empty. */
  function placesWith(text) {
    if (!text) return null;
    const wanted = text.toLowerCase();
    const found = new Set();
    DedupReview.data.facts.directories.forEach((name, number) => {
      if (DedupReview.text.shownText(name).toLowerCase().includes(wanted)) found.add(number);
    });
    return found;
  }

  /** Returns whether one directory of a group is in the first set, and another one in the second. */
  function hasPlaces(places, first, second) {
    const inFirst = places.filter((place) => !first || first.has(place));
    const inSecond = places.filter((place) => !second || second.has(place));
    if (!first || !second) return inFirst.length > 0 && inSecond.length > 0;
    return inFirst.some((one) => inSecond.some((other) => one !== other));
  }

  function predicate() {
    const values = Object.fromEntries(FIELDS.map((name) => [name, field(name).value]));
    const { columns } = DedupReview.data.facts;
    const [first, second] = [placesWith(values.place), placesWith(values["other-place"])];
    const kinds = { exact: 1, near: 2 }[values.kind] ?? 0;
    const tests = [];
    if (values.state) {
      tests.push((group) => Boolean(DedupReview.decisions.get(group)) === (values.state === "decided"));
    }
    if (kinds) tests.push((group) => (columns.kinds[group] & kinds) !== 0);
    if (values.view) tests.push((group) => columns.views[group].includes(Number(values.view)));
    if (values.flag) tests.push((group) => columns.flags[group].includes(Number(values.flag)));
    if (Number(values.size)) tests.push((group) => columns.largest[group] >= Number(values.size));
    if (first || second) tests.push((group) => hasPlaces(columns.places[group], first, second));
    return (group) => tests.every((test) => test(group));
  }

  /** Applies the filters. Groups that are decided later remain in the list until the filters are applied again. */
  function apply() {
    const { columns } = DedupReview.data.facts;
    const passes = predicate();
    shown = [];
    for (let group = 0; group < DedupReview.data.count; group += 1) if (passes(group)) shown.push(group);
    const by = columns[field("sort").value];
    shown.sort((a, b) => by[b] - by[a] || a - b);
    const { numbers, count } = DedupReview.text;
    field("found").value =
      shown.length === DedupReview.data.count
        ? count(shown.length, "group")
        : `${numbers.format(shown.length)} of ${count(DedupReview.data.count, "group")}`;
    onApply();
  }

  /** Sets the two fields for directories, and shows the result. */
  function setPlaces(first, second) {
    field("filters").reset();
    field("more-filters").open = true;
    field("place").value = first;
    field("other-place").value = second;
    setTimeout(apply);
  }

  return {
    start,
    apply,
    setPlaces,
    get shown() {
      return shown;
    },
  };
})();
