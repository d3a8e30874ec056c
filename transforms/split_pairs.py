"""Adds splits to pairs of contents, and the pairs of equal contents in two splits.

pairs --by a--> splits of a --by b--> splits of b --> one pair per split of a and of b --+--> pairs
contents -----------> pairs of equal contents -----------------------------------------+
"""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks, leaks
from beam_dedup.core.blocks import NameBlock, PairBlock
from beam_dedup.core.leaks import SplitPairBlock
from transforms.exact import DIGEST_SHARDS
from transforms.leaks import ShardedContents
from transforms.pairs import PairsFound

ShardedPairs = tuple[bytes, SplitPairBlock]  # with the number of a digest shard

_CONTENTS, _PAIRS = "contents", "pairs"


@dataclasses.dataclass
class PairSplits(beam.PTransform[PCollection[PairBlock], PairsFound]):
    """Repeats each pair of contents for each two splits that have them, and adds a pair per content that two splits have.

    So all leaks are among the pairs. A content of known images alone has no split.

    Element in: a block of `PAIRS`. Out: blocks of `PAIRS_OF_SPLITS`, and (digest shard, block of `NAMES_OF_SPLITS`) of all
    contents. Bounded, in the global window. Pairs are shuffled twice. Counts nothing.

    Args:
      contents: what `FindLeaks` outputs for the images.
      splits: the number of splits.
      digest_shards: the number of digest shards, as that of `FindLeaks`.
    """

    contents: PCollection[ShardedContents]
    splits: int
    digest_shards: int = DIGEST_SHARDS

    @no_annotations  # Beam has no types for several outputs
    def expand(self, pairs: PCollection[PairBlock]) -> PairsFound:
        near = (
            pairs
            | "Splits" >> AddSplitsToPairs(self.contents, self.digest_shards)
            | "Repeat" >> beam.Map(repeated, self.splits)
        )
        by_digest = self.contents | "ByDigest" >> beam.GroupByKey()
        equal = by_digest | "Equal" >> beam.Map(equal_pairs, self.splits)
        return PairsFound(
            (near, equal) | "Pairs" >> beam.Flatten(), by_digest | "Names" >> beam.Map(names_of_splits)
        )


@dataclasses.dataclass
class AddSplitsToPairs(beam.PTransform[PCollection[PairBlock], PCollection[SplitPairBlock]]):
    """Adds to pairs of contents the splits that have these contents.

    Element in: a block of `PAIRS`. Element out: a block of `PAIRS_IN_SPLITS`. Bounded, in the global window. Pairs are
    shuffled twice. Counts nothing.

    Args:
      contents: what `CountContents` outputs for the images.
      digest_shards: the number of digest shards, as that of `CountContents`.
    """

    contents: PCollection[ShardedContents]
    digest_shards: int = DIGEST_SHARDS

    def expand(self, pairs: PCollection[PairBlock]) -> PCollection[SplitPairBlock]:
        of_a = (
            {
                _CONTENTS: self.contents,
                _PAIRS: pairs | "ByA" >> beam.FlatMap(sharded_pairs, self.digest_shards),
            }
            | "MeetA" >> beam.CoGroupByKey()
            | "SplitsOfA" >> beam.FlatMap(with_splits_of_a, self.digest_shards)
        )
        return (
            {_CONTENTS: self.contents, _PAIRS: of_a}
            | "MeetB" >> beam.CoGroupByKey()
            | "SplitsOfB" >> beam.FlatMap(with_splits_of_b)
        )


def repeated(block: SplitPairBlock, splits: int) -> bytes:
    """Returns pairs once for each two splits that have their contents."""
    return blocks.dump(leaks.pairs_of_splits(blocks.load([block], leaks.PAIRS_IN_SPLITS), splits))


def equal_pairs(shard: tuple[bytes, Iterable[bytes]], splits: int) -> bytes:
    """Returns the pairs of equal contents of a digest shard."""
    return blocks.dump(leaks.equal_pairs(blocks.load(shard[1], leaks.CONTENTS), splits))


def names_of_splits(shard: tuple[bytes, Iterable[bytes]]) -> tuple[bytes, NameBlock]:
    """Returns the first images of the contents of a digest shard, per split."""
    return shard[0], blocks.dump(leaks.names_of_splits(blocks.load(shard[1], leaks.CONTENTS)))


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


def with_splits_of_b(shard: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterator[SplitPairBlock]:
    """Yields pairs with the splits of both contents."""
    pairs = _with_splits(shard[1], "b")
    if len(pairs):
        yield blocks.dump(pairs)


def _with_splits(grouped: dict[str, Iterable[bytes]], end: str) -> pa.Table:
    pairs = blocks.load(grouped[_PAIRS], leaks.PAIRS_IN_SPLITS)
    return leaks.with_split_sets(pairs, blocks.load(grouped[_CONTENTS], leaks.CONTENTS), end)
