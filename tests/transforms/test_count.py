"""Tests the counts, and the check that no image is lost or judged twice."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_dedup.core import blocks
from beam_dedup.core.matching.plan import Plan
from beam_dedup.core.matching.planner import Estimate
from beam_dedup.core.model import REASONS, REJECT_REASONS, ImageRef, Reason, Rejection, Status, Verdict
from tests.transforms import image_blocks
from tests.transforms.batches import in_order, random_batch
from tests.transforms.pipelines import REPEATED, THREADS, run
from transforms import CheckConservation, CountImages, UnbatchVerdicts, metrics
from transforms.count import write_json

BATCH = random_batch("count", 8, 48, sets=20)
REJECTED = {Reason.EMPTY: 3, Reason.NOT_AN_IMAGE: 2, Reason.NOT_FOUND: 1}
VERDICTS = [
    *BATCH.verdicts,
    *(
        Verdict.of_rejection(Rejection(ImageRef(f"/in/\udcff{reason}{i}", ""), reason))
        for reason, count in REJECTED.items()
        for i in range(count)
    ),
]
READ = [verdict.ref for verdict in VERDICTS]


def conserved(read: Sequence[ImageRef], verdicts: Sequence[Verdict], *flags: str) -> list[int]:
    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        judged = image_blocks.verdicts(pipeline, verdicts)
        return {"count": image_blocks.references(pipeline, read) | "Check" >> CheckConservation(judged)}

    return run(build, *flags).values["count"]


class TestConservation:
    @pytest.mark.parametrize("flags", [REPEATED, THREADS])
    def test_one_verdict_per_image_passes_in_any_order(self, flags: tuple[str, ...]) -> None:
        assert conserved(READ, VERDICTS[::-1], *flags) == [len(VERDICTS)]

    def test_no_images_pass(self) -> None:
        assert conserved([], []) == [0]

    @pytest.mark.parametrize(
        "verdicts",
        [
            pytest.param(VERDICTS[1:], id="lost"),
            pytest.param([*VERDICTS, VERDICTS[0]], id="doubled"),
            pytest.param([*VERDICTS[1:], VERDICTS[1]], id="one lost, another doubled"),
            pytest.param([*VERDICTS[2:], VERDICTS[3], VERDICTS[4]], id="two lost, two others doubled"),
            pytest.param(
                [*VERDICTS[1:], dataclasses.replace(VERDICTS[0], ref=ImageRef("x", "x"))],
                id="on an unknown image",
            ),
            pytest.param([], id="all lost"),
        ],
    )
    def test_any_other_verdicts_fail_the_run(self, verdicts: list[Verdict]) -> None:
        with pytest.raises(Exception, match="an image was lost or judged twice") as raised:
            conserved(READ, verdicts)
        assert (
            f"{len(READ)} images were read and {len(verdicts)} verdicts given, not on the same images"
            in str(raised.value)
        )

    def test_a_verdict_without_an_image_fails_the_run(self) -> None:
        with pytest.raises(Exception, match="an image was lost or judged twice"):
            conserved([], VERDICTS[:1])


def counted(verdicts: Sequence[Verdict], plans: Sequence[Estimate] | None, *flags: str) -> dict[str, Any]:
    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        judged = image_blocks.verdicts(pipeline, verdicts)
        plan = None if plans is None else pipeline | "Plans" >> beam.Create(plans).with_output_types(Estimate)
        return {"counts": judged | "Count" >> CountImages(plan)}

    [counts] = run(build, *flags).values["counts"]
    assert isinstance(counts, dict)
    return counts


class TestCounts:
    @pytest.mark.parametrize("flags", [REPEATED, THREADS])
    def test_images_are_counted_by_verdict_and_reason(self, flags: tuple[str, ...]) -> None:
        expected = Counter((verdict.status, verdict.reason) for verdict in VERDICTS)
        counts = counted(VERDICTS, None, *flags)
        assert counts == {
            "Initial_Image_Count": len(VERDICTS),
            "Final_Image_Count": expected[Status.KEPT, None],
            "Exact_Duplicate_Count": expected[Status.DUPLICATE, Reason.EXACT],
            "Near_Duplicate_Count": expected[Status.DUPLICATE, Reason.NEAR],
            "Rejected_Count": 6,
            "Rejected": {"empty": 3, "not_an_image": 2, "not_found": 1},
            "Plan": None,
        }
        assert all(expected[key] for key in ((Status.KEPT, None), (Status.DUPLICATE, Reason.EXACT)))
        assert counts["Near_Duplicate_Count"]

    @pytest.mark.parametrize("reason", REJECT_REASONS)
    def test_every_reason_has_its_counter(self, reason: Reason) -> None:
        assert metrics.names_for(Status.REJECTED, reason) == (
            "Initial_Image_Count",
            "Rejected_Count",
            f"Rejected_{reason}_Count",
        )

    @pytest.mark.parametrize("plans", [None, []], ids=["exact mode", "near mode without images"])
    def test_all_counts_are_zero_without_images(self, plans: list[Estimate] | None) -> None:
        counts = counted([], plans)
        assert counts.pop("Rejected") == {}
        assert counts.pop("Plan") is None
        assert set(counts.values()) == {0}
        assert len(counts) == 5

    def test_the_plan_is_part_of_the_counts(self) -> None:
        plan = Estimate(Plan(8, 3, 1, 7), 8, 12345, 6.7, 8.9)
        assert counted(VERDICTS[:3], [plan])["Plan"] == plan.describe()

    @pytest.mark.parametrize("flags", [(), THREADS])
    def test_beam_counters_equal_the_counts(self, flags: tuple[str, ...]) -> None:
        def build(pipeline: beam.Pipeline) -> dict[str, Any]:
            counted = image_blocks.verdicts(pipeline, VERDICTS) | beam.Map(metrics.count)
            return {"verdicts": counted | UnbatchVerdicts()}

        ran = run(build, *flags)
        assert in_order(ran.values["verdicts"]) == in_order(VERDICTS), "the verdicts are passed on"
        counts = counted(VERDICTS, None)
        by_reason = counts.pop("Rejected")
        assert counts.pop("Plan") is None
        expected = counts | {metrics.rejected_for(REASONS[name]): count for name, count in by_reason.items()}
        assert ran.counters == expected

    def test_a_block_without_verdicts_counts_nothing(self) -> None:
        assert metrics.counts_of(blocks.dump(blocks.VERDICTS.empty_table())) == {}

    def test_counts_are_written_as_json(self, tmp_path: Path) -> None:
        counts = counted(VERDICTS, None)
        write_json(counts, str(tmp_path / "deep/counts.json"))
        assert json.loads((tmp_path / "deep/counts.json").read_text()) == counts

    def test_types_are_declared(self) -> None:
        verdicts = image_blocks.verdicts(beam.Pipeline(options=PipelineOptions([])), VERDICTS)
        assert (verdicts | CountImages()).element_type == beam.typehints.Dict[str, Any]
