"""Defines the rows of a metadata file, and makes them from the values of any of its formats."""

import base64
import dataclasses
import datetime
import decimal
import itertools
import os
from collections.abc import Mapping
from typing import Any

from beam_dedup.core import strict_json
from beam_dedup.core.model import Reason
from beam_dedup.core.paths import is_remote, local_path

PATH_KEY = "__path__"
_MAX_KEYS = 10  # of a row without a path that are named

_FREE_ROWS = 100_000
_ROWS_PER_BYTE = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One image: its path, and its other fields as JSON types."""

    number: int  # of the line or the row, from 1
    path: str  # normalised: ./a/ is a; bytes that are not UTF-8 are surrogates
    metadata: dict[str, Any]
    relative: str = ""  # the path before `absolute_row` made it absolute

    @property
    def name(self) -> str:
        """The path as it is in the row, normalised."""
        return self.relative or self.path


@dataclasses.dataclass(frozen=True, slots=True)
class BadRow:
    """A row that names no image, and the reason."""

    number: int
    reason: Reason
    detail: str


def row_of(number: int, value: object, path_key: str = PATH_KEY) -> Row | BadRow:
    """Makes a row from a value, which should be an object with a path in the field `path_key`."""
    if not isinstance(value, dict):
        return BadRow(number, Reason.MALFORMED, "not an object")
    path = value.get(path_key)
    if not isinstance(path, str) or not path:
        keys = (str(key) for key in itertools.islice(value, _MAX_KEYS) if key != path_key)
        # Escaped, since a key may have surrogates, which no encoding can carry.
        others = ", ".join(key.encode("utf-8", "backslashreplace").decode() for key in keys)
        detail = f"no {path_key}" + (f"; it has {others}"[:200] if others else "")
        return BadRow(number, Reason.MALFORMED, detail)
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return BadRow(number, Reason.MALFORMED, f"no file can have this {path_key}: {path[:200]!r}")
    try:
        strict_json.check_depth(value)  # Avro types may be recursive
    except ValueError as error:
        return BadRow(number, Reason.MALFORMED, str(error))
    path = local_path(path)
    return Row(
        number,
        path if is_remote(path) else os.path.normpath(path),
        plain_fields({name: field for name, field in value.items() if name != path_key}),
    )


def plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns fields as JSON types, without those that have no value."""
    plain = {str(name): _plain(field) for name, field in fields.items()}
    return {name: field for name, field in plain.items() if field is not None}


def absolute_row(row: Row | BadRow, directory: str) -> Row | BadRow:
    """Returns a row whose path is absolute, or below a directory in another file system.

    >>> absolute_row(Row(1, "a.jpg", {}), "/data"), absolute_row(Row(1, "a.jpg", {}), "gs://b/in").path
    (Row(number=1, path='/data/a.jpg', metadata={}, relative='a.jpg'), 'gs://b/in/a.jpg')
    """
    if isinstance(row, BadRow) or is_remote(row.path) or os.path.isabs(row.path):
        return row
    if is_remote(directory):
        path = f"{directory.rstrip('/')}/{row.path}"
    else:
        path = os.path.normpath(os.path.join(directory, row.path))
    return dataclasses.replace(row, path=path, relative=row.path)


def most_rows(file_bytes: int) -> int:
    """Returns how many rows a compressed file may have: different paths take bytes, even if compressed."""
    return max(_FREE_ROWS, _ROWS_PER_BYTE * file_bytes)


def unreadable(number: int, kind: str, error: Exception) -> BadRow:
    """Returns the last item of a file that cannot be read beyond a row."""
    return BadRow(number, Reason.DAMAGED, f"cannot be read as {kind} from here on: {error}"[:300])


def _plain(value: Any) -> Any:
    """Converts a value to a JSON type; NaN and infinity to None."""
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
