"""Takes tables of other libraries, and finds the column with the images.

A table is anything that hands out Arrow data: by the Arrow PyCapsule interface, as those of pandas, polars, pyarrow and DuckDB do, by a
method `to_arrow`, by the data frame interchange protocol, or as the data sets of Hugging Face. No such library is imported here
but pyarrow.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.interchange

from beam_dedup.core.errors import UsageError
from beam_dedup.options.option import quoted

_MOST_NAMED = 20  # columns in a message
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # the index of a pandas table, if it has no name
_AS_TABLE = "Pass a table with this column, or a list of paths"
_BYTES = "bytes"  # the field of a struct that holds an image


@runtime_checkable
class ArrowStream(Protocol):
    """A table with the Arrow PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


@runtime_checkable
class ArrowConvertible(Protocol):
    """A table that can be converted to Arrow."""

    def to_arrow(self) -> object: ...


@runtime_checkable
class Interchangeable(Protocol):
    """A table with the data frame interchange protocol."""

    def __dataframe__(self, nan_as_null: bool = False, allow_copy: bool = True) -> object: ...


@runtime_checkable
class Formatted(Protocol):
    """A data set of Hugging Face `datasets`, which has a view of its rows as Arrow tables."""

    def with_format(self, type: str) -> Any: ...  # noqa: A002  the name there


AnyTable = ArrowStream | ArrowConvertible | Interchangeable | Formatted


class ImageColumn(NamedTuple):
    """The column with the images: their bytes, or their paths."""

    name: str
    has_bytes: bool


def is_table(given: object) -> bool:
    """Returns whether a value is a table, or a single column of one."""
    return isinstance(given, AnyTable)


def arrow_table(given: object) -> pa.Table:
    """Returns a table of another library as one of Arrow, with the types that a Parquet file can have.

    Raises:
      UsageError: it has no columns, two columns of one name, no rows, or values that Arrow can't hold.
    """
    kind = type(given).__name__
    try:
        table = _converted(given)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        if "non-struct" in str(error):
            raise UsageError(
                f"images must be paths or a table; got a {kind} of one column. {_AS_TABLE}"
            ) from error
        raise UsageError(f"the {kind} can't be converted to an Arrow table: {_line(error)}") from error
    if not isinstance(table, pa.Table):
        raise UsageError(
            f"images must be paths or a table; got a {kind} without columns. Pass the whole table"
        )
    table = table.select(
        [number for number, name in enumerate(table.column_names) if not _PANDAS_INDEX.fullmatch(name)]
    )
    names = table.column_names
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"each column must have a name of its own; {quoted(repeated[0])} occurs twice")
    if not table.num_rows:
        raise UsageError("the table must have at least one row; it has none")
    try:
        return table.cast(pa.schema([field.with_type(_plain_type(field.type)) for field in table.schema]))
    except pa.ArrowException as error:
        raise UsageError(f"the {kind} has values that can't be converted: {_line(error)}") from error


def _converted(given: object) -> object:
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, ArrowStream):
        reader = pa.RecordBatchReader.from_stream(given)
        return reader.read_all()
    if isinstance(given, ArrowConvertible):
        table = given.to_arrow()
        return pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
    if isinstance(given, Formatted):
        return given.with_format("arrow")[:]
    return pa.interchange.from_dataframe(given)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Returns a type for the same values that Parquet can hold: no views, no extension types; texts and bytes of any size."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return pa.struct([field.with_type(_plain_type(field.type)) for field in fields])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_plain_type(kind.value_type)))
    return kind


def find_column(table: pa.Table, image_column: str | None, path_field: str | None) -> ImageColumn:
    """Returns the column with the images.

    Args:
      table: from `arrow_table`.
      image_column: the name of the column with their bytes; None if it was not given.
      path_field: the name of the column with their paths; None if it was not given.

    Raises:
      UsageError: no column has this name, it holds something else, or none was given and several could be it.
    """
    if image_column is not None and path_field is not None:
        raise UsageError(
            "image_column and path_field must not be combined: images are bytes or paths. Remove one"
        )
    if image_column is not None:
        _check(table, "image_column", image_column, has_bytes=True)
        return ImageColumn(image_column, has_bytes=True)
    if path_field is not None:
        _check(table, "path_field", path_field, has_bytes=False)
        return ImageColumn(path_field, has_bytes=False)
    for has_bytes, flag in ((True, "image_column"), (False, "path_field")):
        names = [field.name for field in table.schema if _fits(field.type, has_bytes=has_bytes)]
        if len(names) == 1:
            return ImageColumn(names[0], has_bytes)
        if names:
            kind = "bytes" if has_bytes else "text"
            raise UsageError(
                f"{flag} is required, since {len(names)} columns hold {kind}: {_listed(names)}. "
                f"Name the one with the images, for example: {flag}={quoted(names[0])}"
            )
    raise UsageError(
        f"the table must have a column with the bytes of images, or with their paths; it has {_columns(table)}"
    )


def _check(table: pa.Table, flag: str, name: str, *, has_bytes: bool) -> None:
    if name not in table.column_names:
        raise UsageError(
            f"{flag} must be a column of the table; got {quoted(name)}. It has {_listed(table.column_names)}"
        )
    kind = table.schema.field(name).type
    if not _fits(kind, has_bytes=has_bytes):
        what = f"bytes, or structs with the field {_BYTES}" if has_bytes else "text"
        other = "path_field" if has_bytes else "image_column"
        advice = f". Try {other}={quoted(name)}" if _fits(kind, has_bytes=not has_bytes) else ""
        raise UsageError(f"{flag} must hold {what}; {quoted(name)} holds {str(kind)[:100]}{advice}")


def _fits(kind: pa.DataType, *, has_bytes: bool) -> bool:
    """Returns whether a column of this type can hold images, as bytes or as paths."""
    if has_bytes:
        inner = [kind.field(number) for number in range(kind.num_fields)] if pa.types.is_struct(kind) else []
        return _is_bytes(kind) or [_is_bytes(one.type) for one in inner if one.name == _BYTES] == [True]
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


def has_bytes(kind: pa.DataType) -> bool:
    """Returns whether values of a type hold bytes somewhere."""
    if pa.types.is_dictionary(kind):
        return has_bytes(kind.value_type)
    return _is_bytes(kind) or any(has_bytes(kind.field(number).type) for number in range(kind.num_fields))


def _columns(table: pa.Table) -> str:
    fields: Iterable[pa.Field] = table.schema
    return _listed([f"{field.name} ({str(field.type)[:40]})" for field in fields]) or "no columns"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} others" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED])[:500] + more
