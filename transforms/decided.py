"""Applies what a person decided about images (`beam_dedup.core.decisions`): rejects unwanted ones, and counts exempt pairs."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks, dropped
from beam_dedup.core.blocks import CodeBlock, FingerprintBlock, VerdictBlock
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.matching import rounds
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.thresholds import Thresholds
from transforms import metrics

_VERDICTS: Final = "verdicts"
_Verdicts = TaggedOutput[Literal["verdicts"], VerdictBlock]


def as_side_input(pipeline: beam.Pipeline, decisions: Decisions) -> AsSingleton | Decisions:
    """Returns decisions as an argument of a step: a side input, so that the job contains them once, or themselves if none."""
    return AsSingleton(pipeline | "Decisions" >> beam.Create([decisions])) if decisions else NO_DECISIONS


class Undropped(NamedTuple):
    """The outputs of `DropUnwanted`. A known image that is dropped is in neither."""

    fingerprints: PCollection[FingerprintBlock]
    verdicts: PCollection[VerdictBlock]  # one per image that was dropped


@dataclasses.dataclass
class DropUnwanted(beam.PTransform[PCollection[FingerprintBlock], Undropped]):
    """Rejects the images that a person decided to drop, so that they are no witnesses either.

    Element in: a block of `FINGERPRINTS`. Out: `Undropped`. Bounded and windowed as the input.

    Args:
      decisions: an argument of a step, as `as_side_input` returns it.
      keep: which images are protected. They are not rejected.
    """

    decisions: AsSingleton | Decisions
    keep: KeepPolicy | Preference = KeepPolicy.FIRST

    @no_annotations  # Beam has no types for several outputs
    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> Undropped:
        split = beam.FlatMap(drop_unwanted, self.decisions, Preference.of(self.keep)).with_output_types(
            bytes, verdicts=bytes
        )
        done = fingerprints | "Drop" >> split.with_outputs(_VERDICTS, main="main")
        return Undropped(done["main"], done[_VERDICTS])


@dataclasses.dataclass
class CountPinned(beam.PTransform[PCollection[tuple[bytes, CodeBlock]], PCollection[int]]):
    """Counts the pairs that a person declared different, and whose codes are within k.

    Element in: (digest shard, block of `CODES`). Element out: the count, one per window that has images in such pairs. They
    meet on one worker. Counter: `Pinned_Count`.

    Args:
      thresholds: when two codes are near.
      decisions: an argument of a step, as `as_side_input` returns it.
    """

    thresholds: Thresholds
    decisions: AsSingleton | Decisions

    def expand(self, codes: PCollection[tuple[bytes, CodeBlock]]) -> PCollection[int]:
        return (
            codes
            | "InPairs" >> beam.FlatMap(in_different_pairs, self.decisions)
            | "Gather" >> beam.GroupByKey()
            | "Count" >> beam.Map(count_pinned, self.thresholds, self.decisions)
        )


def drop_unwanted(
    block: FingerprintBlock, decisions: Decisions, preference: Preference
) -> Iterator[FingerprintBlock | _Verdicts]:
    """Splits a block: the images to judge, and verdicts on those that a person decided to drop."""
    table = blocks.load([block], blocks.FINGERPRINTS)
    rest, verdicts = dropped.split_dropped(table, decisions, preference)
    if len(rest) == len(table):
        yield block
        return
    if len(rest):
        yield blocks.dump(rest)
    if len(verdicts):
        yield _Verdicts(_VERDICTS, blocks.dump(verdicts))


def in_different_pairs(
    codes: tuple[bytes, CodeBlock], decisions: Decisions
) -> Iterator[tuple[str, CodeBlock]]:
    """Yields the codes of images in pairs that a person declared different, with one key."""
    rows = rounds.in_different_pairs(blocks.load([codes[1]], blocks.CODES), decisions)
    if len(rows):
        yield rounds.EVERYTHING, blocks.dump(rows)


def count_pinned(
    gathered: tuple[str, Iterable[CodeBlock]], thresholds: Thresholds, decisions: Decisions
) -> int:
    """Counts the pairs that were declared different, and whose codes are within k."""
    count = rounds.count_pinned(blocks.load(gathered[1], blocks.CODES), thresholds, decisions)
    metrics.add({metrics.PINNED: count})
    return count
