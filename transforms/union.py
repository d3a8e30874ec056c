"""Adds to each kept image what its duplicates have that it has not."""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_dedup.core import union
from beam_dedup.core.blocks import VerdictBlock


@dataclasses.dataclass
class AddUnions(beam.PTransform[PCollection[VerdictBlock], PCollection[VerdictBlock]]):
    """Adds to the verdicts on kept images the URIs and facts of their duplicates (`beam_dedup.core.union`).

    Element in: a block of `VERDICTS`. Element out: the same verdicts, in other blocks. Bounded. The result does not depend
    on the order of the input, on bundles or on the number of workers. The verdicts on kept images are shuffled; those on
    duplicates are not, but at most `MOST_IMAGES` of their URIs and facts per witness and block. Counts nothing.
    """

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[VerdictBlock]:
        joined = (
            {
                "kept": verdicts | "Kept" >> beam.FlatMap(keyed_kept),
                "parts": verdicts | "Parts" >> beam.FlatMap(keyed_parts),
            }
            | "ByWitness" >> beam.CoGroupByKey()
            | "Unite" >> beam.FlatMap(united)
        )
        return (joined, verdicts | "Others" >> beam.Map(union.other_rows)) | "All" >> beam.Flatten()


def keyed_kept(block: VerdictBlock) -> Iterator[tuple[bytes, VerdictBlock]]:
    """Yields the kept images of a block, keyed by shard."""
    for shard, rows in union.kept_rows(block):
        yield b"%d" % shard, rows


def keyed_parts(block: VerdictBlock) -> Iterator[tuple[bytes, bytes]]:
    """Yields what the duplicates of a block add to unions, keyed by the shard of the witness."""
    for shard, parts in union.parts_of(block):
        yield b"%d" % shard, union.dump(parts)


def united(shard: tuple[bytes, dict[str, Iterable[bytes]]]) -> Iterator[VerdictBlock]:
    """Yields the kept images of a shard with the unions of their duplicates."""
    unions = union.merged(map(union.load, shard[1]["parts"]))
    for block in shard[1]["kept"]:
        yield union.with_unions(block, unions)
