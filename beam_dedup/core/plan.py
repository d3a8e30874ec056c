"""How to find every pair within k without comparing all with all.

Cut the 64 bits of the short code into k + m bands. Two codes within k differ in at most k bands, so they agree
exactly on at least m: every m-subset of the bands is a key, and every pair within k meets at one key at least
(Manku, Jain and Das Sarma, "Detecting near-duplicates for web crawling", 2007). k = 2, m = 2, a pair two bits apart:

    band         0                1                2                3
    x      0110101011010010 0001011010111001 1100101101001011 0101101001011010
    y      0110101011010010 0001011010101001 1100101101001011 0101101001011110
           same             differs          same             differs            -> they meet at the key {0, 2}

The more bands a key has, the fewer codes share it by chance, and the more keys there are.

A shuffle would have to copy each code once a key. So codes travel by a *prefix* of the key: its first r bands. There
are only C(k + r, r) of those; the finer keys that begin with it are made where the codes arrive, by sorting:

    r = 0   one place sees all codes: a laptop's folder
    r = 1   k + 1 copies of each code, spread over the values of one band
    r = 2   C(k + 2, 2) copies, spread over the values of two
"""

import dataclasses
import functools
import itertools
import math

import numpy as np

from beam_dedup.core.codes import WordArray
from beam_dedup.core.within import SHORT_BITS

# Cost of finding pairs, in nanoseconds on one core; only their ratios matter for the choice.
_NS_PER_SORT = 90.0  # one code, one key
_NS_PER_CANDIDATE = 3.0  # one pair that shares a key
_NS_PER_TILE = 1.3  # one pair of all with all
_MAX_SUBSET = 4  # larger ones save no more candidates than their sorting costs

GATHERED_CODES = 200_000  # up to here one worker judges all codes: no rounds, no copies
SHARD_CODES = 100_000  # beyond, so many codes are meant to meet at one place


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is done with codes within `k`; the same for every worker of a run.

    k: bits of the short code. subset: m, bands in a key; 0 compares all with all.
    prefix: r, bands that codes travel by; 0 gathers all codes in one place. shards: places per prefix.
    """

    k: int
    subset: int
    prefix: int = 0
    shards: int = 1

    def __post_init__(self) -> None:
        if self.k < 0 or self.shards < 1:
            raise ValueError(f"k must be at least 0 and shards at least 1, got {self.k} and {self.shards}")
        if not 0 <= self.prefix <= self.subset <= SHORT_BITS - self.k:
            raise ValueError(
                f"a key of {self.subset} bands can't have a prefix of {self.prefix} at k = {self.k}"
            )

    @property
    def bands(self) -> tuple[int, ...]:
        """Masks of the k + m bands."""
        return band_masks(self.k + self.subset)

    @property
    def prefixes(self) -> list[tuple[int, ...]]:
        """The prefixes that codes travel by, as band numbers."""
        return sorted(
            {key[: self.prefix] for key in itertools.combinations(range(len(self.bands)), self.subset)}
        )

    @property
    def keys(self) -> int:
        """Keys per code."""
        return math.comb(self.k + self.subset, self.subset)

    @property
    def copies(self) -> int:
        """How often a code travels."""
        return len(self.prefixes)

    def candidates(self, codes: int) -> float:
        """Expected comparisons per code, for uniform codes."""
        if not self.subset:
            return codes / 2
        width = SHORT_BITS * self.subset / (self.k + self.subset)
        return self.keys * codes / 2 ** (width + 1)

    def describe(self, codes: int) -> str:
        """One line for people."""
        how = f"{self.keys} keys of {self.subset} bands" if self.subset else "all with all"
        where = f"{self.copies} x {self.shards} places" if self.prefix else "one place"
        return f"{codes:,} codes within {self.k} bits: {how}, about {self.candidates(codes):,.1f} candidates a code, {where}"


@functools.cache
def band_masks(bands: int) -> tuple[int, ...]:
    """Masks that cut 64 bits into bands as equal as can be, the first bits first.

    >>> [f"{mask:016x}" for mask in band_masks(4)]
    ['ffff000000000000', '0000ffff00000000', '00000000ffff0000', '000000000000ffff']
    """
    edges = [round(i * SHORT_BITS / max(bands, 1)) for i in range(bands + 1)]  # none for no bands
    return tuple((1 << (SHORT_BITS - a)) - (1 << (SHORT_BITS - b)) for a, b in itertools.pairwise(edges))


@functools.cache
def key_masks(k: int, subset: int, prefix: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Masks of the keys (m-subsets of the bands) that begin with `prefix`.

    >>> len(key_masks(8, 3)), len(key_masks(8, 3, (0,))), len(key_masks(8, 3, (8,)))
    (165, 45, 1)

    With m = 0 the one key is empty: all codes share it.
    """
    bands = band_masks(k + subset)
    after = range(prefix[-1] + 1 if prefix else 0, len(bands))
    rest = itertools.combinations(after, subset - len(prefix))
    return tuple(sum(bands[band] for band in (*prefix, *others)) for others in rest)


def cheapest_subset(k: int, codes: int) -> int:
    """The m with the least expected work for so many codes in one place; 0 for all with all."""

    def cost(subset: int) -> float:
        plan = Plan(k, subset)
        if not subset:
            return plan.candidates(codes) * _NS_PER_TILE
        return plan.keys * _NS_PER_SORT + plan.candidates(codes) * _NS_PER_CANDIDATE

    return min(range(_MAX_SUBSET + 1), key=cost)


def choose(k: int, codes: int) -> Plan:
    """The plan for a run over so many codes."""
    subset = cheapest_subset(k, codes)
    if codes <= GATHERED_CODES:
        return Plan(k, subset)
    subset = max(subset, 1)
    band_values = 2 ** (SHORT_BITS // (k + subset))
    prefix = 1 if codes <= SHARD_CODES * band_values else min(2, subset)
    shards = min(math.ceil(codes / SHARD_CODES), band_values**prefix)
    return Plan(k, subset, prefix, shards)


def shard_of(short: WordArray, plan: Plan, prefix: tuple[int, ...]) -> WordArray:
    """The shard, below `plan.shards`, in which codes meet that agree on the bands of `prefix`."""
    mask = np.uint64(sum(plan.bands[band] for band in prefix))
    # The finaliser of MurmurHash3: every bit of the band, wherever it lies, changes every bit of the result.
    mixed = short & mask
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(factor)
    return (mixed ^ (mixed >> np.uint64(33))) % np.uint64(plan.shards)
