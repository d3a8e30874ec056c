"""Decisions of a person, through all plans of near matching, against the definition."""

import itertools
import random
from typing import Any

import apache_beam as beam
import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.matching.plan import Plan
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.preference import Preference
from beam_dedup.core.thresholds import Thresholds
from tests import oracle
from tests.random_sets import RandomSet, random_set
from tests.transforms.batches import Batch, Decided, batch, digest_of, in_order, union
from tests.transforms.pipelines import run
from tests.transforms.test_near import first_difference
from transforms import BatchFingerprints, MarkNearDuplicates, UnbatchVerdicts
from transforms.decided import drop_unwanted

ROUNDS = PlanSettings(Plan(6, 2, 1, 3))


def near_pairs(case: RandomSet) -> list[frozenset[int]]:
    codes_of = [[code for code in case.codes if code.image == image] for image in range(case.images)]
    return [
        frozenset(pair)
        for pair in itertools.combinations(range(case.images), 2)
        if oracle.matches(codes_of[pair[0]], codes_of[pair[1]], case.k, case.verify)
    ]


def decided_batch(seed: str) -> tuple[Batch, Decisions, int]:
    """Returns images, decisions about them, and how many pairs the decisions exempt."""
    rng = random.Random(seed)
    case = union([random_set(f"{seed} {number}", 6) for number in range(6)], rng)._replace(verify=48)
    near = near_pairs(case)
    different = set(rng.sample(near, len(near) // 2))
    others = [frozenset(rng.sample(range(case.images), 2)) for _ in range(case.images // 8)]
    same = {pair for pair in [*others, *rng.sample(near, 3)] if pair not in different}
    keep = rng.sample(range(case.images), case.images // 10)

    def digests(pairs: set[frozenset[int]]) -> list[tuple[bytes, bytes]]:
        return [(digest_of(seed, a), digest_of(seed, b)) for a, b in map(sorted, pairs)]

    decisions = Decisions.of(digests(different), digests(same), [digest_of(seed, one) for one in keep])
    pinned = sum(not pair <= set(keep) for pair in different)
    return batch(case, seed, decided=Decided(different, same, keep)), decisions, pinned


@pytest.mark.parametrize(
    "planning",
    [
        pytest.param(PlanSettings(), id="one worker"),
        pytest.param(PlanSettings(spread=False), id="without spreading"),
        pytest.param(ROUNDS, id="rounds"),
        pytest.param(PlanSettings(gathered=50), id="chosen rounds"),
    ],
)
@pytest.mark.parametrize("digest_shards", [1, 5])
def test_verdicts_and_pinned_count_are_those_of_the_definition(
    planning: PlanSettings, digest_shards: int
) -> None:
    made, decisions, pinned = decided_batch(f"decided {digest_shards}")
    mark = MarkNearDuplicates(Thresholds(6, 48), planning, digest_shards, decisions=decisions)

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        marked = pipeline | beam.Create(made.fingerprints) | BatchFingerprints(7) | "Mark" >> mark
        return {"verdicts": marked.verdicts | UnbatchVerdicts(), "pinned": marked.pinned}

    ran = run(build)
    assert not first_difference(in_order(ran.values["verdicts"]), made.verdicts)
    assert ran.values["pinned"] == [pinned]
    assert pinned > 10


def test_without_pairs_declared_different_nothing_is_counted() -> None:
    for decisions in (NO_DECISIONS, Decisions.of(same=[(bytes(32), b"1" * 32)])):
        pipeline = beam.Pipeline()
        marked = (
            pipeline | beam.Create([b""]).with_output_types(bytes) | MarkNearDuplicates(decisions=decisions)
        )
        assert marked.pinned is None


def test_block_without_dropped_images_is_passed_on_as_it_is() -> None:
    made, _, _ = decided_batch("drop")
    block = blocks.dump(tables.fingerprints_table(made.fingerprints))
    assert list(drop_unwanted(block, Decisions.of(drop=[bytes(32)]), Preference())) == [block]
