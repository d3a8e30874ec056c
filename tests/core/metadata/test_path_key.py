"""Metadata files that name images in another field than `__path__`, and CSV."""

import csv
import gzip
import io
import json
import random
from collections.abc import Callable

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup.core.metadata.csv_rows import Header, csv_rows
from beam_dedup.core.metadata.rows import BadRow, Row, rows
from beam_dedup.core.model import Reason

RECORDS = [{"file_name": "a/1.png", "label": 'cat, "big"\nand old'}, {"file_name": "é.png", "label": "dog"}]
WANTED = [Row(1, "a/1.png", {"label": 'cat, "big"\nand old'}), Row(2, "é.png", {"label": "dog"})]


def as_lines() -> bytes:
    return "".join(f"{json.dumps(record)}\n" for record in RECORDS).encode()


def as_array() -> bytes:
    return json.dumps(RECORDS).encode()


def as_avro() -> bytes:
    fields = [{"name": name, "type": "string"} for name in RECORDS[0]]
    out = io.BytesIO()
    fastavro.writer(out, {"type": "record", "name": "Image", "fields": fields}, RECORDS)
    return out.getvalue()


def as_parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(RECORDS), out)
    return out.getvalue()


def as_csv(delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(RECORDS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(RECORDS)
    return out.getvalue().encode()


def read(data: bytes, directory: str = "", path_key: str = "file_name") -> list[Row | BadRow]:
    return list(rows(io.BytesIO(data), directory, path_key))


@pytest.mark.parametrize("make", [as_lines, as_array, as_avro, as_parquet, as_csv])
def test_path_is_in_the_named_field(make: Callable[[], bytes]) -> None:
    assert read(make()) == WANTED
    assert [one.path for one in read(make(), "/data") if isinstance(one, Row)] == [
        "/data/a/1.png",
        "/data/é.png",
    ]


def test_path_below_a_prefix_of_a_store_is_complete() -> None:
    data = b'{"file_name": "./a//1.png"}\n{"file_name": "/b.png"}\n{"file_name": "s3://c/d.png"}\n'
    found = [(one.path, one.name) for one in read(data, "gs://bucket/in/") if isinstance(one, Row)]
    assert found == [
        ("gs://bucket/in/a/1.png", "a/1.png"),
        ("/b.png", "/b.png"),
        ("s3://c/d.png", "s3://c/d.png"),
    ]


def test_row_without_the_field_is_bad() -> None:
    assert read(b'{"__path__": "a"}') == [BadRow(1, Reason.MALFORMED, "no file_name; it has __path__")]
    data = b'{"file_name": "a", "__path__": "b"}'
    assert read(data) == [Row(1, "a", {"__path__": "b"})]
    [_, bad] = read(data + b"\n" + data)
    assert bad == BadRow(2, Reason.MALFORMED, "an earlier row has the same file_name: a")


class TestCsv:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_delimiters_and_encodings_are_recognised(self, delimiter: str, encoding: str) -> None:
        data = as_csv(delimiter).decode().encode(encoding)
        assert read(data) == WANTED
        assert read(gzip.compress(data)) == WANTED

    def test_path_field_may_be_the_default_one(self) -> None:
        assert read(b"label,__path__\ncat,/a.jpg\n", path_key="__path__") == [
            Row(1, "/a.jpg", {"label": "cat"})
        ]

    def test_text_without_the_field_in_its_first_line_is_no_csv(self) -> None:
        [first, second] = read(b"name,label\na.png,cat\n")
        assert isinstance(first, BadRow)
        assert first.detail.startswith("not JSON")
        assert isinstance(second, BadRow)

    def test_bad_row_does_not_affect_other_rows(self) -> None:
        data = b"file_name,label\na.png,x,y\n\n,x\n" + b'b.png,"%s"\nc\xff.png\n' % (b"x" * 200_000)
        assert read(data) == [
            BadRow(1, Reason.MALFORMED, "3 values; the header has 2 names"),
            BadRow(2, Reason.MALFORMED, "no file_name; it has label"),
            BadRow(3, Reason.MALFORMED, "not CSV: field larger than field limit (131072)"),
            Row(4, "c\udcff.png", {}),
        ]

    def test_quote_that_is_not_closed_takes_bounded_memory(self) -> None:
        lines = b'a,"x\n' + b"y\n" * 1000
        found = list(csv_rows(io.BytesIO(lines), Header(["file_name", "label"], ","), "file_name", 500))
        assert found == [BadRow(1, Reason.MALFORMED, "not CSV: a row of more than 500 bytes")]

    def test_rows_are_those_of_the_csv_module(self) -> None:
        chance = random.Random(5)
        for _ in range(200):
            cells = [
                ["".join(chance.choices('a,"\n; é', k=chance.randrange(1, 6))) for _ in range(2)]
                for _ in range(chance.randrange(5))
            ]
            out = io.StringIO()
            csv.writer(out).writerows(
                [["file_name", "x"], *([f"{n}{a}", b] for n, (a, b) in enumerate(cells))]
            )
            found = list(rows(io.BytesIO(out.getvalue().encode()), "", "file_name"))
            assert [one.metadata for one in found if isinstance(one, Row)] == [{"x": b} for _, b in cells]
