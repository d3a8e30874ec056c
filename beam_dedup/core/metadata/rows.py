"""Reading what `-l` names: for each image its `__path__` and what Tika says of it.

JSON Lines, Avro or parquet, told apart by their first bytes. A row that names no image is passed on with its number and a
reason, and reading goes on; where a file can't be read further, that is the last row.
"""

import base64
import dataclasses
import datetime
import decimal
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import fastavro
import pyarrow.parquet

from beam_dedup.core import strict_json
from beam_dedup.core.model import Reason
from beam_dedup.core.paths import is_remote, name_hash

PATH_KEY = "__path__"
LINE_BYTES = 1 << 24  # a longer line is no metadata of one image

_AVRO_MAGIC = b"Obj\x01"
_PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 256
_SKIP_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One image: its path, and all else that is said of it, as JSON types."""

    number: int  # from 1: of the line, or of the row
    path: str  # ./a/ is a; bytes that are not UTF-8 as surrogates
    metadata: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class BadRow:
    """A row that names no image, and why."""

    number: int
    reason: Reason
    detail: str


def rows(stream: BinaryIO) -> Iterator[Row | BadRow]:
    """The rows of a file, in its order; of several of one path the first.

    Args:
      stream: at its beginning, and seekable.
    Raises:
      OSError: from reading the stream. Nothing else: what is wrong with the file is a BadRow.
    """
    magic = stream.read(4)
    stream.seek(0)
    if magic == _AVRO_MAGIC:
        found = avro_rows(stream)
    elif magic == _PARQUET_MAGIC:
        found = parquet_rows(stream)
    else:
        found = json_rows(stream)
    return first_of_each_path(found)


def json_rows(stream: BinaryIO) -> Iterator[Row | BadRow]:
    """The lines of JSON Lines; empty ones are left out."""
    number = 0
    while line := stream.readline(LINE_BYTES + 1):
        number += 1
        if len(line) > LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(_SKIP_BYTES)
            yield BadRow(number, Reason.MALFORMED, f"a line of more than {LINE_BYTES} bytes")
        elif line := (line.removeprefix(_BOM) if number == 1 else line).strip():
            yield _json_row(number, line)


def avro_rows(stream: BinaryIO) -> Iterator[Row | BadRow]:
    """The records of an Avro file."""
    number = 0
    try:
        for number, record in enumerate(fastavro.reader(stream), 1):
            yield _row(number, record)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  it raises almost anything on damaged bytes
        yield _unreadable(number + 1, "Avro", error)


def parquet_rows(stream: BinaryIO) -> Iterator[Row | BadRow]:
    """The rows of a parquet file; columns without a value are left out of a row's metadata."""
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(_BATCH_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield _row(number, row)
    except Exception as error:  # noqa: BLE001  damage is an OSError too, as pyarrow says it
        yield _unreadable(number + 1, "parquet", error)


def first_of_each_path(items: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
    """The same rows; a path that an earlier row named makes a bad one."""
    lines: set[int] = set()
    for item in items:
        key = name_hash(item.path) if isinstance(item, Row) else None
        if isinstance(item, Row) and key in lines:
            yield BadRow(
                item.number, Reason.MALFORMED, f"an earlier row has the same {PATH_KEY}: {item.path[:200]}"
            )
        else:
            if key is not None:
                lines.add(key)
            yield item


def _json_row(number: int, line: bytes) -> Row | BadRow:
    try:
        value = strict_json.parse(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return BadRow(number, Reason.MALFORMED, f"not UTF-8: byte {error.start}")
    except ValueError as error:
        return BadRow(number, Reason.MALFORMED, f"not JSON: {error}"[:200])
    return _row(number, value)


def _row(number: int, value: object) -> Row | BadRow:
    if not isinstance(value, dict):
        return BadRow(number, Reason.MALFORMED, "not an object")
    path = value.get(PATH_KEY)
    if not isinstance(path, str) or not path:
        return BadRow(number, Reason.MALFORMED, f"no {PATH_KEY}")
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return BadRow(number, Reason.MALFORMED, f"no file can have this {PATH_KEY}: {path[:200]!r}")
    try:
        strict_json.check_depth(value)  # Avro has types that hold themselves
    except ValueError as error:
        return BadRow(number, Reason.MALFORMED, str(error))
    plain = {str(name): _plain(one) for name, one in value.items() if name != PATH_KEY}
    return Row(
        number,
        path if is_remote(path) else os.path.normpath(path),
        {name: one for name, one in plain.items() if one is not None},
    )


def _plain(value: Any) -> Any:
    """A value of Avro or parquet as a JSON type."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal) or not isinstance(value, str | int | float | bool | None):
        return str(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def _unreadable(number: int, kind: str, error: Exception) -> BadRow:
    return BadRow(number, Reason.DAMAGED, f"not to be read as {kind} from here on: {error}"[:300])
