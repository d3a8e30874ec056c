"""Finds exact duplicates: images with equal bytes."""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_dedup.core import blocks, tables
from beam_dedup.core.blocks import FingerprintBlock, ImageBlock, VerdictBlock
from beam_dedup.core.matching import shard_verdicts
from beam_dedup.core.preference import KeepPolicy, Preference

BATCH_BYTES = 1 << 22  # of fingerprint blocks that are ranked and split together
DIGEST_SHARDS = 64

ShardedImages = tuple[bytes, ImageBlock]  # the number of a digest shard, and images of it


@dataclasses.dataclass
class ShardByDigest(beam.PTransform[PCollection[FingerprintBlock], PCollection[ShardedImages]]):
    """Ranks images and splits them into blocks keyed by digest shard, so that equal bytes have equal keys.

    Element in: a block of `FINGERPRINTS`. Element out: (digest shard, block of `IMAGES`), many per digest shard.
    Bounded and windowed as the input.

    Args:
      digest_shards: the number of digest shards. The images of one shard meet in the memory of one worker.
      keep: which images are preferred, and which are protected.
    """

    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy | Preference = KeepPolicy.FIRST

    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> PCollection[ShardedImages]:
        return (
            fingerprints
            | "Batch" >> beam.BatchElements(BATCH_BYTES, BATCH_BYTES, element_size_fn=len)
            | "Split" >> beam.FlatMap(shard_by_digest, self.digest_shards, self.keep)
        )


@dataclasses.dataclass
class MarkExactDuplicates(beam.PTransform[PCollection[FingerprintBlock], PCollection[VerdictBlock]]):
    """Keeps the best-ranked image of those with equal bytes, and marks the others as its duplicates.

    Element in: a block of `FINGERPRINTS`; URIs are unique within a window. Element out: a block of `VERDICTS`, with one
    verdict per image that is not known. Bounded as the input. Each window is judged by itself; an unbounded input
    needs windows that end.

    The verdicts do not depend on the order of the input, on bundles or on the number of workers. Counts nothing.

    Args:
      digest_shards: the number of digest shards. The images of one shard meet in the memory of one worker.
      keep: which images are preferred, and which are protected.
      across: the labels of the inputs, if only images of different inputs are duplicates of each other
        (`beam_dedup.core.matching.across`); else ().
    """

    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy | Preference = KeepPolicy.FIRST
    across: tuple[str, ...] = ()

    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> PCollection[VerdictBlock]:
        return (
            fingerprints
            | "Pack" >> ShardByDigest(self.digest_shards, self.keep)
            | "ByDigest" >> beam.GroupByKey()
            | "Judge" >> beam.Map(judge_exact, Preference.of(self.keep), self.across)
        )


def shard_by_digest(
    fingerprints: list[FingerprintBlock], digest_shards: int, keep: KeepPolicy | Preference = KeepPolicy.FIRST
) -> Iterator[ShardedImages]:
    """Yields one block of ranked images for each digest shard that has any."""
    table = tables.ranked(blocks.load(fingerprints, blocks.FINGERPRINTS), keep)
    for shard, images in blocks.split(table, blocks.digest_shards(table, digest_shards)):
        yield b"%d" % shard, blocks.dump(images)


def judge_exact(
    shard: tuple[bytes, Iterable[ImageBlock]], preference: Preference, across: tuple[str, ...] = ()
) -> VerdictBlock:
    """Returns the verdicts on the images of one digest shard, by their bytes alone."""
    settled = shard_verdicts.group_images(blocks.load(shard[1], blocks.IMAGES), pictures=False, across=across)
    return blocks.dump(shard_verdicts.verdicts(settled, blocks.MARKS.empty_table(), preference))
