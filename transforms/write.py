"""Records and groups as files that appear whole."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import apache_beam as beam
import fastavro
import pyarrow as pa
from apache_beam.pvalue import AsIter, PCollection

from beam_dedup.core import blocks
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.model import (
    AVRO_SCHEMA,
    Placement,
    Status,
    Unplaced,
    Verdict,
    avro_record,
    json_text,
    printable,
)
from transforms.batching import verdicts_in
from transforms.storage.files import whole_file

# Sorted by the first two. Large: all lines together may be more than 2 GiB.
_LINES = pa.schema([(name, pa.large_binary()) for name in ("first", "second", "line")])
_BATCH_LINES = 10_000

_Line = tuple[bytes, bytes, bytes]


def is_avro(path: str) -> bool:
    return path.endswith(".avro")


def is_prefix(path: str) -> bool:
    """Whether records are to be many files below a folder, not one file."""
    return path.endswith("/")


@dataclasses.dataclass
class WriteRecords(beam.PTransform[PCollection[bytes], PCollection[Any]]):
    """Writes one record per verdict: JSON Lines, or Avro where the path ends in `.avro`.

    A path that ends in `/` gets as many files as there are writers (`records-00000-of-00004.jsonl`), in any order.
    Any other path is one file, sorted by URI: byte by byte the same for the same verdicts, and written by one worker.
    In: blocks of `blocks.VERDICTS`, bounded, in the global window. Out: the names of the files, as they can be printed.
    """

    path: str

    def expand(self, verdicts: PCollection[bytes]) -> PCollection[Any]:
        if is_prefix(self.path):
            lines = verdicts | "Line" >> beam.FlatMap(json_lines)
            return lines | "Shards" >> beam.io.WriteToText(self.path + "records", file_name_suffix=".jsonl")
        write = write_avro if is_avro(self.path) else write_lines
        return verdicts | "Lines" >> beam.Map(record_lines) | "Sorted" >> _WriteSorted(self.path, write)


@dataclasses.dataclass
class WriteGroups(beam.PTransform[PCollection[bytes], PCollection[Any]]):
    """Writes one JSON object: {digest of the kept image: [{"filename": ...}, ...]}, the kept image first.

    Images without duplicates are groups of one; rejected ones are in none. One file, by one worker, sorted by the
    kept image's URI. In: blocks of `blocks.VERDICTS`, bounded, in the global window. Out: the name of the file.
    """

    path: str

    def expand(self, verdicts: PCollection[bytes]) -> PCollection[Any]:
        return (
            verdicts | "Members" >> beam.Map(group_lines) | "Sorted" >> _WriteSorted(self.path, write_groups)
        )


@dataclasses.dataclass
class WriteUnplaced(beam.PTransform[PCollection[Unplaced], PCollection[Any]]):
    """Writes why copies could not be made, a line for each, sorted by path. Out: the name of the file."""

    path: str

    def expand(self, unplaced: PCollection[Unplaced]) -> PCollection[Any]:
        return (
            unplaced
            | "Lines" >> beam.Map(unplaced_line)
            | "Pack" >> _BatchLines()
            | "Sorted" >> _WriteSorted(self.path, write_lines)
        )


@dataclasses.dataclass
class WritePlacements(beam.PTransform[PCollection[Placement], PCollection[Any]]):
    """Writes what would be placed, a line for each image, sorted by path: for people to read.

    In: placements, bounded, in the global window. Out: the name of the file.
    """

    path: str

    def expand(self, placements: PCollection[Placement]) -> PCollection[Any]:
        return (
            placements
            | "Lines" >> beam.Map(placement_line)
            | "Pack" >> _BatchLines()
            | "Sorted" >> _WriteSorted(self.path, write_lines)
        )


@dataclasses.dataclass
class _WriteSorted(beam.PTransform[PCollection[bytes], PCollection[str]]):
    """Sorts blocks of `_LINES` and hands the lines to `write`; also when there are none."""

    path: str
    write: Any

    def expand(self, lines: PCollection[bytes]) -> PCollection[str]:
        path = lines.pipeline | "Path" >> beam.Create([blocks.to_bytes(self.path)], reshuffle=False)
        return path | "Write" >> beam.Map(write_sorted, AsIter(lines), self.write)


@dataclasses.dataclass
class _BatchLines(beam.PTransform[PCollection[_Line], PCollection[bytes]]):
    """Lines one by one into blocks of `_LINES`."""

    def expand(self, lines: PCollection[_Line]) -> PCollection[bytes]:
        return (
            lines | "Batch" >> beam.BatchElements(_BATCH_LINES, _BATCH_LINES) | "Pack" >> beam.Map(line_block)
        )


def json_lines(block: bytes) -> Iterator[str]:
    for verdict in verdicts_in(block):
        yield verdict.json_line()


def record_lines(block: bytes) -> bytes:
    return line_block(
        [
            (blocks.to_bytes(verdict.ref.uri), b"", verdict.json_line().encode())
            for verdict in verdicts_in(block)
        ]
    )


def group_lines(block: bytes) -> bytes:
    return line_block(list(itertools.chain.from_iterable(map(group_line, verdicts_in(block)))))


def group_line(verdict: Verdict) -> Iterator[_Line]:
    if verdict.status != Status.REJECTED:
        uri = blocks.to_bytes(verdict.ref.uri)
        path, member_name = split_uri(verdict.ref.uri)
        # Files by the paths that open them: the URI escapes a `!`.
        member = json_text({"filename": verdict.ref.uri if member_name else path}).encode()
        kept = blocks.to_bytes(verdict.witness.uri) if verdict.witness else uri
        yield kept, uri if verdict.witness else b"", verdict.group.encode() + b" " + member


def placement_line(placement: Placement) -> _Line:
    line = f"{shown(placement.uri)} -> {shown(placement.path)}"
    return blocks.to_bytes(placement.path), b"", line.encode()


def unplaced_line(unplaced: Unplaced) -> _Line:
    return blocks.to_bytes(unplaced.placement.path), b"", printable(unplaced.why).encode()


def shown(name: str) -> str:
    """A file name on one line: as it is, or as JSON where it could not be printed or would be misread."""
    return name if name.isprintable() and " -> " not in name else json_text(name)


def line_block(lines: list[_Line]) -> bytes:
    return blocks.dump(
        pa.Table.from_arrays(
            [
                pa.array(column, pa.large_binary())
                for column in (zip(*lines, strict=True) if lines else [[]] * 3)
            ],
            schema=_LINES,
        )
    )


def write_sorted(name: bytes, packed: Iterable[bytes], write: Any) -> str:
    table = blocks.load(packed, _LINES).sort_by([("first", "ascending"), ("second", "ascending")])
    with whole_file(blocks.to_text(name)) as file:
        write(file, (line for batch in table["line"].chunks for line in _values(batch)))
    return printable(blocks.to_text(name))


def _values(lines: pa.Array) -> Iterator[bytes]:
    for line in lines:
        yield line.as_py()


def write_lines(file: BinaryIO, lines: Iterator[bytes]) -> None:
    for line in lines:
        file.write(line + b"\n")


def write_avro(file: BinaryIO, lines: Iterator[bytes]) -> None:
    fastavro.writer(file, AVRO_SCHEMA, (avro_record(json.loads(line)) for line in lines), codec="deflate")


def write_groups(file: BinaryIO, members: Iterator[bytes]) -> None:
    """Members come with the key of their group before them, group by group."""
    file.write(b"{")
    current = None
    for member in members:
        key, _, entry = member.partition(b" ")
        if key != current:
            file.write((b"" if current is None else b"\n ],") + b'\n "' + key + b'": [\n  ' + entry)
            current = key
        else:
            file.write(b",\n  " + entry)
    file.write(b"}\n" if current is None else b"\n ]\n}\n")
