"""Finds all pairs of 64-bit words that differ in at most k bits, by sorting and comparing arrays.

Only NumPy functions on whole arrays are used: no Python code runs per pair.

The result is exact: a key (a mask over the word, see `beam_dedup.core.matching.plan`) only decides where to
look; whether two words are within k is decided on the words. Words that agree on a key are a *bucket*.
Buckets are compared in place, in sorted order:

    sorted by key   a a a b b c c c c          shift 1: each word with the next one, as two overlapping slices
    shift 1         a-a a-a a-b b-b b-c ...    shift 2: each with the next but one, ...
                                               until the longest bucket of the chunk is done

A pair that straddles two buckets (a-b) is compared too: that costs a nanosecond. A long bucket is compared
separately, as a square; a bucket that is too long for that is split by further keys, over the bits that its
own key does not use. A pair that also agrees on an earlier key is reported only at that earlier key, and
words of a long bucket are not compared with those they met there.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from beam_dedup.core.codes import Found, IntArray, WordArray
from beam_dedup.core.matching.buckets import (
    KeyArray,
    compact,
    discriminating_bits,
    order_of,
    runs_of,
    starts_of,
)
from beam_dedup.core.matching.plan import ALL_BITS, ALL_WITH_ALL, Key, cheapest_subset, keys_of
from beam_dedup.core.matching.skew import HOT_BUCKET, LONG_BUCKET, comparisons


@dataclasses.dataclass(frozen=True, slots=True)
class JoinSizes:
    """How the work is divided. The sizes change time and memory, never the pairs that are found.

    Args:
      tile: words per side of a square; 1024 words make 8 MiB of differences.
      area: minimum number of comparisons at a time if one side of a rectangle is short.
      chunk: sorted words compared at a time, few enough to stay in the cache.
      long_bucket: in longer buckets, words that agree on an earlier key are not compared.
      hot_bucket: longer buckets are split by further keys.
      wide_bucket: `pairs_of_two` compares longer buckets as rectangles.
      wide_rectangle: `pairs_of_sorted` compares buckets with more comparisons as rectangles.
      groups: maximum number of groups of a long bucket that are compared with each other only.
      few_left: share of a chunk's words. When no more words than this still have to be compared, they are
        picked out one by one; picking one word costs as much as 24 comparisons.
      picked: number of comparisons of picked words at a time.
      sample_words: number of words from which the number of comparisons is estimated.
    """

    tile: int = 1024
    area: int = 1 << 18
    chunk: int = 1 << 15
    long_bucket: int = LONG_BUCKET
    hot_bucket: int = HOT_BUCKET
    wide_bucket: int = 64
    wide_rectangle: int = 1 << 11
    groups: int = 16
    few_left: float = 1 / 24
    picked: int = 1 << 16
    sample_words: int = 1 << 12


SIZES = JoinSizes()


def worthwhile(a: WordArray, b: WordArray, keys: Sequence[Key], k: int) -> Sequence[Key]:
    """Returns the keys to use.

    These are the given keys, or only the empty key if comparing all with all is less work than using them.

    Args:
      a, b: the words to compare; the same array if its words are compared with each other.
      keys: the keys of the plan.
      k: maximum distance, in bits.
    """
    if not len(a) or not len(b) or not keys:
        return ()
    all_with_all = any(not key.mask for key in keys)
    few = min(len(a), len(b)) <= len(keys) or max(len(a), len(b)) <= SIZES.tile
    return (ALL_WITH_ALL,) if all_with_all or few or is_crowded(a, b, keys, k) else keys


def pairs_of_one(words: WordArray, k: int, key: Key, free: int = ALL_BITS) -> Found:
    """Yields the pairs (i, j), i != j, of one array that meet at a key. A pair may be yielded more than once.

    Args:
      words: (n,) the words.
      k: maximum distance, in bits.
      key: where to look; the empty key compares all pairs.
      free: mask of the bits in which the words may differ at all.
    """
    if not key.mask:
        yield from compare_square(words, k)
        return
    values, bits = compact(words, key.mask)
    order = order_of(values, bits)
    values, sorted_words = np.take(values, order), np.take(words, order)
    for i, j, distance in _compare_buckets(sorted_words, starts_of(values), k, key, free):
        first = _first_meetings(sorted_words[i], sorted_words[j], key)
        yield order[i[first]], order[j[first]], distance[first]


def _compare_buckets(words: WordArray, starts: IntArray, k: int, key: Key, free: int) -> Found:
    """Yields the pairs within the buckets of sorted words, and some pairs that straddle two buckets.

    Args:
      words: sorted by their keys.
      starts: where each bucket starts.
    """
    sizes = np.diff(starts, append=len(words))
    long = sizes > SIZES.long_bucket
    for start, size in zip(starts[long].tolist(), sizes[long].tolist(), strict=True):
        bucket = words[start : start + size]
        for i, j, distance in _long_bucket(bucket, bucket, k, key, free):
            yield i + start, j + start, distance
    # For each word, how many words follow it in its bucket; 0 or less in long buckets, which are done.
    following = np.repeat(np.where(long, 0, starts + sizes - 1), sizes) - np.arange(len(words))
    for start in range(0, len(words), SIZES.chunk):
        yield from compare_chunk(words, start, following[start : start + SIZES.chunk], k)


def pairs_of_two(a: WordArray, b: WordArray, k: int, key: Key, free: int = ALL_BITS) -> Found:
    """Yields the pairs (i, j) of a word of each array that meet at a key; see `pairs_of_one`."""
    if not key.mask:
        yield from compare_rectangle(a, b, k)
        return
    values_a, bits = compact(a, key.mask)
    values_b, _ = compact(b, key.mask)
    order = order_of(values_b, bits)
    first, count = runs_of(np.take(values_b, order), values_a, bits)
    wide = np.flatnonzero(count > SIZES.wide_bucket)
    wide = wide[order_of(values_a[wide], bits)]
    for i, j, distance in _join_runs(a, np.take(b, order), first, count, wide, k, key, free):
        yield i, order[j], distance


def pairs_of_sorted(a: WordArray, b: WordArray, sorted_values: KeyArray, k: int, key: Key) -> Found:
    """Yields the same pairs as `pairs_of_two`, for a second array that is sorted already.

    The work grows with the first array and the words that meet, not with the second array.

    Args:
      b: sorted by its keys.
      sorted_values: the keys of `b`: `compact(b, key.mask)`.
    """
    values_a, _ = compact(a, key.mask)
    first = np.searchsorted(sorted_values, values_a, side="left")
    count = np.searchsorted(sorted_values, values_a, side="right") - first
    _, bucket, words = np.unique(first, return_inverse=True, return_counts=True)
    wide = np.flatnonzero(count * words[bucket] > SIZES.wide_rectangle)
    wide = wide[np.argsort(first[wide], kind="stable")]
    yield from _join_runs(a, b, first, count, wide, k, key, ALL_BITS)


def _join_runs(
    a: WordArray,
    b: WordArray,
    first: IntArray,
    count: IntArray,
    wide: IntArray,
    k: int,
    key: Key,
    free: int,
) -> Found:
    """Yields the pairs of each word of `a` with the run of `count` words of `b` that starts at `first`.

    Args:
      wide: words of `a`, in the order of their keys, whose buckets are compared as rectangles.
    """
    has_run = count > 0
    has_run[wide] = False
    rest = np.flatnonzero(has_run)
    buckets = _wide_buckets(a, b, first, count, wide, k, key, free)
    for i, j, distance in itertools.chain(buckets, _compare_picked(a, b, rest, first[rest], count[rest], k)):
        here = _first_meetings(a[i], b[j], key)
        yield i[here], j[here], distance[here]


def _wide_buckets(
    a: WordArray, b: WordArray, first: IntArray, count: IntArray, wide: IntArray, k: int, key: Key, free: int
) -> Found:
    """Yields the pairs of the words `wide` of `a`, bucket by bucket; the arguments are those of `_join_runs`."""
    for start, end in _equal_runs(first[wide]):
        rows, begin = wide[start:end], int(first[wide[start]])
        columns = b[begin : begin + int(count[wide[start]])]
        for i, j, distance in _long_bucket(a[rows], columns, k, key, free):
            yield rows[i], j + begin, distance


def _first_meetings(a: WordArray, b: WordArray, key: Key) -> IntArray:
    """Returns the indices of the pairs (a, b) that have not met at an earlier key."""
    differs = a ^ b
    here = np.ones(len(a), dtype=bool)
    for band in key.earlier:
        here &= differs & np.uint64(band) != 0
    return np.flatnonzero(here)


def _long_bucket(a: WordArray, b: WordArray, k: int, key: Key, free: int) -> Found:
    """Yields the pairs of a bucket, without most of those that met at an earlier key.

    Args:
      a, b: the words of the bucket; the same array if its words are compared with each other, else those of
        each array.
    """
    free &= ~key.mask
    if a is not b:
        yield from _join_block(a, b, k, free)
        return
    band = max(key.earlier, key=lambda band: _agreeing(a, band), default=0)
    order = np.argsort(a & np.uint64(band), kind="stable")
    value = a[order] & np.uint64(band)
    starts = starts_of(value)
    sizes = np.diff(starts, append=len(a))
    big = sizes > max(SIZES.long_bucket, len(a) / SIZES.groups) if band else np.zeros(len(sizes), dtype=bool)
    # The words of a big group agree on an earlier key, so they are compared with those of other groups only.
    rest = order[~np.repeat(big, sizes)]
    groups = [order[start : start + size] for start, size in zip(starts[big], sizes[big], strict=True)]
    for number, group in enumerate(groups):
        others = np.concatenate([rest, *groups[number + 1 :]])
        for i, j, distance in _join_block(a[group], a[others], k, free):
            yield group[i], others[j], distance
    words = a[rest]
    for i, j, distance in _join_block(words, words, k, free):
        yield rest[i], rest[j], distance


def _agreeing(words: WordArray, band: int) -> int:
    """Returns twice the number of pairs of words that agree on a band, plus the number of words."""
    key, bits = compact(words, band)
    sizes = np.diff(starts_of(key[order_of(key, bits)]), append=len(words))
    return int((sizes * sizes).sum())


def _join_block(a: WordArray, b: WordArray, k: int, free: int) -> Found:
    """Yields the pairs of a block: compares all with all, or, if there are too many, uses further keys.

    Args:
      free: mask of the bits in which the words may differ.
    """
    if len(a) * len(b) <= SIZES.hot_bucket**2:
        yield from compare_square(a, k) if a is b else compare_rectangle(a, b, k)
        return
    # Keys over other bits would not split the block.
    free &= discriminating_bits(a) if a is b else discriminating_bits(np.concatenate([a, b]))
    keys = keys_of(k, cheapest_subset(k, max(len(a), len(b)), free.bit_count()), free=free)
    for key in worthwhile(a, b, keys, k):
        yield from pairs_of_one(a, k, key, free) if a is b else pairs_of_two(a, b, k, key, free)


def is_crowded(a: WordArray, b: WordArray, keys: Sequence[Key], k: int) -> bool:
    """Estimates, from some of the words and keys, whether the keys cost more than comparing all with all.

    Keys are chosen for uniformly distributed words. The words of a thousand small pictures are not.
    """
    some_a = a[:: -(-len(a) // SIZES.sample_words)]
    some_b = some_a if a is b else b[:: -(-len(b) // SIZES.sample_words)]
    pairs = len(a) * (len(a) - 1) / 2 if a is b else len(a) * len(b)
    return comparisons(some_a, some_b, keys, k, pairs) > pairs


def compare_chunk(words: WordArray, start: int, following: IntArray, k: int) -> Found:
    """Yields the pairs of each word of a chunk of sorted words with the words that follow it.

    Args:
      start: where the chunk starts.
      following: (words of the chunk,) with how many of the words after it each word is compared.
    """
    longest = int(following.max(initial=0))
    if longest <= 0:
        return
    stop = start + len(following)
    # How many words of the chunk are compared with more than 0, 1, 2, ... words.
    going = len(following) - np.cumsum(np.bincount(np.maximum(following, 0), minlength=longest + 1))
    found_i, found_j = [], []
    shift = 1
    while shift <= longest and going[shift - 1] > SIZES.few_left * len(following):
        end = min(stop, len(words) - shift)
        near = np.bitwise_count(words[start:end] ^ words[start + shift : end + shift]) <= k
        if near.any():
            i = np.flatnonzero(near) + start
            found_i.append(i)
            found_j.append(i + shift)
        shift += 1
    if found_i:
        i, j = np.concatenate(found_i), np.concatenate(found_j)
        yield i, j, np.bitwise_count(words[i] ^ words[j])
    if shift <= longest:
        some = np.flatnonzero(following >= shift)
        yield from _compare_picked(
            words, words, some + start, some + start + shift, following[some] - shift + 1, k
        )


def _compare_picked(
    a: WordArray, b: WordArray, i: IntArray, first: IntArray, count: IntArray, k: int
) -> Found:
    """Yields the pairs of words `i` of `a` with the run of `count` words of `b` that starts at `first`."""
    # Sorted by count, so that the words of one batch have runs of similar length.
    by_count = np.argsort(-count, kind="stable")
    i, first, count = i[by_count], first[by_count], count[by_count]
    at = 0
    while at < len(i) and count[at]:
        width = int(count[at])
        rows = slice(at, at + max(1, SIZES.picked // width))
        j = first[rows, None] + np.arange(width)
        inside = np.arange(width) < count[rows, None]
        distance = np.bitwise_count(a[i[rows], None] ^ b[np.where(inside, j, 0)])
        row, column = np.nonzero((distance <= k) & inside)
        if len(row):
            yield i[rows][row], j[row, column], distance[row, column]
        at = rows.stop


def _equal_runs(values: IntArray) -> Iterator[tuple[int, int]]:
    """Yields start and end of each run of equal values."""
    edges = np.flatnonzero(np.diff(values, prepend=-1, append=-1)).tolist()
    yield from itertools.pairwise(edges)


def compare_square(words: WordArray, k: int) -> Found:
    """Compares all words of one array with each other, and yields each pair once."""
    for top in range(0, len(words), SIZES.tile):
        rows = words[top : top + SIZES.tile]
        for i, j, distance in compare_rectangle(rows, words[top:], k):
            once = i < j
            yield i[once] + top, j[once] + top, distance[once]


def compare_rectangle(a: WordArray, b: WordArray, k: int) -> Found:
    """Compares all words of one array with all words of another, and yields the pairs within k."""
    width = max(SIZES.tile, SIZES.area // max(len(a), 1))
    for top in range(0, len(a), SIZES.tile):
        for left in range(0, len(b), width):
            distance = np.bitwise_count(a[top : top + SIZES.tile, None] ^ b[None, left : left + width])
            near = distance <= k
            if near.any():
                i, j = np.nonzero(near)
                yield i + top, j + left, distance[i, j]
