"""Selects which images are kept, and finds the witness of each duplicate.

Images are numbered 0 .. n-1 by rank, the preferred image first. Known images are kept; protected ones too, and are
called known here as well. The other images are judged in that order: an image is a duplicate if a kept image
lies within k of it; else it is kept. The witness of a duplicate is the nearest kept image; of several equally near
ones, the one with the best rank. Pairs that a person decided (`Codes.decided`) are within k, or not, whatever their
codes say.

If the inputs of images are given (`Codes.inputs`), only images of different inputs are within k of each other. Then
images of one input with equal codes are all kept, or all duplicates.

Two ways lead to the same verdicts:

- `keep` judges all images in one code shard.
- Rounds judge images that are spread over several code shards, each of which sees only some of the pairs:
  `neighbour_flags` finds which images have better or worse neighbours; images without a better one in *any*
  code shard are anchors and kept; `near_marked` finds the duplicates of anchors; all other images go to the
  next round, or to `keep`.

`nearest_kept` then finds the witnesses.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from beam_dedup.core.codes import BASE, BoolArray, ByteArray, Codes, IntArray, WordArray, long_distance
from beam_dedup.core.matching.near_pairs import Pairs, near_pairs
from beam_dedup.core.matching.plan import Key, mixed
from beam_dedup.core.thresholds import Thresholds

# Number of pairs held at a time, some 100 MiB. With more pairs, as for thousands of frames of one scene, images
# are judged in two halves by rank. The second half is judged without the duplicates of the images kept in the
# first half; usually few images are left.
MAX_PAIRS = 1 << 23

_Keys = Sequence[Key] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Witnesses:
    """Columns of length n: image `image` is a duplicate of image `kept`."""

    image: IntArray  # (n,)
    kept: IntArray  # (n,)
    distance: IntArray  # (n,) bits of the short code; flat: colour levels; UNMEASURED if there is none
    long_distance: IntArray  # (n,) bits of the long code; NO_DISTANCE if there is none
    view: ByteArray  # (n,) index into VIEWS


def judge(
    codes: Codes,
    images: int,
    thresholds: Thresholds,
    known: BoolArray | None = None,
    keys: _Keys = None,
    threads: int = 1,
    max_pairs: int = MAX_PAIRS,
) -> tuple[BoolArray, Witnesses]:
    """Judges images 0 .. images-1, and finds the witnesses of the duplicates.

    Args:
      codes: the codes of the images. Images without codes are kept.
      images: number of images.
      thresholds: when two codes are within k.
      known: (images,) True for images that are kept beforehand, however near they are to each other; none
        if not given.
      keys: the keys of a plan that finds every pair; chosen if not given.
      threads: number of keys that are searched at a time.
      max_pairs: number of pairs held at a time.

    Returns:
      (images,) True for the kept images, including the known ones; the witnesses of all others.
    """
    known = np.zeros(images, dtype=bool) if known is None else known
    representative = representatives(codes, known)
    is_representative = representative == np.arange(images)
    kept, found = _judge(
        codes.of(is_representative), images, thresholds, known & is_representative, keys, threads, max_pairs
    )
    # Images of one input are no duplicates of each other.
    kept = (kept & is_representative if codes.inputs is None else kept[representative]) | known
    return kept, _stacked([found, _witnesses_of_represented(codes, kept, representative, found)])


def _judge(
    codes: Codes,
    images: int,
    thresholds: Thresholds,
    known: BoolArray,
    keys: _Keys,
    threads: int,
    max_pairs: int,
) -> tuple[BoolArray, Witnesses]:
    """Judges the representatives, to which all `codes` belong. Arguments and results are those of `judge`."""
    if not known.any():
        # One search finds both kept images and witnesses, if all pairs can be held.
        pairs = _all_pairs(codes, thresholds, keys, max_pairs, threads)
        if pairs is not None:
            kept = np.ones(images, dtype=bool)
            kept[_dominated(codes, pairs)] = False
            return kept, _witnesses(codes, kept, [pairs], max_pairs)
    kept = keep(codes, images, thresholds, max_pairs, known, keys, threads)
    return kept, nearest_kept(codes, kept, thresholds, keys, threads, max_pairs)


def _witnesses_of_represented(
    codes: Codes, kept: BoolArray, representative: IntArray, found: Witnesses
) -> Witnesses:
    """Returns the witnesses of the images that have another image as representative.

    The witness is the representative if that is kept, else the witness of the representative.

    Args:
      found: the witnesses of the representatives.
    """
    represented = np.flatnonzero((representative != np.arange(len(representative))) & ~kept)
    is_kept = kept[representative[represented]]
    of_kept, of_others = represented[is_kept], represented[~is_kept]
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
    at = np.searchsorted(found.image, representative[of_others])  # `found` is sorted by image
    its_witness = Witnesses(
        of_others, found.kept[at], found.distance[at], found.long_distance[at], found.view[at]
    )
    return _stacked([itself, its_witness])


def keep(
    codes: Codes,
    images: int,
    thresholds: Thresholds,
    max_pairs: int = MAX_PAIRS,
    known: BoolArray | None = None,
    keys: _Keys = None,
    threads: int = 1,
) -> BoolArray:
    """Returns which of the images 0 .. images-1 are kept: (images,). The arguments are those of `judge`."""
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
    """Judges the images `judged`, to which all `codes` belong, and sets the kept ones in `kept`."""
    pairs = _all_pairs(codes, thresholds, keys, max_pairs, threads, may_give_up=len(judged) > 2)
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
    """Returns the images that are duplicates, given all pairs of images within k."""
    better, worse = _by_rank(codes, pairs)
    order = np.argsort(better, kind="stable")
    better, worse = better[order], worse[order]
    starts = np.flatnonzero(np.diff(better, prepend=-1))
    ends = np.append(starts, len(better))[1:]
    dominated = np.zeros(int(codes.image.max(initial=-1)) + 1, dtype=bool)
    # The definition needs a loop in order of rank. It visits only images that have worse-ranked neighbours.
    for image, start, end in zip(better[starts].tolist(), starts.tolist(), ends.tolist(), strict=True):
        if not dominated[image]:
            dominated[worse[start:end]] = True
    return np.flatnonzero(dominated)


def _all_pairs(
    codes: Codes,
    thresholds: Thresholds,
    keys: _Keys,
    max_pairs: int,
    threads: int = 1,
    may_give_up: bool = True,
) -> Pairs | None:
    """Returns all pairs, each once; None if there are more than `max_pairs` and `may_give_up` is True."""
    found = [Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8))]
    waiting = 0
    for pairs in near_pairs(codes, thresholds, keys, threads=threads):
        found.append(pairs)
        waiting += len(pairs)
        if waiting > max_pairs:
            # Very similar codes agree on most keys and are found at each of them, so repeated pairs do not
            # count.
            found = [_each_once(found, len(codes))]
            waiting = 0
            if may_give_up and len(found[0]) > max_pairs:
                return None
    return _each_once(found, len(codes))


def _each_once(parts: list[Pairs], rows: int) -> Pairs:
    """Returns the pairs of all parts, each once and with the smaller row first."""
    a, b, distance = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("a", "b", "distance")
    )
    both, first = np.unique(np.minimum(a, b) * rows + np.maximum(a, b), return_index=True)
    return Pairs(both // max(rows, 1), both % max(rows, 1), distance[first])


def _by_rank(codes: Codes, pairs: Pairs) -> tuple[IntArray, IntArray]:
    """Returns the better-ranked and the worse-ranked image of each pair."""
    a, b = codes.image[pairs.a], codes.image[pairs.b]
    return np.minimum(a, b), np.maximum(a, b)


def neighbour_flags(
    codes: Codes, images: int, thresholds: Thresholds, keys: _Keys = None, max_pairs: int = MAX_PAIRS
) -> tuple[BoolArray, BoolArray]:
    """Returns which images have a better-ranked neighbour, and which may have a worse-ranked one.

    The first mask is exact for these codes and keys. The second may be True for an image without a
    worse-ranked neighbour; it only saves work.
    """
    judged = np.unique(codes.image)
    kept = np.zeros(images, dtype=bool)
    _keep(codes, judged, thresholds, max_pairs, kept, keys)
    has_better = np.zeros(images, dtype=bool)
    has_better[judged] = ~kept[judged]  # a duplicate has a better-ranked neighbour
    has_worse = has_better.copy()
    for pairs in near_pairs(codes, thresholds, keys, roles=kept):
        better, worse = _by_rank(codes, pairs)
        has_worse[better] = True
        has_better[worse] = True
    return has_better, has_worse


def near_marked(
    codes: Codes, marked: BoolArray, thresholds: Thresholds, keys: _Keys = None, threads: int = 1
) -> BoolArray:
    """Returns which unmarked images lie within k of a marked image, among these codes: (images,) mask.

    Args:
      marked: (images,) mask; marked images may be within k of each other.
    """
    near = np.zeros(len(marked), dtype=bool)
    for pairs in near_pairs(codes, thresholds, keys, roles=marked, threads=threads):
        near[codes.image[pairs.a]] = True
        near[codes.image[pairs.b]] = True
    return near & ~marked


def nearest_kept(
    codes: Codes,
    kept: BoolArray,
    thresholds: Thresholds,
    keys: _Keys = None,
    threads: int = 1,
    max_pairs: int = MAX_PAIRS,
) -> Witnesses:
    """Returns the nearest kept image, among these codes, for every image that is not kept.

    If several are equally near, it is the one with the best rank.

    Images without a kept image within k, among these codes, are left out. If two images match through
    several views at the same distance, the first of these views is reported.

    Args:
      kept: (images,) True for kept images.
      max_pairs: number of pairs held at a time.
    """
    pairs = near_pairs(codes, thresholds, keys, roles=kept, threads=threads)
    return _witnesses(codes, kept, pairs, max_pairs)


def _witnesses(codes: Codes, kept: BoolArray, all_pairs: Iterable[Pairs], max_pairs: int) -> Witnesses:
    """Returns the nearest kept image of each image in some pairs, sorted by image.

    Pairs of two kept images, and of two images that are not kept, are ignored.
    """
    none = np.zeros(0, np.int64)
    best = Witnesses(none, none, none, none, np.zeros(0, np.uint8))
    found: list[Witnesses] = []
    waiting = 0
    for pairs in all_pairs:
        mixed_pairs = np.flatnonzero(kept[codes.image[pairs.a]] != kept[codes.image[pairs.b]])
        a, b = pairs.a[mixed_pairs], pairs.b[mixed_pairs]
        swap = kept[codes.image[a]]
        row, kept_row = np.where(swap, b, a), np.where(swap, a, b)
        view = np.where(codes.view[row] == BASE, codes.view[kept_row], codes.view[row])
        new = Witnesses(
            codes.image[row],
            codes.image[kept_row],
            pairs.distance[mixed_pairs].astype(np.int64),
            long_distance(codes, row, kept_row),
            view,
        )
        found.append(new)
        waiting += len(row)
        if waiting > max_pairs:
            best, found, waiting = _first_each(_stacked([best, *found])), [], 0
    return _first_each(_stacked([best, *found]))


def _stacked(parts: list[Witnesses]) -> Witnesses:
    """Returns the rows of all parts, one part after the other."""
    names = [field.name for field in dataclasses.fields(Witnesses)]
    return Witnesses(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _first_each(witnesses: Witnesses) -> Witnesses:
    """Returns the best row of each image, sorted by image.

    Two images may match through a view of either one at the same distance; then the long distance decides.
    """
    w = witnesses
    order = np.lexsort((w.long_distance, w.view, w.kept, w.distance, w.image))
    order = order[np.flatnonzero(np.diff(w.image[order], prepend=-1))]
    return Witnesses(w.image[order], w.kept[order], w.distance[order], w.long_distance[order], w.view[order])


def representatives(codes: Codes, known: BoolArray) -> IntArray:
    """Returns the representative of each image.

    The representative is the best-ranked image with the same code, if both images have one code only; it belongs to the
    same input, if these are given.

    An image with several codes, or none, is its own representative, and so is one in a pair that a person decided,
    which may have other neighbours than images with the same code. Known images and new images do not
    represent each other: known images are kept however near they are to each other, so the witness of a new
    image may be a better-ranked known image, as near by its short code as the known image with the equal
    code.

    Only images with neighbouring hashes are compared. If the hashes of two different codes are equal
    (probability 2**-64), some images may remain their own representatives; they are then compared like
    images with different codes, so verdicts are the same.

    Args:
      known: (images,) True for known images.

    Returns:
      (images,) number of the representative.
    """
    images = len(known)
    representative = np.arange(images)
    if not len(codes):
        return representative
    single = np.flatnonzero(np.bincount(codes.image, minlength=images)[codes.image] == 1)
    words = _code_words(codes)[single]
    words[:, 0] += known[codes.image[single]].astype(np.uint64) << np.uint64(8)
    alone = np.zeros(images, np.uint64)
    decided = codes.decided.decided_images()
    alone[decided] = decided + 1
    words[:, 0] += alone[codes.image[single]] << np.uint64(16)
    if codes.inputs is not None:
        words = np.column_stack([words, codes.inputs[codes.image[single]].astype(np.uint64)])
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
    """Returns kind, bits and pixels of each code as words (n, 14), equal if and only if the codes are equal."""
    words = np.zeros((len(codes), 14), np.uint64)
    words[:, 0] = codes.kind
    words[:, 1:5] = codes.long
    words[:, 5] = codes.short
    words[:, 6:] = codes.detail_words()
    words[codes.flat, 1:13] = np.ascontiguousarray(codes.pixels).view(np.uint64)
    return words
