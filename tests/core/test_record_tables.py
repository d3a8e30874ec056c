"""Records as Parquet and CSV: types, row groups, and names that are made to mislead."""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_dedup.core.model import (
    AVRO_SCHEMA,
    RECORD_FIELDS,
    Flag,
    ImageRef,
    Reason,
    Rejection,
    Status,
    Verdict,
    Witness,
    avro_record,
    json_text,
)
from beam_dedup.core.record_tables import (
    CSV_RECORDS,
    RECORDS,
    csv_table,
    rows_of_csv,
    rows_of_parquet,
    tables_of,
    write_csv,
    write_parquet,
)

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
]
HOSTILE = [
    *FORMULAS,
    "'=1",
    "'",
    "''",
    "",
    "NA",
    "null",
    "NULL",
    "nan",
    'a"b',
    'a",b\r\n"c',
    "\\",
    "\ufeffa",
    " =1",
    "\x1b[2J",
    "\u2028",
    "in/\udce5.jpg",
    "in/\\udce5.jpg",
    "😀",
]
WRITE = {"parquet": write_parquet, "csv": write_csv}
READ = {"parquet": rows_of_parquet, "csv": rows_of_csv}


def verdict(uri: str, detail: str = "", **changes: Any) -> Verdict:
    return Verdict(ImageRef(uri, uri, changes.pop("metadata", "")), Status.KEPT, detail=detail, **changes)


def duplicate(uri: str, of: str) -> Verdict:
    return verdict(
        uri,
        f"first bytes: {of}",
        digest=bytes(range(32)),
        width=3,
        size_bytes=5_000_000_000,
        flags=(Flag.TINY, Flag.ANIMATED),
        witness=Witness(of, b"\xab" * 32, 0, None, "trim"),
        metadata=json_text({"=a": [1, None, of]}),
    )


def lines_of(*verdicts: Verdict) -> list[bytes]:
    return [one.json_line().encode() for one in verdicts]


def expected(lines: list[bytes]) -> list[dict[str, Any]]:
    return [avro_record(json.loads(line)) for line in lines]


def round_trip(form: str, lines: list[bytes]) -> list[dict[str, Any]]:
    file = io.BytesIO()
    WRITE[form](file, lines)
    return list(READ[form](io.BytesIO(file.getvalue())))


@pytest.mark.parametrize("form", WRITE)
def test_rows_equal_the_avro_records(form: str) -> None:
    rejected = Verdict.of_rejection(Rejection(ImageRef("r", "r"), Reason.EMPTY))
    lines = lines_of(*(duplicate(name, other) for name in HOSTILE for other in HOSTILE[:3]), rejected)
    assert round_trip(form, lines) == expected(lines)


@pytest.mark.parametrize("form", WRITE)
def test_no_records_make_a_valid_file(form: str) -> None:
    assert round_trip(form, []) == []


@pytest.mark.parametrize("form", WRITE)
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=9), st.text("=+-@'\t\r\n\",a\0\udce5", max_size=9)), max_size=4))
@example([("a\0b", "\0")])
def test_any_text_survives(form: str, texts: list[tuple[str, str]]) -> None:
    """Except that CSV has no NUL, which is written as `\\x00`."""
    lines = lines_of(*(verdict(uri, detail) for uri, detail in texts))
    rows = expected(lines)
    if form == "csv":
        rows = [
            {n: v.replace("\0", "\\x00") if isinstance(v, str) else v for n, v in row.items()} for row in rows
        ]
    assert round_trip(form, lines) == rows


def test_types_are_those_of_avro() -> None:
    assert tuple(RECORDS.names) == tuple(CSV_RECORDS.names) == RECORD_FIELDS
    types = dict(zip(RECORDS.names, RECORDS.types, strict=True))
    assert types["uri"] == types["metadata"] == pa.string()
    assert types["distance"] == types["width"] == pa.int32()
    assert types["size_bytes"] == types["group_size"] == pa.int64()
    assert types["flags"] == pa.list_(pa.field("element", pa.string()))
    nullable = {field["name"]: "null" in field["type"] for field in AVRO_SCHEMA["fields"]}
    assert {field.name: field.nullable for field in RECORDS} == nullable
    assert not any(pa.types.is_nested(field.type) for field in CSV_RECORDS)


@pytest.mark.parametrize("start", [*FORMULAS, "'"])
def test_no_cell_of_text_begins_like_a_formula(start: str) -> None:
    [table] = tables_of(lines_of(duplicate(f"{start}1", f"{start}2")))
    cells = csv_table(table).to_pylist()[0]
    assert cells["uri"] == f"'{start}1"
    assert cells["duplicate_of"] == f"'{start}2"
    for cell in cells.values():
        assert not isinstance(cell, str) or not cell.startswith(tuple(FORMULAS)), cell


def test_other_cells_are_not_changed() -> None:
    plain = ["/in/a=b.jpg", "0a1b", "Z", "~", "{", '"', " -", "1-1"]
    [table] = tables_of(lines_of(*(verdict(uri) for uri in plain)))
    assert csv_table(table)["uri"].to_pylist() == plain


def test_csv_of_a_spreadsheet_is_read() -> None:
    """It has a byte order mark, and no quotes where they are not needed."""
    file = io.BytesIO()
    write_csv(file, lines := lines_of(duplicate("a", "b"), verdict("c")))
    text = file.getvalue().decode().replace("\n", "\r\n")
    header, rest = text.split("\r\n", 1)
    data = b"\xef\xbb\xbf" + header.replace('"', "").encode() + b"\r\n" + rest.encode()
    assert list(rows_of_csv(io.BytesIO(data))) == expected(lines)


def test_tables_are_bounded_by_rows_and_by_bytes() -> None:
    lines = lines_of(*(verdict(f"{number}") for number in range(10)))
    sizes = [[len(table) for table in tables_of(iter(lines), rows)] for rows in (1, 3, 10, 11)]
    assert sizes == [[1] * 10, [3, 3, 3, 1], [10], [10]]
    assert [len(table) for table in tables_of(lines, group_bytes=3 * len(lines[0]))] == [3, 3, 3, 1]


def test_parquet_is_compressed_and_has_a_row_group_per_table() -> None:
    file = io.BytesIO()
    write_parquet(file, lines_of(*(verdict(f"{number:09}") for number in range(70_000))))
    metadata = pa.parquet.ParquetFile(io.BytesIO(file.getvalue())).metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [65536, 4464]
    assert {metadata.row_group(0).column(number).compression for number in range(len(RECORDS))} == {"ZSTD"}


@pytest.mark.parametrize("form", READ)
@pytest.mark.parametrize("size", [4, 100, -10])
def test_damaged_file_is_an_error(form: str, size: int) -> None:
    file = io.BytesIO()
    WRITE[form](file, lines_of(*(duplicate(f'"{number}', "b") for number in range(50))))
    data = file.getvalue()[:size] + (b',"' if form == "csv" else b"")
    with pytest.raises(ValueError, match=r"\w"):
        list(READ[form](io.BytesIO(data)))
