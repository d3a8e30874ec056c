"""Estimates how many comparisons the keys of a plan lead to, from a sample of the words.

Real words are skewed: they share keys more often than uniformly distributed words. Some bits are set in
most photos, and the pictures of one catalogue may agree in half of the bits. A long bucket costs less than
the square of its size, though: words that also agree on an earlier key are compared only there, and a hot
bucket is split by further keys (see `beam_dedup.core.matching.hamming_join`).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from beam_dedup.core.codes import BoolArray, IntArray, WordArray
from beam_dedup.core.matching.buckets import KeyArray, compact, discriminating_bits, order_of, starts_of
from beam_dedup.core.matching.plan import ALL_BITS, KEY_COSTS, Key, Plan, cheapest_subset

LONG_BUCKET = 512  # words; in longer buckets, words that agree on an earlier key are not compared
HOT_BUCKET = 1 << 13  # words; longer buckets are split by further keys
SAMPLED_KEYS = 16  # keys from which the comparisons at all keys are estimated
_SAMPLED_IF_LONG = 128  # the same, if long buckets are possible: perhaps only a few of the keys have any

_FloatArray = npt.NDArray[np.float64]


def comparisons(
    a: WordArray, b: WordArray, keys: Sequence[Key], k: int, pairs: float, free: int = ALL_BITS
) -> float:
    """Returns the expected number of comparisons at the keys of one plan.

    Args:
      a, b: samples of the two sets of words to compare; the same array if words of one set are compared
        with each other.
      keys: the keys of the plan.
      k: maximum distance, in bits.
      pairs: number of pairs of all words, not only of the sample.
      free: mask of the bits in which words may differ.
    """
    sample = a if a is b else np.concatenate([a, b])
    of_a = None if a is b else np.arange(len(sample)) < len(a)
    all_pairs = len(a) * (len(a) - 1) / 2 if a is b else len(a) * len(b)
    if not all_pairs:
        return 0.0
    most_keys = _SAMPLED_IF_LONG if pairs > LONG_BUCKET**2 / 2 else SAMPLED_KEYS
    sampled_keys = keys[:: -(-len(keys) // most_keys)]
    total = 0.0
    for key in sampled_keys:
        values, bits = compact(sample, key.mask)
        order = order_of(values, bits)
        starts = starts_of(values[order])
        expected = _pairs_of(order, starts, of_a) * (pairs / all_pairs)
        long = expected > LONG_BUCKET**2 / 2
        total += float(expected[~long].sum())
        if long.any():
            inside = order[np.repeat(long, np.diff(starts, append=len(order)))]
            left = _left_of_long(sample, inside, values[inside], key, of_a) * (pairs / all_pairs)
            hot = left > HOT_BUCKET**2 / 2
            total += float(left[~hot].sum())
            starts = np.append(starts_of(values[inside]), len(inside))
            for bucket in np.flatnonzero(hot).tolist():
                words = sample[inside[starts[bucket] : starts[bucket + 1]]]
                further_bits = free & ~key.mask & discriminating_bits(words)
                total += _in_hot_bucket(float(left[bucket]), further_bits, k)
    return total * len(keys) / len(sampled_keys)


def _pairs_of(rows: IntArray, starts: IntArray, of_a: BoolArray | None) -> _FloatArray:
    """Returns the number of pairs within each bucket.

    Args:
      rows: rows of the sample, bucket by bucket.
      starts: where each bucket starts.
      of_a: (sample,) whether a word is of the first set, if pairs are of a word of each set; None if there
        is one set.
    """
    sizes = np.diff(starts, append=len(rows)).astype(np.float64)
    if of_a is None:
        return sizes * (sizes - 1) / 2
    first = np.add.reduceat(of_a[rows], starts, dtype=np.float64)
    return first * (sizes - first)


def _left_of_long(
    sample: WordArray, rows: IntArray, values: KeyArray, key: Key, of_a: BoolArray | None
) -> _FloatArray:
    """Returns the number of pairs of each bucket that still have to be compared.

    Pairs that agree on one earlier band are left out; it is the band that saves most pairs.

    Args:
      rows: rows of the sample, sorted by their keys.
      values: their keys.
    """
    starts = starts_of(values)
    number = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(rows)))
    words = sample[rows]
    saved = np.zeros(len(starts))
    for band in key.earlier:
        value = words & np.uint64(band)
        order = np.lexsort((value, number))
        group_starts = np.flatnonzero(
            (np.diff(number[order], prepend=-1) != 0) | (np.diff(value[order], prepend=np.uint64(0)) != 0)
        )
        agree = _pairs_of(rows[order], group_starts, of_a)
        saved = np.maximum(saved, np.bincount(number[order[group_starts]], agree, len(starts)))
    return _pairs_of(rows, starts, of_a) - saved


def _in_hot_bucket(pairs: float, free: int, k: int) -> float:
    """Returns the expected number of comparisons in a hot bucket, which is split by keys over `free`."""
    words = int((2 * pairs) ** 0.5)
    plan = Plan(k, cheapest_subset(k, words, free.bit_count()), bits=free.bit_count())
    if not plan.subset:
        return pairs
    return min(pairs, words * (plan.candidates(words) + plan.key_count * KEY_COSTS))
