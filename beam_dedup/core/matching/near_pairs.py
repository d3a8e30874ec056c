"""All pairs of codes within k: where to look, and what of the pairs of words found there counts.

Exact: a key only says where to look; whether two codes are within k is decided on the codes.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from beam_dedup.core.codes import (
    BASE,
    BoolArray,
    ByteArray,
    Codes,
    Found,
    IntArray,
    WordArray,
    long_distance,
    whole_distance,
)
from beam_dedup.core.matching import flat_join, hamming_join
from beam_dedup.core.matching.plan import Key, keys_over
from beam_dedup.core.matching.planner import choose
from beam_dedup.core.model import CodeKind
from beam_dedup.core.threads import interleaved
from beam_dedup.core.thresholds import Thresholds


@dataclasses.dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of rows of `Codes` that are within k; each pair may come more than once, in either order."""

    a: IntArray
    b: IntArray
    distance: ByteArray  # bits of the short code, or of all of a code that is compared as a whole; flat: grey levels

    def __len__(self) -> int:
        return len(self.a)


_Rows = tuple[IntArray, IntArray]
_Task = tuple[_Rows, Callable[[], Found]]


def near_pairs(
    codes: Codes,
    thresholds: Thresholds,
    keys: Sequence[Key] | None = None,
    roles: BoolArray | None = None,
    threads: int = 1,
) -> Iterator[Pairs]:
    """Yields every pair of rows within k, of different images and with a base view among the two.

    Args:
      keys: at which pairs are looked for, with masks over the words of a code; pairs that meet at none of them
        may or may not be found. Without it, keys are chosen such that every pair is found.
      roles: (number of images,) if given, only pairs of an image that is True with one that is False are found, and
        the work grows with the number of those, not of all pairs.
      threads: keys are looked at side by side.
    """
    tasks = [*_hashed_tasks(codes, thresholds, keys, roles), *_flat_tasks(codes, thresholds, roles)]
    for (rows_a, rows_b), (i, j, distance) in interleaved(tasks, threads):
        yield from admitted(codes, thresholds, rows_a[i], rows_b[j], distance)


def _hashed_tasks(
    codes: Codes, thresholds: Thresholds, keys: Sequence[Key] | None, roles: BoolArray | None
) -> Iterator[_Task]:
    """One search for each key: of bases among each other, and of bases with views."""
    hashed = codes.hashed
    is_base = codes.view[hashed] == BASE
    if keys is None:
        keys = choose(thresholds, len(hashed), int(is_base.sum())).plan.all_keys
    base, view = hashed[is_base], hashed[~is_base]
    one: list[_Rows] = []
    two: list[_Rows] = []
    if roles is None:
        one.append((base, base))
        two.append((base, view))
    else:
        base_is_true, view_is_true = (roles[codes.image[rows]] for rows in (base, view))
        two.append((base[base_is_true], base[~base_is_true]))
        two.append((base[base_is_true], view[~view_is_true]))
        two.append((base[~base_is_true], view[view_is_true]))
    for words, of_word in _words(codes, thresholds, keys):
        for rows in one:
            mine = words[rows[0]]
            for key in hamming_join.worthwhile(mine, mine, of_word, thresholds.word_k):
                yield rows, functools.partial(hamming_join.pairs_of_one, mine, thresholds.word_k, key)
        for rows in two:
            mine, theirs = words[rows[0]], words[rows[1]]
            for key in hamming_join.worthwhile(mine, theirs, of_word, thresholds.word_k):
                yield rows, functools.partial(hamming_join.pairs_of_two, mine, theirs, thresholds.word_k, key)


def _words(
    codes: Codes, thresholds: Thresholds, keys: Sequence[Key]
) -> Iterator[tuple[WordArray, Sequence[Key]]]:
    """The words of all codes that are searched, one of each code at a time, and at which keys."""
    if thresholds.words == 1:
        yield codes.short, keys
        return
    for number in range(thresholds.words):
        yield codes.long[:, number], keys_over(keys, number)


def _flat_tasks(codes: Codes, thresholds: Thresholds, roles: BoolArray | None) -> Iterator[_Task]:
    rows = codes.flat
    if not len(rows):
        return
    if roles is None:
        yield (rows, rows), functools.partial(flat_join.pairs_of_one, codes.pixels, thresholds.flat_levels)
        return
    is_true = roles[codes.image[rows]]
    one, other = np.flatnonzero(is_true), np.flatnonzero(~is_true)
    search = functools.partial(
        flat_join.pairs_of_two, codes.pixels[one], codes.pixels[other], thresholds.flat_levels
    )
    yield (rows[one], rows[other]), search


def admitted(
    codes: Codes, thresholds: Thresholds, a: IntArray, b: IntArray, distance: ByteArray
) -> Iterator[Pairs]:
    """Of pairs whose words or pixels agree, those that count."""
    image_a, image_b = codes.image[a], codes.image[b]
    good = (image_a != image_b) & ((codes.view[a] == BASE) | (codes.view[b] == BASE))
    good &= (codes.kind[a] == codes.kind[b]) | (codes.kind[a] <= CodeKind.TINY) & (
        codes.kind[b] <= CodeKind.TINY
    )
    a, b, distance = a[good], b[good], distance[good]
    tiny = (codes.kind[a] == CodeKind.TINY) | (codes.kind[b] == CodeKind.TINY)
    # NO_DISTANCE is below any threshold, so what has no long code passes.
    good = (long_distance(codes, a, b) <= thresholds.verify) & (~tiny | (distance <= thresholds.tiny_bits))
    good &= (codes.kind[a] != CodeKind.METADATA) | (distance <= thresholds.metadata_bits)
    if thresholds.words > 1:
        distance = np.where(codes.kind[a] == CodeKind.WIDE, whole_distance(codes, a, b), distance).astype(
            np.uint8
        )
        good &= (codes.kind[a] != CodeKind.WIDE) | (distance <= thresholds.k)
    if good.any():
        yield Pairs(a[good], b[good], distance[good])
