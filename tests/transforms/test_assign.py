"""`AssignSplits` on random contents: no pair within k is in two splits."""

import random
from collections import Counter
from typing import Any

import apache_beam as beam
import pytest

from beam_dedup.core.assignment import Assignment
from beam_dedup.core.matching.plan import Plan
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.model import Fingerprint, ImageRef, Reason, Rejection, Verdict
from beam_dedup.core.tables import rejections_block
from beam_dedup.core.thresholds import Thresholds
from tests.transforms.contents import components, random_contents
from tests.transforms.pipelines import run
from transforms import BatchFingerprints, MarkNearDuplicates, UnbatchVerdicts
from transforms.assign import AssignSplits
from transforms.pair_outputs import AddComponents
from transforms.pairs import FindComponents

K, VERIFY = 6, 48


def assigned(
    images: list[Fingerprint], assignment: Assignment, planning: PlanSettings
) -> tuple[dict[str, Verdict], dict[str, int]]:
    """Returns the verdicts on some images and a rejected one by URI, and the numbers of images of each split."""
    refused = Verdict.of_rejection(Rejection(ImageRef("/bad", "bad"), Reason.NOT_AN_IMAGE))

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        fingerprints = pipeline | beam.Create(images) | BatchFingerprints(7)
        thresholds = Thresholds(K, VERIFY)
        marked = fingerprints | MarkNearDuplicates(thresholds, planning)
        bad = pipeline | "Bad" >> beam.Create([rejections_block([refused])[0]]).with_output_types(bytes)
        verdicts = (marked.verdicts, bad) | beam.Flatten()
        connected = fingerprints | FindComponents(thresholds, planning)
        done = verdicts | AddComponents(connected) | AssignSplits(assignment)
        return {"verdicts": done.verdicts | UnbatchVerdicts(), "counts": done.counts}

    ran = run(build)
    [counts] = ran.values["counts"]
    return {verdict.ref.uri: verdict for verdict in ran.values["verdicts"]}, counts


@pytest.mark.parametrize("number", range(2))
def test_images_within_k_are_in_one_split(number: int) -> None:
    planning = PlanSettings(Plan(K, 2, 1, 3)) if number % 2 else PlanSettings(spread=False)
    assignment = Assignment(("a", "b", "c"), (1, 1, 1), number)
    made = random_contents(f"assign {number}", K, VERIFY, number % 3, sets=8)
    rng = random.Random(number)
    verdicts, counts = assigned(rng.sample(made.fingerprints, len(made.fingerprints)), assignment, planning)
    assert not verdicts.pop("/bad").assigned
    split_of: dict[bytes, str] = {}
    for verdict in verdicts.values():
        assert verdict.assigned in assignment.names
        assert split_of.setdefault(verdict.digest, verdict.assigned) == verdict.assigned
    assert len(made.pairs) > 20
    assert all(split_of[a] == split_of[b] for a, b in made.pairs)
    assert {*split_of.values()} == {*assignment.names}
    assert counts == Counter(verdict.assigned for verdict in verdicts.values())
    in_component = components(made.pairs)
    unchanged = [one for one in made.fingerprints if one.digest not in in_component]
    others, _ = assigned(unchanged, assignment, planning)
    assert all(others[one.ref.uri].assigned == verdicts[one.ref.uri].assigned for one in unchanged)
