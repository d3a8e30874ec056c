"""Writes a table as files that the command line reads, and finds the row of the table for a URI of the records."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_dedup.core.archives.members import file_uri, member_uri
from beam_dedup.core.errors import UsageError
from beam_dedup.core.metadata.row import PATH_KEY, Row, row_of
from beam_dedup.core.paths import SEPARATOR
from beam_dedup.notebook.tables import ImageColumn, has_bytes

_ROWS_PER_FILE = 1000  # of images: the most
_FILES_PER_PROCESS = 4  # so that all decoder processes have work until the end
_LIST_ROWS = 10_000  # of a row group of a list of paths
_IMAGES, _LIST = "images", "list.parquet"


@dataclasses.dataclass(frozen=True, slots=True)
class TableInput:
    """A table as an input of the command line.

    Attributes:
      temporary: how the URIs of temporary files begin.
      rows: the number of the row, from 0, by the URI of its image or archive.
    """

    temporary: str
    rows: Mapping[str, int]

    def row(self, uri: str) -> int | None:
        """Returns the number of the row that a URI of the records names; None if it names none.

        >>> listed = TableInput("/tmp/x", {"a.jpg": 0, "b.zip": 1})
        >>> listed.row("b.zip!c.jpg"), listed.row("d.jpg")
        (1, None)
        """
        found = self.rows.get(uri)
        return self.rows.get(uri.partition(SEPARATOR)[0]) if found is None else found

    def shown(self, uri: str) -> str:
        """Returns a URI as users see it: that of a temporary file as the number of the row.

        >>> listed = TableInput("/tmp/x", {"/tmp/x/0.parquet!7": 7, "a.jpg": 8})
        >>> listed.shown("/tmp/x/0.parquet!7"), listed.shown("a.jpg")
        ('row 7', 'a.jpg')
        """
        return f"row {self.row(uri)}" if uri.startswith(self.temporary) else uri


def arguments(column: ImageColumn, directory: str) -> list[str]:
    """Returns the options that name the files which `write_input` writes to a directory."""
    if column.has_bytes:
        return [f"--dump_dir={os.path.join(directory, _IMAGES)}", f"--image_column={column.name}"]
    return [f"--json_metadata={os.path.join(directory, _LIST)}"]


def write_input(table: pa.Table, column: ImageColumn, directory: str, processes: int) -> TableInput:
    """Writes a table to Parquet files: with the bytes of images, or one list of paths.

    Columns without images become metadata, except those with bytes.

    Args:
      table: from `tables.arrow_table`.
      column: the one with the images.
      directory: for the files.
      processes: number of decoder processes; each reads one file of images at a time.

    Raises:
      UsageError: a file can't hold the values of a column.
    """
    others = [field.name for field in table.schema if field.name != column.name and not has_bytes(field.type)]
    write = _write_images if column.has_bytes else _write_list
    rows = write(table.select([column.name, *others]), column.name, directory, processes)
    return TableInput(f"{file_uri(directory)}/", rows)


def write_rows(table: pa.Table, column: str, rows: Sequence[int], path: str) -> list[str]:
    """Writes the images of some rows to a Parquet file, and returns their URIs."""
    _write(table.select([column]).take(rows), path, _ROWS_PER_FILE)
    return [member_uri(path, str(number)) for number in range(len(rows))]


def _write_images(table: pa.Table, _column: str, directory: str, processes: int) -> dict[str, int]:
    """Writes the bytes of images, and returns the rows by URI.

    URIs are compared as texts, so row 10 of a file sorts before its row 2. The rows are in such an order that the URIs
    sort like the rows of the table: then `--keep first` prefers the first row.
    """
    directory = os.path.join(directory, _IMAGES)
    os.mkdir(directory)
    size = min(_ROWS_PER_FILE, -(-table.num_rows // (_FILES_PER_PROCESS * processes)))
    digits = len(str(table.num_rows // size))
    rows: dict[str, int] = {}
    for begin in range(0, table.num_rows, size):
        part = table.slice(begin, size)
        path = os.path.join(directory, f"{begin // size:0{digits}}.parquet")
        places = sorted(range(part.num_rows), key=str)  # of each row in the file
        taken = np.empty(part.num_rows, np.int64)
        taken[places] = np.arange(part.num_rows)
        _write(part.take(taken), path, _ROWS_PER_FILE)
        rows |= {member_uri(path, str(place)): begin + row for row, place in enumerate(places)}
    return rows


def _write_list(table: pa.Table, column: str, directory: str, _processes: int) -> dict[str, int]:
    """Writes a list of paths, and returns the rows by URI; of a path that occurs twice, the first row."""
    paths = table[column]
    if pa.types.is_dictionary(paths.type):
        paths = paths.cast(paths.type.value_type)
    others = table.drop_columns([name for name in (column, PATH_KEY) if name in table.column_names])
    path = os.path.join(directory, _LIST)
    _write(others.append_column(PATH_KEY, paths), path, _LIST_ROWS)
    rows: dict[str, int] = {}
    for row, text in enumerate(paths.to_pylist()):
        number = row + 1  # the command line counts rows of lists from 1
        rows[member_uri(path, str(number))] = row
        named = row_of(number, {PATH_KEY: text})
        if isinstance(named, Row):
            rows.setdefault(file_uri(named.path), row)
    return rows


def _write(table: pa.Table, path: str, group_rows: int) -> None:
    """Writes a Parquet file whose pages hold few images.

    Raises:
      UsageError: Parquet can't hold the values of a column.
    """
    try:
        pq.write_table(
            table,
            path,
            row_group_size=group_rows,
            compression="none",  # images are compressed already
            use_dictionary=False,
            write_statistics=False,
            write_batch_size=1,  # a page ends after the image with which it is large enough
        )
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"a Parquet file can't hold the table: {reason}. Leave out this column") from error
