"""Reads the records of a run: files of JSON Lines, Avro, Parquet or CSV, or a directory of them."""

import codecs
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import fastavro

from beam_dedup.core import strict_json
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.core.metadata.avro_rows import AVRO_MAGIC
from beam_dedup.core.metadata.parquet_rows import PARQUET_MAGIC
from beam_dedup.core.model import Reason, Status
from beam_dedup.core.names import shown
from beam_dedup.core.paths import is_remote
from beam_dedup.core.record_tables import (
    CSV_BEGINNINGS,
    rows_of_csv,
    rows_of_parquet,
)
from beam_dedup.options.option import quoted

MAX_LINE_BYTES = 1 << 24  # of a record
_HEAD_BYTES = 16  # by which the format of a file is recognised
_FIELDS = ("uri", "status", "reason", "digest", "duplicate_of")

Record = Mapping[str, Any]


def read_records(path: str) -> Iterator[Record]:
    """Yields the records of a file or directory, one after the other.

    Only the fields that every command needs are checked.

    Args:
      path: what `--records` wrote: a local file, or a directory of files `records-*`.

    Raises:
      UsageError: there is no such file.
      DedupError: a file can't be read, or contains something else.
    """
    for file in record_files(path):
        try:
            with open(file, "rb") as stream:
                yield from _records_in(file, stream)
        except OSError as error:
            raise DedupError(f"can't read {shown(file)}: {error.strerror}") from error


def is_local_file(uri: str) -> bool:
    """Returns whether the URI of a record names a local file that is no member of an archive."""
    return not is_remote(uri) and not split_uri(uri)[1]


def record_files(path: str) -> list[str]:
    """Returns the files of records under a path, sorted by name.

    Raises:
      UsageError: there is none.
    """
    if is_remote(path):
        raise UsageError(f"RECORDS must be a local file; got {quoted(path)}. Copy it to this machine first")
    if os.path.isdir(path):
        files = sorted(str(file) for file in Path(path).glob("records-*") if file.is_file())
        if not files:
            raise UsageError(f"RECORDS: the directory {shown(path)} contains no file records-*")
        return files
    if os.path.isfile(path):
        return [path]
    raise UsageError(f"RECORDS: {shown(path)} is no file or directory; name what --records wrote")


def _records_in(path: str, stream: BinaryIO) -> Iterator[Record]:
    """Yields the records of one file.

    Raises:
      DedupError: it contains something else.
    """
    rows = _reader(stream)
    unit = "line" if rows is _json_rows else "record"
    read = rows(stream)
    number = 0
    while True:
        number += 1
        try:
            row = next(read, None)
            if row is None:
                return
            _check(row)
        except (ValueError, EOFError, KeyError, IndexError, TypeError) as error:
            raise DedupError(f"{shown(path)}, {unit} {number}, is no record of dedup: {error}") from error
        yield row


def _reader(stream: BinaryIO) -> Callable[[BinaryIO], Iterator[Any]]:
    """Returns the function that reads a file of records, chosen by how it begins."""
    head = stream.read(_HEAD_BYTES)
    stream.seek(0)
    if head.startswith(AVRO_MAGIC):
        return _avro_rows
    if head.startswith(PARQUET_MAGIC):
        return rows_of_parquet
    return rows_of_csv if head.removeprefix(codecs.BOM_UTF8).startswith(CSV_BEGINNINGS) else _json_rows


def _avro_rows(stream: BinaryIO) -> Iterator[Any]:
    yield from fastavro.reader(stream)


def _json_rows(stream: BinaryIO) -> Iterator[Any]:
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
        if line.strip():
            yield strict_json.parse(line.decode("utf-8", "surrogateescape"))


def _check(row: Any) -> None:
    """Raises ValueError or TypeError unless a row has the fields of a record that are needed here."""
    if not isinstance(row, dict):
        raise TypeError(f"expected an object; got {json.dumps(row)[:40]}")
    if missing := [name for name in _FIELDS if name not in row]:
        raise ValueError(f"it has no {missing[0]}")
    if not isinstance(row["uri"], str) or not isinstance(row["digest"], str | None):
        raise TypeError("uri and digest must be text")
    flags = row.get("flags")
    if flags is not None and not (isinstance(flags, list) and all(isinstance(flag, str) for flag in flags)):
        raise TypeError("flags must be a list of texts")
    if row["status"] == Status.DUPLICATE:
        Reason(row["reason"])
        if not isinstance(row["duplicate_of"], str):
            raise TypeError("a duplicate must have duplicate_of")
    companions = row.get("companions") or []
    if not isinstance(companions, list) or not all(isinstance(name, str) for name in companions):
        raise TypeError("companions must be a list of texts")
    bytes.fromhex(row["digest"] or "")
