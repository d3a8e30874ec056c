"""Reads from the records of a run which files are duplicates, which files they duplicate, and which are dropped."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import fastavro

from beam_dedup.cleaning.files import DIGEST_BYTES
from beam_dedup.core import strict_json
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.core.metadata.avro_rows import AVRO_MAGIC
from beam_dedup.core.model import Flag, Reason, Status
from beam_dedup.core.names import shown
from beam_dedup.core.paths import is_remote
from beam_dedup.options.option import quoted

MAX_LINE_BYTES = 1 << 24  # of a record
_FIELDS = ("uri", "status", "reason", "digest", "duplicate_of")

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Duplicate:
    """A duplicate according to the records, or a file that a person decided to drop.

    Attributes:
      path: absolute, of the duplicate.
      digest: SHA-256 of the duplicate when it was judged.
      witness: absolute path of the kept image; "" if the file is dropped.
      witness_digests: of the kept image when it was judged: one unless it was overwritten and judged again; none if
        the records do not have it.
      reason: `exact` or `near`; `dropped` if the file is dropped, whatever the records say.
      is_kept: whether another record keeps the file with the same content.
      is_witness_local: whether the witness is a local file, not a member of an archive or an object of a store.
      is_protected: whether a record of the same file has the flag `protected`.
    """

    path: str
    digest: bytes
    witness: str
    witness_digests: frozenset[bytes]
    reason: Reason
    is_kept: bool
    is_witness_local: bool
    is_protected: bool = False

    @property
    def is_dropped(self) -> bool:
        """Whether a person decided to drop the file. It needs no witness."""
        return self.reason is Reason.DROPPED


def read_duplicates(records: str, directory: str, drop: frozenset[bytes] = frozenset()) -> list[Duplicate]:
    """Returns the duplicates of a run that are local files; members of archives and objects of stores are left out.

    Args:
      records: a file of records (JSON Lines or Avro), or a directory of such files.
      directory: the current directory of the run, to which relative paths in the records are relative.
      drop: digests of files that are returned too, whatever their verdicts.

    Raises:
      UsageError: there is no such file.
      DedupError: the file has other content than records.
    """
    duplicates: list[tuple[str, bytes, str, Reason]] = []
    kept: dict[str, frozenset[bytes]] = {}
    protected: set[str] = set()
    for record in _records(records):
        if Flag.PROTECTED in (record.get("flags") or ()):
            protected.add(record["uri"])
        digest = bytes.fromhex(record["digest"] or "")
        if record["status"] == Status.KEPT:
            kept[record["uri"]] = kept.get(record["uri"], frozenset()) | {digest}
        if not _is_local(record["uri"]) or len(digest) != DIGEST_BYTES:
            continue
        if digest in drop:
            duplicates.append((record["uri"], digest, "", Reason.DROPPED))
        elif record["status"] == Status.DUPLICATE:
            duplicates.append((record["uri"], digest, record["duplicate_of"], Reason(record["reason"])))

    def absolute(uri: str) -> str:
        return os.path.join(directory, split_uri(uri)[0])

    return [
        Duplicate(
            absolute(uri),
            digest,
            absolute(witness) if witness and _is_local(witness) else witness,
            # Equal bytes need no record of the witness, which may be an image of --reference.
            frozenset({digest}) if reason is Reason.EXACT else kept.get(witness, frozenset()),
            reason,
            digest in kept.get(uri, frozenset()),
            bool(witness) and _is_local(witness),
            uri in protected,
        )
        for uri, digest, witness, reason in duplicates
    ]


def _is_local(uri: str) -> bool:
    return not is_remote(uri) and not split_uri(uri)[1]


def _records(path: str) -> Iterator[Record]:
    if is_remote(path):
        raise UsageError(f"RECORDS must be a local file; got {quoted(path)}. Copy it to this machine first")
    if os.path.isdir(path):
        files = sorted(str(file) for file in Path(path).glob("records-*") if file.is_file())
        if not files:
            raise UsageError(f"RECORDS: the directory {shown(path)} contains no file records-*")
    elif os.path.isfile(path):
        files = [path]
    else:
        raise UsageError(f"RECORDS: {shown(path)} is no file or directory; name what --records wrote")
    for file in files:
        try:
            with open(file, "rb") as stream:
                yield from _records_in(file, stream)
        except OSError as error:
            raise DedupError(f"can't read {shown(file)}: {error.strerror}") from error


def _records_in(path: str, stream: BinaryIO) -> Iterator[Record]:
    """Yields the records of one file.

    Raises:
      DedupError: it contains something else.
    """
    is_avro = stream.read(len(AVRO_MAGIC)) == AVRO_MAGIC
    stream.seek(0)
    rows = iter(fastavro.reader(stream)) if is_avro else _json_rows(stream)
    number = 0
    while True:
        number += 1
        try:
            row = next(rows, None)
            if row is None:
                return
            _check(row)
        except (ValueError, EOFError, KeyError, IndexError, TypeError) as error:
            where = f"record {number}" if is_avro else f"line {number}"
            raise DedupError(f"{shown(path)}, {where}, is no record of dedup: {error}") from error
        yield row


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
    if row["status"] == Status.DUPLICATE:
        Reason(row["reason"])
        if not isinstance(row["duplicate_of"], str):
            raise TypeError("a duplicate must have duplicate_of")
    bytes.fromhex(row["digest"] or "")
