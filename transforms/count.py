"""Counts the images of a run by verdict, and proves that none was lost or judged twice."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection

from beam_dedup.core import conservation
from beam_dedup.core.assignment import Assignment
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.conservation import ReadTally, UriTally
from beam_dedup.core.errors import ConservationError
from beam_dedup.core.leaks import Leakage
from beam_dedup.core.matching.planner import Estimate
from beam_dedup.core.model import REJECT_REASONS, ImageRef
from beam_dedup.core.reading.selection import Exclusions, sum_exclusions
from transforms import metrics
from transforms.lineage import report_written
from transforms.storage.files import whole_file
from transforms.storage.own_files import is_own


@dataclasses.dataclass
class CheckConservation(beam.PTransform[PCollection[list[ImageRef]], PCollection[int]]):
    """Fails the pipeline unless every reference was read, and every image that was found has exactly one verdict.

    Element in: a list of the references that were listed. Element out: the number of images; exactly one element.
    Bounded, in the global window. URIs are compared by the sum of 128-bit hashes, so no worker holds all of them. A
    difference raises `ConservationError`. Known references do not count.

    Args:
      verdicts: blocks of `VERDICTS` on these images.
      read_tally: what was read, as `DeduplicateImages` returns it. None if each reference is one image of the same URI.
    """

    verdicts: PCollection[VerdictBlock]
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
    """Compares listed references with those that were read, and images that were found with those that were judged.

    Returns: the number of images.

    Raises:
      ConservationError: they are not the same.
    """
    # Reported even if there are no images, so that a runner without metrics differs from a run without images.
    metrics.add(dict.fromkeys((metrics.INITIAL, metrics.FINAL, metrics.REJECTED), 0))
    if listed != read_tally.references:
        raise ConservationError(
            f"{listed[0]} files were listed and {read_tally.references[0]} were read, not the same ones: "
            "a file was lost or read twice. Do not use the outputs of this run, and please report this."
        )
    return compare_tallies(read_tally.images, judged)


def compare_tallies(read: UriTally, judged: UriTally) -> int:
    """Compares the images that were read with those that were judged.

    Returns: the number of images.

    Raises:
      ConservationError: they are not the same.
    """
    if read != judged:
        raise ConservationError(
            f"{read[0]} images were read and {judged[0]} verdicts given, not on the same images: "
            "an image was lost or judged twice. Do not use the outputs of this run, and please report this."
        )
    return read[0]


class _CountFn(beam.CombineFn):
    """Sums what the blocks of verdicts add to each counter."""

    def create_accumulator(self) -> dict[str, int]:
        return {}

    def add_input(self, counts: dict[str, int], block: VerdictBlock) -> dict[str, int]:
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
class CountImages(beam.PTransform[PCollection[VerdictBlock], PCollection[dict[str, Any]]]):
    """Counts images by verdict and reason.

    Element in: a block of `VERDICTS`. Element out: a dictionary, as `--counts` writes it; exactly one, with zeros if there
    are no images. Bounded, in the global window. The counts are computed from the verdicts, not from Beam's counters, so
    retried bundles do not change them.

    Args:
      plan: the plan of near mode, which is added to the counts.
      read_tally: what was read. Adds the numbers of skipped pages and of companions to the counts, if there are any.
      pinned: how many pairs were exempt since a person declared them different. Adds that number to the counts.
      exclusions: what was left out of the inputs. Adds the numbers to the counts, if there are any.
      leakage: which images leak to other splits. Adds the numbers to the counts.
      assigned: how many images were assigned to each split. Adds the numbers to the counts.
      assignment: how they were assigned.
    """

    plan: PCollection[Estimate] | None = None
    read_tally: PCollection[ReadTally] | None = None
    pinned: PCollection[int] | None = None
    exclusions: PCollection[Exclusions] | None = None
    leakage: PCollection[Leakage] | None = None
    assigned: PCollection[dict[str, int]] | None = None
    assignment: Assignment | None = None

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[dict[str, Any]]:
        counted = verdicts | "Count" >> beam.CombineGlobally(_CountFn())
        plan = None if self.plan is None else AsSingleton(self.plan, default_value=None)
        read_tally = None
        if self.read_tally is not None:
            read_tally = AsSingleton(
                self.read_tally | "Answered" >> beam.CombineGlobally(conservation.sum_reads)
            )
        pinned = None if self.pinned is None else AsSingleton(self.pinned, default_value=0)
        exclusions = None
        if self.exclusions is not None:
            exclusions = AsSingleton(self.exclusions | "Excluded" >> beam.CombineGlobally(sum_exclusions))
        leakage = None if self.leakage is None else AsSingleton(self.leakage)
        counts = counted | "Counts" >> beam.Map(as_counts, plan, read_tally, pinned, exclusions, leakage)
        if self.assigned is None or self.assignment is None:
            return counts
        return counts | "Assigned" >> beam.Map(with_assignment, AsSingleton(self.assigned), self.assignment)


def as_counts(
    counts: dict[str, int],
    plan: Estimate | None,
    read_tally: ReadTally | None,
    pinned: int | None = None,
    exclusions: Exclusions | None = None,
    leakage: Leakage | None = None,
) -> dict[str, Any]:
    """Returns the content of a counts file: the main counters, also those that are zero; then rarer ones; then the plan."""
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
    if protected := counts.get(metrics.PROTECTED, 0):
        result[metrics.PROTECTED] = protected
    # What was read includes known images, on which there are no verdicts.
    if short := read_tally.out_of_memory if read_tally else counts.get(metrics.OUT_OF_MEMORY, 0):
        result[metrics.OUT_OF_MEMORY] = short
    if read_tally and read_tally.skipped:
        result[metrics.SKIPPED] = read_tally.skipped
    if read_tally and read_tally.companions:
        result[metrics.COMPANIONS] = read_tally.companions
    if pinned is None:
        pinned = counts.get(metrics.PINNED)
    if pinned is not None:
        result[metrics.PINNED] = pinned
    excluded = counts if exclusions is None else metrics.excluded_counts(exclusions)
    for name in (metrics.EXCLUDED, metrics.EXCLUDED_DIRECTORIES):
        if number := excluded.get(name, 0):
            result[name] = number
    if exclusions:
        result["Excluded"] = exclusions.as_fields()
    if leakage:
        result[metrics.LEAKING] = sum(leakage.leaking)
        result["Leakage"] = leakage.as_fields()
    elif metrics.LEAKING in counts:
        result[metrics.LEAKING] = counts[metrics.LEAKING]
    result["Plan"] = plan.describe() if plan else None
    return result


def with_assignment(
    counts: dict[str, Any], assigned: dict[str, int], assignment: Assignment
) -> dict[str, Any]:
    """Returns the content of a counts file with the numbers of images that were assigned to splits, before the plan."""
    others = {name: value for name, value in counts.items() if name != "Plan"}
    return {**others, "Assigned": assignment.as_fields(assigned), "Plan": counts["Plan"]}


def write_json(value: dict[str, Any], path: str, flag: str = "") -> None:
    """Writes one JSON object to a file, which appears whole or not at all.

    With a flag, only a file that this option wrote is replaced (`transforms.storage.files.whole_file`).
    """
    if flag:
        report_written(path)
    with whole_file(path, functools.partial(is_own, flag) if flag else True) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")
