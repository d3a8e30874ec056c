"""Pairs of flat pictures: those that have no structure are compared by their colours.

A flat picture is the profile of its colours: 96 bytes, the mean of each of 16 vertical strips and 16 horizontal ones.
"""

from collections.abc import Iterator

import numpy as np

from beam_dedup.core.codes import PROFILE_BYTES, BoolArray, ByteArray, IntArray

Found = Iterator[tuple[IntArray, IntArray, ByteArray]]  # i, j, distance in grey levels

_RUN = 1 << 12  # pictures compared at a time


def pairs_of_one(pixels: ByteArray, levels: int) -> Found:
    """Pairs within one array of flat pictures."""
    for i, j, distance in pairs_of_two(pixels, pixels, levels):
        once = i < j
        yield i[once], j[once], distance[once]


def pairs_of_two(pixels_a: ByteArray, pixels_b: ByteArray, levels: int) -> Found:
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
    for start in range(0, len(pixels_a), _RUN):
        i = np.arange(start, min(start + _RUN, len(pixels_a)))
        j = np.searchsorted(total_b, total_a[i] - reach, side="left")
        end = np.searchsorted(total_b, total_a[i] + reach, side="right")
        while len(going := np.flatnonzero(j < end)):
            i, j, end = i[going], j[going], end[going]
            alike = np.flatnonzero((np.abs(rough_a[i] - rough_b[j]) <= levels * cells).all(axis=1))
            yield from _alike(pixels_a, pixels_b, i[alike], j[alike], order, levels)
            j = j + 1


def _alike(
    pixels_a: ByteArray, pixels_b: ByteArray, i: IntArray, j: IntArray, order: IntArray, levels: int
) -> Found:
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
