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

Keys are masks over the words of a code: the mask of word w is shifted by 64 w.
"""

import dataclasses
import functools
import itertools
import math

import numpy as np

from beam_dedup.core.codes import WordArray
from beam_dedup.core.errors import PlanError
from beam_dedup.core.within import SHORT_BITS, Within

ALL_BITS = (1 << SHORT_BITS) - 1

# Cost of finding pairs, in nanoseconds of one core: benchmarks/pairs.py measures them.
_NS_PER_KEY = 55.0  # one code, one key: it is sorted
_NS_PER_CANDIDATE = 1.5  # one pair that shares a key
_NS_PER_TILE = 0.8  # one pair of all with all
_MASKS_TRIED = 16  # of a plan, to see how crowded they are
_MAX_SUBSET = 4  # larger ones save no more candidates than their sorting costs

GATHERED_CODES = 4_000_000  # up to here one place judges all codes: no rounds, no copies; about 1.5 GB
SHARD_CODES = 250_000  # beyond, so many codes are meant to meet at one place

# A code that is compared with more others than this costs more than the decoding of its picture, and ever more with
# each image that is added: such a plan is refused. All with all of 400,000 codes is just below.
MAX_CANDIDATES = 200_000


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
    def keys(self) -> int:
        """Keys per code."""
        return self.words * math.comb(self.k + self.subset, self.subset)

    @property
    def copies(self) -> int:
        """How often a code travels."""
        return self.words * len(self.prefixes)

    def masks(self, word: int = 0, prefix: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The keys of one word that begin with a prefix."""
        masks = key_masks(self.k, self.subset, prefix, self.free)
        return tuple(mask << SHORT_BITS * word for mask in masks)

    @property
    def all_masks(self) -> tuple[int, ...]:
        """The keys of all words."""
        return tuple(itertools.chain.from_iterable(map(self.masks, range(self.words))))

    def candidates(self, codes: int, bases: int | None = None) -> float:
        """Expected comparisons per code, for uniform codes. bases: how many of the codes are no views."""
        bases = codes if bases is None else bases
        pairs = bases * (codes - bases / 2) / max(codes, 1)  # a view is compared with bases only
        if not self.subset:
            return pairs * self.words
        width = self.bits * self.subset / (self.k + self.subset)
        return pairs * self.keys / 2**width

    def seconds(self, codes: int, candidates: float) -> float:
        """Expected time of one core, given the comparisons per code."""
        if not self.subset:
            return codes * candidates * _NS_PER_TILE / 1e9
        return codes * (self.keys * _NS_PER_KEY + candidates * _NS_PER_CANDIDATE) / 1e9


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A plan and what it is expected to cost for so many codes."""

    plan: Plan
    codes: int
    candidates: float  # comparisons per code
    seconds: float  # of one core

    def describe(self) -> str:
        """One line for people."""
        plan = self.plan
        how = f"{plan.keys} keys of {plan.subset} bands" if plan.subset else "all with all"
        where = f"{plan.copies} x {plan.shards} places" if plan.prefix else "one place"
        return (
            f"{self.codes:,} codes within {plan.k * plan.words} bits: {how}, about {self.candidates:,.1f} candidates a code, "
            f"{self.seconds:,.1f} s of one core, {where}"
        )

    def check(self) -> None:
        """Raises PlanError if the work would grow with the square of the number of codes."""
        if self.candidates > MAX_CANDIDATES:
            raise PlanError(
                f"{self.codes:,} codes within {self.plan.k * self.plan.words} bits would mean {self.candidates:,.0f} comparisons a "
                f"code, {self.seconds / 3600:,.1f} hours of one core, and four times that for twice as many: use a smaller -k, "
                "fewer --views, or fewer images at a time; --force_plan does it all the same"
            )


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
def key_masks(k: int, subset: int, prefix: tuple[int, ...] = (), free: int = ALL_BITS) -> tuple[int, ...]:
    """Masks of the keys (m-subsets of the bands) that begin with `prefix`.

    >>> len(key_masks(8, 3)), len(key_masks(8, 3, (0,))), len(key_masks(8, 3, (8,)))
    (165, 45, 1)

    With m = 0 the one key is empty: all codes share it.
    """
    bands = band_masks(k + subset, free)
    after = range(prefix[-1] + 1 if prefix else 0, len(bands))
    rest = itertools.combinations(after, subset - len(prefix))
    return tuple(sum(bands[band] for band in (*prefix, *others)) for others in rest)


def plan_for(within: Within, subset: int, prefix: int = 0, shards: int = 1) -> Plan:
    """The plan that finds what is within the thresholds by keys of `subset` bands."""
    return Plan(within.word_k, subset, prefix, shards, within.word_bits, within.words)


@functools.lru_cache(maxsize=4096)
def cheapest_subset(k: int, codes: int, bits: int = SHORT_BITS) -> int:
    """The m with the least expected work for so many codes in one place; 0 for all with all."""

    def cost(subset: int) -> float:
        plan = Plan(k, subset, bits=bits)
        return plan.seconds(codes, plan.candidates(codes))

    return min(range(min(_MAX_SUBSET, bits - k) + 1) if bits > k else (0,), key=cost)


def choose(
    within: Within,
    codes: int,
    bases: int | None = None,
    sample: WordArray | None = None,
    gathered: int = GATHERED_CODES,
) -> Estimate:
    """The plan for a run over so many codes.

    bases: how many of them are no views. sample: some of the real codes, in whatever order; real ones share keys more
    often than uniform ones do. gathered: so many codes are judged in one place.
    """

    def estimate(subset: int) -> Estimate:
        plan = plan_for(within, subset)
        candidates = plan.candidates(codes, bases)
        if subset and sample is not None:
            candidates *= crowding(sample, plan)
        return Estimate(plan, codes, candidates, plan.seconds(codes, candidates))

    most = min(_MAX_SUBSET, within.word_bits - within.word_k)
    best = min(map(estimate, range(max(most, 0) + 1)), key=lambda estimate: estimate.seconds)
    if codes <= gathered:
        return best
    subset = max(best.plan.subset, 1)
    best = estimate(subset)
    band_values = 2 ** (within.word_bits // (within.word_k + subset))
    prefix = 1 if codes <= SHARD_CODES * band_values else min(2, subset)
    shards = min(math.ceil(codes / SHARD_CODES), band_values**prefix)
    return dataclasses.replace(best, plan=plan_for(within, subset, prefix, shards))


def crowding(sample: WordArray, plan: Plan) -> float:
    """How many times more often codes of a sample share a key than uniform ones would; at least 1."""
    masks = plan.masks()[:: -(-len(plan.masks()) // _MASKS_TRIED)]
    pairs = 0.0
    for mask in masks:
        sizes = np.unique(sample & np.uint64(mask), return_counts=True)[1].astype(np.float64)
        pairs += float((sizes * (sizes - 1)).sum()) / 2
    width = plan.bits * plan.subset / (plan.k + plan.subset)
    expected = len(masks) * len(sample) * (len(sample) - 1) / 2 / 2**width
    return max(1.0, pairs / expected) if expected else 1.0


def shard_of(words: WordArray, plan: Plan, prefix: tuple[int, ...]) -> WordArray:
    """The shard, below `plan.shards`, in which words meet that agree on the bands of `prefix`."""
    mask = np.uint64(sum(plan.bands[band] for band in prefix))
    return mixed(words & mask) % np.uint64(plan.shards)


def mixed(words: WordArray) -> WordArray:
    """The finaliser of MurmurHash3: every bit of a word, wherever it lies, changes every bit of the result."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        words = (words ^ (words >> np.uint64(33))) * np.uint64(factor)
    return words ^ (words >> np.uint64(33))
