r"""Writes records as Parquet and CSV, and reads them back.

The columns and their types follow from `AVRO_SCHEMA`: text, integers and booleans that may be null, and lists. In
CSV, a list is JSON text.

A spreadsheet executes a cell that begins like a formula. So CSV puts a `'` before text that begins with one of
`_FORMULA_STARTS`, or with `'` itself, so that reading can remove it again.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from beam_dedup.core.model import AVRO_SCHEMA, avro_record, json_text

CSV_BEGINNINGS = (b'"uri",', b"uri,")  # a spreadsheet writes names without quotes
GROUP_ROWS = 1 << 16  # most rows of a row group
GROUP_BYTES = 1 << 26  # of a row group, as JSON: it ends with the row that exceeds them
_CSV_BLOCK_BYTES = 1 << 24  # read at once; also the most of one row
_ROWS = 1000  # converted at once

# In the middle, the full-width forms, which some spreadsheets take for the same signs.
_FORMULA_STARTS = "=+@\t\r\n\uff1d\uff0b\uff0d\uff20-"
_GUARDED = rf"\A(['{_FORMULA_STARTS}])"

_PLAIN_TYPES = {
    "string": pa.string(),
    "int": pa.int32(),
    "long": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
}
_PANDAS_TYPES = {"int32": "Int32", "int64": "Int64", "bool": "boolean"}  # the types of pandas that have nulls


def arrow_type(avro_type: Any) -> pa.DataType:
    """Returns the Arrow type of an Avro type; of a union with null, that of the other type.

    >>> arrow_type(["null", "int"]), arrow_type({"type": "array", "items": "string"})
    (DataType(int32), ListType(list<element: string>))
    """
    if isinstance(avro_type, list):
        [other] = [one for one in avro_type if one != "null"]
        return arrow_type(other)
    if isinstance(avro_type, str):
        return _PLAIN_TYPES[avro_type]
    if avro_type["type"] == "array":
        return pa.list_(pa.field("element", arrow_type(avro_type["items"])))
    return pa.struct([(field["name"], arrow_type(field["type"])) for field in avro_type["fields"]])


def pandas_metadata(schema: pa.Schema) -> bytes:
    """Returns what makes pandas read columns with integers and nulls as integers instead of floats."""
    columns = [
        {
            "name": field.name,
            "field_name": field.name,
            "pandas_type": str(field.type) if str(field.type) in _PANDAS_TYPES else "unicode",
            "numpy_type": _PANDAS_TYPES.get(str(field.type), "object"),
            "metadata": None,
        }
        for field in schema
    ]
    return json.dumps(
        {"index_columns": [], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
    ).encode()


def _schema() -> pa.Schema:
    fields = [
        pa.field(
            field["name"],
            arrow_type(field["type"]),
            nullable="null" in field["type"],
        )
        for field in AVRO_SCHEMA["fields"]
    ]
    schema = pa.schema(fields)
    return schema.with_metadata({"beam_dedup": "records", "pandas": pandas_metadata(schema)})


RECORDS: pa.Schema = _schema()
# Lists and structures are JSON text.
CSV_RECORDS: pa.Schema = pa.schema(
    [field.with_type(pa.string()) if pa.types.is_nested(field.type) else field for field in RECORDS]
)


def write_parquet(file: BinaryIO, lines: Iterable[bytes]) -> None:
    """Writes records, given as JSON, as a Parquet file, with at most `GROUP_ROWS` rows per row group."""
    with pa.parquet.ParquetWriter(file, RECORDS, compression="zstd") as writer:
        for table in tables_of(lines):
            writer.write_table(table, row_group_size=GROUP_ROWS)


def write_csv(file: BinaryIO, lines: Iterable[bytes]) -> None:
    """Writes records, given as JSON, as a CSV file. Text is in quotes; a null is an empty cell without quotes."""
    with pa.csv.CSVWriter(file, CSV_RECORDS) as writer:
        for table in tables_of(lines):
            writer.write_table(csv_table(table))


def tables_of(
    lines: Iterable[bytes], group_rows: int = GROUP_ROWS, group_bytes: int = GROUP_BYTES
) -> Iterator[pa.Table]:
    """Yields records, given as JSON, as tables of `RECORDS` of bounded size."""
    parts: list[pa.Table] = []
    rows: list[dict[str, Any]] = []
    count = size = 0
    for line in lines:
        rows.append(avro_record(json.loads(line)))
        count, size = count + 1, size + len(line)
        is_full = count >= group_rows or size >= group_bytes
        if is_full or len(rows) >= _ROWS:  # Python's objects take many times the memory of a table
            parts.append(pa.Table.from_pylist(rows, RECORDS))
            rows = []
        if is_full:
            yield pa.concat_tables(parts)
            parts, count, size = [], 0, 0
    if rows or parts:
        yield pa.concat_tables([*parts, pa.Table.from_pylist(rows, RECORDS)])


def csv_table(table: pa.Table) -> pa.Table:
    """Returns a table of `RECORDS` as one of `CSV_RECORDS`, whose text no spreadsheet takes for a formula."""
    columns = []
    for field in RECORDS:
        column = table[field.name]
        if pa.types.is_nested(field.type):
            column = pa.chunked_array(
                [[None if value is None else json_text(value) for value in column.to_pylist()]], pa.string()
            )
        columns.append(guarded(column) if pa.types.is_string(column.type) else column)
    return pa.Table.from_arrays(columns, schema=CSV_RECORDS)


def guarded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns text in a form that CSV can hold and that no spreadsheet takes for a formula."""
    column = pc.replace_substring(column, "\0", "\\x00")  # readers end or refuse a file at NUL
    return pc.replace_substring_regex(column, pattern=_GUARDED, replacement=r"'\1")


def rows_of_parquet(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yields the rows of a Parquet file.

    Raises:
      ValueError: it can't be read.
    """
    try:
        for batch in pa.parquet.ParquetFile(stream).iter_batches(_ROWS):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error) from error


def rows_of_csv(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yields the rows of a CSV file that `write_csv` wrote, with lists as lists.

    Raises:
      ValueError: it can't be read.
    """
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    reading = pa.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES)
    converting = pa.csv.ConvertOptions(
        column_types=CSV_RECORDS,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    try:
        for batch in pa.csv.open_csv(stream, reading, parsing, converting):
            for start in range(0, len(batch), _ROWS):
                yield from map(_of_csv, batch.slice(start, _ROWS).to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error) from error


def _of_csv(row: dict[str, Any]) -> dict[str, Any]:
    plain = {
        name: value[1:] if isinstance(value, str) and value.startswith("'") else value
        for name, value in row.items()
    }
    for field in RECORDS:
        if pa.types.is_nested(field.type) and isinstance(text := plain.get(field.name), str):
            plain[field.name] = json.loads(text)
    return plain


def _unreadable(error: Exception) -> Exception:
    """Returns the error of a damaged file, or the error itself if the system refused to read it."""
    if isinstance(error, OSError) and error.errno:
        return error
    return ValueError(str(error).split("\n")[0])
