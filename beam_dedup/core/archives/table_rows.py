"""Reads the images in a column of a table, batch by batch: each row is a member, named by its number from 0.

The column holds bytes, or structs of `bytes` and `path`, as Hugging Face `datasets` writes them. Other columns
are metadata, without those that hold bytes. Copies are named by the path, or by the number and the format.

The modules of the formats (`parquet_images`, `arrow_images`) read the batches.
"""

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import strict_json
from beam_dedup.core.archives.members import BadMember, Budget, Entry, Names, too_large
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.imaging.formats import HEAD_BYTES, sniff
from beam_dedup.core.limits import Limits
from beam_dedup.core.metadata.parquet_rows import objects
from beam_dedup.core.metadata.row import plain_fields
from beam_dedup.core.model import Reason

BYTES, PATH = "bytes", "path"  # fields of a struct
_METADATA_BYTES = 1 << 20  # of a row, as Python objects
_PATH_LETTERS = 4096  # a longer path names no copy
_MOST_NAMED = 10  # columns in a message
_LIKELY_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "bytes", "content")
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif"}  # of other formats, their names


class ImageColumn(NamedTuple):
    """The column with the images."""

    name: str
    is_struct: bool
    has_paths: bool

    @property
    def bytes_path(self) -> str:
        """The path of the column of bytes, as Parquet names it."""
        return f"{self.name}.{BYTES}" if self.is_struct else self.name

    def values(self, batch: pa.RecordBatch) -> tuple[pa.Array, pa.Array | None]:
        """Returns the bytes of the images of a batch, and their paths; None if there are no paths."""
        values = batch.column(self.name)
        if not self.is_struct:
            return values, None
        inner = dict(zip((field.name for field in values.type), values.flatten(), strict=True))
        return inner[BYTES], inner[PATH] if self.has_paths else None


class Table(NamedTuple):
    """What is read of a table."""

    schema: pa.Schema
    column: ImageColumn
    others: list[str]  # columns with metadata
    limits: Limits
    budget: Budget
    names: Names | None  # of copies; None if no paths name them


def numbers_of(names: Collection[str] | None) -> list[int] | None:
    """Returns the sorted numbers of the rows with these names; None, for all rows, if there are no names."""
    return None if names is None else sorted(int(name) for name in names if name.isdecimal())


def likely_column(schema: pa.Schema) -> str:
    """Returns the name of the column that probably holds images; "" if there is none."""
    names = [field.name for field in schema if image_column(field) is not None and field.name.isprintable()]
    likely = [name for name in _LIKELY_NAMES if name in names]
    return (likely or names or [""])[0][:200]


def table_of(
    schema: pa.Schema,
    name: str,
    limits: Limits,
    size_bytes: int,
    with_others: bool = True,
    is_left_out: Callable[[pa.DataType], bool] | None = None,
) -> Table:
    """Chooses what is read of a table.

    Args:
      schema: of the table.
      name: of the column with the images.
      limits: of the images.
      size_bytes: of the file.
      with_others: whether metadata are read.
      is_left_out: whether columns of a type are no metadata; by default those that hold bytes.
    Raises:
      ArchiveError: the table has no such column.
    """
    fields = [field for field in schema if field.name == name]
    if len(fields) != 1:
        known = ", ".join(field.name for field in list(schema)[:_MOST_NAMED])[:200]
        count = f"{len(fields)} columns are named" if fields else "no column is named"
        raise ArchiveError(Reason.UNSUPPORTED, f"{count} {name!r}; the file has {known}")
    column = image_column(fields[0])
    if column is None:
        kind = str(fields[0].type)[:100]
        detail = f"the column {name!r} holds {kind}, neither bytes nor structs of {BYTES} and {PATH}"
        raise ArchiveError(Reason.UNSUPPORTED, detail)
    all_names = [field.name for field in schema]
    others = [
        field.name
        for field in schema
        if with_others
        and field.name != name
        and all_names.count(field.name) == 1
        and not (is_left_out or holds_bytes)(field.type)
    ]
    names = Names() if column.has_paths and with_others else None
    return Table(schema, column, others, limits, Budget(limits, size_bytes), names)


def image_column(field: pa.Field) -> ImageColumn | None:
    """Returns the column of images that a field may be; None if its type is another one."""
    if _is_bytes(field.type):
        return ImageColumn(field.name, is_struct=False, has_paths=False)
    if not pa.types.is_struct(field.type):
        return None
    inner = [field.type.field(number) for number in range(field.type.num_fields)]
    if [_is_bytes(one.type) for one in inner if one.name == BYTES] != [True]:
        return None
    paths = [
        pa.types.is_string(one.type) or pa.types.is_large_string(one.type)
        for one in inner
        if one.name == PATH
    ]
    return ImageColumn(field.name, is_struct=True, has_paths=paths == [True])


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


def holds_bytes(kind: pa.DataType) -> bool:
    """Returns whether values of a type hold bytes."""
    if isinstance(kind, pa.BaseExtensionType):
        return holds_bytes(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return holds_bytes(kind.value_type)
    inner = (kind.field(number).type for number in range(kind.num_fields))
    return _is_bytes(kind) or pa.types.is_binary_view(kind) or any(map(holds_bytes, inner))


def entries(table: Table, batch: pa.RecordBatch, number: int) -> Iterator[Entry | BadMember]:
    """Yields the rows of a batch, of which the first has a number."""
    values, paths = table.column.values(batch)
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


def _bytes(values: pa.Array, row: int, size: int, table: Table) -> bytes:
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
    return suffix_of(memoryview(value.as_buffer()))


def suffix_of(data: memoryview) -> str:
    """Returns the suffix of a file name for the bytes of an image; "" if they are no image."""
    name = sniff(bytes(data[:HEAD_BYTES]))
    return _SUFFIXES.get(name, f".{name.lower()}") if name else ""


def _metadata(table: Table, batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Returns the metadata of each row; none for a row that has too many, or whose texts are malformed."""
    if not table.others:
        return [{}] * batch.num_rows
    plain = pa.schema([_plain_field(table.schema.field(name)) for name in table.others])
    others = batch.select(table.others)
    values = _objects(others, plain)
    return [
        _fields(_one_object(others.slice(row, 1), plain) if value is None else value)
        for row, value in enumerate(values)
    ]


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


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
def archive_errors(kind: str) -> Iterator[None]:
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
        raise ArchiveError(Reason.DAMAGED, f"cannot be read as {kind}: {error}"[:300]) from error
