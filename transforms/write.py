"""Writes records and groups to files, which appear whole or not at all."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import apache_beam as beam
import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import AsIter, PCollection

from beam_dedup.core import blocks
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.model import (
    AVRO_SCHEMA,
    Placement,
    Reason,
    Status,
    Unplaced,
    Verdict,
    avro_record,
    json_text,
    printable,
)
from beam_dedup.core.names import shown, without_controls
from beam_dedup.core.record_tables import write_csv, write_parquet
from transforms.batching import verdicts_in
from transforms.lineage import report_written
from transforms.storage.files import whole_file
from transforms.storage.own_files import is_own

_Line = tuple[bytes, bytes, bytes]  # two keys to sort by, then the text of the line
_LineBlock = bytes  # rows of _LINES
_WriteLines = Callable[[BinaryIO, Iterator[bytes]], None]
_FinishLines = Callable[[Iterator[bytes], pa.Table], Iterator[bytes]]

# large_binary, because all lines together may have more than 2 GiB.
_LINES = pa.schema([(name, pa.large_binary()) for name in ("first", "second", "line")])
_BATCH_LINES = 10_000
_KEY_LETTERS = 64  # of a digest in hex, the key of a group
_NO_SIZE = b'"group_size": null'  # in a record without the size of its group, behind all metadata


def is_prefix(path: str) -> bool:
    """Returns whether records are written as several files in a directory, not as one file."""
    return path.endswith("/")


@dataclasses.dataclass
class WriteRecords(beam.PTransform[PCollection[VerdictBlock], PCollection[Any]]):
    """Writes one record per verdict, as JSON Lines, or as the path ends: `.avro`, `.parquet` or `.csv`.

    If the path ends in `/`, each writer writes one file (`records-00000-of-00004.jsonl`), in any order. Any other path is
    one file that one worker writes, sorted by URI: the same verdicts make the same bytes (in Avro, the same rows). A file
    appears when it is complete, and replaces an older one of its name.

    Element in: a block of `VERDICTS`. Element out: the name of a file that was written, printable. Bounded, in the global
    window. A stream writes its records with `RecordVerdicts` or `RecordWindows`. Counts nothing.

    Args:
      path: a file, or a directory that ends in `/`; local or of a file system of Beam.
      own_only: whether a file is only replaced by records if it contains records. If not, the records are written to
        `PATH.new`.
    """

    path: str
    own_only: bool = False

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[Any]:
        if is_prefix(self.path):
            lines = verdicts | "Line" >> beam.FlatMap(json_lines)
            return lines | "Shards" >> beam.io.WriteToText(self.path + "records", file_name_suffix=".jsonl")
        write = next((write for ending, write in _WRITERS.items() if self.path.endswith(ending)), write_lines)
        return (
            verdicts
            | "Lines" >> beam.Map(record_lines)
            | "Sorted"
            >> _WriteSorted(
                self.path, write, "--records" if self.own_only else "", with_group_sizes, reported=True
            )
        )


@dataclasses.dataclass
class WriteGroups(beam.PTransform[PCollection[VerdictBlock], PCollection[Any]]):
    """Writes one JSON object: {digest of the kept image: [{"filename": ...}, ...]}, with the kept image first.

    An image without duplicates is a group of one. A rejected image is in no group. If several kept images have one digest,
    as with `--protect` or `--across`, the keys of the further ones end in `-2`, `-3`, ..., by URI. One worker writes the file, sorted by
    the URI of the kept image; it appears when it is complete, and replaces an older one of its name.

    Element in: a block of `VERDICTS`. Element out: the name of the file, printable; exactly one. Bounded, in the global
    window. Counts nothing.

    Args:
      path: the file, local or of a file system of Beam.
      own_only: whether a file is only replaced by groups if it contains groups. If not, the groups are written to
        `PATH.new`.
    """

    path: str
    own_only: bool = False

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[Any]:
        return (
            verdicts
            | "Members" >> beam.Map(group_lines)
            | "Sorted"
            >> _WriteSorted(
                self.path, write_groups, "-o" if self.own_only else "", with_unique_keys, reported=True
            )
        )


@dataclasses.dataclass
class WriteDropList(beam.PTransform[PCollection[VerdictBlock], PCollection[Any]]):
    """Writes which images a collection does not need: the duplicates, and images that are dropped: by a person, or since they leak.

    A file is named by the path that opens it, with its bytes, a member of an archive by its URI. The names are sorted
    by URI. Each is followed by a line feed, or by NUL if the path of the list ends in `.nul`. A name that could be read
    as two is left out (`unlisted`). One worker writes the file; it appears when it is complete, and replaces an
    older one of its name.

    Element in: a block of `VERDICTS`. Element out: the name of the file, printable; exactly one. Bounded, in the global
    window. Counts nothing.

    Args:
      path: the file, local or of a file system of Beam.
    """

    path: str

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[Any]:
        write = write_nul if is_nul_list(self.path) else write_lines
        return (
            verdicts
            | "Names" >> beam.Map(dropped_lines, is_nul_list(self.path))
            | "Sorted" >> _WriteSorted(self.path, write, reported=True)
        )


@dataclasses.dataclass
class WriteUnplaced(beam.PTransform[PCollection[Unplaced], PCollection[Any]]):
    """Writes why copies could not be made, one line per copy, sorted by the path of the copy.

    Element in: an `Unplaced`, as `PlaceCopies` outputs them. Element out: the name of the file, printable; exactly one.
    Bounded, in the global window. Counts nothing.

    Args:
      path: the file, local or of a file system of Beam.
    """

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
    """Writes which copies would be made, for people to read: one line per copy, sorted by the path of the copy.

    Element in: a `Placement`. Element out: the name of the file, printable; exactly one. Bounded, in the global window.
    Counts nothing.

    Args:
      path: the file, local or of a file system of Beam.
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
class _WriteSorted(beam.PTransform[PCollection[_LineBlock], PCollection[str]]):
    """Sorts all lines and passes them to `write`, also if there are none."""

    path: str
    write: _WriteLines
    flag: str = ""  # the option that wrote an older file that may be replaced; "" for any file
    finish: _FinishLines | None = None  # makes the lines to write of the sorted ones
    reported: bool = False  # whether the file is an output for users, which is part of the lineage

    def expand(self, lines: PCollection[_LineBlock]) -> PCollection[str]:
        path = lines.pipeline | "Path" >> beam.Create([blocks.to_bytes(self.path)], reshuffle=False)
        return path | "Write" >> beam.Map(
            write_sorted, AsIter(lines), self.write, self.flag, self.finish, self.reported
        )


@dataclasses.dataclass
class _BatchLines(beam.PTransform[PCollection[_Line], PCollection[_LineBlock]]):
    """Groups single lines into blocks of `_LINES`."""

    def expand(self, lines: PCollection[_Line]) -> PCollection[_LineBlock]:
        return (
            lines | "Batch" >> beam.BatchElements(_BATCH_LINES, _BATCH_LINES) | "Pack" >> beam.Map(line_block)
        )


def json_lines(block: VerdictBlock) -> Iterator[str]:
    """Yields the record of each verdict as a line of JSON."""
    for verdict in verdicts_in(block):
        yield verdict.json_line()


def record_lines(block: VerdictBlock) -> _LineBlock:
    """Returns the record of each verdict as a line of JSON, to be sorted by URI. The second key is the group."""
    return line_block(
        [
            (
                blocks.to_bytes(verdict.ref.uri),
                b"" if verdict.status == Status.REJECTED else bytes.fromhex(verdict.group),
                verdict.json_line().encode(),
            )
            for verdict in verdicts_in(block)
        ]
    )


def group_lines(block: VerdictBlock) -> _LineBlock:
    """Returns one line per member of a group, to be sorted by group, the kept image first."""
    return line_block(list(itertools.chain.from_iterable(map(group_line, verdicts_in(block)))))


def group_line(verdict: Verdict) -> Iterator[_Line]:
    """Yields the line of one image, unless it was rejected: the key of its group, a space, and its entry."""
    if verdict.status != Status.REJECTED:
        uri = blocks.to_bytes(verdict.ref.uri)
        path, member_name = split_uri(verdict.ref.uri)
        # A file is named by the path that opens it, because its URI escapes a `!`.
        member = json_text({"filename": verdict.ref.uri if member_name else path}).encode()
        kept = blocks.to_bytes(verdict.witness.uri) if verdict.witness else uri
        yield kept, uri if verdict.witness else b"", verdict.group.encode() + b" " + member


def is_nul_list(path: str) -> bool:
    """Returns whether the names in a drop list end with NUL."""
    return path.endswith(".nul")


def dropped_lines(block: VerdictBlock, nul: bool) -> _LineBlock:
    """Returns the names of the images of a block that a drop list contains, to be sorted by URI."""
    names = (
        (verdict.ref.uri, dropped_name(verdict)) for verdict in verdicts_in(block) if is_dropped(verdict)
    )
    return line_block([(blocks.to_bytes(uri), b"", name) for uri, name in names if is_listed(name, nul)])


def unlisted(block: VerdictBlock, nul: bool) -> int:
    """Returns the number of images of a block that belong in a drop list, and whose names it can't contain."""
    return sum(
        is_dropped(verdict) and not is_listed(dropped_name(verdict), nul) for verdict in verdicts_in(block)
    )


def is_dropped(verdict: Verdict) -> bool:
    """Returns whether an image belongs in a drop list."""
    return verdict.status == Status.DUPLICATE or verdict.reason in (Reason.DROPPED, Reason.LEAKED)


def dropped_name(verdict: Verdict) -> bytes:
    """Returns the name of an image in a drop list."""
    path, member_name = split_uri(verdict.ref.uri)
    return blocks.to_bytes(verdict.ref.uri if member_name else path)


def is_listed(name: bytes, nul: bool) -> bool:
    """Returns whether a list can contain a name, so that nobody reads it as two."""
    return not any(end in name for end in ((b"\0",) if nul else (b"\n", b"\r")))


def placement_line(placement: Placement) -> _Line:
    """Returns the line of one copy that would be made."""
    line = f"{shown(placement.uri)} -> {shown(placement.path)}"
    return blocks.to_bytes(placement.path), b"", line.encode()


def unplaced_line(unplaced: Unplaced) -> _Line:
    """Returns the line of one copy that could not be made."""
    line = without_controls(unplaced.why).replace("\n", "\\n")
    return blocks.to_bytes(unplaced.placement.path), b"", line.encode()


def line_block(lines: list[_Line]) -> _LineBlock:
    """Returns lines as one block."""
    return blocks.dump(
        pa.Table.from_arrays(
            [
                pa.array(column, pa.large_binary())
                for column in (zip(*lines, strict=True) if lines else [[]] * 3)
            ],
            schema=_LINES,
        )
    )


def write_sorted(
    name: bytes,
    line_blocks: Iterable[_LineBlock],
    write: _WriteLines,
    flag: str = "",
    finish: _FinishLines | None = None,
    reported: bool = False,
) -> str:
    """Writes the lines of all blocks, sorted, to the file of this name. Returns the name, printable.

    Args:
      name: of the file.
      line_blocks: the lines.
      write: writes the sorted lines to an open file.
      flag: if given, only a file that this option wrote is replaced. Otherwise the new file is called `other_name`.
      finish: makes the lines to write of the sorted ones, given the table of these (`_LINES`) too.
      reported: whether the file is part of the lineage.
    """
    if reported:
        report_written(blocks.to_text(name))
    table = blocks.load(line_blocks, _LINES).sort_by([("first", "ascending"), ("second", "ascending")])
    replace = functools.partial(is_own, flag) if flag else True
    with whole_file(blocks.to_text(name), replace) as file:
        lines = (line for batch in table["line"].chunks for line in _values(batch))
        write(file, finish(lines, table) if finish else lines)
    return printable(blocks.to_text(name))


def _values(lines: pa.Array) -> Iterator[bytes]:
    for line in lines:
        yield line.as_py()


def with_group_sizes(lines: Iterator[bytes], table: pa.Table) -> Iterator[bytes]:
    """Yields records, given as JSON, with the size of their group, which is null in the given ones.

    Args:
      lines: the records.
      table: of the same lines; the second key is the group of the record, b"" if it has none.
    """
    codes = table["second"].combine_chunks().dictionary_encode()
    numbers = np.asarray(codes.indices)
    sizes = np.bincount(numbers, minlength=len(codes.dictionary))
    if codes.dictionary:
        sizes[np.asarray(pc.equal(codes.dictionary, pa.scalar(b"", codes.dictionary.type)))] = 0
    for line, size in zip(lines, sizes[numbers], strict=True):
        before, _, after = line.rpartition(_NO_SIZE)
        yield before + b'"group_size": %d' % size + after if size else line


def with_unique_keys(lines: Iterator[bytes], table: pa.Table) -> Iterator[bytes]:
    """Yields the lines of groups with other keys for groups that have the key of an earlier one: `KEY-2`, `KEY-3`, ...

    Args:
      lines: as `group_line` makes them, so that they begin with the key.
      table: of the same lines, sorted; the first key is the URI of the kept image.
    """
    is_start = blocks.first_rows(table["first"])
    starts = table["line"].filter(pa.array(is_start))
    keys = pc.binary_slice(starts, 0, _KEY_LETTERS).combine_chunks().dictionary_encode()
    if len(keys.dictionary) == len(keys):
        yield from lines
        return
    numbers = np.asarray(keys.indices)
    order = np.argsort(numbers, kind="stable")
    sizes = np.bincount(numbers)
    earlier = np.empty(len(order), np.int64)  # groups with the same key before each group
    earlier[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    for line, before in zip(lines, earlier[np.cumsum(is_start) - 1], strict=True):
        yield line[:_KEY_LETTERS] + b"-%d" % (before + 1) + line[_KEY_LETTERS:] if before else line


def write_lines(file: BinaryIO, lines: Iterator[bytes]) -> None:
    """Writes lines of text."""
    for line in lines:
        file.write(line + b"\n")


def write_nul(file: BinaryIO, lines: Iterator[bytes]) -> None:
    """Writes names that end with NUL."""
    for line in lines:
        file.write(line + b"\0")


def write_avro(file: BinaryIO, lines: Iterator[bytes]) -> None:
    """Writes records, given as JSON, as an Avro file."""
    fastavro.writer(file, AVRO_SCHEMA, (avro_record(json.loads(line)) for line in lines), codec="deflate")


_WRITERS: dict[str, _WriteLines] = {".avro": write_avro, ".parquet": write_parquet, ".csv": write_csv}


def write_groups(file: BinaryIO, lines: Iterator[bytes]) -> None:
    """Writes the JSON object of all groups, given the lines of their members, group by group."""
    file.write(b"{")
    current = None
    for line in lines:
        key, _, entry = line.partition(b" ")
        if key != current:
            file.write((b"" if current is None else b"\n ],") + b'\n "' + key + b'": [\n  ' + entry)
            current = key
        else:
            file.write(b",\n  " + entry)
    file.write(b"}\n" if current is None else b"\n ]\n}\n")
