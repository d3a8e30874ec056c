"""Judges distinct pictures by their codes: on one worker, or in rounds on many.

A code shard is a part of the codes that are compared with each other. The functions that work on one code shard are in
`beam_dedup.core.matching.rounds`; this module sends codes to their code shards and the results back to the digest shards.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks
from beam_dedup.core.blocks import CodeBlock, FlagBlock, MarkBlock
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.matching import planner, rounds
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.threads import cores
from beam_dedup.core.thresholds import Thresholds

ROUNDS = 2  # before one worker judges the codes that remain

# Each with the number of the digest shard of its images.
ShardedCodes = tuple[bytes, CodeBlock]
ShardedFlags = tuple[bytes, FlagBlock]
ShardedMarks = tuple[bytes, MarkBlock]
# The key of a code shard, and codes that meet there.
CodesInShard = tuple[str, CodeBlock]

_KEPT: Final = "kept"
_DUPLICATES: Final = "duplicates"
_REST: Final = "rest"
_MARKS: Final = "marks"
_SPREAD: Final = "spread"
_PLAN: Final = "plan"
_Kept = TaggedOutput[Literal["kept"], ShardedCodes]
_Duplicates = TaggedOutput[Literal["duplicates"], ShardedCodes]
_Rest = TaggedOutput[Literal["rest"], ShardedCodes]
_Marks = TaggedOutput[Literal["marks"], ShardedMarks]
_Plan = TaggedOutput[Literal["plan"], Estimate]
_Spread = TaggedOutput[Literal["spread"], ShardedCodes]


class Judged(NamedTuple):
    """The outputs of `JudgeOnOneWorker`."""

    marks: PCollection[ShardedMarks]  # duplicates and their witnesses
    plan: PCollection[Estimate]  # one per window that has codes


@dataclasses.dataclass
class JudgeOnOneWorker(beam.PTransform[PCollection[ShardedCodes], Judged]):
    """Judges all distinct pictures on one worker, which must have memory for all of their codes.

    Element in: (digest shard, block of `CODES`). Out: `Judged`. Bounded as the input; each window is judged by itself.

    This composite chooses the plan where all codes meet, without a side input, because Flink cannot checkpoint elements
    that wait for the side input of their window.
    """

    thresholds: Thresholds
    planning: PlanSettings
    decisions: AsSingleton | Decisions = NO_DECISIONS

    @no_annotations  # Beam has no types for several outputs
    def expand(self, codes: PCollection[ShardedCodes]) -> Judged:
        judging = beam.FlatMap(plan_and_judge, self.thresholds, self.planning, self.decisions).with_outputs(
            _PLAN, _MARKS
        )
        judged = (
            codes | "OnePlace" >> beam.Map(to_one_worker) | "Gather" >> beam.GroupByKey() | "Judge" >> judging
        )
        return Judged(judged[_MARKS], judged[_PLAN])


@dataclasses.dataclass
class JudgeCodes(beam.PTransform[PCollection[ShardedCodes], PCollection[ShardedMarks]]):
    """Judges distinct pictures: in rounds on many workers if the plan has code shards, then the remaining ones on one worker.

    Element in: (digest shard, block of `CODES`). Element out: (digest shard, block of `MARKS`), for duplicates only.
    Several marks may name one image; the one with the nearest witness counts. Bounded as the input; each window is
    judged by itself.

    Args:
      thresholds: when two codes are near.
      plan: one plan per window.
      known: whether images that are kept beforehand (known or protected) may be among the codes.
      decisions: what a person decided about pairs: an argument of a step, as `transforms.decided.as_side_input`
        returns it.
    """

    thresholds: Thresholds
    plan: PCollection[Estimate]
    known: bool
    decisions: AsSingleton | Decisions = NO_DECISIONS

    def expand(self, codes: PCollection[ShardedCodes]) -> PCollection[ShardedMarks]:
        plan = AsSingleton(self.plan)
        start = codes | "Start" >> beam.FlatMap(route_by_plan, plan).with_outputs(_SPREAD, _REST)
        rest, kept, duplicates = start[_SPREAD], [], []
        if self.known:
            parts = rest | "Known" >> beam.FlatMap(split_known).with_outputs(_KEPT, _REST)
            removed = (parts[_KEPT], parts[_REST]) | "NearKnown" >> RemoveNear(
                self.thresholds, self.plan, self.decisions
            )
            rest = removed.rest
            kept.append(parts[_KEPT])
            duplicates.append(removed.duplicates)
        for number in range(1, ROUNDS + 1):
            done = rest | f"Round{number}" >> JudgeRound(
                self.thresholds, self.plan, number == 1 and not self.known, self.decisions
            )
            rest = done.rest
            kept.append(done.kept)
            duplicates.append(done.duplicates)
        finished = (
            (start[_REST], rest)
            | "Remaining" >> beam.Flatten()
            | "OnePlace" >> beam.Map(to_one_worker)
            | "Gather" >> beam.GroupByKey()
            | "Finish"
            >> beam.FlatMap(finish, self.thresholds, plan, self.decisions).with_outputs(
                _KEPT, _DUPLICATES, _MARKS
            )
        )
        spread_marks = (
            (*kept, *duplicates, finished[_KEPT], finished[_DUPLICATES])
            | "Decided" >> beam.Flatten()
            | "Places" >> beam.FlatMap(to_code_shards, self.thresholds, plan, self.decisions)
            | "Meet" >> beam.GroupByKey()
            | "Witnesses"
            >> beam.FlatMap(in_code_shard, rounds.find_witnesses, self.thresholds, plan, self.decisions)
        )
        return (finished[_MARKS], spread_marks) | "Marks" >> beam.Flatten()


class Round(NamedTuple):
    """The codes after one round: those that are decided, and those that are not yet."""

    kept: PCollection[ShardedCodes]
    duplicates: PCollection[ShardedCodes]
    rest: PCollection[ShardedCodes]


@dataclasses.dataclass
class JudgeRound(beam.PTransform[PCollection[ShardedCodes], Round]):
    """Keeps the images without a better-ranked undecided neighbour, and finds the duplicates of these.

    Args:
      thresholds: when two codes are near.
      plan: one plan per window.
      all_undecided: whether no image is decided yet. Then an image without any neighbour is nobody's witness, and
        needs no further step.
      decisions: see `JudgeCodes`.
    """

    thresholds: Thresholds
    plan: PCollection[Estimate]
    all_undecided: bool
    decisions: AsSingleton | Decisions

    @no_annotations
    def expand(self, codes: PCollection[ShardedCodes]) -> Round:
        plan = AsSingleton(self.plan)
        flags = (
            codes
            | "Places" >> beam.FlatMap(to_code_shards, self.thresholds, plan, self.decisions)
            | "Meet" >> beam.GroupByKey()
            | "Flags"
            >> beam.FlatMap(in_code_shard, rounds.flag_neighbours, self.thresholds, plan, self.decisions)
        )
        divided = (
            {"codes": codes, "flags": flags}
            | "Home" >> beam.CoGroupByKey()
            | "Divide" >> beam.FlatMap(divide_shard, self.all_undecided).with_outputs(_KEPT, _REST)
        )
        removed = (divided[_KEPT], divided[_REST]) | "NearAnchors" >> RemoveNear(
            self.thresholds, self.plan, self.decisions
        )
        return Round(divided[_KEPT], removed.duplicates, removed.rest)


class Removed(NamedTuple):
    """Undecided codes, split by whether a kept image is near."""

    duplicates: PCollection[ShardedCodes]
    rest: PCollection[ShardedCodes]


@dataclasses.dataclass
class RemoveNear(beam.PTransform[tuple[PCollection[ShardedCodes], PCollection[ShardedCodes]], Removed]):
    """Separates the undecided images that are within k of a kept one. In: the codes of kept images, then of undecided ones."""

    thresholds: Thresholds
    plan: PCollection[Estimate]
    decisions: AsSingleton | Decisions

    @no_annotations
    def expand(self, kept_and_rest: tuple[PCollection[ShardedCodes], PCollection[ShardedCodes]]) -> Removed:
        plan = AsSingleton(self.plan)
        near = (
            kept_and_rest
            | "KeptAndRest" >> beam.Flatten()
            | "Places" >> beam.FlatMap(to_code_shards, self.thresholds, plan, self.decisions)
            | "Meet" >> beam.GroupByKey()
            | "Near"
            >> beam.FlatMap(in_code_shard, rounds.flag_near_kept, self.thresholds, plan, self.decisions)
        )
        removed = (
            {"codes": kept_and_rest[1], "flags": near}
            | "Home" >> beam.CoGroupByKey()
            | "Remove" >> beam.FlatMap(remove_shard).with_outputs(_DUPLICATES, _REST)
        )
        return Removed(removed[_DUPLICATES], removed[_REST])


def plan_and_judge(
    gathered: tuple[str, Iterable[CodeBlock]],
    thresholds: Thresholds,
    planning: PlanSettings,
    decisions: Decisions,
) -> Iterator[_Plan | _Marks]:
    """Chooses the plan for all codes and judges them.

    Raises:
      PlanError: the plan would compare a code with more than `planner.MAX_CANDIDATES` others, and `planning.force` is
        not set.
    """
    codes = blocks.load(gathered[1], blocks.CODES)
    chosen = planning.choose(thresholds, planner.code_stats(codes))
    yield _Plan(_PLAN, chosen)
    for block in judge_all(codes, thresholds, chosen, decisions):
        yield _Marks(_MARKS, block)


def judge_all(
    codes: pa.Table, thresholds: Thresholds, chosen: Estimate, decisions: Decisions
) -> Iterator[ShardedMarks]:
    """Judges all codes here, with all cores of the machine: no other step has work meanwhile."""
    here = rounds.gather(codes, decisions)
    for shard, marks in rounds.judge_shard(here, thresholds, chosen.plan, cores()):
        yield shard, blocks.dump(marks)


def route_by_plan(codes: ShardedCodes, chosen: Estimate) -> Iterator[_Spread | _Rest]:
    """Sends many codes through the rounds, and few codes straight to the one worker that judges all that remain."""
    if chosen.plan.prefix:
        yield _Spread(_SPREAD, codes)
    else:
        yield _Rest(_REST, codes)


def split_known(codes: ShardedCodes) -> Iterator[_Kept | _Rest]:
    """Separates the codes of images that are kept beforehand from the others of a digest shard."""
    known, new = rounds.split_known(blocks.load([codes[1]], blocks.CODES))
    if len(known):
        yield _Kept(_KEPT, (codes[0], blocks.dump(known)))
    if len(new):
        yield _Rest(_REST, (codes[0], blocks.dump(new)))


def to_one_worker(codes: ShardedCodes) -> CodesInShard:
    """Gives all codes the same key."""
    return rounds.EVERYTHING, codes[1]


def to_code_shards(
    codes: ShardedCodes, thresholds: Thresholds, chosen: Estimate, decisions: Decisions
) -> Iterator[CodesInShard]:
    """Sends each code to the code shards where it can meet a code within k."""
    for code_shard, rows in rounds.code_shards(
        blocks.load([codes[1]], blocks.CODES), chosen.plan, thresholds, decisions
    ):
        yield code_shard, blocks.dump(rows)


def in_code_shard(
    gathered: tuple[str, Iterable[CodeBlock]],
    step: Any,
    thresholds: Thresholds,
    chosen: Estimate,
    decisions: Decisions,
) -> Iterator[ShardedFlags | ShardedMarks]:
    """Runs a function of `rounds` on the codes of one code shard, and sends its results to the digest shards of the images.

    Args:
      step: returns (digest shard, table) pairs, of `FLAGS` or of `MARKS`.
    """
    here = rounds.gather(blocks.load(gathered[1], blocks.CODES), decisions)
    for shard, found in step(here, thresholds, rounds.keys_of(gathered[0], chosen.plan)):
        yield shard, blocks.dump(found)


def divide_shard(
    shard: tuple[bytes, dict[str, Iterable[bytes]]], all_undecided: bool
) -> Iterator[_Kept | _Rest]:
    """Splits the codes of a digest shard into anchors and undecided ones, by the flags from the code shards."""
    anchors, rest = rounds.split_anchors(*_codes_and_flags(shard[1]), all_undecided)
    if len(anchors):
        yield _Kept(_KEPT, (shard[0], blocks.dump(anchors)))
    if len(rest):
        yield _Rest(_REST, (shard[0], blocks.dump(rest)))


def remove_shard(shard: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterator[_Duplicates | _Rest]:
    """Splits the codes of a digest shard into duplicates of anchors and undecided ones, by the flags from the code shards."""
    duplicates, rest = rounds.split_near(*_codes_and_flags(shard[1]))
    if len(duplicates):
        yield _Duplicates(_DUPLICATES, (shard[0], blocks.dump(duplicates)))
    if len(rest):
        yield _Rest(_REST, (shard[0], blocks.dump(rest)))


def _codes_and_flags(grouped: dict[str, Iterable[bytes]]) -> tuple[pa.Table, pa.Table]:
    return blocks.load(grouped["codes"], blocks.CODES), blocks.load(grouped["flags"], blocks.FLAGS)


def finish(
    gathered: tuple[str, Iterable[CodeBlock]],
    thresholds: Thresholds,
    chosen: Estimate,
    decisions: Decisions,
) -> Iterator[_Marks | _Kept | _Duplicates]:
    """Judges the codes that no round has decided.

    Yields marks if these are all codes, because their witnesses are here too. Otherwise yields the codes, kept and
    duplicates apart; later steps find the witnesses in the code shards.
    """
    codes = blocks.load(gathered[1], blocks.CODES)
    if not chosen.plan.prefix:
        for block in judge_all(codes, thresholds, chosen, decisions):
            yield _Marks(_MARKS, block)
        return
    here = rounds.keep_in_shard(rounds.gather(codes, decisions), thresholds)
    kept, duplicates = rounds.split_kept(here)
    yield _Kept(_KEPT, (rounds.EVERYTHING.encode(), blocks.dump(kept)))
    yield _Duplicates(_DUPLICATES, (rounds.EVERYTHING.encode(), blocks.dump(duplicates)))
