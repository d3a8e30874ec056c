"""Defines the result of `beam_dedup.dedup`."""

import os
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_dedup.core.errors import DedupError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason, Status
from beam_dedup.notebook.contact_sheet import ContactSheet, make_sheet
from beam_dedup.notebook.inputs import TableInput, write_rows
from beam_dedup.notebook.tables import ImageColumn

ROW = "row"  # the column of the result of a table, besides the fields of records


class Source(NamedTuple):
    """From where the images of a result can be read again.

    Attributes:
      directory: to which relative paths are relative.
      limits: with which images are read.
      table: the table that was given, if its rows hold the bytes of images.
      column: its column with the images.
    """

    directory: str
    limits: Limits
    table: pa.Table | None = None
    column: ImageColumn | None = None


class DedupResult:
    """The verdicts on some images, as `dedup` returns them. A notebook shows how many there are.

    Attributes:
      summary: what the command `dedup` prints at the end of a run: counts, reasons, time.
      counts: the counts by name, as the option `--counts` writes them.
    """

    def __init__(self, records: pa.Table, counts: Mapping[str, Any], summary: str, source: Source) -> None:
        self._records = records
        self._source = source
        self.counts = dict(counts)
        self.summary = summary

    def __len__(self) -> int:
        """Returns the number of images, rejected ones included."""
        return int(self._records.num_rows)

    def __repr__(self) -> str:
        return f"<DedupResult: {self.summary.splitlines()[0]}>"

    def to_arrow(self) -> pa.Table:
        """Returns one record per image, as a pyarrow table.

        The columns are the fields of records (docs/reference/records.md), sorted by `uri`. The result of a table has one column
        more, `row`: the number of the row, from 0, and is sorted by it.
        """
        return self._records

    def to_pandas(self) -> Any:
        """Returns one record per image, as a pandas DataFrame with the columns of `to_arrow`.

        Integers and truth values have the types of pandas that can be null, such as Int64.

        Raises:
          DedupError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise DedupError(
                "to_pandas() needs pandas, which is not installed. Try pip install pandas, or use to_arrow()"
            ) from None
        types = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
        # Without the metadata, which would name the types of the columns of a file.
        return self._records.replace_schema_metadata(None).to_pandas(types_mapper=types.get)

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Returns the groups of duplicates: by the URI of the kept image, the records of its duplicates, exact ones first.

        Kept images without duplicates have no group. The kept image may be one of `reference`, which has no record.
        """
        found: dict[str, list[dict[str, Any]]] = {}
        for record in self._with_status(Status.DUPLICATE):
            found.setdefault(record["duplicate_of"], []).append(record)
        for records in found.values():
            records.sort(key=lambda record: (record["reason"] != Reason.EXACT, record["distance"] or 0))
        return found

    def show(self, groups: int = 20, images: int = 8) -> ContactSheet:
        """Returns a contact sheet of groups of duplicates, which a notebook shows as the value of a cell.

        The images are read again. Those that have changed, and images in object stores, have no thumbnail.

        Args:
          groups: how many groups, from 1 to 500.
          images: how many images of each group, the kept one included, from 2 to 100.

        Raises:
          UsageError: a number is out of range.
        """
        kept = {record["uri"]: record for record in self._with_status(Status.KEPT)}
        with tempfile.TemporaryDirectory(prefix="dedup-") as scratch:
            return make_sheet(
                self.groups(),
                kept,
                groups,
                images,
                lambda uris: self._sources(uris, scratch),
                self._source.directory,
                self._source.limits,
            )

    def _with_status(self, status: Status) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = self._records.filter(pc.field("status") == status.value).to_pylist()
        return records

    def _sources(self, uris: Iterable[str], scratch: str) -> dict[str, str]:
        """Returns from which URIs images can be read; rows of a table are written to a file for that."""
        table, column = self._source.table, self._source.column
        if table is None or column is None:
            return {uri: uri for uri in uris}
        rows = dict(zip(self._records["uri"].to_pylist(), self._records[ROW].to_pylist(), strict=True))
        written = [(uri, row) for uri in uris if (row := rows.get(uri)) is not None]
        paths = write_rows(
            table, column.name, [row for _, row in written], os.path.join(scratch, "rows.parquet")
        )
        return {uri: uri for uri in uris} | {uri: path for (uri, _), path in zip(written, paths, strict=True)}


def read_result(
    records: str, counts: Mapping[str, Any], summary: str, source: Source, given: TableInput | None
) -> DedupResult:
    """Returns the result of a run.

    Args:
      records: the Parquet file of its records.
      counts: what it counted.
      summary: what it printed.
      source: from where the images can be read again.
      given: the table that was given; None if paths were.
    """
    table = pq.read_table(records)
    if given is not None:
        table = _of_rows(table, given)
    first_output = summary.find("\nRecords: ")  # from there on, temporary files are named
    return DedupResult(table, counts, summary[:first_output].strip(), source)


def _of_rows(records: pa.Table, given: TableInput) -> pa.Table:
    """Returns records of a table with the number of the row, without the names of temporary files."""
    uris = records["uri"].to_pylist()
    rows = pa.array([given.row(uri) for uri in uris], pa.int64())
    found = records
    for name in ("uri", "duplicate_of"):
        texts = [None if uri is None else given.shown(uri) for uri in found[name].to_pylist()]
        place = found.column_names.index(name)
        found = found.set_column(place, found.field(name), pa.array(texts, pa.string()))
    if found["also"].null_count < found.num_rows:
        also = [_also(value, given) for value in found["also"].to_pylist()]
        place = found.column_names.index("also")
        found = found.set_column(place, found.field("also"), pa.array(also, found.field("also").type))
    found = found.append_column(ROW, rows)
    return found.sort_by([(ROW, "ascending"), ("uri", "ascending")])


def _also(value: dict[str, Any] | None, given: TableInput) -> dict[str, Any] | None:
    if value is None:
        return None
    return value | {"images": [one | {"uri": given.shown(one["uri"])} for one in value["images"]]}
