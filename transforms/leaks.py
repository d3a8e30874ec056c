"""Finds leaks between splits, and rejects leaking images of one split (definition: `beam_dedup.core.leaks`).

fingerprints --> contents -----------------------------------------------------> leaks by digest shard
      |             |                                                              ^
      +-------------+--> codes, with splits --> code shards --> splits of neighbours

The splits of neighbours are collected where codes are compared, so that pairs are not listed.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks, leaks
from beam_dedup.core.blocks import FingerprintBlock, TwinBlock, VerdictBlock
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.leaks import ContentBlock, Leakage, LeakBlock, NeighbourBlock, SplitPairBlock
from beam_dedup.core.matching import near_splits, planner, rounds
from beam_dedup.core.matching.contents import contents_of
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.splits import Splits
from beam_dedup.core.threads import cores
from beam_dedup.core.thresholds import Thresholds
from transforms import metrics
from transforms.decided import as_side_input
from transforms.exact import BATCH_BYTES, DIGEST_SHARDS, ShardByDigest
from transforms.near import choose_plan, stats_of, sum_stats
from transforms.pairs import slim

# Each with the number of the digest shard.
ShardedContents = tuple[bytes, ContentBlock]
ShardedPairs = tuple[bytes, SplitPairBlock]
ShardedNeighbours = tuple[bytes, NeighbourBlock]
ShardedLeaks = tuple[bytes, LeakBlock]
ShardedFingerprints = tuple[bytes, FingerprintBlock]

CodesAndSets = tuple[
    bytes, bytes
]  # rows of CODES, and NEIGHBOURS with the splits of their contents and twins

_CODES: Final = "codes"
_CONTENTS: Final = "contents"
_IMAGES: Final = "images"
_NEIGHBOURS: Final = "neighbours"
_PAIRS: Final = "pairs"
_TWINS: Final = "twins"
_VERDICTS: Final = "verdicts"
_Codes = TaggedOutput[Literal["codes"], tuple[bytes, CodesAndSets]]
_Twins = TaggedOutput[Literal["twins"], tuple[bytes, TwinBlock]]
_Verdicts = TaggedOutput[Literal["verdicts"], VerdictBlock]


class Leaks(NamedTuple):
    """The outputs of `FindLeaks`."""

    leaks: PCollection[ShardedLeaks]  # of all contents
    leakage: PCollection[Leakage]  # exactly one
    contents: PCollection[ShardedContents]


@dataclasses.dataclass(frozen=True)
class Near:
    """How near leaks are found; see `transforms.near.MarkNearDuplicates`.

    Args:
      thresholds: when two codes are near.
      planning: how near pairs are found.
      keep: which image of a content comes first.
      decisions: pairs that are near, or not, whatever their codes say.
    """

    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    keep: KeepPolicy | Preference = KeepPolicy.FIRST
    decisions: Decisions = NO_DECISIONS


@dataclasses.dataclass
class FindLeaks(beam.PTransform[PCollection[FingerprintBlock], Leaks]):
    """Finds the images whose content another split has too.

    Element in: a block of `FINGERPRINTS`. Out: `Leaks`: (digest shard, block of `LEAKS`), and one `Leakage`. Bounded, in the
    global window. The result does not depend on the order of the input, on bundles or on the number of workers. With
    `near`, codes are shuffled and compared as by `MarkNearDuplicates`, and a plan that is too expensive is refused with a
    `PlanError`; the number of pairs is not limited. Counter: `Leaking_Image_Count`.

    Args:
      splits: the splits of the images.
      near: how near leaks are found; None if only equal bytes count.
      digest_shards: the number of digest shards. The contents of one shard meet in the memory of one worker.
    """

    splits: Splits
    near: Near | None = None
    digest_shards: int = DIGEST_SHARDS

    @no_annotations  # Beam has no types for several outputs
    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> Leaks:
        contents = fingerprints | "Contents" >> CountContents(self.splits, self.digest_shards)
        together = {_CONTENTS: contents}
        if self.near:
            found = fingerprints | "Near" >> _FindNeighbours(self.near, contents, self.digest_shards)
            together |= {_NEIGHBOURS: found[_NEIGHBOURS], _TWINS: found[_TWINS]}
        leaks_by_shard = together | "Meet" >> beam.CoGroupByKey() | "Leaks" >> beam.Map(leaks_of_shard)
        leakage = (
            leaks_by_shard
            | "Count" >> beam.Map(count_leaks, len(self.splits.all))
            | "Sum" >> beam.CombineGlobally(leaks.added, len(self.splits.all))
            | "Leakage" >> beam.Map(leaks.leakage_of, self.splits.all)
        )
        return Leaks(leaks_by_shard, leakage, contents)


@dataclasses.dataclass
class CountContents(beam.PTransform[PCollection[FingerprintBlock], PCollection[ShardedContents]]):
    """Counts the images of each content and split.

    Element in: a block of `FINGERPRINTS`. Element out: (digest shard, block of `CONTENTS`), many per digest shard.
    """

    splits: Splits
    digest_shards: int = DIGEST_SHARDS

    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> PCollection[ShardedContents]:
        return (
            fingerprints
            | "Contents" >> beam.Map(contents_block, self.splits)
            | "Batch" >> beam.BatchElements(BATCH_BYTES, BATCH_BYTES, element_size_fn=len)
            | "ByDigest" >> beam.FlatMap(sharded_contents, self.digest_shards)
        )


@dataclasses.dataclass
class _FindNeighbours(beam.PTransform[PCollection[FingerprintBlock], Any]):
    """Finds the splits of the contents within k of each representative. Outputs neighbours and twins by digest shard."""

    near: Near
    contents: PCollection[ShardedContents]
    digest_shards: int

    @no_annotations  # Beam has no types for several outputs
    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> Any:
        near = self.near
        decisions = as_side_input(fingerprints.pipeline, near.decisions)
        images = (
            fingerprints | "Pack" >> ShardByDigest(self.digest_shards, near.keep) | "Slim" >> beam.Map(slim)
        )
        divided = (
            {_IMAGES: images, _CONTENTS: self.contents}
            | "ByDigest" >> beam.CoGroupByKey()
            | "Divide" >> beam.FlatMap(codes_and_sets, decisions).with_outputs(_CODES, _TWINS)
        )
        codes = divided[_CODES]
        plan: Any = near.planning  # without spreading, the plan is chosen where all codes meet
        if near.planning.spread:
            chosen = (
                codes
                | "Census" >> beam.MapTuple(stats_of_codes)
                | "SumCodes" >> beam.CombineGlobally(sum_stats).without_defaults()
                | "Plan" >> beam.Map(choose_plan, near.thresholds, near.planning)
            )
            plan = AsSingleton(chosen)
            routed = codes | "Places" >> beam.FlatMap(sets_to_code_shards, near.thresholds, plan, decisions)
        else:
            routed = codes | "OnePlace" >> beam.Map(sets_to_one_worker)
        neighbours = (
            routed
            | "MeetInShard" >> beam.GroupByKey()
            | "Find"
            >> beam.FlatMap(neighbours_of_shard, near.thresholds, plan, decisions, self.digest_shards)
        )
        return {_NEIGHBOURS: neighbours, _TWINS: divided[_TWINS]}


class Unleaked(NamedTuple):
    """The outputs of `DropLeaked`."""

    fingerprints: PCollection[FingerprintBlock]
    verdicts: PCollection[VerdictBlock]  # one per image that was rejected


@dataclasses.dataclass
class DropLeaked(beam.PTransform[PCollection[FingerprintBlock], Unleaked]):
    """Rejects the images of one split that leak, so that no image of it that remains leaks.

    Element in: a block of `FINGERPRINTS`. Out: `Unleaked`. Bounded, in the global window. All fingerprints are shuffled once.

    Args:
      splits: the splits of the images.
      split: the name of the one.
      leaks: what `FindLeaks` found about these images.
      digest_shards: the number of digest shards, as that of `FindLeaks`.
    """

    splits: Splits
    split: str
    leaks: PCollection[ShardedLeaks]
    digest_shards: int = DIGEST_SHARDS

    @no_annotations  # Beam has no types for several outputs
    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> Unleaked:
        number = self.splits.all.index(self.split)
        images = (
            fingerprints
            | "Batch" >> beam.BatchElements(BATCH_BYTES, BATCH_BYTES, element_size_fn=len)
            | "ByDigest" >> beam.FlatMap(sharded_fingerprints, self.digest_shards)
        )
        found = self.leaks | "OfSplit" >> beam.FlatMap(leaking_from, number)
        dropping = beam.FlatMap(drop_leaked, self.splits, number).with_output_types(bytes, verdicts=bytes)
        done = (
            {"images": images, "leaks": found}
            | "Meet" >> beam.CoGroupByKey()
            | "Drop" >> dropping.with_outputs(_VERDICTS, main="main")
        )
        return Unleaked(done["main"], done[_VERDICTS])


def contents_block(block: FingerprintBlock, splits: Splits) -> ContentBlock:
    """Returns the contents of a block of fingerprints."""
    return blocks.dump(leaks.contents_of(block, splits))


def sharded_contents(parts: list[ContentBlock], digest_shards: int) -> Iterator[ShardedContents]:
    """Yields the sum of some contents for each digest shard that has any."""
    table = leaks.summed(blocks.load(parts, leaks.CONTENTS))
    for shard, rows in leaks.by_shard(table, "digest", digest_shards):
        yield b"%d" % shard, blocks.dump(rows)


def codes_and_sets(
    shard: tuple[bytes, dict[str, Iterable[bytes]]], decisions: Decisions
) -> Iterator[_Codes | _Twins]:
    """Yields the codes of the representatives of a digest shard, with their splits, and the twins."""
    contents = blocks.load(shard[1][_CONTENTS], leaks.CONTENTS)
    images = blocks.load(shard[1][_IMAGES], blocks.IMAGES)
    found = contents_of(images, int(shard[0]), decisions)
    sets = near_splits.class_sets(found.codes, found.twins, contents)
    if len(found.codes):
        yield _Codes(_CODES, (shard[0], (blocks.dump(found.codes), blocks.dump(sets))))
    if len(found.twins):
        yield _Twins(_TWINS, (shard[0], blocks.dump(found.twins)))


def stats_of_codes(shard: bytes, codes_and_sets_block: CodesAndSets) -> bytes:
    """Returns the statistics of codes, from which the plan is chosen."""
    return stats_of((shard, codes_and_sets_block[0]))


def sets_to_one_worker(codes: tuple[bytes, CodesAndSets]) -> tuple[str, CodesAndSets]:
    """Gives all codes the same key."""
    return rounds.EVERYTHING, codes[1]


def sets_to_code_shards(
    codes: tuple[bytes, CodesAndSets], thresholds: Thresholds, chosen: Estimate, decisions: Decisions
) -> Iterator[tuple[str, CodesAndSets]]:
    """Sends each code, with its splits, to the code shards where it can meet a code within k."""
    table = blocks.load([codes[1][0]], blocks.CODES)
    sets = blocks.load([codes[1][1]], leaks.NEIGHBOURS)
    for code_shard, rows in rounds.code_shards(table, chosen.plan, thresholds, decisions):
        yield code_shard, (blocks.dump(rows), blocks.dump(near_splits.some_of(sets, rows)))


def neighbours_of_shard(
    gathered: tuple[str, Iterable[CodesAndSets]],
    thresholds: Thresholds,
    plan: Estimate | PlanSettings,
    decisions: Decisions,
    digest_shards: int,
) -> Iterator[ShardedNeighbours]:
    """Yields the splits of the neighbours of the contents of a code shard, for their digest shards.

    Raises:
      PlanError: the plan is too expensive.
    """
    parts = list(gathered[1])
    codes = blocks.load([part for part, _ in parts], blocks.CODES)
    sets = blocks.load([part for _, part in parts], leaks.NEIGHBOURS)
    if isinstance(plan, PlanSettings):
        plan = plan.choose(thresholds, planner.code_stats(codes))
    is_whole = gathered[0] == rounds.EVERYTHING
    keys, threads = (plan.plan.all_keys, cores()) if is_whole else (rounds.keys_of(gathered[0], plan.plan), 1)
    shard = rounds.gather(codes, decisions)
    found = near_splits.neighbours_in_shard(shard, sets, thresholds, keys, threads, is_whole)
    for home, rows in leaks.by_shard(found, "digest", digest_shards):
        yield b"%d" % home, blocks.dump(rows)


def leaks_of_shard(shard: tuple[bytes, dict[str, Iterable[bytes]]]) -> ShardedLeaks:
    """Returns where the images of one digest shard leak to."""
    contents = blocks.load(shard[1][_CONTENTS], leaks.CONTENTS)
    neighbours = blocks.load(shard[1].get(_NEIGHBOURS, ()), leaks.NEIGHBOURS)
    twins = blocks.load(shard[1].get(_TWINS, ()), blocks.TWINS)
    return shard[0], blocks.dump(leaks.leaks(contents, near_splits.with_twins(neighbours, twins)))


def count_leaks(found: ShardedLeaks, splits: int) -> list[int]:
    """Returns the numbers of leaking images of a digest shard (`leaks.counts_of`), and counts them with Beam's counters."""
    counts = leaks.counts_of(blocks.load([found[1]], leaks.LEAKS), splits)
    metrics.add({metrics.LEAKING: leaks.leaking_in(counts, splits)})
    return counts


def leaking_from(found: ShardedLeaks, split: int) -> Iterator[ShardedLeaks]:
    """Yields the images of one split that leak, if there are any."""
    rows = leaks.leaking_from(blocks.load([found[1]], leaks.LEAKS), split)
    if len(rows):
        yield found[0], blocks.dump(rows)


def sharded_fingerprints(parts: list[FingerprintBlock], digest_shards: int) -> Iterator[ShardedFingerprints]:
    """Yields one block of fingerprints for each digest shard that has any."""
    table = blocks.load(parts, blocks.FINGERPRINTS)
    for shard, rows in leaks.by_shard(table, "digest", digest_shards):
        yield b"%d" % shard, blocks.dump(rows)


def drop_leaked(
    shard: tuple[bytes, dict[str, Iterable[bytes]]], splits: Splits, split: int
) -> Iterator[FingerprintBlock | _Verdicts]:
    """Splits the images of a digest shard: those to judge, and verdicts on those that leak."""
    found = blocks.load(shard[1]["leaks"], leaks.LEAKS)
    for block in shard[1]["images"]:
        rest, verdicts = leaks.split_leaked(blocks.load([block], blocks.FINGERPRINTS), found, splits, split)
        if len(rest):
            yield blocks.dump(rest)
        if len(verdicts):
            yield _Verdicts(_VERDICTS, blocks.dump(verdicts))
