"""Images of one input are no duplicates of each other: in pipelines, on one worker and in rounds, near and exact."""

import random
from typing import Any

import apache_beam as beam
import pytest

from beam_dedup.core import blocks
from beam_dedup.core.decisions import Decisions
from beam_dedup.core.matching.plan import Plan
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.model import ImageRef, Reason, StandIn, Status, Verdict, Witness
from beam_dedup.core.preference import Preference
from beam_dedup.core.tables import verdicts_table
from beam_dedup.core.thresholds import Thresholds
from tests.core.matching import test_across as definition
from tests.core.matching.test_shard_verdicts import (
    NOTHING_DECIDED,
    SAFE,
    Decided,
    images_of,
    random_decisions,
)
from tests.random_sets import VERIFY, random_set
from tests.transforms.batches import Batch, in_order
from tests.transforms.pipelines import REPEATED, run
from tests.transforms.test_near import first_difference, judge
from transforms import BatchFingerprints, MarkNearDuplicates, UnbatchVerdicts
from transforms.exact import MarkExactDuplicates
from transforms.place import placements

KEEP = Preference(protect=(SAFE,), directory="/in", has_labels=True)


def random_images(seed: str, k: int, has_decisions: bool = False) -> tuple[Batch, Decided]:
    """Returns images of several inputs, some of them known or protected, and the verdicts on them."""
    rng = random.Random(seed)
    case = random_set(seed, k, verify=VERIFY[2])
    images = definition.in_inputs(images_of(case, rng), definition.LABELS, rng)
    decided = random_decisions(images, case, rng) if has_decisions else NOTHING_DECIDED
    return Batch(images, definition.by_definition(images, case, KEEP, decided)), decided


@pytest.mark.parametrize(
    ("planning", "flags"),
    [
        (PlanSettings(spread=False), ()),
        (PlanSettings(), REPEATED),
        (PlanSettings(Plan(6, 2, 2, 3)), ()),
    ],
    ids=["one worker", "chosen plan", "rounds"],
)
def test_near_verdicts_are_those_of_the_definition(planning: PlanSettings, flags: tuple[str, ...]) -> None:
    """In a random order, one set per window."""
    batches = [random_images(f"across {number}", 6)[0] for number in range(8)]
    mark = MarkNearDuplicates(
        Thresholds(6, VERIFY[2]), planning, 3, KEEP, known=True, across=definition.LABELS
    )
    for made, (verdicts, _) in zip(batches, judge(batches, mark, *flags), strict=True):
        assert not (wrong := first_difference(verdicts, made.verdicts)), wrong
        definition.check_laws(made.fingerprints, verdicts)


def test_decisions_are_honoured_in_rounds() -> None:
    made, decided = random_images("across decided", 6, has_decisions=True)
    mark = MarkNearDuplicates(
        Thresholds(6, VERIFY[2]),
        PlanSettings(Plan(6, 2, 1, 3)),
        3,
        KEEP,
        known=True,
        decisions=Decisions.of(decided.different, decided.same, decided.keep),
        across=definition.LABELS,
    )
    [(verdicts, _)] = judge([made], mark)
    assert not (wrong := first_difference(verdicts, made.verdicts)), wrong


def test_exact_verdicts_are_those_of_the_definition() -> None:
    rng = random.Random("across exact")
    case = random_set("across exact", 6)
    images = definition.in_inputs(images_of(case, rng), definition.LABELS, rng)

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        fingerprints = pipeline | beam.Create(images) | BatchFingerprints(4)
        marked = fingerprints | MarkExactDuplicates(3, KEEP, definition.LABELS)
        return {"verdicts": marked | UnbatchVerdicts()}

    verdicts: list[Verdict] = run(build).values["verdicts"]
    assert in_order(verdicts) == definition.by_definition(images, case, KEEP, near=False)


def test_any_copy_stands_in_for_each_kept_image_with_its_bytes() -> None:
    digest = bytes(32)
    witness = Witness("/old/a", digest, 0, None, "base")
    verdicts = [
        Verdict(ImageRef("/old/a", "old/a"), Status.KEPT, digest=digest),
        Verdict(ImageRef("/old/b", "old/b"), Status.KEPT, digest=digest),
        Verdict(ImageRef("/new/c", "new/c"), Status.DUPLICATE, Reason.EXACT, digest, witness=witness),
    ]
    block = blocks.dump(verdicts_table(verdicts))
    found = {one.path: one.stand_ins for one in placements(block, "out", duplicates=False, portable=False)}
    assert found == {name: (StandIn("/new/c"),) for name in ("out/old/a", "out/old/b")}
