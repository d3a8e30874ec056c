"""Pairs of flat pictures: those that have no structure are compared by their colours.

A flat picture is the profile of its colours: 96 bytes, the mean of each of 16 vertical strips and 16 horizontal ones.
Profiles that differ nowhere by more than some levels do not differ by more in their mean colour either. So mean colours
are put into a grid of cells a little wider than that, and a picture is compared with those of its own cell and of the 26
around it. Pictures of one plain colour are alike only if they are equal, so these are found by sorting.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from beam_dedup.core.codes import PROFILE_BYTES, BoolArray, ByteArray, Found, IntArray

_CELLS = PROFILE_BYTES // 3  # of a profile, each of three colours
_RUN = 1 << 12  # pictures compared at a time
_AROUND = list(itertools.product((-1, 0, 1), repeat=3))


def pairs_of_one(pixels: ByteArray, levels: int) -> Found:
    """Pairs within one array of flat pictures."""
    for i, j, distance in pairs_of_two(pixels, pixels, levels):
        once = i < j
        yield i[once], j[once], distance[once]


def pairs_of_two(pixels_a: ByteArray, pixels_b: ByteArray, levels: int) -> Found:
    """Flat pictures whose profiles differ nowhere by more than `levels`; plain colours only equal ones."""
    plain_a, plain_b = _plain(pixels_a), _plain(pixels_b)
    yield from _equal_colours(pixels_a, pixels_b, np.flatnonzero(plain_a), np.flatnonzero(plain_b))
    yield from _alike(pixels_a, pixels_b, np.flatnonzero(~plain_a), np.arange(len(pixels_b)), levels)
    yield from _alike(pixels_a, pixels_b, np.flatnonzero(plain_a), np.flatnonzero(~plain_b), levels)


def _equal_colours(pixels_a: ByteArray, pixels_b: ByteArray, a: IntArray, b: IntArray) -> Found:
    """Pairs of equal colour among pictures `a` and `b` of one colour each."""
    colour_a, colour_b = (
        pixels[rows, :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        for pixels, rows in ((pixels_a, a), (pixels_b, b))
    )
    for i, j in _meetings(colour_a, colour_b, (0,)):
        yield a[i], b[j], np.zeros(len(i), np.uint8)


def _alike(pixels_a: ByteArray, pixels_b: ByteArray, a: IntArray, b: IntArray, levels: int) -> Found:
    """Pairs within `levels` among pictures `a` and `b`."""
    if not len(a) or not len(b):
        return
    # Sums over eighths: what is not alike in these need not be compared cell by cell.
    rough_a, rough_b = (
        pixels.reshape(-1, 8, PROFILE_BYTES // 8).sum(axis=2, dtype=np.int32)
        for pixels in (pixels_a, pixels_b)
    )
    width = _CELLS * levels + 1
    across = _CELLS * 255 // width + 3  # cells along one axis, and one more on each side
    weights = np.array([across**2, across, 1])
    cell_a, cell_b = (
        (pixels[rows].reshape(-1, _CELLS, 3).sum(axis=1, dtype=np.int64) // width + 1) @ weights
        for pixels, rows in ((pixels_a, a), (pixels_b, b))
    )
    for i, j in _meetings(cell_a, cell_b, [int(np.array(step) @ weights) for step in _AROUND]):
        i, j = a[i], b[j]
        near = (np.abs(rough_a[i] - rough_b[j]) <= levels * (PROFILE_BYTES // 8)).all(axis=1)
        i, j = i[near], j[near]
        one, other = pixels_a[i], pixels_b[j]
        distance = (np.maximum(one, other) - np.minimum(one, other)).max(axis=1, initial=0)
        near = distance <= levels
        if near.any():
            yield i[near], j[near], distance[near]


def _meetings(
    keys_a: IntArray, keys_b: IntArray, steps: list[int] | tuple[int, ...]
) -> Iterator[tuple[IntArray, IntArray]]:
    """All (i, j) such that key j of the second array is key i of the first plus one of some steps."""
    order = np.argsort(keys_b, kind="stable")
    keys_b = keys_b[order]
    for step in steps:
        first = np.searchsorted(keys_b, keys_a + step, side="left")
        last = np.searchsorted(keys_b, keys_a + step, side="right")
        meets = np.flatnonzero(first < last)
        for start in range(0, len(meets), _RUN):
            i = meets[start : start + _RUN]
            j, end = first[i], last[i]
            while len(i):
                yield i, order[j]
                j = j + 1
                going = np.flatnonzero(j < end)
                i, j, end = i[going], j[going], end[going]


def _plain(pixels: ByteArray) -> BoolArray:
    """Which profiles are of one single colour."""
    same = pixels.reshape(-1, _CELLS, 3) == pixels[:, None, :3]
    plain: BoolArray = same.all(axis=(1, 2))
    return plain
