"""Plans how to find every pair within k without comparing all with all: bands, keys, prefixes and shards.

Cut the 64 bits of the short code into k + m bands. Two codes within k differ in at most k bands, so they
agree exactly on at least m bands. Every m-subset of the bands is a key, so every pair within k meets at one
key at least (Manku, Jain and Das Sarma, "Detecting near-duplicates for web crawling", 2007). An example
with k = 2, m = 2, and a pair two bits apart:

    band         0                1                2                3
    x      0110101011010010 0001011010111001 1100101101001011 0101101001011010
    y      0110101011010010 0001011010101001 1100101101001011 0101101001011110
           same             differs          same             differs            -> they meet at the key {0, 2}

The more bands a key has, the fewer codes share it by chance, but the more keys there are.

A code of 256 bits that is compared as a whole has four words of 64 bits. Two such codes within k are within
k // 4 in at least one word, so each word is banded separately for that distance.

Shuffling codes by key would copy each code once per key. So codes are shuffled by a *prefix* of the key:
its first r bands, of which there are only C(k + r, r). A worker then sorts the codes that share a prefix by
the keys that begin with it:

    r = 0   one code shard holds all codes
    r = 1   k + 1 copies of each code, spread over shards by the value of one band
    r = 2   C(k + 2, 2) copies, spread over shards by the values of two bands

A pair that agrees on more than m bands would be found at several keys. The first of these keys is that of
the first m bands on which the pair agrees. So a pair counts at a key only if it differs in every band that
lies before the key's last band and is not part of the key.

Keys are masks over all words of a code: the mask for word w is shifted by 64 w bits.
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

# Costs of finding pairs, in nanoseconds of one core, as measured by benchmarks/pairs.py.
_NS_PER_KEY = 55.0  # to sort one code by one key
_NS_PER_CANDIDATE = 1.5  # to compare one pair that shares a key
_NS_PER_TILE = 0.8  # to compare one pair when all are compared with all
NS_PER_FOUND = 400.0  # to pick out one pair of words within k, and to compare the rest of the two codes
KEY_COSTS = _NS_PER_KEY / _NS_PER_CANDIDATE  # a code and key cost as much as this many comparisons
MAX_SUBSET = 4  # with larger subsets, sorting costs more than the comparisons it saves


class Key(NamedTuple):
    """Where to look for pairs: among words that agree on a mask.

    Args:
      mask: the bits of the key.
      earlier: masks of bands; a pair that agrees on one of them has met at an earlier key.
    """

    mask: int
    earlier: tuple[int, ...] = ()

    def shifted(self, bits: int) -> "Key":
        """Returns the key, shifted up by a number of bits; down if the number is negative."""
        if bits < 0:
            return Key(self.mask >> -bits, tuple(band >> -bits for band in self.earlier))
        return Key(self.mask << bits, tuple(band << bits for band in self.earlier))


ALL_WITH_ALL = Key(0)  # the empty key, which all words share: all are compared with all


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How pairs are found in a run; the same for every worker.

    Args:
      k: maximum distance of one word, in bits.
      subset: m, the number of bands in a key; 0 compares all with all.
      prefix: r, the number of bands by which codes are shuffled; 0 gathers all codes in one code shard.
      shards: number of code shards per prefix.
      bits: number of bits of a word that belong to the code.
      words: number of words of a code.

    Raises:
      ValueError: the values contradict each other.
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
        if not 0 <= self.prefix <= self.subset <= max(self.bits - self.k, 0):  # subset 0 is always possible
            raise ValueError(
                f"a key of {self.subset} bands can't have a prefix of {self.prefix} at k = {self.k}"
            )

    @property
    def free(self) -> int:
        """Mask of the bits of a word that belong to the code: the first ones."""
        return ALL_BITS ^ ALL_BITS >> self.bits

    @property
    def bands(self) -> tuple[int, ...]:
        """Masks of the k + m bands."""
        return band_masks(self.k + self.subset, self.free)

    @property
    def prefixes(self) -> list[tuple[int, ...]]:
        """The prefixes by which codes are shuffled, as band numbers in order."""
        return sorted(
            {key[: self.prefix] for key in itertools.combinations(range(len(self.bands)), self.subset)}
        )

    @property
    def key_count(self) -> int:
        """Number of keys per code."""
        return self.words * math.comb(self.k + self.subset, self.subset)

    @property
    def copies(self) -> int:
        """Number of copies of each code that are shuffled."""
        return self.words * len(self.prefixes)

    def keys_in(self, word: int = 0, prefix: tuple[int, ...] = ()) -> tuple[Key, ...]:
        """Returns the keys of one word that begin with a prefix, as masks over all words."""
        keys = keys_of(self.k, self.subset, prefix, self.free)
        return tuple(key.shifted(SHORT_BITS * word) for key in keys)

    @property
    def all_keys(self) -> tuple[Key, ...]:
        """The keys of all words."""
        return tuple(itertools.chain.from_iterable(map(self.keys_in, range(self.words))))

    def candidates(self, codes: int, bases: int | None = None) -> float:
        """Returns the expected number of comparisons per code if the codes are uniformly distributed.

        Args:
          codes: number of codes.
          bases: how many of the codes are bases; all if not given.
        """
        pairs = pairs_of(codes, codes if bases is None else bases) / max(codes, 1)
        if not self.subset:
            return pairs * self.words
        width = self.bits * self.subset / (self.k + self.subset)
        return pairs * self.key_count / 2**width

    def seconds(self, codes: int, candidates: float) -> float:
        """Returns the expected seconds of one core, given the number of codes and of comparisons per code."""
        if not self.subset:
            return codes * candidates * _NS_PER_TILE / 1e9
        return codes * (self.key_count * _NS_PER_KEY + candidates * _NS_PER_CANDIDATE) / 1e9


@functools.cache
def band_masks(bands: int, free: int = ALL_BITS) -> tuple[int, ...]:
    """Divides the bits of `free` into bands of as equal width as possible; returns their masks, first bits first.

    >>> [f"{mask:016x}" for mask in band_masks(4)]
    ['ffff000000000000', '0000ffff00000000', '00000000ffff0000', '000000000000ffff']
    """
    bits = [1 << bit for bit in reversed(range(SHORT_BITS)) if free >> bit & 1]
    edges = [round(i * len(bits) / max(bands, 1)) for i in range(bands + 1)]  # none for no bands
    return tuple(sum(bits[a:b]) for a, b in itertools.pairwise(edges))


@functools.cache
def keys_of(k: int, subset: int, prefix: tuple[int, ...] = (), free: int = ALL_BITS) -> tuple[Key, ...]:
    """Returns the keys (m-subsets of the k + m bands of `free`) that begin with `prefix`, in order.

    >>> len(keys_of(8, 3)), len(keys_of(8, 3, (0,))), len(keys_of(8, 3, (8,)))
    (165, 45, 1)

    With m = 0 the only key is empty: all codes share it.
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
    """Returns the keys over one word of a code, out of keys over all its words, as masks over that word.

    The empty key is a key over every word.
    """
    if any(not key.mask for key in keys):
        return (ALL_WITH_ALL,)
    return tuple(
        key.shifted(-SHORT_BITS * word) for key in keys if (key.mask.bit_length() - 1) // SHORT_BITS == word
    )


def pairs_of(codes: float, bases: float) -> float:
    """Returns the number of pairs to compare: of bases among each other, and of bases with views.

    Args:
      codes: number of codes.
      bases: how many of the codes are bases.
    """
    return bases * (codes - bases / 2)


def plan_for(thresholds: Thresholds, subset: int, prefix: int = 0, shards: int = 1) -> Plan:
    """Returns the plan that finds the pairs within the thresholds by keys of `subset` bands."""
    return Plan(thresholds.word_k, subset, prefix, shards, thresholds.word_bits, thresholds.words)


@functools.lru_cache(maxsize=4096)
def cheapest_subset(k: int, codes: int, bits: int = SHORT_BITS) -> int:
    """Returns the m with the least expected work for a number of codes in one array; 0 for all with all."""

    def cost(subset: int) -> float:
        plan = Plan(k, subset, bits=bits)
        return plan.seconds(codes, plan.candidates(codes))

    return min(range(min(MAX_SUBSET, bits - k) + 1) if bits > k else (0,), key=cost)


def shard_of(words: WordArray, plan: Plan, prefix: tuple[int, ...]) -> WordArray:
    """Returns the code shard of each word, from 0 to `plan.shards` - 1.

    Words that agree on the bands of `prefix` are in the same shard.
    """
    mask = np.uint64(sum(plan.bands[band] for band in prefix))
    return mixed(words & mask) % np.uint64(plan.shards)


def mixed(words: WordArray) -> WordArray:
    """Returns a hash of each word, in which every bit of the word affects every bit: the finaliser of MurmurHash3."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        words = (words ^ (words >> np.uint64(33))) * np.uint64(factor)
    return words ^ (words >> np.uint64(33))
