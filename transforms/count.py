"""Counts of a run, and the proof that no image was lost or judged twice."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsSingleton, PCollection

from beam_dedup.core import blocks, uri_sums
from beam_dedup.core.choosing import Estimate
from beam_dedup.core.errors import ConservationError
from beam_dedup.core.model import REJECT_REASONS, ImageRef
from beam_dedup.core.uri_sums import Tallied
from transforms import metrics
from transforms.storage import whole_file


class _TotalFn(beam.CombineFn):
    """Adds up tallies of URIs."""

    def create_accumulator(self) -> Tallied:
        return uri_sums.NONE

    def add_input(self, accumulator: Tallied, part: Tallied) -> Tallied:
        return uri_sums.total([accumulator, part])

    def merge_accumulators(self, accumulators: Iterable[Tallied]) -> Tallied:
        return uri_sums.total(accumulators)

    def extract_output(self, accumulator: Tallied) -> Tallied:
        return accumulator


@dataclasses.dataclass
class CheckConservation(beam.PTransform[PCollection[list[ImageRef]], PCollection[int]]):
    """Fails the run unless the verdicts are on exactly the images that were read, one each.

    In: the references that were read, bounded, in the global window. Out: how many there are.

    verdicts: blocks of `blocks.VERDICTS`.
    """

    verdicts: PCollection[bytes]

    def expand(self, images: PCollection[list[ImageRef]]) -> PCollection[int]:
        read = images | "Uris" >> beam.Map(tally_references) | "Read" >> beam.CombineGlobally(_TotalFn())
        judged = (
            self.verdicts
            | "VerdictUris" >> beam.Map(tally_verdicts)
            | "Judged" >> beam.CombineGlobally(_TotalFn())
        )
        return read | "Compare" >> beam.Map(compare_tallies, AsSingleton(judged))


def tally_references(references: list[ImageRef]) -> Tallied:
    uris = [blocks.to_bytes(reference.uri) for reference in references]
    return uri_sums.tally(pa.array(uris, pa.binary()))


def tally_verdicts(block: bytes) -> Tallied:
    return uri_sums.tally(blocks.load([block], blocks.VERDICTS)["uri"].combine_chunks())


def compare_tallies(read: Tallied, judged: Tallied) -> int:
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

    plan: of near mode, to be told beside the counts.
    """

    plan: PCollection[Estimate] | None = None

    def expand(self, verdicts: PCollection[bytes]) -> PCollection[dict[str, Any]]:
        counted = verdicts | "Count" >> beam.CombineGlobally(_CountFn())
        if self.plan is None:
            return counted | "Counts" >> beam.Map(as_counts, None)
        return counted | "Counts" >> beam.Map(as_counts, AsSingleton(self.plan, default_value=None))


def as_counts(counts: dict[str, int], plan: Estimate | None) -> dict[str, Any]:
    """The counts file's content: every counter, zero or not, then the plan."""
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
    result["Plan"] = plan.describe() if plan else None
    return result


def write_json(value: dict[str, Any], path: str) -> None:
    """Writes one JSON object, whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")
