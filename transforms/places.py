"""Judging distinct pictures: in one place, or in rounds in many. What each place does is in `beam_dedup.core.rounds`."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks, census, rounds
from beam_dedup.core.census import Planning
from beam_dedup.core.choosing import Estimate
from beam_dedup.core.threads import cores
from beam_dedup.core.within import Within

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
class JudgeInOnePlace(beam.PTransform[PCollection[Block], Judged]):
    """Judges distinct pictures where one worker has room for all of their codes.

    In: (home, block of CODES). Chooses the plan itself, with all codes before it: what waits for the side input of its window,
    Flink can't put into a checkpoint.
    """

    within: Within
    planning: Planning

    @no_annotations  # Beam has no types for several outputs
    def expand(self, codes: PCollection[Block]) -> Judged:
        judging = beam.FlatMap(plan_and_judge, self.within, self.planning).with_outputs(_PLAN, _MARKS)
        judged = (
            codes | "OnePlace" >> beam.Map(to_one_place) | "Gather" >> beam.GroupByKey() | "Judge" >> judging
        )
        return Judged(judged[_MARKS], judged[_PLAN])


@dataclasses.dataclass
class JudgeCodes(beam.PTransform[PCollection[Block], PCollection[Block]]):
    """Judges distinct pictures: in rounds where there are many, then what remains in one place.

    In: (home, block of CODES). Out: (home, block of MARKS), for duplicates only; several may name one image, of
    which the nearest counts.
    """

    within: Within
    plan: PCollection[Estimate]
    known: bool

    def expand(self, codes: PCollection[Block]) -> PCollection[Block]:
        plan = AsSingleton(self.plan)
        start = codes | "Start" >> beam.FlatMap(choose_way, plan).with_outputs(_SPREAD, _REST)
        rest, kept, duplicates = start[_SPREAD], [], []
        if self.known:
            parts = rest | "Known" >> beam.FlatMap(part_known).with_outputs(_KEPT, _REST)
            removed = (parts[_KEPT], parts[_REST]) | "NearKnown" >> RemoveNear(self.within, self.plan)
            rest = removed.rest
            kept.append(parts[_KEPT])
            duplicates.append(removed.duplicates)
        for number in range(1, ROUNDS + 1):
            done = rest | f"Round{number}" >> JudgeRound(
                self.within, self.plan, number == 1 and not self.known
            )
            rest = done.rest
            kept.append(done.kept)
            duplicates.append(done.duplicates)
        finished = (
            (start[_REST], rest)
            | "Remaining" >> beam.Flatten()
            | "OnePlace" >> beam.Map(to_one_place)
            | "Gather" >> beam.GroupByKey()
            | "Finish" >> beam.FlatMap(finish, self.within, plan).with_outputs(_KEPT, _DUPLICATES, _MARKS)
        )
        spread_marks = (
            (*kept, *duplicates, finished[_KEPT], finished[_DUPLICATES])
            | "Decided" >> beam.Flatten()
            | "Places" >> beam.FlatMap(to_places, self.within, plan)
            | "Meet" >> beam.GroupByKey()
            | "Witnesses" >> beam.FlatMap(at_place, rounds.witnesses_here, self.within, plan)
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

    within: Within
    plan: PCollection[Estimate]
    all_here: bool

    @no_annotations
    def expand(self, codes: PCollection[Block]) -> Round:
        plan = AsSingleton(self.plan)
        flags = (
            codes
            | "Places" >> beam.FlatMap(to_places, self.within, plan)
            | "Meet" >> beam.GroupByKey()
            | "Flags" >> beam.FlatMap(at_place, rounds.flags_here, self.within, plan)
        )
        divided = (
            {"codes": codes, "flags": flags}
            | "Home" >> beam.CoGroupByKey()
            | "Divide" >> beam.FlatMap(divide_home, self.all_here).with_outputs(_KEPT, _REST)
        )
        removed = (divided[_KEPT], divided[_REST]) | "NearAnchors" >> RemoveNear(self.within, self.plan)
        return Round(divided[_KEPT], removed.duplicates, removed.rest)


class Removed(NamedTuple):
    """Undecided codes, parted. (home, block of CODES) each."""

    duplicates: PCollection[Block]
    rest: PCollection[Block]


@dataclasses.dataclass
class RemoveNear(beam.PTransform[tuple[PCollection[Block], PCollection[Block]], Removed]):
    """Finds, among undecided images, those within k of a kept one. In: (kept, undecided)."""

    within: Within
    plan: PCollection[Estimate]

    @no_annotations
    def expand(self, kept_and_rest: tuple[PCollection[Block], PCollection[Block]]) -> Removed:
        plan = AsSingleton(self.plan)
        near = (
            kept_and_rest
            | "KeptAndRest" >> beam.Flatten()
            | "Places" >> beam.FlatMap(to_places, self.within, plan)
            | "Meet" >> beam.GroupByKey()
            | "Near" >> beam.FlatMap(at_place, rounds.near_anchors_here, self.within, plan)
        )
        removed = (
            {"codes": kept_and_rest[1], "flags": near}
            | "Home" >> beam.CoGroupByKey()
            | "Remove" >> beam.FlatMap(remove_home).with_outputs(_DUPLICATES, _REST)
        )
        return Removed(removed[_DUPLICATES], removed[_REST])


def plan_and_judge(
    place: tuple[str, Iterable[bytes]], within: Within, planning: Planning
) -> Iterator[_PlanFound | _MarksBlock]:
    """Raises PlanError if the plan would go quadratic, and that was not asked for."""
    codes = blocks.load(place[1], blocks.CODES)
    chosen = planning.choose(within, census.take(codes))
    yield _PlanFound(_PLAN, chosen)
    for block in judge_all(codes, within, chosen):
        yield _MarksBlock(_MARKS, block)


def judge_all(codes: pa.Table, within: Within, chosen: Estimate) -> Iterator[Block]:
    """Judges all codes in one place; nothing else has work meanwhile, so with all cores there are."""
    for home, marks in rounds.judge_here(rounds.gather(codes), within, chosen.plan, cores()):
        yield home, blocks.dump(marks)


def choose_way(block: Block, chosen: Estimate) -> Iterator[_SpreadBlock | _RestBlock]:
    """Few codes are judged in one place at once; many go through the rounds first."""
    if chosen.plan.prefix:
        yield _SpreadBlock(_SPREAD, block)
    else:
        yield _RestBlock(_REST, block)


def part_known(block: Block) -> Iterator[_KeptBlock | _RestBlock]:
    """A home's codes of known images, and those of the others."""
    known, new = rounds.known_and_new(blocks.load([block[1]], blocks.CODES))
    if len(known):
        yield _KeptBlock(_KEPT, (block[0], blocks.dump(known)))
    if len(new):
        yield _RestBlock(_REST, (block[0], blocks.dump(new)))


def to_one_place(block: Block) -> tuple[str, bytes]:
    return rounds.EVERYTHING, block[1]


def to_places(block: Block, within: Within, chosen: Estimate) -> Iterator[tuple[str, bytes]]:
    for place, rows in rounds.places(blocks.load([block[1]], blocks.CODES), chosen.plan, within):
        yield place, blocks.dump(rows)


def at_place(
    place: tuple[str, Iterable[bytes]], step: Any, within: Within, chosen: Estimate
) -> Iterator[Block]:
    """Runs a step of `rounds` on the codes that met in a place, and sends its answers home."""
    here = rounds.gather(blocks.load(place[1], blocks.CODES))
    for home, answer in step(here, within, rounds.keys_of(place[0], chosen.plan)):
        yield home, blocks.dump(answer)


def divide_home(
    home: tuple[bytes, dict[str, Iterable[bytes]]], all_here: bool
) -> Iterator[_KeptBlock | _RestBlock]:
    """The anchors and the undecided ones among a home's codes, by the flags that came back."""
    anchors, rest = rounds.divide(*_codes_and_flags(home[1]), all_here)
    if len(anchors):
        yield _KeptBlock(_KEPT, (home[0], blocks.dump(anchors)))
    if len(rest):
        yield _RestBlock(_REST, (home[0], blocks.dump(rest)))


def remove_home(home: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterator[_DuplicateBlock | _RestBlock]:
    """The duplicates of anchors and the undecided ones among a home's codes, by the flags that came back."""
    duplicates, rest = rounds.without(*_codes_and_flags(home[1]))
    if len(duplicates):
        yield _DuplicateBlock(_DUPLICATES, (home[0], blocks.dump(duplicates)))
    if len(rest):
        yield _RestBlock(_REST, (home[0], blocks.dump(rest)))


def _codes_and_flags(grouped: dict[str, Iterable[bytes]]) -> tuple[pa.Table, pa.Table]:
    return blocks.load(grouped["codes"], blocks.CODES), blocks.load(grouped["flags"], blocks.FLAGS)


def finish(
    place: tuple[str, Iterable[bytes]], within: Within, chosen: Estimate
) -> Iterator[_MarksBlock | _KeptBlock | _DuplicateBlock]:
    """Judges what is left, in one place. If that is everything, the witnesses are here too."""
    codes = blocks.load(place[1], blocks.CODES)
    if not chosen.plan.prefix:
        for block in judge_all(codes, within, chosen):
            yield _MarksBlock(_MARKS, block)
        return
    here = rounds.keep_here(rounds.gather(codes), within)
    kept, duplicates = rounds.decided(here)
    yield _KeptBlock(_KEPT, (rounds.EVERYTHING.encode(), blocks.dump(kept)))
    yield _DuplicateBlock(_DUPLICATES, (rounds.EVERYTHING.encode(), blocks.dump(duplicates)))
