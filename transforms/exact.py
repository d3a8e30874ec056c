"""Exact duplicates: images of equal bytes."""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_dedup.core import blocks, tables
from beam_dedup.core.matching import shard_verdicts
from beam_dedup.core.rank import KeepPolicy

BATCH_BYTES = 1 << 22  # of the fingerprints that a block is cut from
DIGEST_SHARDS = 64


@dataclasses.dataclass
class ShardByDigest(beam.PTransform[PCollection[bytes], PCollection[tuple[bytes, bytes]]]):
    """Ranks images, and sorts them into blocks keyed by home, so that equal bytes have equal keys.

    In: blocks of `blocks.FINGERPRINTS`. Out: (home, block of `blocks.IMAGES`), many for each home, in the window of the
    input.

    homes: how many; images of one home meet in the memory of one worker. keep: the policy that ranks.
    """

    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy = KeepPolicy.FIRST

    def expand(self, fingerprints: PCollection[bytes]) -> PCollection[tuple[bytes, bytes]]:
        return (
            fingerprints
            | "Batch" >> beam.BatchElements(BATCH_BYTES, BATCH_BYTES, element_size_fn=len)
            | "Split" >> beam.FlatMap(shard_by_digest, self.digest_shards, self.keep)
        )


@dataclasses.dataclass
class MarkExactDuplicates(beam.PTransform[PCollection[bytes], PCollection[bytes]]):
    """Of images with equal bytes keeps the best-ranked.

    In: blocks of `blocks.FINGERPRINTS`, with unique URIs. Out: blocks of `blocks.VERDICTS`: one verdict on each image that
    is not known, in the same window; windows are judged by themselves.
    """

    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy = KeepPolicy.FIRST

    def expand(self, fingerprints: PCollection[bytes]) -> PCollection[bytes]:
        return (
            fingerprints
            | "Pack" >> ShardByDigest(self.digest_shards, self.keep)
            | "ByDigest" >> beam.GroupByKey()
            | "Judge" >> beam.Map(judge_bytes)
        )


def shard_by_digest(
    fingerprints: list[bytes], digest_shards: int, keep: KeepPolicy = KeepPolicy.FIRST
) -> Iterator[tuple[bytes, bytes]]:
    """Blocks of images, one for each home that has some."""
    table = tables.ranked(blocks.load(fingerprints, blocks.FINGERPRINTS), keep)
    for shard, images in blocks.split(table, blocks.digest_shards(table, digest_shards)):
        yield b"%d" % shard, blocks.dump(images)


def judge_bytes(shard: tuple[bytes, Iterable[bytes]]) -> bytes:
    """The verdicts of one home by bytes alone."""
    settled = shard_verdicts.group_images(blocks.load(shard[1], blocks.IMAGES), pictures=False)
    return blocks.dump(shard_verdicts.verdicts(settled, blocks.MARKS.empty_table()))
