"""All pairs of 64-bit words at most k bits apart, by sorting and comparing arrays; no work per pair in Python.

Exact: a key (a mask over the word, see `beam_dedup.core.plan`) only says where to look; whether two words are within k
is decided on the words. Words that agree on a key are a *bucket*. Buckets are compared where they lie, in sorted order:

    sorted by key   a a a b b c c c c          shift 1: each word with the next one, as two overlapping slices
    shift 1         a-a a-a a-b b-b b-c ...    shift 2: each with the next but one, ...
                                               until the longest bucket of the stretch is done

A pair that straddles two buckets (a-b) is compared too: it costs a nanosecond, and if it is within k it is a pair. A
bucket that is long by itself is compared as a square; one that is too long for that is split by keys of its own, over
the bits that its key has left open.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from beam_dedup.core.codes import BoolArray, Found, IntArray, WordArray
from beam_dedup.core.plan import ALL_BITS, cheapest_subset, key_masks

KeyArray = npt.NDArray[np.unsignedinteger]

_TILE = 1024  # words a side of a square: 8 MiB of differences
_AREA = 1 << 18  # comparisons at a time at least, where one side is short
_STRETCH = 1 << 15  # words compared at a time: what is in work stays in the cache
_LONG_BUCKET = 512  # longer ones are compared as squares
_WIDE_BUCKET = 64  # of two arrays: longer ones are compared as rectangles
_WIDE_RECTANGLE = 1 << 11  # of few words and many: larger ones are worth a call of their own
_HOT_BUCKET = 1 << 14  # longer ones still are split by keys of their own
_FEW_LEFT = (
    1 / 24
)  # of a stretch: fewer words than this are picked out; to pick one costs as much as 24 comparisons
_PICKED = 1 << 16  # comparisons of picked words at a time
_SHOWN_WORDS, _SHOWN_KEYS = 1 << 12, 8  # to estimate from
_TABLE_BITS = 20  # keys up to here are looked up in a table


def worthwhile(a: WordArray, b: WordArray, masks: Sequence[int]) -> Sequence[int]:
    """The masks, or the empty one alone if to compare all with all is less work than to go through the keys."""
    if not len(a) or not len(b) or not masks:
        return ()
    few = min(len(a), len(b)) <= len(masks) or max(len(a), len(b)) <= _TILE
    return (0,) if 0 in masks or few or _crowded(a, b, masks) else masks


def pairs_of_one(words: WordArray, k: int, mask: int, free: int = ALL_BITS) -> Found:
    """Yields the pairs (i, j), i != j, of one array that agree on a mask; one may come more than once.

    free: the bits in which the words may differ at all.
    """
    if not mask:
        yield from _square(words, k)
        return
    key, bits = compact(words, mask)
    order = order_of(key, bits)
    key, near = np.take(key, order), np.take(words, order)
    starts = np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])
    sizes = np.diff(starts, append=len(words))
    long = sizes > _LONG_BUCKET
    for start, size in zip(starts[long].tolist(), sizes[long].tolist(), strict=True):
        rows = order[start : start + size]
        for i, j, distance in _long_bucket(near[start : start + size], k, free & ~mask):
            yield rows[i], rows[j], distance
    # What follows each word in its bucket; the long ones are done.
    left = np.repeat(np.where(long, 0, starts + sizes - 1), sizes) - np.arange(len(words))
    for start in range(0, len(words), _STRETCH):
        for i, j, distance in _stretch(near, start, left[start : start + _STRETCH], k):
            yield order[i], order[j], distance


def pairs_of_two(a: WordArray, b: WordArray, k: int, mask: int) -> Found:
    """Yields the pairs (i, j) of a word of the first array with one of the second that agree on a mask."""
    if not mask:
        yield from _rectangle(a, b, k)
        return
    key_a, bits = compact(a, mask)
    key_b, _ = compact(b, mask)
    order_b = order_of(key_b, bits)
    first, count = _runs_of(np.take(key_b, order_b), key_a, bits)
    for i, j, distance in _with_runs(a, np.take(b, order_b), first, count, count > _WIDE_BUCKET, k):
        yield i, order_b[j], distance


def pairs_of_sorted(a: WordArray, key_a: KeyArray, b: WordArray, key_b: KeyArray, k: int) -> Found:
    """Yields the pairs (i, j) of a word of the first array with one of the second that agree on a key.

    key_b: that of the second array, sorted. The work grows with the pairs, not with the second array.
    """
    first = np.searchsorted(key_b, key_a, side="left")
    count = np.searchsorted(key_b, key_a, side="right") - first
    _, bucket, words = np.unique(first, return_inverse=True, return_counts=True)
    yield from _with_runs(a, b, first, count, count * words[bucket] > _WIDE_RECTANGLE, k)


def _with_runs(
    a: WordArray, b: WordArray, first: IntArray, count: IntArray, wide: BoolArray, k: int
) -> Found:
    """Compares each word of `a` with `count` words of `b` from `first` on, its bucket among sorted ones.

    wide: whether the bucket is compared as a rectangle.
    """
    meets = np.flatnonzero(count)
    picked, rest = meets[~wide[meets]], meets[wide[meets]]
    rest = rest[np.argsort(first[rest], kind="stable")]
    for start, end in _equal_runs(first[rest]):
        rows, begin = rest[start:end], int(first[rest[start]])
        columns = slice(begin, begin + int(count[rest[start]]))
        for i, j, distance in _rectangle(a[rows], b[columns], k):
            yield rows[i], j + begin, distance
    yield from _picked(a, b, picked, first[picked], count[picked], k)


def compact(words: WordArray, mask: int) -> tuple[KeyArray, int]:
    """The bits of each word that are set in a mask, moved together, and how many they are; of more than 32 the first 32.

    >>> compact(np.array([0xABCD], np.uint64), 0xF0F0)[0].tolist() == [0xAC]
    True
    """
    bits = mask.bit_count()
    key = np.zeros(len(words), np.uint64)
    at = low = 0
    while mask >> low:
        low += (mask >> low & -(mask >> low)).bit_length() - 1
        width = (~(mask >> low) & (mask >> low) + 1).bit_length() - 1
        key |= (words >> np.uint64(low) & np.uint64((1 << width) - 1)) << np.uint64(at)
        low, at = low + width, at + width
    if bits > 32:
        key >>= np.uint64(bits - 32)
        bits = 32
    return key.astype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32), bits


def order_of(key: KeyArray, bits: int) -> IntArray:
    """The order that sorts keys of so many bits. Of 16 bits and less NumPy sorts by radix, some times faster than else."""
    if bits <= 16:
        return np.argsort(key, kind="stable")
    order = np.argsort(key.astype(np.uint16), kind="stable")
    high = (key >> np.uint32(16)).astype(np.uint8 if bits <= 24 else np.uint16)
    return np.take(order, np.argsort(np.take(high, order), kind="stable"))


def _long_bucket(words: WordArray, k: int, free: int) -> Found:
    """Pairs of a bucket, of which only the bits `free` may differ."""
    if len(words) <= _HOT_BUCKET:
        yield from _square(words, k)
        return
    free &= int(np.bitwise_or.reduce(words ^ words[0]))  # bits that are the same in all of them part nothing
    masks = key_masks(k, cheapest_subset(k, len(words), free.bit_count()), free=free)
    for mask in worthwhile(words, words, masks):
        yield from pairs_of_one(words, k, mask, free)


def _crowded(a: WordArray, b: WordArray, masks: Sequence[int]) -> bool:
    """Whether to go through all keys would be as much work as all with all, judged by a few words and keys.

    Keys are chosen for words as if they were spread evenly; those of a thousand small pictures are not.
    """
    shown = masks[:: -(-len(masks) // _SHOWN_KEYS)]
    some_a, some_b = (words[:: -(-len(words) // _SHOWN_WORDS)] for words in (a, b))
    share = 0.0  # of all pairs, how many share a key
    for mask in shown:
        key_a, bits = compact(some_a, mask)
        key_b, _ = compact(some_b, mask)
        share += _runs_of(key_b[order_of(key_b, bits)], key_a, bits)[1].mean() / len(some_b)
    return share / len(shown) * len(masks) > 1


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


def _runs_of(sorted_keys: KeyArray, keys: KeyArray, bits: int) -> tuple[IntArray, IntArray]:
    """Where the run of each key begins among sorted ones, and how long it is."""
    if bits <= _TABLE_BITS:
        sizes = np.bincount(sorted_keys, minlength=1 << bits)
        return np.take(np.cumsum(sizes) - sizes, keys), np.take(sizes, keys)
    first = np.searchsorted(sorted_keys, keys, side="left")
    return first, np.searchsorted(sorted_keys, keys, side="right") - first


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
