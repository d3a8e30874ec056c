"""Reads a metadata file (`-l`): for each image its `__path__` and the metadata that Tika found.

The file is JSON Lines, Avro or Parquet, recognised by its first bytes. A row that names no image is
returned as a `BadRow` with its number and a reason, and reading continues. If the file cannot be read
further, a `BadRow` is the last item.
"""

import base64
import dataclasses
import datetime
import decimal
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import fastavro
import pyarrow.parquet

from beam_dedup.core import strict_json
from beam_dedup.core.model import Reason
from beam_dedup.core.paths import is_remote, name_hash

PATH_KEY = "__path__"
MAX_LINE_BYTES = 1 << 24  # a longer line is a BadRow

_AVRO_MAGIC = b"Obj\x01"
_PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 256
_MAX_KEYS = 10  # of a row without a path that are named
_SKIP_BYTES = 1 << 20  # read at a time, of the rest of a line that is too long
_BOM = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One image: its path, and its other fields as JSON types."""

    number: int  # of the line or the row, from 1
    path: str  # normalised: ./a/ is a; bytes that are not UTF-8 are surrogates
    metadata: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class BadRow:
    """A row that names no image, and the reason."""

    number: int
    reason: Reason
    detail: str


def rows(stream: BinaryIO) -> Iterator[Row | BadRow]:
    """Yields the rows of a file in their order. A row with the path of an earlier row is a BadRow.

    Args:
      stream: at its beginning, and seekable.
    Raises:
      OSError: from reading the stream. No other exception: an error in the file is a BadRow.
    """
    magic = stream.read(4)
    stream.seek(0)
    if magic == _AVRO_MAGIC:
        items = avro_rows(stream)
    elif magic == _PARQUET_MAGIC:
        items = parquet_rows(stream)
    else:
        items = json_rows(stream)
    return first_of_each_path(items)


def json_rows(
    stream: BinaryIO, max_line_bytes: int = MAX_LINE_BYTES, skip_bytes: int = _SKIP_BYTES
) -> Iterator[Row | BadRow]:
    """Yields the lines of a JSON Lines file; empty lines are skipped but counted.

    Args:
      stream: at its beginning.
      max_line_bytes: a longer line is a BadRow and is not held in memory.
      skip_bytes: how many bytes of the rest of such a line are read at a time.
    """
    number = 0
    while line := stream.readline(max_line_bytes + 1):
        number += 1
        if len(line) > max_line_bytes:
            while line and not line.endswith(b"\n"):
                line = stream.readline(skip_bytes)
            yield BadRow(number, Reason.MALFORMED, f"a line of more than {max_line_bytes} bytes")
        elif line := (line.removeprefix(_BOM) if number == 1 else line).strip():
            yield _json_row(number, line)


def avro_rows(stream: BinaryIO) -> Iterator[Row | BadRow]:
    """Yields the records of an Avro file."""
    number = 0
    try:
        for number, record in enumerate(fastavro.reader(stream), 1):
            yield _row(number, record)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  fastavro raises almost any exception on damaged bytes
        yield _unreadable(number + 1, "Avro", error)


def parquet_rows(stream: BinaryIO) -> Iterator[Row | BadRow]:
    """Yields the rows of a Parquet file; columns without a value are left out of a row's metadata."""
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(stream).iter_batches(_BATCH_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield _row(number, row)
    except Exception as error:  # noqa: BLE001  pyarrow raises OSError for damage, too
        yield _unreadable(number + 1, "Parquet", error)


def first_of_each_path(items: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
    """Yields the same items, with each Row whose path an earlier Row has replaced by a BadRow."""
    seen: set[int] = set()
    for item in items:
        key = name_hash(item.path) if isinstance(item, Row) else None
        if isinstance(item, Row) and key in seen:
            yield BadRow(
                item.number, Reason.MALFORMED, f"an earlier row has the same {PATH_KEY}: {item.path[:200]}"
            )
        else:
            if key is not None:
                seen.add(key)
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
        others = ", ".join(str(key) for key in itertools.islice(value, _MAX_KEYS) if key != PATH_KEY)
        return BadRow(
            number, Reason.MALFORMED, f"no {PATH_KEY}" + (f"; it has {others}"[:200] if others else "")
        )
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return BadRow(number, Reason.MALFORMED, f"no file can have this {PATH_KEY}: {path[:200]!r}")
    try:
        strict_json.check_depth(value)  # Avro types may be recursive
    except ValueError as error:
        return BadRow(number, Reason.MALFORMED, str(error))
    plain = {str(name): _plain(field) for name, field in value.items() if name != PATH_KEY}
    return Row(
        number,
        path if is_remote(path) else os.path.normpath(path),
        {name: field for name, field in plain.items() if field is not None},
    )


def _plain(value: Any) -> Any:
    """Converts a value of Avro or Parquet to a JSON type; NaN and infinity to None."""
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
    return BadRow(number, Reason.DAMAGED, f"cannot be read as {kind} from here on: {error}"[:300])
