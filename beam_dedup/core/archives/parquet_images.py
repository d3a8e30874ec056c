"""Reads the images in a column of a Parquet file: each row is a member, named by its number from 0.

The column holds bytes, or structs of `bytes` and `path`, as Hugging Face `datasets` writes them. Other columns
are metadata, without those that hold bytes. Copies are named by the path, or by the number and the format.

A file is read in bounded steps (`beam_dedup.core.metadata.parquet_rows`). Damage to a row group does not end the
next one.
"""

import bisect
import contextlib
import functools
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_dedup.core import strict_json
from beam_dedup.core.archives.members import BadMember, Budget, Entry, Names, too_large
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.imaging.formats import HEAD_BYTES, sniff
from beam_dedup.core.limits import Limits
from beam_dedup.core.metadata.parquet_rows import (
    PARQUET_MAGIC,
    how_to_read,
    objects,
    open_file,
    read_footer,
)
from beam_dedup.core.metadata.row import plain_fields
from beam_dedup.core.model import Reason

__all__ = ["PARQUET_MAGIC", "advice", "row_groups"]

_BYTES, _PATH = "bytes", "path"  # fields of a struct
_METADATA_BYTES = 1 << 20  # of a row, as Python objects
_PATH_LETTERS = 4096  # a longer path names no copy
_MOST_NAMED = 10  # columns in a message
_LIKELY_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "bytes", "content")
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif"}  # of other formats, their names


class _Column(NamedTuple):
    """The column with the images."""

    name: str
    is_struct: bool
    has_paths: bool

    @property
    def bytes_path(self) -> str:
        return f"{self.name}.{_BYTES}" if self.is_struct else self.name


class _Table(NamedTuple):
    """A file, and what is read of it."""

    stream: BinaryIO
    footer: pq.FileMetaData
    schema: pa.Schema
    column: _Column
    others: list[str]  # columns with metadata
    limits: Limits
    budget: Budget
    names: Names | None  # of copies; None if no paths name them

    def is_read(self, path: str) -> bool:
        """Returns whether pyarrow reads a column of this path if the wanted columns are read."""
        return any(path == name or path.startswith(f"{name}.") for name in (self.column.name, *self.others))


def row_groups(
    stream: BinaryIO, column: str, limits: Limits, wanted: Collection[str] | None = None
) -> Iterator[Iterator[Entry | BadMember]]:
    """Opens a file, and returns an iterator over its row groups, each an iterator over its rows.

    Args:
      stream: seekable.
      column: the name of the column with the images.
      limits: of the images and of the number of rows.
      wanted: names of rows; row groups without any of them are skipped, and metadata are not read. None wants all rows.
    Raises:
      ArchiveError: the file is damaged, has too many rows, or has no such column.
      OSError: from reading the stream.
    """
    with _archive_errors():
        table = _opened(stream, column, limits, wanted is None)
    rows = None if wanted is None else sorted(int(name) for name in wanted if name.isdecimal())
    return _groups(table, rows)


def advice(stream: BinaryIO) -> str:
    """Returns a text about a file that is not read for want of a column, which names the likely one."""
    try:
        schema = open_file(stream, read_footer(stream)).schema_arrow
    except Exception:  # noqa: BLE001  the file may be damaged in any way
        return ""
    name = _likely_column(schema)
    bytes_text = f"with bytes in the column {name!r}" if name else "without a column of bytes"
    return f"a Parquet file {bytes_text}"


def _likely_column(schema: pa.Schema) -> str:
    """Returns the name of the column that probably holds images; "" if there is none."""
    names = [field.name for field in schema if _column(field) is not None and field.name.isprintable()]
    likely = [name for name in _LIKELY_NAMES if name in names]
    return (likely or names or [""])[0][:200]


def _opened(stream: BinaryIO, name: str, limits: Limits, with_others: bool) -> _Table:
    size_bytes = stream.seek(0, 2)
    footer = read_footer(stream)
    sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    if min(sizes, default=0) < 0:
        raise ArchiveError(Reason.DAMAGED, "a row group has a negative number of rows")
    if sum(sizes) > limits.max_members:
        raise ArchiveError(Reason.TOO_LARGE, f"{sum(sizes)} rows; the limit is {limits.max_members}")
    schema = open_file(stream, footer).schema_arrow
    fields = [field for field in schema if field.name == name]
    if len(fields) != 1:
        known = ", ".join(field.name for field in list(schema)[:_MOST_NAMED])[:200]
        count = f"{len(fields)} columns are named" if fields else "no column is named"
        raise ArchiveError(Reason.UNSUPPORTED, f"{count} {name!r}; the file has {known}")
    column = _column(fields[0])
    if column is None:
        kind = str(fields[0].type)[:100]
        detail = f"the column {name!r} holds {kind}, neither bytes nor structs of {_BYTES} and {_PATH}"
        raise ArchiveError(Reason.UNSUPPORTED, detail)
    all_names = [field.name for field in schema]
    others = [
        field.name
        for field in schema
        if with_others
        and field.name != name
        and all_names.count(field.name) == 1
        and not _has_bytes(field.type)
    ]
    names = Names() if column.has_paths and with_others else None
    return _Table(stream, footer, schema, column, others, limits, Budget(limits, size_bytes), names)


def _column(field: pa.Field) -> _Column | None:
    """Returns the column of images that a field may be; None if its type is another one."""
    if _is_bytes(field.type):
        return _Column(field.name, is_struct=False, has_paths=False)
    if not pa.types.is_struct(field.type):
        return None
    inner = [field.type.field(number) for number in range(field.type.num_fields)]
    if [_is_bytes(one.type) for one in inner if one.name == _BYTES] != [True]:
        return None
    paths = [
        pa.types.is_string(one.type) or pa.types.is_large_string(one.type)
        for one in inner
        if one.name == _PATH
    ]
    return _Column(field.name, is_struct=True, has_paths=paths == [True])


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


def _has_bytes(kind: pa.DataType) -> bool:
    """Returns whether values of a type hold bytes."""
    if isinstance(kind, pa.BaseExtensionType):
        return _has_bytes(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _has_bytes(kind.value_type)
    inner = (kind.field(number).type for number in range(kind.num_fields))
    return _is_bytes(kind) or pa.types.is_binary_view(kind) or any(map(_has_bytes, inner))


def _groups(table: _Table, wanted: list[int] | None) -> Iterator[Iterator[Entry | BadMember]]:
    begin = 0
    for group in range(table.footer.num_row_groups):
        end = begin + table.footer.row_group(group).num_rows
        if table.budget.is_spent:
            return
        if wanted is None or bisect.bisect_left(wanted, begin) < bisect.bisect_left(wanted, end):
            yield _rows(table, group, begin, end)
        begin = end


def _rows(table: _Table, group: int, number: int, end: int) -> Iterator[Entry | BadMember]:
    """Yields the rows of a row group, which have the numbers from `number` to `end`."""
    with _archive_errors():
        texts, size = how_to_read(table.stream, table.footer, group, table.is_read, table.column.bytes_path)
        file = open_file(table.stream, table.footer, texts)
        columns = [table.column.name, *table.others]
        for batch in file.iter_batches(size, row_groups=[group], columns=columns, use_threads=False):
            if number + batch.num_rows > end:
                break
            yield from _entries(table, batch, number)
            number += batch.num_rows
        else:
            if number == end:
                return
        raise ArchiveError(Reason.DAMAGED, f"row group {group} has another number of rows than recorded")


def _entries(table: _Table, batch: pa.RecordBatch, number: int) -> Iterator[Entry | BadMember]:
    """Yields the rows of a batch, of which the first has a number."""
    column = table.column
    values = batch.column(column.name)
    paths: pa.Array | None = None
    if column.is_struct:
        inner = dict(zip((field.name for field in values.type), values.flatten(), strict=True))
        values, paths = inner[_BYTES], inner[_PATH] if column.has_paths else None
    sizes = pc.binary_length(values).to_pylist()
    for row, (size, metadata) in enumerate(zip(sizes, _metadata(table, batch), strict=True)):
        name = str(number + row)
        path = _path(paths[row].as_py()) if paths is not None else ""
        if size is None:
            only = f", only the path {path[:200]!r}" if path else ""
            yield BadMember(name, Reason.EMPTY, f"no bytes{only}")
            continue
        copy_name = path or name + _suffix(values[row])
        if table.names:
            copy_name = table.names.unique(copy_name)
        read = functools.partial(_bytes, values, row, size, table)
        yield Entry(name, read, size, metadata=metadata, copy_name=copy_name)


def _bytes(values: pa.Array, row: int, size: int, table: _Table) -> bytes:
    if size > table.limits.max_member_bytes:
        raise too_large(size, table.limits)
    table.budget.spend(size)
    data: bytes = values[row].as_py()
    return data


def _path(path: str | None) -> str:
    """Returns the name of a copy for a path; "" if it names none."""
    if not path or len(path) > _PATH_LETTERS:
        return ""
    return path.replace("://", "/", 1).lstrip("/")


def _suffix(value: pa.Scalar) -> str:
    """Returns the suffix of a file name for the bytes of an image; "" if they are no image."""
    data = value.as_buffer()
    name = sniff(data.slice(0, min(HEAD_BYTES, data.size)).to_pybytes())
    return _SUFFIXES.get(name, f".{name.lower()}") if name else ""


def _metadata(table: _Table, batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Returns the metadata of each row; none for a row that has too many, or whose texts are malformed."""
    if not table.others:
        return [{}] * batch.num_rows
    plain = pa.schema([table.schema.field(name) for name in table.others])
    others = batch.select(table.others)
    values = _objects(others, plain)
    return [
        _fields(_one_object(others.slice(row, 1), plain) if value is None else value)
        for row, value in enumerate(values)
    ]


def _objects(batch: pa.RecordBatch, plain: pa.Schema) -> list[dict[str, Any] | None]:
    try:
        return list(objects(batch, plain, _METADATA_BYTES))
    except ValueError:  # not UTF-8, for example
        if batch.num_rows <= 1:
            return [None] * batch.num_rows
        half = batch.num_rows // 2
        return _objects(batch.slice(0, half), plain) + _objects(batch.slice(half), plain)


def _one_object(batch: pa.RecordBatch, plain: pa.Schema) -> dict[str, Any] | None:
    """Returns the only row of a batch, estimated without the other values of its dictionaries."""
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return _objects(pa.RecordBatch.from_arrays(columns, names=batch.schema.names), plain)[0]


def _fields(value: dict[str, Any] | None) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        strict_json.check_depth(value)
    except ValueError:
        return {}
    return plain_fields(value)


@contextlib.contextmanager
def _archive_errors() -> Iterator[None]:
    """Reports errors of the file as ArchiveError. Errors of the system, and out of memory, are raised as they are."""
    try:
        yield
    except (ArchiveError, MemoryError):
        raise
    except ImageError as error:
        raise ArchiveError(error.reason, error.detail) from error
    except Exception as error:
        # pyarrow raises OSError for damage, too, but without a number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ArchiveError(Reason.DAMAGED, f"cannot be read as Parquet: {error}"[:300]) from error
