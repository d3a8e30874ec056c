"""All pairs of codes within k, by sorting and comparing arrays; no work per pair or per code in Python.

Exact: a key only says where to look; whether two codes are within k is decided on the codes.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from beam_dedup.core.codes import (
    BASE,
    PROFILE_BYTES,
    BoolArray,
    ByteArray,
    Codes,
    IntArray,
    WordArray,
    long_distance,
)
from beam_dedup.core.model import Kind
from beam_dedup.core.plan import cheapest_subset, key_masks
from beam_dedup.core.within import Within

_TILE = 2048  # codes a side of a block of all with all: 32 MiB of differences
_RUN = 1 << 18  # codes compared at a time: the arrays in work stay in the cache
_FLAT_RUN = 1 << 12  # the same for flat pictures
_CANDIDATE_TO_TILE = 3.0  # cost of one comparison by key, in comparisons of all with all


@dataclasses.dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of rows of `Codes` that are within k; each pair may come more than once, in either order."""

    a: IntArray
    b: IntArray
    distance: ByteArray  # bits of the short code; flat: grey levels

    def __len__(self) -> int:
        return len(self.a)


def near_pairs(
    codes: Codes, within: Within, masks: Sequence[int] | None = None, roles: BoolArray | None = None
) -> Iterator[Pairs]:
    """Yields every pair of rows within k, of different images and with a base view among the two.

    Args:
      masks: the keys at which pairs are looked for, as masks over the short code; pairs that share none of them may
        or may not be found. Without it, keys are chosen such that every pair is found.
      roles: (number of images,) if given, only pairs of an image that is True with one that is False are found, and
        the work grows with the number of those, not of all pairs.
    """
    hashed, flat = codes.hashed, codes.flat
    if masks is None:
        masks = key_masks(within.k, cheapest_subset(within.k, len(hashed)))
    if roles is None:
        found = _pairs_of_one(codes.short[hashed], within.k, masks)
        found_flat = _flat_pairs(codes.pixels, within.flat_levels)
        parts = ((hashed, hashed, found), (flat, flat, found_flat))
    else:
        is_true = roles[codes.image]
        one, other = (np.flatnonzero(side) for side in (is_true[hashed], ~is_true[hashed]))
        found = _pairs_of_two(codes.short[hashed[one]], codes.short[hashed[other]], within.k, masks)
        flat_one, flat_other = (np.flatnonzero(side) for side in (is_true[flat], ~is_true[flat]))
        found_flat = _flat_pairs_of_two(codes.pixels[flat_one], codes.pixels[flat_other], within.flat_levels)
        parts = ((hashed[one], hashed[other], found), (flat[flat_one], flat[flat_other], found_flat))
    for rows_a, rows_b, pairs in parts:
        for i, j, distance in pairs:
            yield from _admitted(codes, within, rows_a[i], rows_b[j], distance)


def _admitted(codes: Codes, within: Within, a: IntArray, b: IntArray, distance: ByteArray) -> Iterator[Pairs]:
    """Of pairs whose short distance or pixels agree, those that count."""
    image_a, image_b = codes.image[a], codes.image[b]
    good = (image_a != image_b) & ((codes.view[a] == BASE) | (codes.view[b] == BASE))
    a, b, distance = a[good], b[good], distance[good]
    tiny = (codes.kind[a] == Kind.TINY) | (codes.kind[b] == Kind.TINY)
    # NO_DISTANCE is below any threshold, so what has no long code passes.
    good = (long_distance(codes, a, b) <= within.verify) & (~tiny | (distance <= within.tiny_bits))
    if good.any():
        yield Pairs(a[good], b[good], distance[good])


_Found = Iterator[tuple[IntArray, IntArray, ByteArray]]


def _pairs_of_one(short: WordArray, k: int, masks: Sequence[int]) -> _Found:
    """Pairs (i, j) within one array."""
    if len(short) <= _TILE or 0 in masks:
        for top in range(0, len(short), _TILE):
            for i, j, distance in _tiles(short[top : top + _TILE], short[top:], k):
                once = i < j
                yield i[once] + top, j[once] + top, distance[once]
        return
    for mask in masks:
        key = short & np.uint64(mask)
        order = np.argsort(key)
        key = key[order]
        first, last = np.arange(1, len(key) + 1), np.searchsorted(key, key, side="right")
        if _is_hot(first, last, len(masks), len(short) / 2):
            yield from _pairs_of_one(short, k, (0,))
            return
        yield from _runs(short[order], short[order], first, last, order, order, k)


def _pairs_of_two(short_a: WordArray, short_b: WordArray, k: int, masks: Sequence[int]) -> _Found:
    """Pairs (i, j) of an element of the first with one of the second array."""
    if min(len(short_a), len(short_b)) <= len(masks) or 0 in masks:
        yield from _tiles(short_a, short_b, k)
        return
    for mask in masks:
        key_a, key_b = short_a & np.uint64(mask), short_b & np.uint64(mask)
        order_a, order_b = np.argsort(key_a), np.argsort(key_b)
        key_a, key_b = key_a[order_a], key_b[order_b]
        first = np.searchsorted(key_b, key_a, side="left")
        last = np.searchsorted(key_b, key_a, side="right")
        if _is_hot(first, last, len(masks), len(short_b)):
            yield from _tiles(short_a, short_b, k)
            return
        yield from _runs(short_a[order_a], short_b[order_b], first, last, order_a, order_b, k)


def _is_hot(first: IntArray, last: IntArray, keys: int, others: float) -> bool:
    """Whether so many codes share this key that all with all is less work than to go through all keys.

    Codes are chosen keys for as if they were spread evenly; those of a thousand small pictures are not.
    """
    candidates = float(np.maximum(last - first, 0).sum())
    return candidates * keys * _CANDIDATE_TO_TILE > len(first) * others


def _tiles(short_a: WordArray, short_b: WordArray, k: int) -> _Found:
    """All with all, tile by tile."""
    for top in range(0, len(short_a), _TILE):
        for left in range(0, len(short_b), _TILE):
            distance = np.bitwise_count(short_a[top : top + _TILE, None] ^ short_b[None, left : left + _TILE])
            i, j = np.nonzero(distance <= k)
            yield i + top, j + left, distance[i, j]


def _runs(
    short_a: WordArray,
    short_b: WordArray,
    first: IntArray,
    last: IntArray,
    order_a: IntArray,
    order_b: IntArray,
    k: int,
) -> _Found:
    """Compares each element i of the first array with elements first[i] .. last[i]-1 of the second.

    One step compares every element with the next of its run; elements whose run has ended drop out.
    """
    for start in range(0, len(short_a), _RUN):
        i = np.arange(start, min(start + _RUN, len(short_a)))
        j = first[start : start + _RUN]
        end = last[start : start + _RUN]
        while True:
            going = np.flatnonzero(j < end)
            if not len(going):
                break
            if len(going) < len(i):
                i, j, end = i[going], j[going], end[going]
            distance = np.bitwise_count(short_a[i] ^ short_b[j])
            near = np.flatnonzero(distance <= k)
            if len(near):
                yield order_a[i[near]], order_b[j[near]], distance[near]
            j = j + 1


def _flat_pairs(pixels: ByteArray, levels: int) -> _Found:
    """Pairs within one array of flat pictures."""
    for i, j, distance in _flat_pairs_of_two(pixels, pixels, levels):
        once = i < j
        yield i[once], j[once], distance[once]


def _flat_pairs_of_two(pixels_a: ByteArray, pixels_b: ByteArray, levels: int) -> _Found:
    """Flat pictures whose profiles differ nowhere by more than `levels`; plain colours only equal ones.

    Sorted by their mean colour: pictures within `levels` in every cell are within it in the mean.
    """
    total_a, total_b = (pixels.sum(axis=1, dtype=np.int64) for pixels in (pixels_a, pixels_b))
    order = np.argsort(total_b, kind="stable")
    total_b, pixels_b = total_b[order], pixels_b[order]
    # Sums over eighths: what is not alike in these need not be compared cell by cell.
    rough_a, rough_b = (
        pixels.reshape(-1, 8, PROFILE_BYTES // 8).sum(axis=2, dtype=np.int32)
        for pixels in (pixels_a, pixels_b)
    )
    cells = PROFILE_BYTES // 8
    reach = levels * pixels_a.shape[1]
    for start in range(0, len(pixels_a), _FLAT_RUN):
        i = np.arange(start, min(start + _FLAT_RUN, len(pixels_a)))
        j = np.searchsorted(total_b, total_a[i] - reach, side="left")
        end = np.searchsorted(total_b, total_a[i] + reach, side="right")
        while len(going := np.flatnonzero(j < end)):
            i, j, end = i[going], j[going], end[going]
            alike = np.flatnonzero((np.abs(rough_a[i] - rough_b[j]) <= levels * cells).all(axis=1))
            yield from _alike(pixels_a, pixels_b, i[alike], j[alike], order, levels)
            j = j + 1


def _alike(
    pixels_a: ByteArray, pixels_b: ByteArray, i: IntArray, j: IntArray, order: IntArray, levels: int
) -> _Found:
    a, b = pixels_a[i], pixels_b[j]
    distance = (np.maximum(a, b) - np.minimum(a, b)).max(axis=1)
    near = (distance <= levels) & ~(_plain(a) & _plain(b) & (distance > 0))
    if near.any():
        yield i[near], order[j[near]], distance[near]


def _plain(pixels: ByteArray) -> BoolArray:
    """Which profiles are of one single colour."""
    same = pixels.reshape(-1, PROFILE_BYTES // 3, 3) == pixels[:, None, :3]
    plain: BoolArray = same.all(axis=(1, 2))
    return plain
