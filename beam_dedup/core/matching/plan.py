"""How to find every pair within k without comparing all with all.

Cut the 64 bits of the short code into k + m bands. Two codes within k differ in at most k bands, so they agree
exactly on at least m: every m-subset of the bands is a key, and every pair within k meets at one key at least
(Manku, Jain and Das Sarma, "Detecting near-duplicates for web crawling", 2007). k = 2, m = 2, a pair two bits apart:

    band         0                1                2                3
    x      0110101011010010 0001011010111001 1100101101001011 0101101001011010
    y      0110101011010010 0001011010101001 1100101101001011 0101101001011110
           same             differs          same             differs            -> they meet at the key {0, 2}

The more bands a key has, the fewer codes share it by chance, and the more keys there are.

A code of 256 bits that is compared as a whole has four words of 64: two such codes within k are, in one word at least,
within k // 4, so each word is banded by itself for that distance.

A shuffle would have to copy each code once a key. So codes travel by a *prefix* of the key: its first r bands. There
are only C(k + r, r) of those; the finer keys that begin with it are made where the codes arrive, by sorting:

    r = 0   one place sees all codes
    r = 1   k + 1 copies of each code, spread over the values of one band
    r = 2   C(k + 2, 2) copies, spread over the values of two

A pair that agrees on more than m bands would be found at several keys. The first of them in order is the one of its
first m bands: so a pair counts at a key only if it differs in all bands before the key's last that are not the key's own.

Keys are masks over the words of a code: the mask of word w is shifted by 64 w.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_dedup.core.codes import WordArray
from beam_dedup.core.thresholds import SHORT_BITS, Thresholds

ALL_BITS = (1 << SHORT_BITS) - 1

# Cost of finding pairs, in nanoseconds of one core: benchmarks/pairs.py measures them.
_NS_PER_KEY = 55.0  # one code, one key: it is sorted
_NS_PER_CANDIDATE = 1.5  # one pair that shares a key
_NS_PER_TILE = 0.8  # one pair of all with all
NS_PER_FOUND = (
    400.0  # one pair of words within k: it is picked out, and what else the two codes have is compared
)
KEY_COSTS = _NS_PER_KEY / _NS_PER_CANDIDATE  # as many comparisons
MAX_SUBSET = 4  # larger ones save no more candidates than their sorting costs


class Key(NamedTuple):
    """Where to look for pairs: among words that agree on a mask.

    earlier: the bands of which a pair that agrees on one of them has met at an earlier key.
    """

    mask: int
    earlier: tuple[int, ...] = ()

    def shifted(self, bits: int) -> "Key":
        """The same key so many bits further up; down if negative."""
        if bits < 0:
            return Key(self.mask >> -bits, tuple(band >> -bits for band in self.earlier))
        return Key(self.mask << bits, tuple(band << bits for band in self.earlier))


ALL_WITH_ALL = Key(0)  # all words agree on nothing


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is done with words within `k`; the same for every worker of a run.

    k: bits of one word. subset: m, bands in a key; 0 compares all with all. prefix: r, bands that codes travel by; 0
    gathers all codes in one place. shards: places per prefix. bits: of a word that say anything. words: of a code.
    """

    k: int
    subset: int
    prefix: int = 0
    shards: int = 1
    bits: int = SHORT_BITS
    words: int = 1

    def __post_init__(self) -> None:
        if self.k < 0 or self.shards < 1:
            raise ValueError(f"k must be at least 0 and shards at least 1, got {self.k} and {self.shards}")
        if not 0 <= self.prefix <= self.subset <= max(self.bits - self.k, 0):  # all with all always goes
            raise ValueError(
                f"a key of {self.subset} bands can't have a prefix of {self.prefix} at k = {self.k}"
            )

    @property
    def free(self) -> int:
        """Mask of the bits of a word that say anything: the first."""
        return ALL_BITS ^ ALL_BITS >> self.bits

    @property
    def bands(self) -> tuple[int, ...]:
        """Masks of the k + m bands."""
        return band_masks(self.k + self.subset, self.free)

    @property
    def prefixes(self) -> list[tuple[int, ...]]:
        """The prefixes that codes travel by, as band numbers."""
        return sorted(
            {key[: self.prefix] for key in itertools.combinations(range(len(self.bands)), self.subset)}
        )

    @property
    def key_count(self) -> int:
        """Keys per code."""
        return self.words * math.comb(self.k + self.subset, self.subset)

    @property
    def copies(self) -> int:
        """How often a code travels."""
        return self.words * len(self.prefixes)

    def keys_in(self, word: int = 0, prefix: tuple[int, ...] = ()) -> tuple[Key, ...]:
        """The keys of one word that begin with a prefix."""
        keys = keys_of(self.k, self.subset, prefix, self.free)
        return tuple(key.shifted(SHORT_BITS * word) for key in keys)

    @property
    def all_keys(self) -> tuple[Key, ...]:
        """The keys of all words."""
        return tuple(itertools.chain.from_iterable(map(self.keys_in, range(self.words))))

    def candidates(self, codes: int, bases: int | None = None) -> float:
        """Expected comparisons per code, for uniform codes. bases: how many of the codes are no views."""
        pairs = pairs_of(codes, codes if bases is None else bases) / max(codes, 1)
        if not self.subset:
            return pairs * self.words
        width = self.bits * self.subset / (self.k + self.subset)
        return pairs * self.key_count / 2**width

    def seconds(self, codes: int, candidates: float) -> float:
        """Expected time of one core, given the comparisons per code."""
        if not self.subset:
            return codes * candidates * _NS_PER_TILE / 1e9
        return codes * (self.key_count * _NS_PER_KEY + candidates * _NS_PER_CANDIDATE) / 1e9


@functools.cache
def band_masks(bands: int, free: int = ALL_BITS) -> tuple[int, ...]:
    """Masks that cut some bits of a word, those set in `free`, into bands as equal as can be, the first bits first.

    >>> [f"{mask:016x}" for mask in band_masks(4)]
    ['ffff000000000000', '0000ffff00000000', '00000000ffff0000', '000000000000ffff']
    """
    bits = [1 << bit for bit in reversed(range(SHORT_BITS)) if free >> bit & 1]
    edges = [round(i * len(bits) / max(bands, 1)) for i in range(bands + 1)]  # none for no bands
    return tuple(sum(bits[a:b]) for a, b in itertools.pairwise(edges))


@functools.cache
def keys_of(k: int, subset: int, prefix: tuple[int, ...] = (), free: int = ALL_BITS) -> tuple[Key, ...]:
    """The keys (m-subsets of the bands) that begin with `prefix`, in order.

    >>> len(keys_of(8, 3)), len(keys_of(8, 3, (0,))), len(keys_of(8, 3, (8,)))
    (165, 45, 1)

    With m = 0 the one key is empty: all codes share it.
    """
    bands = band_masks(k + subset, free)
    after = range(prefix[-1] + 1 if prefix else 0, len(bands))
    keys = [(*prefix, *rest) for rest in itertools.combinations(after, subset - len(prefix))]
    return tuple(
        Key(
            sum(bands[band] for band in key),
            tuple(bands[band] for band in range(max(key, default=0)) if band not in key),
        )
        for key in keys
    )


def keys_over(keys: Sequence[Key], word: int) -> tuple[Key, ...]:
    """Of keys over all words of a code those over one word, as keys over that word; the empty one is every word's."""
    if any(not key.mask for key in keys):
        return (ALL_WITH_ALL,)
    return tuple(
        key.shifted(-SHORT_BITS * word) for key in keys if (key.mask.bit_length() - 1) // SHORT_BITS == word
    )


def pairs_of(codes: float, bases: float) -> float:
    """Pairs that are compared among so many codes: of bases among each other, and of bases with views."""
    return bases * (codes - bases / 2)


def plan_for(thresholds: Thresholds, subset: int, prefix: int = 0, shards: int = 1) -> Plan:
    """The plan that finds what is within the thresholds by keys of `subset` bands."""
    return Plan(thresholds.word_k, subset, prefix, shards, thresholds.word_bits, thresholds.words)


@functools.lru_cache(maxsize=4096)
def cheapest_subset(k: int, codes: int, bits: int = SHORT_BITS) -> int:
    """The m with the least expected work for so many codes in one place; 0 for all with all."""

    def cost(subset: int) -> float:
        plan = Plan(k, subset, bits=bits)
        return plan.seconds(codes, plan.candidates(codes))

    return min(range(min(MAX_SUBSET, bits - k) + 1) if bits > k else (0,), key=cost)


def shard_of(words: WordArray, plan: Plan, prefix: tuple[int, ...]) -> WordArray:
    """The shard, below `plan.shards`, in which words meet that agree on the bands of `prefix`."""
    mask = np.uint64(sum(plan.bands[band] for band in prefix))
    return mixed(words & mask) % np.uint64(plan.shards)


def mixed(words: WordArray) -> WordArray:
    """The finaliser of MurmurHash3: every bit of a word, wherever it lies, changes every bit of the result."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        words = (words ^ (words >> np.uint64(33))) * np.uint64(factor)
    return words ^ (words >> np.uint64(33))
