"""Finds pairs of flat pictures, which have no structure, by comparing their colours.

The code of a flat picture is its colour profile: 96 bytes, the mean colour of each of 16 vertical and 16
horizontal strips. If two profiles differ nowhere by more than some number of levels, neither do their mean
colours. So mean colours are sorted into a grid of cells that are slightly wider than that number of levels,
and a picture is compared with those in its own cell and in the 26 cells around it. Two pictures of one
plain colour are within k only if they are equal, so such pairs are found by sorting.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from beam_dedup.core.codes import PROFILE_BYTES, BoolArray, ByteArray, Found, IntArray

RUN = 1 << 12  # pictures compared at a time

_STRIPS = PROFILE_BYTES // 3  # of a profile; each has three colour values
_CELLS_AROUND = list(itertools.product((-1, 0, 1), repeat=3))


def pairs_of_one(pixels: ByteArray, levels: int) -> Found:
    """Yields the pairs (i, j), i < j, within one array of profiles; see `pairs_of_two`."""
    for i, j, distance in pairs_of_two(pixels, pixels, levels):
        once = i < j
        yield i[once], j[once], distance[once]


def pairs_of_two(pixels_a: ByteArray, pixels_b: ByteArray, levels: int) -> Found:
    """Yields the pairs (i, j) of a profile of each array that differ nowhere by more than `levels`.

    Two plain colours are a pair only if they are equal.

    Args:
      pixels_a, pixels_b: (pictures, 96) profiles.
      levels: maximum difference of two values, of 255.
    """
    plain_a, plain_b = _plain(pixels_a), _plain(pixels_b)
    yield from _equal_colours(pixels_a, pixels_b, np.flatnonzero(plain_a), np.flatnonzero(plain_b))
    yield from _alike(pixels_a, pixels_b, np.flatnonzero(~plain_a), np.arange(len(pixels_b)), levels)
    yield from _alike(pixels_a, pixels_b, np.flatnonzero(plain_a), np.flatnonzero(~plain_b), levels)


def _equal_colours(pixels_a: ByteArray, pixels_b: ByteArray, a: IntArray, b: IntArray) -> Found:
    """Yields the pairs of equal colour among rows `a` and `b`, all of which have one plain colour."""
    colour_a, colour_b = (
        pixels[rows, :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        for pixels, rows in ((pixels_a, a), (pixels_b, b))
    )
    for i, j in _matching_keys(colour_a, colour_b, (0,)):
        yield a[i], b[j], np.zeros(len(i), np.uint8)


def _alike(pixels_a: ByteArray, pixels_b: ByteArray, a: IntArray, b: IntArray, levels: int) -> Found:
    """Yields the pairs within `levels` among rows `a` and `b`."""
    if not len(a) or not len(b):
        return
    # Sums over eighths of a profile: pairs that differ too much in these need not be compared value by value.
    rough_a, rough_b = (
        pixels.reshape(-1, 8, PROFILE_BYTES // 8).sum(axis=2, dtype=np.int32)
        for pixels in (pixels_a, pixels_b)
    )
    width = _STRIPS * levels + 1
    across = _STRIPS * 255 // width + 3  # cells along one axis, including one more on each side
    weights = np.array([across**2, across, 1])
    cell_a, cell_b = (
        (pixels[rows].reshape(-1, _STRIPS, 3).sum(axis=1, dtype=np.int64) // width + 1) @ weights
        for pixels, rows in ((pixels_a, a), (pixels_b, b))
    )
    for i, j in _matching_keys(cell_a, cell_b, [int(np.array(step) @ weights) for step in _CELLS_AROUND]):
        i, j = a[i], b[j]
        near = (np.abs(rough_a[i] - rough_b[j]) <= levels * (PROFILE_BYTES // 8)).all(axis=1)
        i, j = i[near], j[near]
        one, other = pixels_a[i], pixels_b[j]
        distance = (np.maximum(one, other) - np.minimum(one, other)).max(axis=1, initial=0)
        near = distance <= levels
        if near.any():
            yield i[near], j[near], distance[near]


def _matching_keys(
    keys_a: IntArray, keys_b: IntArray, steps: list[int] | tuple[int, ...]
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yields all (i, j) such that key j of the second array equals key i of the first plus one of the steps."""
    order = np.argsort(keys_b, kind="stable")
    keys_b = keys_b[order]
    for step in steps:
        first = np.searchsorted(keys_b, keys_a + step, side="left")
        last = np.searchsorted(keys_b, keys_a + step, side="right")
        has_match = np.flatnonzero(first < last)
        for start in range(0, len(has_match), RUN):
            i = has_match[start : start + RUN]
            j, end = first[i], last[i]
            while len(i):
                yield i, order[j]
                j = j + 1
                going = np.flatnonzero(j < end)
                i, j, end = i[going], j[going], end[going]


def _plain(pixels: ByteArray) -> BoolArray:
    """Returns which profiles are of one plain colour."""
    same = pixels.reshape(-1, _STRIPS, 3) == pixels[:, None, :3]
    plain: BoolArray = same.all(axis=(1, 2))
    return plain
