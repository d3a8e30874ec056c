"""Chooses how near pairs are found, from the number of codes and a sample of them."""

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

GATHERED_CODES = 4_000_000  # up to here one place judges all codes: no rounds, no copies; about 1.5 GB
SHARD_CODES = 250_000  # beyond, so many codes are meant to meet at one place

# A code that is compared with more others than this costs more than the decoding of its picture, and ever more with
# each image that is added: such a plan is refused. All with all of 400,000 codes is just below.
MAX_CANDIDATES = 200_000

_COMPARED = 2048  # of a sample, all with all: 2 million pairs, in some milliseconds


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A plan and what it is expected to cost for so many codes."""

    plan: Plan
    k: int  # of whole codes
    codes: int
    candidates: float  # comparisons per code
    seconds: float  # of one core

    def describe(self) -> str:
        """Returns the plan and its expected cost in one line, for the summary and the counts."""
        plan = self.plan
        how = f"{plan.key_count} keys of {plan.subset} bands" if plan.subset else "all pairs compared"
        where = f"in {plan.copies} x {plan.shards} code shards" if plan.prefix else "on one worker"
        return (
            f"{self.codes:,} codes, threshold {self.k} bits: {how}, about {self.candidates:,.1f} comparisons per code, "
            f"{self.seconds:,.1f} s of one core, {where}"
        )

    def check(self) -> None:
        """Raises PlanError if the work would grow with the square of the number of codes."""
        if self.candidates > MAX_CANDIDATES:
            raise PlanError(
                f"{self.codes:,} codes with a threshold of {self.k} bits need {self.candidates:,.0f} comparisons per code, "
                f"{self.seconds / 3600:,.1f} hours of one core, and twice as many codes four times that: use a smaller -k, "
                "fewer --views, or fewer images per run; --force_plan runs it anyway"
            )


def _share_within(sample: WordArray, k: int) -> float:
    """The share of all pairs that is within k, among some of a sample."""
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
    """The plan for a run over so many codes.

    bases: how many of them are no views. sample: some of the real codes, in whatever order; real ones share keys more
    often than uniform ones do. gathered: so many codes are judged in one place.
    """

    pairs = pairs_of(codes, codes if bases is None else bases)
    finding = 0.0 if sample is None else pairs * _share_within(sample, thresholds.word_k) * NS_PER_FOUND / 1e9

    def estimate(subset: int) -> Estimate:
        plan = plan_for(thresholds, subset)
        candidates = plan.candidates(codes, bases)
        if subset and sample is not None:
            of_word = comparisons(sample, sample, plan.keys_in(), plan.k, pairs, plan.free) / max(codes, 1)
            candidates = max(candidates, of_word * plan.words)
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


SAMPLE = 8192  # codes: enough to see chance collisions from


@dataclasses.dataclass(frozen=True, slots=True)
class CodeStats:
    """Number of codes, how many of them are no views, and some of these.

    sample: the (at most) `SAMPLE` distinct short codes of the smallest hashes. So it does not depend on how the codes are
    parted, and a code that many images have is in it once, as it is compared once.
    """

    codes: int
    bases: int
    sample: WordArray


@dataclasses.dataclass(frozen=True, slots=True)
class PlanSettings:
    """How a plan is come by.

    given: the plan, if it is not to be chosen. gathered: so many codes are judged in one place. spread: False promises
    that there are not more, so that the steps of judging in many places can be left out. force: whether a plan that
    would go quadratic is followed.
    """

    given: Plan | None = None
    gathered: int = GATHERED_CODES
    spread: bool = True
    force: bool = False

    def choose(self, thresholds: Thresholds, stats: CodeStats) -> Estimate:
        """The plan for all codes.

        Raises:
          PlanError: it would go quadratic, and that was not asked for.
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


def code_stats(codes: pa.Table) -> CodeStats:
    """Of a table of `blocks.CODES`."""
    columns = codes_of(codes)
    bases = columns.hashed[columns.view[columns.hashed] == BASE]
    return CodeStats(len(codes), int((columns.view == BASE).sum()), _smallest(columns.short[bases]))


def merge_stats(parts: Iterable[CodeStats]) -> CodeStats:
    """Of several sets of codes together."""
    taken = list(parts)
    sample = np.concatenate([np.zeros(0, np.uint64), *(part.sample for part in taken)])
    return CodeStats(sum(part.codes for part in taken), sum(part.bases for part in taken), _smallest(sample))


def _smallest(words: WordArray) -> WordArray:
    words = np.unique(words)
    return words[np.argsort(mixed(words), kind="stable")[:SAMPLE]]


def dump_stats(stats: CodeStats) -> bytes:
    return np.concatenate([np.array([stats.codes, stats.bases], np.uint64), stats.sample]).tobytes()


def load_stats(data: bytes) -> CodeStats:
    numbers = np.frombuffer(data, np.uint64)
    return CodeStats(int(numbers[0]), int(numbers[1]), numbers[2:])
