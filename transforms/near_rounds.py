"""Judging distinct pictures: in one place, or in rounds in many. What each place does is in `beam_dedup.core.matching.rounds`."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks
from beam_dedup.core.matching import planner, rounds
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.threads import cores
from beam_dedup.core.thresholds import Thresholds

ROUNDS = 2  # before what remains is judged in one place

Block = tuple[bytes, bytes]  # home, packed table
_KEPT: Final = "kept"
_DUPLICATES: Final = "duplicates"
_REST: Final = "rest"
_MARKS: Final = "marks"
_SPREAD: Final = "spread"
_PLAN: Final = "plan"
_KeptBlock = TaggedOutput[Literal["kept"], Block]
_DuplicateBlock = TaggedOutput[Literal["duplicates"], Block]
_RestBlock = TaggedOutput[Literal["rest"], Block]
_MarksBlock = TaggedOutput[Literal["marks"], Block]
_PlanFound = TaggedOutput[Literal["plan"], Estimate]
_SpreadBlock = TaggedOutput[Literal["spread"], Block]


class Judged(NamedTuple):
    """(home, block of MARKS), for duplicates only; and the plan by which they were found, one a window."""

    marks: PCollection[Block]
    plan: PCollection[Estimate]


@dataclasses.dataclass
class JudgeOnOneWorker(beam.PTransform[PCollection[Block], Judged]):
    """Judges distinct pictures where one worker has room for all of their codes.

    In: (home, block of CODES). Chooses the plan itself, with all codes before it: what waits for the side input of its window,
    Flink can't put into a checkpoint.
    """

    thresholds: Thresholds
    planning: PlanSettings

    @no_annotations  # Beam has no types for several outputs
    def expand(self, codes: PCollection[Block]) -> Judged:
        judging = beam.FlatMap(plan_and_judge, self.thresholds, self.planning).with_outputs(_PLAN, _MARKS)
        judged = (
            codes | "OnePlace" >> beam.Map(to_one_worker) | "Gather" >> beam.GroupByKey() | "Judge" >> judging
        )
        return Judged(judged[_MARKS], judged[_PLAN])


@dataclasses.dataclass
class JudgeCodes(beam.PTransform[PCollection[Block], PCollection[Block]]):
    """Judges distinct pictures: in rounds where there are many, then what remains in one place.

    In: (home, block of CODES). Out: (home, block of MARKS), for duplicates only; several may name one image, of
    which the nearest counts.
    """

    thresholds: Thresholds
    plan: PCollection[Estimate]
    known: bool

    def expand(self, codes: PCollection[Block]) -> PCollection[Block]:
        plan = AsSingleton(self.plan)
        start = codes | "Start" >> beam.FlatMap(choose_way, plan).with_outputs(_SPREAD, _REST)
        rest, kept, duplicates = start[_SPREAD], [], []
        if self.known:
            parts = rest | "Known" >> beam.FlatMap(part_known).with_outputs(_KEPT, _REST)
            removed = (parts[_KEPT], parts[_REST]) | "NearKnown" >> RemoveNear(self.thresholds, self.plan)
            rest = removed.rest
            kept.append(parts[_KEPT])
            duplicates.append(removed.duplicates)
        for number in range(1, ROUNDS + 1):
            done = rest | f"Round{number}" >> JudgeRound(
                self.thresholds, self.plan, number == 1 and not self.known
            )
            rest = done.rest
            kept.append(done.kept)
            duplicates.append(done.duplicates)
        finished = (
            (start[_REST], rest)
            | "Remaining" >> beam.Flatten()
            | "OnePlace" >> beam.Map(to_one_worker)
            | "Gather" >> beam.GroupByKey()
            | "Finish" >> beam.FlatMap(finish, self.thresholds, plan).with_outputs(_KEPT, _DUPLICATES, _MARKS)
        )
        spread_marks = (
            (*kept, *duplicates, finished[_KEPT], finished[_DUPLICATES])
            | "Decided" >> beam.Flatten()
            | "Places" >> beam.FlatMap(to_code_shards, self.thresholds, plan)
            | "Meet" >> beam.GroupByKey()
            | "Witnesses" >> beam.FlatMap(at_code_shard, rounds.find_witnesses, self.thresholds, plan)
        )
        return (finished[_MARKS], spread_marks) | "Marks" >> beam.Flatten()


class Round(NamedTuple):
    """Codes after a round: decided for good, and still open. (home, block of CODES) each."""

    kept: PCollection[Block]
    duplicates: PCollection[Block]
    rest: PCollection[Block]


@dataclasses.dataclass
class JudgeRound(beam.PTransform[PCollection[Block], Round]):
    """Keeps the images without a better-ranked undecided neighbour, and finds their duplicates.

    all_here: whether all images are still undecided. Then one without any neighbour is nobody's witness.
    """

    thresholds: Thresholds
    plan: PCollection[Estimate]
    all_here: bool

    @no_annotations
    def expand(self, codes: PCollection[Block]) -> Round:
        plan = AsSingleton(self.plan)
        flags = (
            codes
            | "Places" >> beam.FlatMap(to_code_shards, self.thresholds, plan)
            | "Meet" >> beam.GroupByKey()
            | "Flags" >> beam.FlatMap(at_code_shard, rounds.flag_neighbours, self.thresholds, plan)
        )
        divided = (
            {"codes": codes, "flags": flags}
            | "Home" >> beam.CoGroupByKey()
            | "Divide" >> beam.FlatMap(divide_shard, self.all_here).with_outputs(_KEPT, _REST)
        )
        removed = (divided[_KEPT], divided[_REST]) | "NearAnchors" >> RemoveNear(self.thresholds, self.plan)
        return Round(divided[_KEPT], removed.duplicates, removed.rest)


class Removed(NamedTuple):
    """Undecided codes, parted. (home, block of CODES) each."""

    duplicates: PCollection[Block]
    rest: PCollection[Block]


@dataclasses.dataclass
class RemoveNear(beam.PTransform[tuple[PCollection[Block], PCollection[Block]], Removed]):
    """Finds, among undecided images, those within k of a kept one. In: (kept, undecided)."""

    thresholds: Thresholds
    plan: PCollection[Estimate]

    @no_annotations
    def expand(self, kept_and_rest: tuple[PCollection[Block], PCollection[Block]]) -> Removed:
        plan = AsSingleton(self.plan)
        near = (
            kept_and_rest
            | "KeptAndRest" >> beam.Flatten()
            | "Places" >> beam.FlatMap(to_code_shards, self.thresholds, plan)
            | "Meet" >> beam.GroupByKey()
            | "Near" >> beam.FlatMap(at_code_shard, rounds.flag_near_kept, self.thresholds, plan)
        )
        removed = (
            {"codes": kept_and_rest[1], "flags": near}
            | "Home" >> beam.CoGroupByKey()
            | "Remove" >> beam.FlatMap(remove_shard).with_outputs(_DUPLICATES, _REST)
        )
        return Removed(removed[_DUPLICATES], removed[_REST])


def plan_and_judge(
    place: tuple[str, Iterable[bytes]], thresholds: Thresholds, planning: PlanSettings
) -> Iterator[_PlanFound | _MarksBlock]:
    """Raises PlanError if the plan would go quadratic, and that was not asked for."""
    codes = blocks.load(place[1], blocks.CODES)
    chosen = planning.choose(thresholds, planner.code_stats(codes))
    yield _PlanFound(_PLAN, chosen)
    for block in judge_all(codes, thresholds, chosen):
        yield _MarksBlock(_MARKS, block)


def judge_all(codes: pa.Table, thresholds: Thresholds, chosen: Estimate) -> Iterator[Block]:
    """Judges all codes in one place; nothing else has work meanwhile, so with all cores there are."""
    for shard, marks in rounds.judge_shard(rounds.gather(codes), thresholds, chosen.plan, cores()):
        yield shard, blocks.dump(marks)


def choose_way(block: Block, chosen: Estimate) -> Iterator[_SpreadBlock | _RestBlock]:
    """Few codes are judged in one place at once; many go through the rounds first."""
    if chosen.plan.prefix:
        yield _SpreadBlock(_SPREAD, block)
    else:
        yield _RestBlock(_REST, block)


def part_known(block: Block) -> Iterator[_KeptBlock | _RestBlock]:
    """A home's codes of known images, and those of the others."""
    known, new = rounds.split_known(blocks.load([block[1]], blocks.CODES))
    if len(known):
        yield _KeptBlock(_KEPT, (block[0], blocks.dump(known)))
    if len(new):
        yield _RestBlock(_REST, (block[0], blocks.dump(new)))


def to_one_worker(block: Block) -> tuple[str, bytes]:
    return rounds.EVERYTHING, block[1]


def to_code_shards(block: Block, thresholds: Thresholds, chosen: Estimate) -> Iterator[tuple[str, bytes]]:
    for place, rows in rounds.code_shards(blocks.load([block[1]], blocks.CODES), chosen.plan, thresholds):
        yield place, blocks.dump(rows)


def at_code_shard(
    place: tuple[str, Iterable[bytes]], step: Any, thresholds: Thresholds, chosen: Estimate
) -> Iterator[Block]:
    """Runs a step of `rounds` on the codes that met in a place, and sends its answers home."""
    here = rounds.gather(blocks.load(place[1], blocks.CODES))
    for shard, answer in step(here, thresholds, rounds.keys_of(place[0], chosen.plan)):
        yield shard, blocks.dump(answer)


def divide_shard(
    shard: tuple[bytes, dict[str, Iterable[bytes]]], all_here: bool
) -> Iterator[_KeptBlock | _RestBlock]:
    """The anchors and the undecided ones among a home's codes, by the flags that came back."""
    anchors, rest = rounds.split_anchors(*_codes_and_flags(shard[1]), all_here)
    if len(anchors):
        yield _KeptBlock(_KEPT, (shard[0], blocks.dump(anchors)))
    if len(rest):
        yield _RestBlock(_REST, (shard[0], blocks.dump(rest)))


def remove_shard(shard: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterator[_DuplicateBlock | _RestBlock]:
    """The duplicates of anchors and the undecided ones among a home's codes, by the flags that came back."""
    duplicates, rest = rounds.split_near(*_codes_and_flags(shard[1]))
    if len(duplicates):
        yield _DuplicateBlock(_DUPLICATES, (shard[0], blocks.dump(duplicates)))
    if len(rest):
        yield _RestBlock(_REST, (shard[0], blocks.dump(rest)))


def _codes_and_flags(grouped: dict[str, Iterable[bytes]]) -> tuple[pa.Table, pa.Table]:
    return blocks.load(grouped["codes"], blocks.CODES), blocks.load(grouped["flags"], blocks.FLAGS)


def finish(
    place: tuple[str, Iterable[bytes]], thresholds: Thresholds, chosen: Estimate
) -> Iterator[_MarksBlock | _KeptBlock | _DuplicateBlock]:
    """Judges what is left, in one place. If that is everything, the witnesses are here too."""
    codes = blocks.load(place[1], blocks.CODES)
    if not chosen.plan.prefix:
        for block in judge_all(codes, thresholds, chosen):
            yield _MarksBlock(_MARKS, block)
        return
    here = rounds.keep_in_shard(rounds.gather(codes), thresholds)
    kept, duplicates = rounds.split_kept(here)
    yield _KeptBlock(_KEPT, (rounds.EVERYTHING.encode(), blocks.dump(kept)))
    yield _DuplicateBlock(_DUPLICATES, (rounds.EVERYTHING.encode(), blocks.dump(duplicates)))
