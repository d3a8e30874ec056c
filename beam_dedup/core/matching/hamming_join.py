"""All pairs of 64-bit words at most k bits apart, by sorting and comparing arrays; no work per pair in Python.

Exact: a key (a mask over the word, see `beam_dedup.core.matching.plan`) only says where to look; whether two words are within k
is decided on the words. Words that agree on a key are a *bucket*. Buckets are compared where they lie, in sorted order:

    sorted by key   a a a b b c c c c          shift 1: each word with the next one, as two overlapping slices
    shift 1         a-a a-a a-b b-b b-c ...    shift 2: each with the next but one, ...
                                               until the longest bucket of the stretch is done

A pair that straddles two buckets (a-b) is compared too: it costs a nanosecond. A bucket that is long by itself is compared
as a square; one that is too long for that is split by keys of its own, over the bits that its key has left open. A pair
that agrees on an earlier key as well counts only there, and long buckets are not compared with what they met there.
"""

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

_TILE = 1024  # words a side of a square: 8 MiB of differences
_AREA = 1 << 18  # comparisons at a time at least, where one side is short
_STRETCH = 1 << 15  # words compared at a time: what is in work stays in the cache
_WIDE_BUCKET = 64  # of two arrays: longer ones are compared as rectangles
_WIDE_RECTANGLE = 1 << 11  # of few words and many: larger ones are worth a call of their own
_GROUPS = 16  # of a long bucket at most, which are compared with each other only
_FEW_LEFT = (
    1 / 24
)  # of a stretch: fewer words than this are picked out; to pick one costs as much as 24 comparisons
_PICKED = 1 << 16  # comparisons of picked words at a time
_SHOWN_WORDS = 1 << 12  # to estimate from


def worthwhile(a: WordArray, b: WordArray, keys: Sequence[Key], k: int) -> Sequence[Key]:
    """The keys, or the empty one alone if to compare all with all is less work than to go through them.

    a, b: the words to be compared; the same array for all of one.
    """
    if not len(a) or not len(b) or not keys:
        return ()
    all_with_all = any(not key.mask for key in keys)
    few = min(len(a), len(b)) <= len(keys) or max(len(a), len(b)) <= _TILE
    return (ALL_WITH_ALL,) if all_with_all or few or _crowded(a, b, keys, k) else keys


def pairs_of_one(words: WordArray, k: int, key: Key, free: int = ALL_BITS) -> Found:
    """Yields the pairs (i, j), i != j, of one array that meet at a key; one may come more than once.

    free: the bits in which the words may differ at all.
    """
    if not key.mask:
        yield from _square(words, k)
        return
    met, bits = compact(words, key.mask)
    order = order_of(met, bits)
    met, near = np.take(met, order), np.take(words, order)
    for i, j, distance in _buckets(near, starts_of(met), k, key, free):
        first = _first_here(near[i], near[j], key)
        yield order[i[first]], order[j[first]], distance[first]


def _buckets(words: WordArray, starts: IntArray, k: int, key: Key, free: int) -> Found:
    """Pairs of sorted words of which each bucket begins at one of `starts`; and some that straddle two."""
    sizes = np.diff(starts, append=len(words))
    long = sizes > LONG_BUCKET
    for start, size in zip(starts[long].tolist(), sizes[long].tolist(), strict=True):
        bucket = words[start : start + size]
        for i, j, distance in _long_bucket(bucket, bucket, k, key, free):
            yield i + start, j + start, distance
    # What follows each word in its bucket; the long ones are done.
    left = np.repeat(np.where(long, 0, starts + sizes - 1), sizes) - np.arange(len(words))
    for start in range(0, len(words), _STRETCH):
        yield from _stretch(words, start, left[start : start + _STRETCH], k)


def pairs_of_two(a: WordArray, b: WordArray, k: int, key: Key, free: int = ALL_BITS) -> Found:
    """Yields the pairs (i, j) of a word of the first array with one of the second that meet at a key."""
    if not key.mask:
        yield from _rectangle(a, b, k)
        return
    met_a, bits = compact(a, key.mask)
    met_b, _ = compact(b, key.mask)
    order = order_of(met_b, bits)
    first, count = runs_of(np.take(met_b, order), met_a, bits)
    wide = np.flatnonzero(count > _WIDE_BUCKET)
    wide = wide[order_of(met_a[wide], bits)]
    for i, j, distance in _joined(a, np.take(b, order), first, count, wide, k, key, free):
        yield i, order[j], distance


def pairs_of_sorted(a: WordArray, b: WordArray, met_b: KeyArray, k: int, key: Key) -> Found:
    """The same, where the second array is sorted by its keys `met_b`: the work grows with what meets, not with it."""
    met_a, _ = compact(a, key.mask)
    first = np.searchsorted(met_b, met_a, side="left")
    count = np.searchsorted(met_b, met_a, side="right") - first
    _, bucket, words = np.unique(first, return_inverse=True, return_counts=True)
    wide = np.flatnonzero(count * words[bucket] > _WIDE_RECTANGLE)
    wide = wide[np.argsort(first[wide], kind="stable")]
    yield from _joined(a, b, first, count, wide, k, key, ALL_BITS)


def _joined(
    a: WordArray,
    b: WordArray,
    first: IntArray,
    count: IntArray,
    wide: IntArray,
    k: int,
    key: Key,
    free: int,
) -> Found:
    """Pairs of each word of the first array with `count` words of the second from `first` on.

    wide: words of the first, in the order of their keys, whose buckets are compared as rectangles.
    """
    meets = count > 0
    meets[wide] = False
    rest = np.flatnonzero(meets)
    buckets = _wide_buckets(a, b, first, count, wide, k, key, free)
    for i, j, distance in itertools.chain(buckets, _picked(a, b, rest, first[rest], count[rest], k)):
        here = _first_here(a[i], b[j], key)
        yield i[here], j[here], distance[here]


def _wide_buckets(
    a: WordArray, b: WordArray, first: IntArray, count: IntArray, wide: IntArray, k: int, key: Key, free: int
) -> Found:
    for start, end in _equal_runs(first[wide]):
        rows, begin = wide[start:end], int(first[wide[start]])
        columns = b[begin : begin + int(count[wide[start]])]
        for i, j, distance in _long_bucket(a[rows], columns, k, key, free):
            yield rows[i], j + begin, distance


def _first_here(a: WordArray, b: WordArray, key: Key) -> IntArray:
    """Which pairs of words have not met at an earlier key."""
    differs = a ^ b
    here = np.ones(len(a), dtype=bool)
    for band in key.earlier:
        here &= differs & np.uint64(band) != 0
    return np.flatnonzero(here)


def _long_bucket(a: WordArray, b: WordArray, k: int, key: Key, free: int) -> Found:
    """Pairs of a bucket: of all its words if a is b, else of one of each; most of those that met earlier left out."""
    free &= ~key.mask
    if a is not b:
        yield from _block(a, b, k, free)
        return
    band = max(key.earlier, key=lambda band: _agreeing(a, band), default=0)
    order = np.argsort(a & np.uint64(band), kind="stable")
    value = a[order] & np.uint64(band)
    starts = starts_of(value)
    sizes = np.diff(starts, append=len(a))
    big = sizes > max(LONG_BUCKET, len(a) / _GROUPS) if band else np.zeros(len(sizes), dtype=bool)
    # The words of a big group agree on an earlier key, so they are compared with those of other groups only.
    rest = order[~np.repeat(big, sizes)]
    groups = [order[start : start + size] for start, size in zip(starts[big], sizes[big], strict=True)]
    for number, group in enumerate(groups):
        others = np.concatenate([rest, *groups[number + 1 :]])
        for i, j, distance in _block(a[group], a[others], k, free):
            yield group[i], others[j], distance
    words = a[rest]
    for i, j, distance in _block(words, words, k, free):
        yield rest[i], rest[j], distance


def _agreeing(words: WordArray, band: int) -> int:
    """How many pairs of words agree on a band, twice."""
    key, bits = compact(words, band)
    sizes = np.diff(starts_of(key[order_of(key, bits)]), append=len(words))
    return int((sizes * sizes).sum())


def _block(a: WordArray, b: WordArray, k: int, free: int) -> Found:
    """All with all, by keys of their own if they are many. free: the bits in which the words may differ."""
    if len(a) * len(b) <= HOT_BUCKET**2:
        yield from _square(a, k) if a is b else _rectangle(a, b, k)
        return
    free &= (
        discriminating_bits(a) if a is b else discriminating_bits(np.concatenate([a, b]))
    )  # to part by others parts nothing
    keys = keys_of(k, cheapest_subset(k, max(len(a), len(b)), free.bit_count()), free=free)
    for key in worthwhile(a, b, keys, k):
        yield from pairs_of_one(a, k, key, free) if a is b else pairs_of_two(a, b, k, key, free)


def _crowded(a: WordArray, b: WordArray, keys: Sequence[Key], k: int) -> bool:
    """Whether to go through all keys would be as much work as all with all, judged by a few words and keys.

    Keys are chosen for words as if they were spread evenly; those of a thousand small pictures are not.
    """
    some_a = a[:: -(-len(a) // _SHOWN_WORDS)]
    some_b = some_a if a is b else b[:: -(-len(b) // _SHOWN_WORDS)]
    pairs = len(a) * (len(a) - 1) / 2 if a is b else len(a) * len(b)
    return comparisons(some_a, some_b, keys, k, pairs) > pairs


def _stretch(words: WordArray, start: int, left: IntArray, k: int) -> Found:
    """Compares each word of a stretch of sorted ones with as many of those that follow as `left` says."""
    longest = int(left.max(initial=0))
    if longest <= 0:
        return
    stop = start + len(left)
    # How many words have more than 0, 1, 2, ... that follow.
    going = len(left) - np.cumsum(np.bincount(np.maximum(left, 0), minlength=longest + 1))
    found_i, found_j = [], []
    shift = 1
    while shift <= longest and going[shift - 1] > _FEW_LEFT * len(left):
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
        some = np.flatnonzero(left >= shift)
        yield from _picked(words, words, some + start, some + start + shift, left[some] - shift + 1, k)


def _picked(a: WordArray, b: WordArray, i: IntArray, first: IntArray, count: IntArray, k: int) -> Found:
    """Compares words i of `a` with `count` words of `b` from `first` on."""
    # By count, so that words of one block have about as many to compare with.
    by_count = np.argsort(-count, kind="stable")
    i, first, count = i[by_count], first[by_count], count[by_count]
    at = 0
    while at < len(i) and count[at]:
        width = int(count[at])
        rows = slice(at, at + max(1, _PICKED // width))
        j = first[rows, None] + np.arange(width)
        inside = np.arange(width) < count[rows, None]
        distance = np.bitwise_count(a[i[rows], None] ^ b[np.where(inside, j, 0)])
        row, column = np.nonzero((distance <= k) & inside)
        if len(row):
            yield i[rows][row], j[row, column], distance[row, column]
        at = rows.stop


def _equal_runs(values: IntArray) -> Iterator[tuple[int, int]]:
    """Start and end of each run of equal values."""
    edges = np.flatnonzero(np.diff(values, prepend=-1, append=-1)).tolist()
    yield from itertools.pairwise(edges)


def _square(words: WordArray, k: int) -> Found:
    """All with all of one array, each pair once."""
    for top in range(0, len(words), _TILE):
        rows = words[top : top + _TILE]
        for i, j, distance in _rectangle(rows, words[top:], k):
            once = i < j
            yield i[once] + top, j[once] + top, distance[once]


def _rectangle(a: WordArray, b: WordArray, k: int) -> Found:
    """All of one array with all of another."""
    width = max(_TILE, _AREA // max(len(a), 1))
    for top in range(0, len(a), _TILE):
        for left in range(0, len(b), width):
            distance = np.bitwise_count(a[top : top + _TILE, None] ^ b[None, left : left + width])
            near = distance <= k
            if near.any():
                i, j = np.nonzero(near)
                yield i + top, j + left, distance[i, j]
