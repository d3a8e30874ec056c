"""Counts of a run, and the proof that no image was lost or judged twice."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection

from beam_dedup.core import conservation
from beam_dedup.core.conservation import ReadTally, UriTally
from beam_dedup.core.errors import ConservationError
from beam_dedup.core.matching.planner import Estimate
from beam_dedup.core.model import REJECT_REASONS, ImageRef
from transforms import metrics
from transforms.storage.files import whole_file


@dataclasses.dataclass
class CheckConservation(beam.PTransform[PCollection[list[ImageRef]], PCollection[int]]):
    """Fails the run unless all references were read, and the verdicts are on exactly the images they led to, one each.

    In: the references that were listed, bounded, in the global window. Out: how many images there are.

    verdicts: blocks of `blocks.VERDICTS`. answered: what was read, as `DeduplicateImages` says; None where each reference
    is an image of the same URI.
    """

    verdicts: PCollection[bytes]
    read_tally: PCollection[ReadTally] | None = None

    def expand(self, images: PCollection[list[ImageRef]]) -> PCollection[int]:
        listed = (
            images
            | "Uris" >> beam.Map(conservation.tally_references)
            | "Read" >> beam.CombineGlobally(conservation.sum_tallies)
        )
        judged = (
            self.verdicts
            | "VerdictUris" >> beam.Map(conservation.tally_verdicts)
            | "Judged" >> beam.CombineGlobally(conservation.sum_tallies)
        )
        if self.read_tally is None:
            return listed | "Compare" >> beam.Map(compare_tallies, AsSingleton(judged))
        read_tally = self.read_tally | "Answered" >> beam.CombineGlobally(conservation.sum_reads)
        return listed | "Compare" >> beam.Map(compare_all, AsSingleton(read_tally), AsSingleton(judged))


def compare_all(listed: UriTally, read_tally: ReadTally, judged: UriTally) -> int:
    if listed != read_tally.references:
        raise ConservationError(
            f"{listed[0]} files were listed and {read_tally.references[0]} read, or not the same: "
            "a file was lost or read twice. Please report this; the outputs of this run are not to be trusted."
        )
    return compare_tallies(read_tally.images, judged)


def compare_tallies(read: UriTally, judged: UriTally) -> int:
    if read != judged:
        raise ConservationError(
            f"{read[0]} images were read and {judged[0]} verdicts given, or not on the same images: "
            "an image was lost or judged twice. Please report this; the outputs of this run are not to be trusted."
        )
    return read[0]


class _CountFn(beam.CombineFn):
    """Blocks of verdicts -> how often each counter of `metrics.counts_of` went up."""

    def create_accumulator(self) -> dict[str, int]:
        return {}

    def add_input(self, counts: dict[str, int], block: bytes) -> dict[str, int]:
        return self.merge_accumulators([counts, metrics.counts_of(block)])

    def merge_accumulators(self, accumulators: Iterable[dict[str, int]]) -> dict[str, int]:
        merged: dict[str, int] = {}
        for counts in accumulators:
            for name, count in counts.items():
                merged[name] = merged.get(name, 0) + count
        return merged

    def extract_output(self, counts: dict[str, int]) -> dict[str, int]:
        return counts


@dataclasses.dataclass
class CountImages(beam.PTransform[PCollection[bytes], PCollection[dict[str, Any]]]):
    """Counts images by verdict and reason.

    In: blocks of `blocks.VERDICTS`, bounded, in the global window. Out: one dictionary, as `--counts` writes it; all zero
    without images.

    plan: of near mode, to be told beside the counts. answered: what was read; without it skipped pages are not told.
    """

    plan: PCollection[Estimate] | None = None
    read_tally: PCollection[ReadTally] | None = None

    def expand(self, verdicts: PCollection[bytes]) -> PCollection[dict[str, Any]]:
        counted = verdicts | "Count" >> beam.CombineGlobally(_CountFn())
        plan = None if self.plan is None else AsSingleton(self.plan, default_value=None)
        read_tally = None
        if self.read_tally is not None:
            read_tally = AsSingleton(
                self.read_tally | "Answered" >> beam.CombineGlobally(conservation.sum_reads)
            )
        return counted | "Counts" >> beam.Map(as_counts, plan, read_tally)


def as_counts(counts: dict[str, int], plan: Estimate | None, read_tally: ReadTally | None) -> dict[str, Any]:
    """The counts file's content: every counter, zero or not, save those that few runs have; then the plan."""
    names = (
        metrics.INITIAL,
        metrics.FINAL,
        metrics.EXACT_DUPLICATES,
        metrics.NEAR_DUPLICATES,
        metrics.REJECTED,
    )
    result: dict[str, Any] = {name: counts.get(name, 0) for name in names}
    by_reason = {reason.value: counts.get(metrics.rejected_for(reason), 0) for reason in REJECT_REASONS}
    result["Rejected"] = {reason: count for reason, count in by_reason.items() if count}
    if described := counts.get(metrics.DESCRIBED, 0):
        result[metrics.DESCRIBED] = described
    # What was read includes known images, on which there are no verdicts.
    if short := read_tally.out_of_memory if read_tally else counts.get(metrics.OUT_OF_MEMORY, 0):
        result[metrics.OUT_OF_MEMORY] = short
    if read_tally and read_tally.skipped:
        result[metrics.SKIPPED] = read_tally.skipped
    result["Plan"] = plan.describe() if plan else None
    return result


def write_json(value: dict[str, Any], path: str) -> None:
    """Writes one JSON object, whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")
