"""Exact duplicates: images of equal bytes."""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_dedup.core import blocks, grouping
from beam_dedup.core.model import Fingerprint, Verdict
from beam_dedup.core.rank import Keep

PACKED_IMAGES = 4096  # fingerprints a block is cut from
HOMES = 64


@dataclasses.dataclass
class PackByDigest(beam.PTransform[PCollection[Fingerprint], PCollection[tuple[bytes, bytes]]]):
    """Packs fingerprints into blocks keyed by home, so that equal bytes have equal keys.

    In: fingerprints. Out: (home, block of `blocks.IMAGES`), many for each home, in the window of the input.

    homes: how many; images of one home meet in the memory of one worker. keep: the policy that ranks.
    """

    homes: int = HOMES
    keep: Keep = Keep.FIRST

    def expand(self, fingerprints: PCollection[Fingerprint]) -> PCollection[tuple[bytes, bytes]]:
        return (
            fingerprints
            | "Batch" >> beam.BatchElements(min_batch_size=PACKED_IMAGES, max_batch_size=PACKED_IMAGES)
            | "Split" >> beam.FlatMap(pack_by_home, self.homes, self.keep)
        )


@dataclasses.dataclass
class MarkExactDuplicates(beam.PTransform[PCollection[Fingerprint], PCollection[Verdict]]):
    """Of images with equal bytes keeps the best-ranked.

    In: fingerprints with unique URIs. Out: one verdict on each that is not known, in the same window; windows are
    judged by themselves.
    """

    homes: int = HOMES
    keep: Keep = Keep.FIRST

    def expand(self, fingerprints: PCollection[Fingerprint]) -> PCollection[Verdict]:
        return (
            fingerprints
            | "Pack" >> PackByDigest(self.homes, self.keep)
            | "ByDigest" >> beam.GroupByKey()
            | "Judge" >> beam.FlatMap(judge_bytes)
        )


def pack_by_home(
    fingerprints: list[Fingerprint], homes: int, keep: Keep = Keep.FIRST
) -> Iterator[tuple[bytes, bytes]]:
    """Blocks of fingerprints, one for each home that has some."""
    table = blocks.images_table(fingerprints, keep)
    for home, images in blocks.split(table, blocks.homes(table, homes)):
        yield b"%d" % home, blocks.dump(images)


def judge_bytes(home: tuple[bytes, Iterable[bytes]]) -> Iterator[Verdict]:
    """The verdicts of one home by bytes alone."""
    settled = grouping.settle(blocks.load(home[1], blocks.IMAGES), pictures=False)
    yield from grouping.verdicts(settled, blocks.MARKS.empty_table())
