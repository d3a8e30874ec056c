"""Finds leaks between splits, and rejects leaking images of one split (definition: `beam_dedup.core.leaks`).

fingerprints --> contents ------------+---------------------+---------------------> leaks by digest shard
                                      |                     |                         ^
pairs --------> by the shard of a --> splits of a --by b--> splits of b --> neighbours
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks, leaks
from beam_dedup.core.blocks import FingerprintBlock, VerdictBlock
from beam_dedup.core.leaks import ContentBlock, Leakage, LeakBlock, NeighbourBlock, SplitPairBlock
from beam_dedup.core.splits import Splits
from transforms import metrics
from transforms.exact import BATCH_BYTES, DIGEST_SHARDS

# Each with the number of the digest shard.
ShardedContents = tuple[bytes, ContentBlock]
ShardedPairs = tuple[bytes, SplitPairBlock]
ShardedNeighbours = tuple[bytes, NeighbourBlock]
ShardedLeaks = tuple[bytes, LeakBlock]
ShardedFingerprints = tuple[bytes, FingerprintBlock]

_NEIGHBOURS: Final = "neighbours"
_VERDICTS: Final = "verdicts"
_Neighbours = TaggedOutput[Literal["neighbours"], ShardedNeighbours]
_Verdicts = TaggedOutput[Literal["verdicts"], VerdictBlock]


class Leaks(NamedTuple):
    """The outputs of `FindLeaks`."""

    leaks: PCollection[ShardedLeaks]  # of all contents
    leakage: PCollection[Leakage]  # exactly one
    pairs: PCollection[SplitPairBlock] | None  # the pairs with their splits; None without pairs


@dataclasses.dataclass
class FindLeaks(beam.PTransform[PCollection[FingerprintBlock], Leaks]):
    """Finds the images whose content another split has too.

    Element in: a block of `FINGERPRINTS`. Out: `Leaks`: (digest shard, block of `LEAKS`), one `Leakage`, and the blocks of
    pairs with splits. Bounded, in the global window. The result does not depend on the order of the input, on bundles or on
    the number of workers. Per image 48 bytes are shuffled, and each pair three times. Counter: `Leaking_Image_Count`.

    Args:
      splits: the splits of the images.
      pairs: blocks of `PAIRS` with all contents within k; None if only equal bytes count.
      digest_shards: the number of digest shards. The contents of one shard, and the pairs with contents in it, meet in the
        memory of one worker.
    """

    splits: Splits
    pairs: PCollection[bytes] | None = None
    digest_shards: int = DIGEST_SHARDS

    @no_annotations  # Beam has no types for several outputs
    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> Leaks:
        contents = (
            fingerprints
            | "Contents" >> beam.Map(contents_block, self.splits)
            | "Batch" >> beam.BatchElements(BATCH_BYTES, BATCH_BYTES, element_size_fn=len)
            | "ByDigest" >> beam.FlatMap(sharded_contents, self.digest_shards)
        )
        together = {"contents": contents}
        pairs = None
        if self.pairs is not None:
            of_a = self.pairs | "ByA" >> beam.FlatMap(sharded_pairs, self.digest_shards)
            of_b = (
                {"contents": contents, "pairs": of_a}
                | "MeetA" >> beam.CoGroupByKey()
                | "SplitsOfA" >> beam.FlatMap(with_splits_of_a, self.digest_shards)
            )
            both = (
                {"contents": contents, "pairs": of_b}
                | "MeetB" >> beam.CoGroupByKey()
                | "SplitsOfB"
                >> beam.FlatMap(with_splits_of_b, self.digest_shards).with_outputs(_NEIGHBOURS, main="main")
            )
            pairs = both["main"]
            together["neighbours"] = both[_NEIGHBOURS]
        found = together | "Meet" >> beam.CoGroupByKey() | "Leaks" >> beam.Map(leaks_of_shard)
        leakage = (
            found
            | "Count" >> beam.Map(count_leaks, len(self.splits.all))
            | "Sum" >> beam.CombineGlobally(leaks.added, len(self.splits.all))
            | "Leakage" >> beam.Map(leaks.leakage_of, self.splits.all)
        )
        return Leaks(found, leakage, pairs)


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


def sharded_pairs(block: bytes, digest_shards: int) -> Iterator[ShardedPairs]:
    """Yields pairs, not yet with splits, for the digest shards of their first contents."""
    pairs = leaks.without_splits(blocks.load([block], blocks.PAIRS))
    for shard, rows in leaks.by_shard(pairs, "a", digest_shards):
        yield b"%d" % shard, blocks.dump(rows)


def with_splits_of_a(
    shard: tuple[bytes, dict[str, Iterable[bytes]]], digest_shards: int
) -> Iterator[ShardedPairs]:
    """Yields pairs with the splits of their first contents, for the digest shards of the second ones."""
    for shard_of_b, rows in leaks.by_shard(_with_splits(shard[1], "a"), "b", digest_shards):
        yield b"%d" % shard_of_b, blocks.dump(rows)


def with_splits_of_b(
    shard: tuple[bytes, dict[str, Iterable[bytes]]], digest_shards: int
) -> Iterator[SplitPairBlock | _Neighbours]:
    """Yields pairs with the splits of both contents, and the neighbours of each content for its digest shard."""
    pairs = _with_splits(shard[1], "b")
    if not len(pairs):
        return
    yield blocks.dump(pairs)
    for home, rows in leaks.by_shard(leaks.neighbours_of(pairs), "digest", digest_shards):
        yield _Neighbours(_NEIGHBOURS, (b"%d" % home, blocks.dump(rows)))


def leaks_of_shard(shard: tuple[bytes, dict[str, Iterable[bytes]]]) -> ShardedLeaks:
    """Returns where the images of one digest shard leak to."""
    contents = blocks.load(shard[1]["contents"], leaks.CONTENTS)
    neighbours = blocks.load(shard[1].get("neighbours", ()), leaks.NEIGHBOURS)
    return shard[0], blocks.dump(leaks.leaks(contents, neighbours))


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


def _with_splits(grouped: dict[str, Iterable[bytes]], end: str) -> pa.Table:
    pairs = blocks.load(grouped["pairs"], leaks.PAIRS_IN_SPLITS)
    return leaks.with_split_sets(pairs, blocks.load(grouped["contents"], leaks.CONTENTS), end)
