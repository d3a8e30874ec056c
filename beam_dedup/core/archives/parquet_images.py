"""Reads the images in a column of a Parquet file: each row is a member (`table_rows`).

A file is read in bounded steps (`beam_dedup.core.metadata.parquet_rows`). Damage to a row group does not end the
next one.
"""

import bisect
from collections.abc import Collection, Iterator
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from beam_dedup.core.archives.members import BadMember, Entry
from beam_dedup.core.archives.table_rows import (
    Table,
    archive_errors,
    entries,
    likely_column,
    numbers_of,
    table_of,
)
from beam_dedup.core.errors import ArchiveError
from beam_dedup.core.limits import Limits
from beam_dedup.core.metadata.parquet_rows import PARQUET_MAGIC, how_to_read, open_file, read_footer
from beam_dedup.core.model import Reason

__all__ = ["PARQUET_MAGIC", "advice", "row_batches", "row_groups"]

_KIND = "Parquet"


class _File(NamedTuple):
    """A file, and what is read of it."""

    stream: BinaryIO
    footer: pq.FileMetaData
    table: Table

    def is_read(self, path: str) -> bool:
        """Returns whether pyarrow reads a column of this path if the wanted columns are read."""
        names = (self.table.column.name, *self.table.others)
        return any(path == name or path.startswith(f"{name}.") for name in names)


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
    with archive_errors(_KIND):
        file = _opened(stream, column, limits, wanted is None)
    rows = numbers_of(wanted)
    return _rows_of_groups(file, rows)


def advice(stream: BinaryIO) -> str:
    """Returns a text about a file that lacks the column, which names the likely one."""
    try:
        schema = open_file(stream, read_footer(stream)).schema_arrow
    except Exception:  # noqa: BLE001  the file may be damaged in any way
        return ""
    name = likely_column(schema)
    bytes_text = f"with bytes in the column {name!r}" if name else "without a column of bytes"
    return f"a Parquet file {bytes_text}"


def row_batches(
    stream: BinaryIO, column: str, limits: Limits, wanted: Collection[int]
) -> tuple[pa.Schema, Iterator[tuple[int, pa.RecordBatch]]]:
    """Returns the schema, and an iterator over batches of rows with all columns: the number of the first row, and the batch.

    Texts may be dictionaries (`beam_dedup.core.metadata.parquet_rows.plain_batches` converts them). Row groups without any
    of the wanted rows are skipped. Both raise what `row_groups` raises.
    """
    with archive_errors(_KIND):
        file = _opened(stream, column, limits, with_others=False)
    return file.table.schema, _all_columns(file, sorted(wanted))


def _all_columns(file: _File, wanted: list[int]) -> Iterator[tuple[int, pa.RecordBatch]]:
    for group, begin, end in _groups(file, wanted):
        with archive_errors(_KIND):
            yield from _batches(file, group, begin, end, with_all=True)


def _opened(stream: BinaryIO, name: str, limits: Limits, with_others: bool) -> _File:
    size_bytes = stream.seek(0, 2)
    footer = read_footer(stream)
    sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    if min(sizes, default=0) < 0:
        raise ArchiveError(Reason.DAMAGED, "a row group has a negative number of rows")
    if sum(sizes) > limits.max_members:
        raise ArchiveError(Reason.TOO_LARGE, f"{sum(sizes)} rows; the limit is {limits.max_members}")
    schema = open_file(stream, footer).schema_arrow
    return _File(stream, footer, table_of(schema, name, limits, size_bytes, with_others))


def _groups(file: _File, wanted: list[int] | None) -> Iterator[tuple[int, int, int]]:
    """Yields the row groups with wanted rows: their numbers, those of their first rows, and of the rows after them."""
    begin = 0
    for group in range(file.footer.num_row_groups):
        end = begin + file.footer.row_group(group).num_rows
        # An empty table has a row group without rows, and no page in it.
        if begin < end and (
            wanted is None or bisect.bisect_left(wanted, begin) < bisect.bisect_left(wanted, end)
        ):
            yield group, begin, end
        begin = end


def _rows_of_groups(file: _File, wanted: list[int] | None) -> Iterator[Iterator[Entry | BadMember]]:
    for group, begin, end in _groups(file, wanted):
        if file.table.budget.is_spent:
            return
        yield _rows(file, group, begin, end)


def _rows(file: _File, group: int, begin: int, end: int) -> Iterator[Entry | BadMember]:
    with archive_errors(_KIND):
        for number, batch in _batches(file, group, begin, end):
            yield from entries(file.table, batch, number)


def _batches(
    file: _File, group: int, number: int, end: int, with_all: bool = False
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields the rows of a row group, which have the numbers from `number` to `end`, and the number of the first of each batch.

    Args:
      file: the file.
      group: the number of the row group.
      number: of its first row.
      end: the number of the row after its last.
      with_all: whether all columns are read, not only the wanted ones.
    """
    bytes_path = file.table.column.bytes_path
    texts, size = how_to_read(
        file.stream, file.footer, group, (lambda _: True) if with_all else file.is_read, bytes_path
    )
    columns = None if with_all else [file.table.column.name, *file.table.others]
    opened = open_file(file.stream, file.footer, texts)
    for batch in opened.iter_batches(size, row_groups=[group], columns=columns, use_threads=False):
        if number + batch.num_rows > end:
            break
        yield number, batch
        number += batch.num_rows
    else:
        if number == end:
            return
    raise ArchiveError(Reason.DAMAGED, f"row group {group} has another number of rows than recorded")
