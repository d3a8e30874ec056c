"""Writes pairs to files, and adds components to verdicts."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsIter, PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks, components, pair_tables
from beam_dedup.core.blocks import ComponentBlock, NameBlock, PairBlock, VerdictBlock
from beam_dedup.core.model import printable
from transforms.exact import DIGEST_SHARDS
from transforms.pairs import PairsFound
from transforms.storage.files import whole_file
from transforms.storage.own_files import is_own


@dataclasses.dataclass
class WritePairs(beam.PTransform[PairsFound, PCollection[str]]):
    """Writes one row per pair, as JSON Lines, or as the path ends: `.avro`, `.parquet` or `.csv`.

    One worker writes the file, sorted by digests: the same pairs make the same bytes (in Avro, the same rows). It holds
    18 bytes per pair, and the names of the contents in them. The file appears when it is complete.

    In: the outputs of `FindPairs`, in the global window. Element out: the name of the file, printable; exactly one.
    Counts nothing.

    Args:
      path: the file, local or of a file system of Beam. A file of that name is only replaced if it contains pairs;
        otherwise the pairs are written to `PATH.new`.
      digest_shards: the number that `FindPairs` was given.
      splits: the names of the splits, if the pairs and names are those of `PairSplits`.
    """

    path: str
    digest_shards: int = DIGEST_SHARDS
    splits: tuple[str, ...] = ()

    @no_annotations  # Beam has no types for several inputs
    def expand(self, found: PairsFound) -> PCollection[str]:
        schemas = (
            (blocks.PAIRS_OF_SPLITS, blocks.NAMES_OF_SPLITS) if self.splits else (blocks.PAIRS, blocks.NAMES)
        )
        names = (
            {
                "digests": found.pairs
                | "Digests" >> beam.FlatMap(digests_in, self.digest_shards, schemas[0]),
                "names": found.names,
            }
            | "ByDigest" >> beam.CoGroupByKey()
            | "Names" >> beam.Map(wanted_names, schemas[1])
        )
        path = found.pairs.pipeline | "Path" >> beam.Create([blocks.to_bytes(self.path)], reshuffle=False)
        return path | "Write" >> beam.Map(write_pairs, AsIter(found.pairs), AsIter(names), self.splits)


@dataclasses.dataclass
class AddComponents(beam.PTransform[PCollection[VerdictBlock], PCollection[VerdictBlock]]):
    """Adds to each verdict the connected component of its content: the lowest digest in it.

    A content in no pair is a component by itself. Rejected images have none. Element in: a block of `VERDICTS`. Element out: the
    same verdicts, in other blocks. Bounded. Verdicts are shuffled by digest. Counts nothing.

    Args:
      components: blocks of `COMPONENTS`, as `FindComponents` and `ConnectComponents` output them; None if there are no
        pairs.
      digest_shards: the images of one digest shard meet in the memory of one worker.
    """

    components: PCollection[ComponentBlock] | None = None
    digest_shards: int = DIGEST_SHARDS

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[VerdictBlock]:
        judged = verdicts | "Judged" >> beam.FlatMap(judged_rows, self.digest_shards)
        rejected = verdicts | "Rejected" >> beam.Map(components.rejected_rows)
        if self.components is None:
            added = judged | "Alone" >> beam.Map(alone)
        else:
            added = (
                {
                    "verdicts": judged,
                    "components": self.components | "Shard" >> beam.FlatMap(sharded, self.digest_shards),
                }
                | "ByDigest" >> beam.CoGroupByKey()
                | "Add" >> beam.FlatMap(with_components)
            )
        return (added, rejected) | "All" >> beam.Flatten()


def digests_in(pairs: PairBlock, digest_shards: int, schema: pa.Schema) -> Iterator[tuple[bytes, bytes]]:
    """Yields the digests in a block of pairs, keyed by digest shard."""
    for shard, digests in pair_tables.digests_in(pairs, digest_shards, schema):
        yield b"%d" % shard, digests


def wanted_names(shard: tuple[bytes, dict[str, Iterable[bytes]]], schema: pa.Schema) -> NameBlock:
    """Returns the names of the contents of a digest shard that are in pairs."""
    return pair_tables.names_of(shard[1]["digests"], shard[1]["names"], schema)


def write_pairs(
    name: bytes, pairs: Iterable[PairBlock], names: Iterable[NameBlock], splits: tuple[str, ...] = ()
) -> str:
    """Writes pairs to the file of this name. Returns the name, printable."""
    path = blocks.to_text(name)
    rows = pair_tables.PairRows(pairs, names, splits)
    with whole_file(path, functools.partial(is_own, "--pairs")) as file:
        pair_tables.write_pairs(file, rows, path)
    return str(printable(path))


def judged_rows(block: VerdictBlock, digest_shards: int) -> Iterator[tuple[bytes, VerdictBlock]]:
    """Yields the images of a block that are not rejected, keyed by digest shard."""
    for shard, rows in components.judged_rows(block, digest_shards):
        yield b"%d" % shard, rows


def sharded(block: ComponentBlock, digest_shards: int) -> Iterator[tuple[bytes, ComponentBlock]]:
    """Yields the rows of a block of components, keyed by digest shard."""
    table = blocks.load([block], blocks.COMPONENTS)
    for shard, rows in blocks.split(table, blocks.digest_shards(table, digest_shards)):
        yield b"%d" % shard, blocks.dump(rows)


def with_components(shard: tuple[bytes, dict[str, Iterable[Any]]]) -> Iterator[VerdictBlock]:
    """Yields the verdicts of a digest shard with their components."""
    found = blocks.load(shard[1]["components"], blocks.COMPONENTS)
    for block in shard[1]["verdicts"]:
        yield components.with_components(block, found)


def alone(shard: tuple[bytes, VerdictBlock]) -> VerdictBlock:
    """Returns verdicts whose contents are in no pair."""
    return components.with_components(shard[1], blocks.COMPONENTS.empty_table())
