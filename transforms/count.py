"""Counts of a run, and the proof that no image was lost or judged twice."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection

from beam_dedup.core.blocks import to_bytes
from beam_dedup.core.errors import ConservationError
from beam_dedup.core.model import REJECT_REASONS, ImageRef, Verdict
from beam_dedup.core.plan import Plan
from transforms import metrics
from transforms.storage import whole_file

_SUM_BITS = 128

Tallied = tuple[int, int]  # how many URIs, and the sum of their hashes


class _TallyUrisFn(beam.CombineFn):
    """How many URIs there are, and the sum of their 128-bit hashes.

    Two collections with equal tallies hold the same URIs equally often, but for a chance of 2**-128: a lost image
    can't be hidden by another that comes twice.
    """

    def create_accumulator(self) -> Tallied:
        return 0, 0

    def add_input(self, accumulator: Tallied, uri: bytes) -> Tallied:
        digest = hashlib.blake2b(uri, digest_size=_SUM_BITS // 8).digest()
        return accumulator[0] + 1, (accumulator[1] + int.from_bytes(digest, "big")) % (1 << _SUM_BITS)

    def merge_accumulators(self, accumulators: Iterable[Tallied]) -> Tallied:
        counts, sums = zip(*accumulators, strict=True)
        return sum(counts), sum(sums) % (1 << _SUM_BITS)

    def extract_output(self, accumulator: Tallied) -> tuple[int, str]:
        return accumulator[0], f"{accumulator[1]:x}"


@dataclasses.dataclass
class CheckConservation(beam.PTransform[PCollection[ImageRef], PCollection[int]]):
    """Fails the run unless the verdicts are on exactly the images that were read, one each.

    In: the references that were read, bounded, in the global window. Out: how many there are.
    """

    verdicts: PCollection[Verdict]

    def expand(self, images: PCollection[ImageRef]) -> PCollection[int]:
        read = images | "Uri" >> beam.Map(uri_of_reference) | "Read" >> beam.CombineGlobally(_TallyUrisFn())
        judged = (
            self.verdicts
            | "VerdictUri" >> beam.Map(uri_of_verdict)
            | "Judged" >> beam.CombineGlobally(_TallyUrisFn())
        )
        return read | "Compare" >> beam.Map(compare_tallies, AsSingleton(judged))


def uri_of_reference(reference: ImageRef) -> bytes:
    return to_bytes(reference.uri)


def uri_of_verdict(verdict: Verdict) -> bytes:
    return to_bytes(verdict.ref.uri)


def compare_tallies(read: tuple[int, str], judged: tuple[int, str]) -> int:
    if read != judged:
        raise ConservationError(
            f"{read[0]} images were read and {judged[0]} verdicts given, or not on the same images: "
            "an image was lost or judged twice. Please report this; the outputs of this run are not to be trusted."
        )
    return read[0]


class _CountFn(beam.CombineFn):
    """Verdicts -> how often each counter of `metrics.names_for` went up."""

    def create_accumulator(self) -> dict[str, int]:
        return {}

    def add_input(self, counts: dict[str, int], verdict: Verdict) -> dict[str, int]:
        for name in metrics.names_for(verdict):
            counts[name] = counts.get(name, 0) + 1
        return counts

    def merge_accumulators(self, accumulators: Iterable[dict[str, int]]) -> dict[str, int]:
        merged: dict[str, int] = {}
        for counts in accumulators:
            for name, count in counts.items():
                merged[name] = merged.get(name, 0) + count
        return merged

    def extract_output(self, counts: dict[str, int]) -> dict[str, int]:
        return counts


@dataclasses.dataclass
class CountImages(beam.PTransform[PCollection[Verdict], PCollection[dict[str, Any]]]):
    """Counts images by verdict and reason.

    In: verdicts, bounded, in the global window. Out: one dictionary, as `--counts` writes it; all zero without images.

    plan: of near mode, to be told beside the counts.
    """

    plan: PCollection[tuple[Plan, int]] | None = None

    def expand(self, verdicts: PCollection[Verdict]) -> PCollection[dict[str, Any]]:
        counted = verdicts | "Count" >> beam.CombineGlobally(_CountFn())
        if self.plan is None:
            return counted | "Counts" >> beam.Map(as_counts, None)
        return counted | "Counts" >> beam.Map(as_counts, AsSingleton(self.plan, default_value=None))


def as_counts(counts: dict[str, int], plan: tuple[Plan, int] | None) -> dict[str, Any]:
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
    result["Plan"] = plan[0].describe(plan[1]) if plan else None
    return result


def write_json(value: dict[str, Any], path: str) -> None:
    """Writes one JSON object, whole or not at all."""
    with whole_file(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")
