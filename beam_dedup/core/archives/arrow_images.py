"""Reads the images in a column of an Arrow IPC file or stream (Feather 2): each row is a member (`table_rows`).

Record batches are read one after the other, each after a check of its sizes (`arrow_messages`), and all values of a batch
are checked before they are used. After damage, the rest of the file is not read. The files that `datasets` keeps in its
cache and writes by `save_to_disk` are such streams.
"""

import bisect
from collections.abc import Collection, Iterator
from typing import BinaryIO

import pyarrow as pa

from beam_dedup.core.archives.arrow_messages import CheckedMessages
from beam_dedup.core.archives.members import BadMember, Entry
from beam_dedup.core.archives.table_rows import (
    Table,
    archive_errors,
    entries,
    holds_bytes,
    likely_column,
    numbers_of,
    table_of,
)
from beam_dedup.core.errors import ArchiveError
from beam_dedup.core.limits import Limits
from beam_dedup.core.metadata.row import most_rows
from beam_dedup.core.model import Reason

_KIND = "Arrow"
_MOST_COLUMNS = 10_000


def record_batches(
    stream: BinaryIO, column: str, limits: Limits, wanted: Collection[str] | None = None
) -> Iterator[Iterator[Entry | BadMember]]:
    """Opens a file, and returns an iterator with one part: an iterator over its rows.

    Args:
      stream: seekable.
      column: the name of the column with the images.
      limits: of the images and of the number of rows.
      wanted: names of rows; record batches without any of them are skipped, and metadata are not read. None wants all rows.
    Raises:
      ArchiveError: the file is damaged, or has no such column.
      OSError: from reading the stream.
    """
    with archive_errors(_KIND):
        size_bytes = stream.seek(0, 2)
        reader = _opened(stream, limits)
        table = table_of(reader.schema, column, limits, size_bytes, wanted is None, _is_no_metadata)
    rows = numbers_of(wanted)
    return iter([_entries(reader, table, rows)])


def row_batches(
    stream: BinaryIO, column: str, limits: Limits, wanted: Collection[int]
) -> tuple[pa.Schema, Iterator[tuple[int, pa.RecordBatch]]]:
    """Returns the schema, and an iterator over batches of rows with all columns: the number of the first row, and the batch.

    Batches without any of the wanted rows are left out. Both raise what `record_batches` raises.
    """
    with archive_errors(_KIND):
        reader = _opened(stream, limits)
        table_of(reader.schema, column, limits, 0)
        for field in reader.schema:
            if _may_repeat(field.type):
                detail = (
                    f"the column {field.name[:100]!r} holds {str(field.type)[:100]}, which shards can't hold"
                )
                raise ArchiveError(Reason.UNSUPPORTED, detail)
    return reader.schema, _all_columns(reader, sorted(wanted))


def advice(stream: BinaryIO) -> str:
    """Returns a text about a file that lacks the column, which names the likely one."""
    try:
        name = likely_column(_opened(stream, Limits()).schema)
    except Exception:  # noqa: BLE001  the file may be damaged in any way
        return ""
    return f"an Arrow file {f'with bytes in the column {name!r}' if name else 'without a column of bytes'}"


def _opened(stream: BinaryIO, limits: Limits) -> pa.RecordBatchReader:
    rows = min(limits.max_members, most_rows(stream.seek(0, 2)))
    reader = pa.ipc.open_stream(CheckedMessages(stream, rows))
    if len(reader.schema) > _MOST_COLUMNS:
        detail = f"{len(reader.schema)} columns; the limit is {_MOST_COLUMNS}"
        raise ArchiveError(Reason.TOO_LARGE, detail)
    return reader


def _batches(reader: pa.RecordBatchReader, wanted: list[int] | None) -> Iterator[tuple[int, pa.RecordBatch]]:
    number = 0
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        end = number + batch.num_rows
        if wanted is None or bisect.bisect_left(wanted, number) < bisect.bisect_left(wanted, end):
            batch.validate(full=True)  # or offsets may lead outside of the buffers
            yield number, batch
        number = end
        if wanted and wanted[-1] < number:
            return


def _entries(
    reader: pa.RecordBatchReader, table: Table, wanted: list[int] | None
) -> Iterator[Entry | BadMember]:
    with archive_errors(_KIND):
        for number, batch in _batches(reader, wanted):
            if table.budget.is_spent:
                return
            yield from entries(table, batch, number)


def _all_columns(reader: pa.RecordBatchReader, wanted: list[int]) -> Iterator[tuple[int, pa.RecordBatch]]:
    with archive_errors(_KIND):
        yield from _batches(reader, wanted)


def _is_no_metadata(kind: pa.DataType) -> bool:
    return holds_bytes(kind) or _may_repeat(kind)


def _may_repeat(kind: pa.DataType) -> bool:
    """Returns whether values of a type may repeat values in memory, so that they take much more elsewhere."""
    if isinstance(kind, pa.BaseExtensionType):
        return _may_repeat(kind.storage_type)
    if pa.types.is_dictionary(kind):
        value = kind.value_type
        return not (
            pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_primitive(value)
        )
    is_view = pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    is_list_view = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    if is_view or is_list_view or pa.types.is_run_end_encoded(kind) or pa.types.is_union(kind):
        return True
    return any(_may_repeat(kind.field(number).type) for number in range(kind.num_fields))
