"""How many comparisons keys lead to, judged by some of the words.

Real words share keys more often than uniform ones would: some bits are set in most photos, and the pictures of one
catalogue may agree in half of them. A long bucket costs less than its square, though: what agrees on an earlier key
as well was compared there, and a hot one is split by keys of its own (see `beam_dedup.core.matching.hamming_join`).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from beam_dedup.core.codes import BoolArray, IntArray, WordArray
from beam_dedup.core.matching.buckets import KeyArray, compact, discriminating_bits, order_of, starts_of
from beam_dedup.core.matching.plan import ALL_BITS, KEY_COSTS, Key, Plan, cheapest_subset

LONG_BUCKET = 512  # words; of longer ones, what agrees on an earlier key as well is left out
HOT_BUCKET = 1 << 13  # longer ones still are split

_SHOWN_KEYS = 16  # keys that are looked at, to see how crowded they all are;
_SHOWN_IF_LONG = 128  # where there may be long buckets, which belong to few of them

_FloatArray = npt.NDArray[np.float64]


def comparisons(
    a: WordArray, b: WordArray, keys: Sequence[Key], k: int, pairs: float, free: int = ALL_BITS
) -> float:
    """Expected number of comparisons at the keys of one plan.

    a, b: samples of the words of which one of the first is compared with one of the second; the same array if all are
    compared among each other. pairs: how many pairs there are of all words. free: the bits in which words may differ.
    """
    sample = a if a is b else np.concatenate([a, b])
    of_a = None if a is b else np.arange(len(sample)) < len(a)
    all_pairs = len(a) * (len(a) - 1) / 2 if a is b else len(a) * len(b)
    if not all_pairs:
        return 0.0
    shown = keys[:: -(-len(keys) // (_SHOWN_IF_LONG if pairs > LONG_BUCKET**2 / 2 else _SHOWN_KEYS))]
    total = 0.0
    for key in shown:
        met, bits = compact(sample, key.mask)
        order = order_of(met, bits)
        starts = starts_of(met[order])
        expected = _pairs_of(order, starts, of_a) * (pairs / all_pairs)
        long = expected > LONG_BUCKET**2 / 2
        total += float(expected[~long].sum())
        if long.any():
            inside = order[np.repeat(long, np.diff(starts, append=len(order)))]
            left = _left_of_long(sample, inside, met[inside], key, of_a) * (pairs / all_pairs)
            hot = left > HOT_BUCKET**2 / 2
            total += float(left[~hot].sum())
            starts = np.append(starts_of(met[inside]), len(inside))
            for bucket in np.flatnonzero(hot).tolist():
                words = sample[inside[starts[bucket] : starts[bucket + 1]]]
                total += _of_hot(float(left[bucket]), free & ~key.mask & discriminating_bits(words), k)
    return total * len(keys) / len(shown)


def _pairs_of(rows: IntArray, starts: IntArray, of_a: BoolArray | None) -> _FloatArray:
    """How many pairs there are of rows that lie together, from one start to the next."""
    sizes = np.diff(starts, append=len(rows)).astype(np.float64)
    if of_a is None:
        return sizes * (sizes - 1) / 2
    first = np.add.reduceat(of_a[rows], starts, dtype=np.float64)
    return first * (sizes - first)


def _left_of_long(
    sample: WordArray, rows: IntArray, met: KeyArray, key: Key, of_a: BoolArray | None
) -> _FloatArray:
    """Pairs of each bucket without those that agree on the earlier band that saves most.

    rows: of the sample, sorted by their keys `met`.
    """
    starts = starts_of(met)
    number = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(rows)))
    words = sample[rows]
    saved = np.zeros(len(starts))
    for band in key.earlier:
        value = words & np.uint64(band)
        order = np.lexsort((value, number))
        begins = np.flatnonzero(
            (np.diff(number[order], prepend=-1) != 0) | (np.diff(value[order], prepend=np.uint64(0)) != 0)
        )
        agree = _pairs_of(rows[order], begins, of_a)
        saved = np.maximum(saved, np.bincount(number[order[begins]], agree, len(starts)))
    return _pairs_of(rows, starts, of_a) - saved


def _of_hot(pairs: float, free: int, k: int) -> float:
    """Comparisons in a hot bucket of so many pairs, by keys of its own."""
    words = int((2 * pairs) ** 0.5)
    plan = Plan(k, cheapest_subset(k, words, free.bit_count()), bits=free.bit_count())
    if not plan.subset:
        return pairs
    return min(pairs, words * (plan.candidates(words) + plan.key_count * KEY_COSTS))
