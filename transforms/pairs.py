"""Finds all pairs of contents within k, and the components that they connect.

fingerprints --Contents--> codes --Search--> pairs of representatives --Expand--> pairs of contents
                             |                                             ^
                             +-----> twins (contents with equal codes) ----+

                           codes --Search--> components of each code shard --Join--> components
                             |                                                ^
                             +-----> twins, each with an edge to another -----+

A content is all images of one digest.
"""

import dataclasses
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks
from beam_dedup.core.blocks import (
    CodeBlock,
    ComponentBlock,
    FingerprintBlock,
    ImageBlock,
    NameBlock,
    PairBlock,
    TwinBlock,
)
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.matching import connected, contents, pair_search, planner, rounds
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.threads import cores
from beam_dedup.core.thresholds import MAX_PAIRS, Thresholds
from transforms.decided import as_side_input
from transforms.exact import DIGEST_SHARDS, ShardByDigest, ShardedImages
from transforms.near import choose_plan, stats_of, sum_stats
from transforms.near_rounds import ShardedCodes, to_code_shards, to_one_worker

FAN_IN = 16  # parts of the edges, each of which is reduced to a forest before all forests meet
COMPONENT_ROWS = 1 << 15  # rows of a block of components
BATCH_BYTES = 1 << 22  # of blocks of components that are reduced together

_CODES: Final = "codes"
_TWINS: Final = "twins"
_NAMES: Final = "names"
_PAIRS: Final = "pairs"
_Codes = TaggedOutput[Literal["codes"], ShardedCodes]
_Twins = TaggedOutput[Literal["twins"], TwinBlock]
_Names = TaggedOutput[Literal["names"], tuple[bytes, NameBlock]]
_Pairs = TaggedOutput[Literal["pairs"], PairBlock]


class PairsFound(NamedTuple):
    """The outputs of `FindPairs`."""

    pairs: PCollection[PairBlock]
    names: PCollection[
        tuple[bytes, NameBlock]
    ]  # (digest shard, first image of each content), of all contents


@dataclasses.dataclass
class FindPairs(beam.PTransform[PCollection[FingerprintBlock], PairsFound]):
    """Finds every pair of different contents that are near duplicates of each other.

    Two contents are a pair if they are within k of each other, as `MarkNearDuplicates` compares them, and at least one of
    their images is not known. Contents with equal codes are compared once.

    Element in: a block of `FINGERPRINTS`, as for `MarkNearDuplicates`. Out: `PairsFound`: blocks of `PAIRS`, each pair
    once. Bounded as the input. Each window is judged by itself; an unbounded input needs windows that end. The pairs
    do not depend on the order of the input, on bundles, on the number of workers or on the plan.

    One worker holds all pairs. The pipeline fails with a `PlanError` before they are output if there are more than
    `max_pairs`, or if the plan is too expensive. Counts nothing.

    Args:
      thresholds: when two codes are near.
      planning: how the plan is chosen.
      digest_shards: the number of digest shards.
      keep: which images are preferred: it decides which image of a content comes first.
      decisions: pairs that are within k, or not, whatever their codes say.
      max_pairs: the most pairs.
    """

    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy | Preference = KeepPolicy.FIRST
    decisions: Decisions = NO_DECISIONS
    max_pairs: int = MAX_PAIRS

    @no_annotations  # Beam has no types for several outputs
    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> PairsFound:
        decisions = as_side_input(fingerprints.pipeline, self.decisions)
        shared = fingerprints | "Contents" >> _DivideContents(self.digest_shards, self.keep, decisions)
        search = _Search(self.thresholds, self.planning, decisions, self.max_pairs)
        found = shared[_CODES] | "Search" >> search
        pairs = (
            {
                _PAIRS: found[_PAIRS] | "Pairs" >> beam.Map(with_one_key),
                _TWINS: (shared[_TWINS], found[_TWINS])
                | "Twins" >> beam.Flatten()
                | "TwinKey" >> beam.Map(with_one_key),
            }
            | "Gather" >> beam.CoGroupByKey()
            | "Expand" >> beam.FlatMap(expand_pairs, self.max_pairs)
        )
        return PairsFound(pairs, shared[_NAMES])


@dataclasses.dataclass
class FindComponents(beam.PTransform[PCollection[FingerprintBlock], PCollection[ComponentBlock]]):
    """Finds the connected components of the graph of all pairs that `FindPairs` finds, without a list of the pairs.

    Element in: a block of `FINGERPRINTS`. Element out: a block of `COMPONENTS`, with the contents that are in a pair.
    Windows, order and `PlanError` as for `FindPairs`, but the number of pairs is not limited. Counts nothing.

    Each code shard reduces its pairs to a forest; `ConnectComponents` says how forests are joined.

    Args:
      thresholds, planning, digest_shards, keep, decisions: those of `FindPairs`.
    """

    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy | Preference = KeepPolicy.FIRST
    decisions: Decisions = NO_DECISIONS

    @no_annotations
    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> PCollection[ComponentBlock]:
        decisions = as_side_input(fingerprints.pipeline, self.decisions)
        shared = fingerprints | "Contents" >> _DivideContents(self.digest_shards, self.keep, decisions)
        found = shared[_CODES] | "Search" >> _Search(self.thresholds, self.planning, decisions, None)
        twins = shared[_TWINS] | "TwinEdges" >> beam.Map(twin_edges)
        return (found[_PAIRS], twins) | "Edges" >> beam.Flatten() | "Join" >> _JoinForests()


@dataclasses.dataclass
class ConnectComponents(beam.PTransform[PCollection[PairBlock], PCollection[ComponentBlock]]):
    """Finds the connected components of a graph of contents, given its edges.

    Element in: a block of `PAIRS`. Element out: a block of `COMPONENTS`, with each content that is in a pair once, and the
    lowest digest of its component. Exact, whatever the order and division of the pairs. Bounded as the input; each
    window by itself. Counts nothing.

    Two shuffles, whatever the graph: edges are reduced to forests where they are, again in `FAN_IN` parts, and on one
    worker. A forest has at most one row (64 bytes) per content. The last worker holds one forest and what it merges
    into it: about 300 bytes per content that is in a pair, however many pairs there are. In a worker, a chain of n
    contents takes about log2(n) rounds on whole arrays (`beam_dedup.core.matching.connected`).
    """

    def expand(self, pairs: PCollection[PairBlock]) -> PCollection[ComponentBlock]:
        return pairs | "Edges" >> beam.Map(connect_pairs) | "Join" >> _JoinForests()


@dataclasses.dataclass
class _JoinForests(beam.PTransform[PCollection[ComponentBlock], PCollection[ComponentBlock]]):
    """Joins forests, given as blocks of `COMPONENTS` whose rows are edges, to the components of all of them."""

    def expand(self, forests: PCollection[ComponentBlock]) -> PCollection[ComponentBlock]:
        return (
            forests
            | "Batch" >> beam.BatchElements(BATCH_BYTES, BATCH_BYTES, element_size_fn=len)
            | "Reduce" >> beam.Map(reduce_batch)
            | "Parts" >> beam.GroupByKey()
            | "Merge" >> beam.Map(merge_part)
            | "OnePlace" >> beam.GroupByKey()
            | "Components" >> beam.FlatMap(join_parts)
        )


@dataclasses.dataclass
class _DivideContents(beam.PTransform[PCollection[FingerprintBlock], Any]):
    """Divides the images by digest, and outputs codes, twins and names of their contents."""

    digest_shards: int
    keep: KeepPolicy | Preference
    decisions: AsSingleton | Decisions

    @no_annotations
    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> Any:
        return (
            fingerprints
            | "Pack" >> ShardByDigest(self.digest_shards, self.keep)
            | "Slim" >> beam.Map(slim)
            | "ByDigest" >> beam.GroupByKey()
            | "Divide" >> beam.FlatMap(contents_of_shard, self.decisions).with_outputs(_CODES, _TWINS, _NAMES)
        )


@dataclasses.dataclass
class _Search(beam.PTransform[PCollection[ShardedCodes], Any]):
    """Searches the codes, on one worker or in code shards. Outputs edges of representatives, and twins.

    Args:
      max_pairs: the most pairs; None to output `COMPONENTS` in place of pairs.
    """

    thresholds: Thresholds
    planning: PlanSettings
    decisions: AsSingleton | Decisions
    max_pairs: int | None

    @no_annotations
    def expand(self, codes: PCollection[ShardedCodes]) -> Any:
        if self.planning.spread:
            chosen = (
                codes
                | "Census" >> beam.Map(stats_of)
                | "Sum" >> beam.CombineGlobally(sum_stats).without_defaults()
                | "Plan" >> beam.Map(choose_plan, self.thresholds, self.planning)
            )
            plan: Any = AsSingleton(chosen)
            routed = codes | "Places" >> beam.FlatMap(to_code_shards, self.thresholds, plan, self.decisions)
        else:  # the plan is chosen where all codes meet: see `JudgeOnOneWorker`
            plan = self.planning
            routed = codes | "OnePlace" >> beam.Map(to_one_worker)
        return (
            routed
            | "Meet" >> beam.GroupByKey()
            | "Find"
            >> beam.FlatMap(search_shard, self.thresholds, plan, self.decisions, self.max_pairs).with_outputs(
                _PAIRS, _TWINS
            )
        )


def slim(images: ShardedImages) -> ShardedImages:
    """Returns images without the texts that pairs do not need."""
    return images[0], blocks.dump(contents.slim(blocks.load([images[1]], blocks.IMAGES)))


def contents_of_shard(
    shard: tuple[bytes, Iterable[ImageBlock]], decisions: Decisions
) -> Iterator[_Codes | _Twins | _Names]:
    """Yields codes, twins and names of the contents of a digest shard."""
    found = contents.contents_of(blocks.load(shard[1], blocks.IMAGES), int(shard[0]), decisions)
    if len(found.codes):
        yield _Codes(_CODES, (shard[0], blocks.dump(found.codes)))
    if len(found.twins):
        yield _Twins(_TWINS, blocks.dump(found.twins))
    yield _Names(_NAMES, (shard[0], blocks.dump(found.names)))


def search_shard(
    gathered: tuple[str, Iterable[CodeBlock]],
    thresholds: Thresholds,
    plan: Estimate | PlanSettings,
    decisions: Decisions,
    max_pairs: int | None,
) -> Iterator[_Pairs | _Twins]:
    """Yields the pairs of a code shard, and its twins; without `max_pairs` its components.

    Raises:
      PlanError: the plan is too expensive, or there are more than `max_pairs`.
    """
    codes = blocks.load(gathered[1], blocks.CODES)
    if isinstance(plan, PlanSettings):
        plan = plan.choose(thresholds, planner.code_stats(codes))
    whole = gathered[0] == rounds.EVERYTHING
    keys, threads = (plan.plan.all_keys, cores()) if whole else (rounds.keys_of(gathered[0], plan.plan), 1)
    shard = rounds.gather(codes, decisions)
    if max_pairs is None:
        found = pair_search.components_in_shard(shard, thresholds, keys, threads, whole)
        twins = blocks.TWINS.empty_table()
        rows = COMPONENT_ROWS
    else:
        found, twins = pair_search.pairs_in_shard(shard, thresholds, keys, threads, whole, max_pairs)
        rows = pair_search.BLOCK_PAIRS
    for part in connected.parts(found, rows):
        yield _Pairs(_PAIRS, blocks.dump(part))
    for part in connected.parts(twins, rows):
        yield _Twins(_TWINS, blocks.dump(part))


def expand_pairs(gathered: tuple[int, dict[str, Iterable[bytes]]], max_pairs: int) -> Iterator[PairBlock]:
    """Yields all pairs, given those of representatives, and the twins.

    Raises:
      PlanError: there are more than `max_pairs`.
    """
    pairs = pair_search.gathered(
        (blocks.load([block], blocks.PAIRS) for block in gathered[1][_PAIRS]), max_pairs
    )
    twins = blocks.load(gathered[1][_TWINS], blocks.TWINS)
    for part in pair_search.expanded(pairs, twins, max_pairs):
        yield blocks.dump(part)


def twin_edges(twins: TwinBlock) -> ComponentBlock:
    """Returns the edges between twins and their representatives."""
    return blocks.dump(pair_search.twin_edges(blocks.load([twins], blocks.TWINS)))


def connect_pairs(pairs: PairBlock) -> ComponentBlock:
    """Returns the components of some pairs."""
    table = blocks.load([pairs], blocks.PAIRS)
    return blocks.dump(connected.components(table["a"], table["b"]))


def reduce_batch(forests: list[ComponentBlock]) -> tuple[int, ComponentBlock]:
    """Returns a forest that connects the same contents as some forests, keyed by one of `FAN_IN` parts."""
    forest = _merged(forests)
    return zlib.crc32(forest) % FAN_IN, forest


def merge_part(part: tuple[int, Iterable[ComponentBlock]]) -> tuple[int, ComponentBlock]:
    """Returns a forest that connects the same contents as those of a part, all with the same key."""
    return 0, _merged(part[1])


def join_parts(gathered: tuple[int, Iterable[ComponentBlock]]) -> Iterator[ComponentBlock]:
    """Yields the components of all forests."""
    forest = blocks.load([_merged(gathered[1])], blocks.COMPONENTS)
    for part in connected.parts(forest, COMPONENT_ROWS):
        yield blocks.dump(part)


def _merged(forests: Iterable[ComponentBlock]) -> ComponentBlock:
    return blocks.dump(connected.merged(blocks.load([forest], blocks.COMPONENTS) for forest in forests))


def with_one_key(block: bytes) -> tuple[int, bytes]:
    """Gives all blocks the same key, so that they meet on one worker."""
    return 0, block
