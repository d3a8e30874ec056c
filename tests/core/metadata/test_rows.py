"""Metadata files in JSON Lines, Avro and Parquet; errors are reported with the number of their row."""

import datetime
import io
import json
import random
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup.core.metadata.json_rows import json_rows
from beam_dedup.core.metadata.rows import BadRow, Row, rows
from beam_dedup.core.model import Reason

RECORDS: list[dict[str, Any]] = [
    {"__path__": "/a/1.jpg", "Content-Type": "image/jpeg", "Image Width": "640 pixels", "tags": ["x", "y"]},
    {"__path__": "gs://bucket/2.jpg", "Content-Type": "image/png"},
    {"__path__": "日本.jpg", "Content-Type": "image/png"},
]
WANTED = [
    Row(number, str(one["__path__"]), {name: value for name, value in one.items() if name != "__path__"})
    for number, one in enumerate(RECORDS, 1)
]


def json_lines(*values: Any) -> bytes:
    return b"".join(
        (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n" for value in values
    )


def avro(records: list[dict[str, Any]]) -> bytes:
    fields: list[dict[str, Any]] = [
        {"name": "__path__", "type": ["null", "string"], "default": None},
        {"name": "Content-Type", "type": ["null", "string"], "default": None},
        {"name": "Image Width", "type": ["null", "string"], "default": None},
        {"name": "tags", "type": ["null", {"type": "array", "items": "string"}], "default": None},
    ]
    schema = {
        "type": "record",
        "name": "Image",
        "fields": [{**field, "name": _avro_name(str(field["name"]))} for field in fields],
    }
    out = io.BytesIO()
    fastavro.writer(
        out,
        schema,
        [{_avro_name(name): value for name, value in one.items()} for one in records],
    )
    return out.getvalue()


def _avro_name(name: str) -> str:
    """Replaces characters that Avro does not allow in names."""
    return name.replace("-", "_").replace(" ", "_")


def parquet(records: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), out)
    return out.getvalue()


def read(data: bytes) -> list[Row | BadRow]:
    return list(rows(io.BytesIO(data)))


def test_json_lines_with_bom_crlf_and_empty_lines() -> None:
    assert read(json_lines(*RECORDS)) == WANTED
    assert read(b"\xef\xbb\xbf" + json_lines(*RECORDS).replace(b"\n", b"\r\n")[:-2]) == WANTED
    assert read(b"") == []
    assert [one.number for one in read(b"\n \n" + json_lines(*RECORDS))] == [3, 4, 5]


def test_empty_parquet_table_has_no_rows() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"__path__": pa.array([], pa.string())}), out)
    assert read(out.getvalue()) == []


def test_parquet_and_avro_give_the_same_rows() -> None:
    assert read(parquet(RECORDS)) == WANTED
    assert read(avro(RECORDS)) == [
        Row(row.number, row.path, {_avro_name(name): value for name, value in row.metadata.items()})
        for row in WANTED
    ]


def test_path_that_is_not_utf8_is_kept_as_surrogates() -> None:
    [one] = read(rb'{"__path__": "/a/\udcff.jpg"}')
    assert isinstance(one, Row)
    assert one.path == "/a/\udcff.jpg"


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b"{", "not JSON: "),
        (b"nonsense", "not JSON: "),
        (b'{"__path__": "x", "y": %s}' % (b"9" * 5000), "not JSON: "),
        (b'{"__path__": "x", "y": %s}' % (b"[" * 500 + b"]" * 500), "not JSON: nested more than 64 deep"),
        (b"[" * 200_000, "not JSON: "),
        (b"\xff\xfe", "not UTF-8: byte 0"),
        (b'"text"', "not an object"),
        (b'[{"__path__": "x"}]', "not an object"),
        (b"{}", "no __path__"),
        (b'{"__path__": 1}', "no __path__"),
        (b'{"__path__": ""}', "no __path__"),
        (rb'{"__path__": "\ud800.jpg"}', "no file can have this __path__: '\\ud800.jpg'"),
        (b'{"__path__": "/a//./1.jpg"}', "an earlier row has the same __path__: /a/1.jpg"),
        (b'{"__path__": "/a/1.jpg", "again": true}', "an earlier row has the same __path__: /a/1.jpg"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_bad_line_does_not_affect_other_lines(line: bytes, detail: str) -> None:
    bad, *rest = read(json_lines(RECORDS[0], line, RECORDS[1]))[1:]
    assert isinstance(bad, BadRow)
    assert (bad.number, bad.reason) == (2, Reason.MALFORMED)
    assert bad.detail.startswith(detail)
    assert len(bad.detail) <= 300
    assert rest == [Row(3, WANTED[1].path, WANTED[1].metadata)]


def test_numbers_that_json_cannot_store_are_left_out() -> None:
    line = b'{"__path__": "x", "a": NaN, "b": -Infinity, "c": 1e999, "d": {"e": NaN, "f": [NaN, 1.5]}}'
    assert read(line) == [Row(1, "x", {"d": {"e": None, "f": [None, 1.5]}})]


def test_line_that_is_too_long_is_a_bad_row() -> None:
    data = json_lines(RECORDS[0], b"x" * 5050, RECORDS[1], b"y" * 1001)
    found = list(json_rows(io.BytesIO(data), max_line_bytes=1000, skip_bytes=100))
    assert [type(one) for one in found] == [Row, BadRow, Row, BadRow]
    assert [one.number for one in found] == [1, 2, 3, 4]


def test_values_of_other_types_become_json_types() -> None:
    out = io.BytesIO()
    day = datetime.datetime(2024, 1, 2, 3, 4, 5)
    table = {
        "__path__": ["x"],
        "day": [day],
        "raw": [b"\xff"],
        "text": [b"abc"],
        "nan": [float("nan")],
        "map": [{"a": day}],
    }
    pq.write_table(pa.table(table), out)
    [one] = read(out.getvalue())
    assert isinstance(one, Row)
    assert one.metadata == {
        "day": "2024-01-02T03:04:05",
        "raw": "/w==",
        "text": "abc",
        "map": {"a": "2024-01-02T03:04:05"},
    }
    json.dumps(one.metadata, allow_nan=False)


def test_row_of_a_recursive_type_is_bad_only_if_nested_too_deep() -> None:
    node = {"type": "record", "name": "Node", "fields": [{"name": "inner", "type": ["null", "Node"]}]}
    schema = {
        "type": "record",
        "name": "Image",
        "fields": [{"name": "__path__", "type": "string"}, {"name": "node", "type": node}],
    }
    deep: dict[str, Any] = {"inner": None}
    for _ in range(100):
        deep = {"inner": deep}
    out = io.BytesIO()
    records = [{"__path__": "a", "node": deep}, {"__path__": "b", "node": {"inner": {"inner": None}}}]
    fastavro.writer(out, schema, records)
    assert read(out.getvalue()) == [
        BadRow(1, Reason.MALFORMED, "nested more than 64 deep"),
        Row(2, "b", {"node": {"inner": {"inner": None}}}),
    ]


@pytest.mark.parametrize("data", [avro(RECORDS), parquet(RECORDS)], ids=["avro", "parquet"])
def test_damaged_file_gives_a_bad_row(data: bytes) -> None:
    chance = random.Random(1)
    for _ in range(150):
        bad = bytearray(data)
        if chance.random() < 0.5:
            del bad[chance.randrange(4, len(bad)) :]
        else:
            bad[chance.randrange(4, len(bad))] ^= 1 << chance.randrange(8)
        found = read(bytes(bad))
        assert len(found) <= 4
        assert all(isinstance(one, Row | BadRow) for one in found)
    *_, last = read(data[:-20])
    assert isinstance(last, BadRow)
    assert last.reason == Reason.DAMAGED
