"""The definition: which images are kept, and of what the others are duplicates.

Images are numbered 0 .. n-1 by rank, the preferred first. Known ones are kept. Go through the others in that order; an
image is a duplicate if a kept one lies within k of it, else it is kept. Its witness is the nearest kept image, ties by rank.

Two ways lead to the same verdicts:

- `keep` judges all images in one place.
- Rounds judge images that are spread over many places, each seeing only some of the pairs: `neighbour_flags` says
  which images have better or worse neighbours; those without a better one in *any* place are anchors and kept;
  `near_marked` finds the duplicates of anchors; what is neither goes to the next round, or to `keep`.

`nearest_kept` then finds the witnesses.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from beam_dedup.core.codes import BASE, BoolArray, ByteArray, Codes, IntArray, WordArray, long_distance
from beam_dedup.core.matching.near_pairs import Pairs, near_pairs
from beam_dedup.core.matching.plan import Key, mixed
from beam_dedup.core.thresholds import Thresholds

# Pairs held at a time, some 100 MiB. Where there are more (thousands of frames of one scene), images are judged in
# two halves by rank instead: the second half without what the first half's kept ones dominate, which is most of it.
_MAX_PAIRS = 1 << 23

_Keys = Sequence[Key] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Witnesses:
    """Columns: image `image` is a duplicate of image `kept`."""

    image: IntArray
    kept: IntArray
    distance: IntArray
    long_distance: IntArray  # NO_DISTANCE where there is none
    view: ByteArray  # index into VIEWS


def judge(
    codes: Codes,
    images: int,
    thresholds: Thresholds,
    known: BoolArray | None = None,
    keys: _Keys = None,
    threads: int = 1,
    max_pairs: int = _MAX_PAIRS,
) -> tuple[BoolArray, Witnesses]:
    """Judges images 0 .. images-1 in one place, and finds the witnesses of the duplicates.

    known: (images,) True for those that are kept beforehand, whatever they are near to. keys: of a plan that
    finds every pair; chosen anew if not given.
    Returns: (images,) True for the kept ones, the known ones among them. Images without codes are kept.
    """
    known = np.zeros(images, dtype=bool) if known is None else known
    representative = representatives(codes, known)
    leads = representative == np.arange(images)
    kept, found = _judge(codes.of(leads), images, thresholds, known & leads, keys, threads, max_pairs)
    kept = kept & leads | known
    return kept, _stacked([found, _of_twins(codes, kept, representative, found)])


def _judge(
    codes: Codes,
    images: int,
    thresholds: Thresholds,
    known: BoolArray,
    keys: _Keys,
    threads: int,
    max_pairs: int,
) -> tuple[BoolArray, Witnesses]:
    if not known.any():
        # One search for both, where all pairs can be held.
        pairs = _all_pairs(codes, thresholds, keys, max_pairs, threads)
        if pairs is not None:
            kept = np.ones(images, dtype=bool)
            kept[_dominated(codes, pairs)] = False
            return kept, _witnesses(codes, kept, [pairs])
    kept = keep(codes, images, thresholds, max_pairs, known, keys, threads)
    return kept, nearest_kept(codes, kept, thresholds, keys, threads)


def _of_twins(codes: Codes, kept: BoolArray, representative: IntArray, found: Witnesses) -> Witnesses:
    """The witnesses of images that others lead: the leader, if it is kept, else the leader's."""
    led = np.flatnonzero((representative != np.arange(len(representative))) & ~kept)
    of_kept, of_others = led[kept[representative[led]]], led[~kept[representative[led]]]
    row = np.full(len(representative), -1)
    row[codes.image] = np.arange(len(codes))
    rows = row[of_kept]
    zeros = np.zeros(len(of_kept), np.int64)
    itself = Witnesses(
        of_kept,
        representative[of_kept],
        zeros,
        long_distance(codes, rows, rows),
        np.full(len(of_kept), BASE, np.uint8),
    )
    at = np.searchsorted(found.image, representative[of_others])  # those found are in order of their images
    theirs = Witnesses(of_others, found.kept[at], found.distance[at], found.long_distance[at], found.view[at])
    return _stacked([itself, theirs])


def keep(
    codes: Codes,
    images: int,
    thresholds: Thresholds,
    max_pairs: int = _MAX_PAIRS,
    known: BoolArray | None = None,
    keys: _Keys = None,
    threads: int = 1,
) -> BoolArray:
    """Which of the images 0 .. images-1 are kept; see `judge`."""
    kept = np.zeros(images, dtype=bool) if known is None else known.copy()
    judged = ~kept
    if kept.any():
        judged &= ~near_marked(codes, kept, thresholds, keys, threads)
    _keep(codes.of(judged), np.flatnonzero(judged), thresholds, max_pairs, kept, keys, threads)
    return kept


def _keep(
    codes: Codes,
    judged: IntArray,
    thresholds: Thresholds,
    max_pairs: int,
    kept: BoolArray,
    keys: _Keys = None,
    threads: int = 1,
) -> None:
    """Judges the images `judged`, to which all `codes` belong, and marks the kept ones in `kept`."""
    pairs = _all_pairs(codes, thresholds, keys, max_pairs if len(judged) > 2 else None, threads)
    if pairs is not None:
        kept[judged] = True
        kept[_dominated(codes, pairs)] = False
        return
    half = len(judged) // 2
    first, second = judged[:half], judged[half:]
    side = np.zeros(len(kept), dtype=bool)
    side[first] = True
    _keep(codes.of(side), first, thresholds, max_pairs, kept, keys, threads)
    kept_first = side & kept
    side[:] = False
    side[second] = True
    dominated = near_marked(codes.of(side | kept_first), kept_first, thresholds, keys, threads)
    second = second[~dominated[second]]
    side[:] = False
    side[second] = True
    _keep(codes.of(side), second, thresholds, max_pairs, kept, keys, threads)


def _dominated(codes: Codes, pairs: Pairs) -> IntArray:
    """The images that are duplicates, given all pairs there are."""
    better, worse = _by_rank(codes, pairs)
    order = np.argsort(better, kind="stable")
    better, worse = better[order], worse[order]
    starts = np.flatnonzero(np.diff(better, prepend=-1))
    ends = np.append(starts, len(better))[1:]
    dominated = np.zeros(int(codes.image.max(initial=-1)) + 1, dtype=bool)
    # In order of rank by definition, so a loop; of the images that have worse neighbours only.
    for image, start, end in zip(better[starts].tolist(), starts.tolist(), ends.tolist(), strict=True):
        if not dominated[image]:
            dominated[worse[start:end]] = True
    return np.flatnonzero(dominated)


def _all_pairs(
    codes: Codes, thresholds: Thresholds, keys: _Keys, max_pairs: int | None, threads: int = 1
) -> Pairs | None:
    """All pairs, each once, or None if there are more than `max_pairs`."""
    found = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))]
    waiting = 0
    for pairs in near_pairs(codes, thresholds, keys, threads=threads):
        found.append(pairs)
        waiting += len(pairs)
        if waiting > (_MAX_PAIRS if max_pairs is None else max_pairs):
            # Two codes that are alike agree on most keys, and are found at each of them: that is no reason to give up.
            found = [_each_once(found, len(codes))]
            waiting = 0
            if max_pairs is not None and len(found[0]) > max_pairs:
                return None
    return _each_once(found, len(codes))


def _each_once(parts: list[Pairs], rows: int) -> Pairs:
    """The pairs of all parts, the smaller row first, each once."""
    a, b, distance = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("a", "b", "distance")
    )
    both, first = np.unique(np.minimum(a, b) * rows + np.maximum(a, b), return_index=True)
    return Pairs(both // max(rows, 1), both % max(rows, 1), distance[first])


def _by_rank(codes: Codes, pairs: Pairs) -> tuple[IntArray, IntArray]:
    a, b = codes.image[pairs.a], codes.image[pairs.b]
    return np.minimum(a, b), np.maximum(a, b)


def neighbour_flags(
    codes: Codes, images: int, thresholds: Thresholds, keys: _Keys = None, max_pairs: int = _MAX_PAIRS
) -> tuple[BoolArray, BoolArray]:
    """Which images have a better neighbour, and which may have a worse one: two (images,) keys.

    The first is exact for these codes and keys. The second may say yes where the answer is no: it only saves work.
    """
    judged = np.unique(codes.image)
    kept = np.zeros(images, dtype=bool)
    _keep(codes, judged, thresholds, max_pairs, kept, keys)
    has_better = np.zeros(images, dtype=bool)
    has_better[judged] = ~kept[judged]  # each was dominated by a better one
    has_worse = has_better.copy()
    for pairs in near_pairs(codes, thresholds, keys, roles=kept):
        better, worse = _by_rank(codes, pairs)
        has_worse[better] = True
        has_better[worse] = True
    return has_better, has_worse


def near_marked(
    codes: Codes, marked: BoolArray, thresholds: Thresholds, keys: _Keys = None, threads: int = 1
) -> BoolArray:
    """Which unmarked images lie within k of a marked one, among these codes: (images,) mask."""
    near = np.zeros(len(marked), dtype=bool)
    for pairs in near_pairs(codes, thresholds, keys, roles=marked, threads=threads):
        near[codes.image[pairs.a]] = True
        near[codes.image[pairs.b]] = True
    return near & ~marked


def nearest_kept(
    codes: Codes, kept: BoolArray, thresholds: Thresholds, keys: _Keys = None, threads: int = 1
) -> Witnesses:
    """For every image that is not kept, the nearest kept one among these codes: least distance, then best rank.

    An image without a kept one within k, among these codes, is left out. Of several views through which two images
    match at the same distance, the first counts.
    """
    return _witnesses(codes, kept, near_pairs(codes, thresholds, keys, roles=kept, threads=threads))


def _witnesses(codes: Codes, kept: BoolArray, all_pairs: Iterable[Pairs]) -> Witnesses:
    """The nearest kept one of each image in some pairs; pairs of two kept images, or of two duplicates, say nothing."""
    none = np.zeros(0, np.int64)
    best = Witnesses(none, none, none, none, np.zeros(0, np.uint8))
    found: list[Witnesses] = []
    waiting = 0
    for pairs in all_pairs:
        telling = np.flatnonzero(kept[codes.image[pairs.a]] != kept[codes.image[pairs.b]])
        a, b = pairs.a[telling], pairs.b[telling]
        swap = kept[codes.image[a]]
        row, kept_row = np.where(swap, b, a), np.where(swap, a, b)
        view = np.where(codes.view[row] == BASE, codes.view[kept_row], codes.view[row])
        new = Witnesses(
            codes.image[row],
            codes.image[kept_row],
            pairs.distance[telling].astype(np.int64),
            long_distance(codes, row, kept_row),
            view,
        )
        found.append(new)
        waiting += len(row)
        if waiting > _MAX_PAIRS:
            best, found, waiting = _first_each(_stacked([best, *found])), [], 0
    return _first_each(_stacked([best, *found]))


def _stacked(parts: list[Witnesses]) -> Witnesses:
    names = [field.name for field in dataclasses.fields(Witnesses)]
    return Witnesses(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _first_each(witnesses: Witnesses) -> Witnesses:
    """The best row of each image: two images may match through a view of either, so the long distance decides last."""
    w = witnesses
    order = np.lexsort((w.long_distance, w.view, w.kept, w.distance, w.image))
    order = order[np.flatnonzero(np.diff(w.image[order], prepend=-1))]
    return Witnesses(w.image[order], w.kept[order], w.distance[order], w.long_distance[order], w.view[order])


def representatives(codes: Codes, known: BoolArray) -> IntArray:
    """For each image the best-ranked one that has the same single code; itself, if it has several codes or none.

    Known images, which are kept whatever they are near to, and others do not lead each other: a new image may have an
    equal known one, but a better-ranked known one just as near by its short code.

    Only neighbours by hash are compared, so that of two groups whose hashes agree (one in 2**64) a few members may lead
    themselves: they are then compared with all others, as if they were different.

    Returns: (images,).
    """
    images = len(known)
    representative = np.arange(images)
    if not len(codes):
        return representative
    single = np.flatnonzero(np.bincount(codes.image, minlength=images)[codes.image] == 1)
    words = _code_words(codes)[single]
    words[:, 0] += known[codes.image[single]].astype(np.uint64) << np.uint64(8)
    hashes = np.zeros(len(single), np.uint64)
    for column in words.T:
        hashes = mixed(hashes ^ column)
    order = np.lexsort((codes.image[single], hashes))
    same = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    starts = np.flatnonzero(np.concatenate([[True], ~same])) if len(order) else np.zeros(0, np.int64)
    sizes = np.diff(starts, append=len(order))
    in_order = codes.image[single][order]
    representative[in_order] = np.repeat(in_order[starts], sizes)
    return representative


def _code_words(codes: Codes) -> WordArray:
    """All that a code is, in words: (n, 13)."""
    words = np.zeros((len(codes), 13), np.uint64)
    words[:, 0] = codes.kind
    words[:, 1:5] = codes.long
    words[:, 5] = codes.short
    words[codes.flat, 1:] = np.ascontiguousarray(codes.pixels).view(np.uint64)
    return words
