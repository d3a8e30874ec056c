"""Chooses the plan by which near pairs are found, from the number of codes and a sample of them."""

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from beam_dedup.core.codes import BASE, WordArray
from beam_dedup.core.errors import PlanError
from beam_dedup.core.matching.plan import MAX_SUBSET, NS_PER_FOUND, Plan, mixed, pairs_of, plan_for
from beam_dedup.core.matching.skew import comparisons
from beam_dedup.core.tables import codes_of
from beam_dedup.core.thresholds import Thresholds

# Up to this many codes, one worker judges all of them, without rounds and copies. That takes about 1.5 GB.
GATHERED_CODES = 4_000_000
SHARD_CODES = 250_000  # codes per code shard if there are more

# If a code is compared with more codes than this, comparing costs more than decoding its picture, and the
# cost per code grows with the number of codes. Such a plan is refused. Comparing all of 400,000 codes is
# just below the limit.
MAX_CANDIDATES = 200_000

SAMPLE_CODES = 8192  # size of a sample: enough to see how often codes share keys

_COMPARED = 2048  # codes of a sample that are compared all with all: 2 million pairs, in some milliseconds


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A plan, and its expected cost for a number of codes."""

    plan: Plan
    k: int  # maximum distance of whole codes, in bits
    codes: int
    candidates: float  # comparisons per code
    seconds: float  # of one core

    def describe(self) -> str:
        """Returns plan and cost in one line, for example:

        12,000 codes within 8 bits: 45 keys of 2 bands, about 17.0 candidates per code, 0.3 s on one core,
        one shard
        """
        plan = self.plan
        keys = f"{plan.key_count} keys of {plan.subset} bands" if plan.subset else "all pairs compared"
        shards = (
            f"{plan.copies} copies per code, {plan.copies * plan.shards:,} shards"
            if plan.prefix
            else "one shard"
        )
        return (
            f"{self.codes:,} codes within {self.k} bits: {keys}, about {self.candidates:,.1f} candidates per code, "
            f"{self.seconds:,.1f} s on one core, {shards}"
        )

    def check(self) -> None:
        """Raises PlanError if the work would grow with the square of the number of codes."""
        if self.candidates > MAX_CANDIDATES:
            raise PlanError(
                f"comparing {self.codes:,} codes within {self.k} bits needs {self.candidates:,.0f} comparisons per "
                f"code ({self.seconds / 3600:,.1f} hours on one core), and four times as long for twice as many codes: "
                "use a smaller -k, fewer --views, or fewer images per run; or run it anyway with --force_plan"
            )


def _share_within(sample: WordArray, k: int) -> float:
    """Returns the share of the pairs of a sample that is within k, from 0 to 1."""
    some = sample[:_COMPARED]
    pairs = len(some) * (len(some) - 1) / 2
    if not pairs:
        return 0.0
    near = sum(int((np.bitwise_count(some[i + 1 :] ^ some[i]) <= k).sum()) for i in range(len(some)))
    return near / pairs


def choose(
    thresholds: Thresholds,
    codes: int,
    bases: int | None = None,
    sample: WordArray | None = None,
    gathered: int = GATHERED_CODES,
) -> Estimate:
    """Returns the best plan for a number of codes, and its expected cost.

    Args:
      thresholds: when two codes are within k.
      codes: number of codes.
      bases: how many of them are bases; all if not given.
      sample: some of the real codes, in any order; without it, codes are assumed to be uniformly
        distributed. Real codes share keys more often than that.
      gathered: up to how many codes are judged in one code shard.
    """
    pairs = pairs_of(codes, codes if bases is None else bases)
    finding = 0.0 if sample is None else pairs * _share_within(sample, thresholds.word_k) * NS_PER_FOUND / 1e9

    def estimate(subset: int) -> Estimate:
        plan = plan_for(thresholds, subset)
        candidates = plan.candidates(codes, bases)
        if subset and sample is not None:
            total = comparisons(sample, sample, plan.keys_in(), plan.k, pairs, plan.free)
            candidates = max(candidates, total / max(codes, 1) * plan.words)
        return Estimate(plan, thresholds.k, codes, candidates, plan.seconds(codes, candidates) + finding)

    most = min(MAX_SUBSET, thresholds.word_bits - thresholds.word_k)
    best = min(map(estimate, range(max(most, 0) + 1)), key=lambda estimate: estimate.seconds)
    if codes <= gathered:
        return best
    subset = max(best.plan.subset, 1)
    best = estimate(subset)
    band_values = 2 ** (thresholds.word_bits // (thresholds.word_k + subset))
    prefix = 1 if codes <= SHARD_CODES * band_values else min(2, subset)
    shards = min(math.ceil(codes / SHARD_CODES), band_values**prefix)
    return dataclasses.replace(best, plan=plan_for(thresholds, subset, prefix, shards))


@dataclasses.dataclass(frozen=True, slots=True)
class CodeStats:
    """The number of codes, and a sample of the bases.

    The sample holds the distinct short codes with the smallest hashes. So it does not depend on how the
    codes were divided, and a code that many images share is in it once, just as it is compared once.
    """

    codes: int
    bases: int  # how many of the codes are bases
    sample: WordArray  # (at most SAMPLE_CODES,)


@dataclasses.dataclass(frozen=True, slots=True)
class PlanSettings:
    """How the plan of a run is chosen.

    Args:
      given: the plan to use; None to choose one.
      gathered: up to how many codes are judged in one code shard.
      spread: False to judge all codes in one code shard, however many there are, so that a pipeline can
        leave out the steps for several.
      force: whether a plan is accepted whose work grows with the square of the number of codes.
    """

    given: Plan | None = None
    gathered: int = GATHERED_CODES
    spread: bool = True
    force: bool = False

    def choose(self, thresholds: Thresholds, stats: CodeStats) -> Estimate:
        """Returns the plan for all codes, and its expected cost.

        Raises:
          PlanError: the work would grow with the square of the number of codes, and `force` is False.
        """
        chosen = self._estimated(thresholds, stats)
        if not self.force:
            chosen.check()
        return chosen

    def _estimated(self, thresholds: Thresholds, stats: CodeStats) -> Estimate:
        if self.given is None:
            gathered = self.gathered if self.spread else stats.codes
            return choose(thresholds, stats.codes, stats.bases, stats.sample, gathered)
        candidates = self.given.candidates(stats.codes, stats.bases)
        return Estimate(
            self.given, thresholds.k, stats.codes, candidates, self.given.seconds(stats.codes, candidates)
        )


def code_stats(codes: pa.Table, sample_codes: int = SAMPLE_CODES) -> CodeStats:
    """Returns the statistics of a table of `blocks.CODES`, with a sample of up to `sample_codes` codes."""
    columns = codes_of(codes)
    bases = columns.hashed[columns.view[columns.hashed] == BASE]
    sample = _sample(columns.short[bases], sample_codes)
    return CodeStats(len(codes), int((columns.view == BASE).sum()), sample)


def merge_stats(parts: Iterable[CodeStats], sample_codes: int = SAMPLE_CODES) -> CodeStats:
    """Returns the statistics of several sets of codes together."""
    stats = list(parts)
    sample = np.concatenate([np.zeros(0, np.uint64), *(part.sample for part in stats)])
    return CodeStats(
        sum(part.codes for part in stats), sum(part.bases for part in stats), _sample(sample, sample_codes)
    )


def _sample(words: WordArray, sample_codes: int) -> WordArray:
    """Returns the distinct words with the smallest hashes, `sample_codes` at most."""
    words = np.unique(words)
    return words[np.argsort(mixed(words), kind="stable")[:sample_codes]]


def dump_stats(stats: CodeStats) -> bytes:
    """Returns statistics as bytes."""
    return np.concatenate([np.array([stats.codes, stats.bases], np.uint64), stats.sample]).tobytes()


def load_stats(data: bytes) -> CodeStats:
    """Returns the statistics that `dump_stats` encoded."""
    numbers = np.frombuffer(data, np.uint64)
    return CodeStats(int(numbers[0]), int(numbers[1]), numbers[2:])
