"""Choosing the plan by which pairs within k are found, and saying what it costs."""

import dataclasses
import math

from beam_dedup.core.codes import WordArray
from beam_dedup.core.crowding import comparisons
from beam_dedup.core.errors import PlanError
from beam_dedup.core.plan import MAX_SUBSET, Plan, pairs_of, plan_for
from beam_dedup.core.within import Within

GATHERED_CODES = 4_000_000  # up to here one place judges all codes: no rounds, no copies; about 1.5 GB
SHARD_CODES = 250_000  # beyond, so many codes are meant to meet at one place

# A code that is compared with more others than this costs more than the decoding of its picture, and ever more with
# each image that is added: such a plan is refused. All with all of 400,000 codes is just below.
MAX_CANDIDATES = 200_000


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """A plan and what it is expected to cost for so many codes."""

    plan: Plan
    k: int  # of whole codes
    codes: int
    candidates: float  # comparisons per code
    seconds: float  # of one core

    def describe(self) -> str:
        """One line for people."""
        plan = self.plan
        how = f"{plan.key_count} keys of {plan.subset} bands" if plan.subset else "all with all"
        where = f"{plan.copies} x {plan.shards} places" if plan.prefix else "one place"
        return (
            f"{self.codes:,} codes within {self.k} bits: {how}, about {self.candidates:,.1f} candidates a code, "
            f"{self.seconds:,.1f} s of one core, {where}"
        )

    def check(self) -> None:
        """Raises PlanError if the work would grow with the square of the number of codes."""
        if self.candidates > MAX_CANDIDATES:
            raise PlanError(
                f"{self.codes:,} codes within {self.k} bits would mean {self.candidates:,.0f} comparisons a "
                f"code, {self.seconds / 3600:,.1f} hours of one core, and four times that for twice as many: use a smaller -k, "
                "fewer --views, or fewer images at a time; --force_plan does it all the same"
            )


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

    pairs = pairs_of(codes, codes if bases is None else bases)

    def estimate(subset: int) -> Estimate:
        plan = plan_for(within, subset)
        candidates = plan.candidates(codes, bases)
        if subset and sample is not None:
            of_word = comparisons(sample, sample, plan.keys_in(), plan.k, pairs, plan.free) / max(codes, 1)
            candidates = max(candidates, of_word * plan.words)
        return Estimate(plan, within.k, codes, candidates, plan.seconds(codes, candidates))

    most = min(MAX_SUBSET, within.word_bits - within.word_k)
    best = min(map(estimate, range(max(most, 0) + 1)), key=lambda estimate: estimate.seconds)
    if codes <= gathered:
        return best
    subset = max(best.plan.subset, 1)
    best = estimate(subset)
    band_values = 2 ** (within.word_bits // (within.word_k + subset))
    prefix = 1 if codes <= SHARD_CODES * band_values else min(2, subset)
    shards = min(math.ceil(codes / SHARD_CODES), band_values**prefix)
    return dataclasses.replace(best, plan=plan_for(within, subset, prefix, shards))
