"""Records of the command line, read by the libraries that data people use."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import duckdb
import fastavro
import pandas as pd
import polars as pl
import pyarrow.parquet
import pytest

from beam_dedup.core.model import RECORD_FIELDS
from beam_dedup.core.record_tables import write_csv, write_parquet
from tests.app.cli_runs import dedup
from tests.docs.pages import DOCS, table
from tests.transforms.files import encoded, write
from transforms.write import write_avro

Rows = list[dict[str, Any]]

FORMS = ("jsonl", "avro", "parquet", "csv")
LISTS = ("flags", "companions")
INTEGERS = ("distance", "long_distance", "width", "height", "size_bytes", "group_size")
NAMES = ["a.png", "=1+1.png", "+a.png", "-a.png", "@a.png", "\t.png", "'a.png", "NA", "null"]
NAMES += ['q"u,o\nt\re.png', "é😀.png", "\\udce5.png", "%00.png", "a,b.png", "\x1b[2J.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yields a directory with the records of one set of images in every form. Its names are valid UTF-8."""
    made = tmp_path_factory.mktemp("records")
    here = Path.cwd()
    os.chdir(made)
    try:
        for number, name in enumerate(NAMES):
            write(Path("=in", name), encoded(number // 3))
        # The first records, from which most readers guess the types, are almost empty.
        for number in range(150):
            write(Path("=in", "!", f"{number}.png"), b"")
        write(Path("=in", "y.png"), encoded(90, size=(192, 128)))
        write(Path("=in", "z.png"), encoded(90, size=(192, 128), compress_level=1))
        write(Path("=in", "z.txt"), b"text")
        write(Path("=in", "z small.png"), encoded(91, size=(9, 9)))
        for form in FORMS:
            assert dedup("-n", "-i", "=in", "--records", f"r.{form}", "--quiet") == 0
        yield made
    finally:
        os.chdir(here)


@pytest.fixture(scope="module")
def expected(folder: Path) -> Rows:
    """Returns the records, as JSON Lines have them."""
    rows = [json.loads(line) for line in (folder / "r.jsonl").read_bytes().split(b"\n")[:-1]]
    assert len(rows) == len(NAMES) + 154
    assert {row["uri"] for row in rows} >= {f"=in/{name}" for name in NAMES if "%" not in name}
    assert {row["reason"] for row in rows} == {None, "exact", "near", "empty", "not_an_image"}
    assert {*INTEGERS, "detail"} <= {name for row in rows for name, value in row.items() if value is not None}
    return rows


def plain(value: Any) -> Any:
    """Returns a value of a reader as the type that JSON has; its missing values as None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if isinstance(value, float | type(pd.NA)) and pd.isna(value) else value


def of_pandas(table: Any) -> Rows:
    return [
        dict(zip(table.columns, map(plain, row), strict=True))
        for row in table.itertuples(index=False, name=None)
    ]


def of_duckdb(query: str) -> Rows:
    found: Any = duckdb.sql(query)
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def of_csv(rows: Rows) -> Rows:
    """Returns rows of CSV as they were before the guard against formulas, with lists as lists."""
    plain_rows = [
        {name: value.removeprefix("'") if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
    ]
    return [{**row, **{name: json.loads(row[name]) for name in LISTS}} for row in plain_rows]


def types_in_pandas(table: Any) -> set[str]:
    return {str(table.dtypes[name]) for name in INTEGERS}


def test_fastavro_reads_avro(folder: Path, expected: Rows) -> None:
    with (folder / "r.avro").open("rb") as file:
        assert list(fastavro.reader(file)) == expected


def test_pandas_reads_parquet_with_integers_as_integers(folder: Path, expected: Rows) -> None:
    found = pd.read_parquet(folder / "r.parquet")
    assert types_in_pandas(found) == {"Int32", "Int64"}
    assert of_pandas(found) == expected


def test_pandas_reads_csv(folder: Path, expected: Rows) -> None:
    found = pd.read_csv(
        folder / "r.csv", dtype_backend="numpy_nullable", keep_default_na=False, na_values=[""]
    )
    assert types_in_pandas(found) == {"Int64"}
    assert of_csv(of_pandas(found)) == expected


def test_pandas_reads_json_lines(folder: Path, expected: Rows) -> None:
    found = pd.read_json(folder / "r.jsonl", lines=True, dtype_backend="numpy_nullable")
    assert types_in_pandas(found) == {"Int64"}
    assert of_pandas(found) == expected


def test_polars_reads_parquet(folder: Path, expected: Rows) -> None:
    found = pl.read_parquet(folder / "r.parquet")
    assert {found.schema[name] for name in INTEGERS} == {pl.Int32, pl.Int64}
    assert found.schema["flags"] == pl.List(pl.String)
    assert found.to_dicts() == expected


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_polars_reads_text_if_it_reads_all_of_it_first(folder: Path, expected: Rows, form: str) -> None:
    read = pl.read_ndjson if form == "jsonl" else pl.read_csv
    found = read(folder / f"r.{form}", infer_schema_length=None)
    assert {found.schema[name] for name in INTEGERS} == {pl.Int64}
    rows = found.to_dicts()
    assert (of_csv(rows) if form == "csv" else rows) == expected


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_datasets_reads_files_by_their_formats(
    folder: Path, expected: Rows, tmp_path: Path, form: str
) -> None:
    builder = {"jsonl": "json"}.get(form, form)
    options: dict[str, Any] = {"keep_default_na": False, "na_values": [""]} if form == "csv" else {}
    found: Any = datasets.load_dataset(
        builder, data_files=str(folder / f"r.{form}"), split="train", cache_dir=str(tmp_path), **options
    )
    if form != "csv":  # there a column with missing values is float64, as in pandas
        assert {found.features[name].dtype for name in INTEGERS} <= {"int32", "int64"}
    rows = [dict(row) for row in found]
    assert (of_csv(rows) if form == "csv" else rows) == expected


def test_datasets_reads_avro_by_a_generator(folder: Path, expected: Rows, tmp_path: Path) -> None:
    """It has no builder for Avro."""
    found: Any = datasets.Dataset.from_generator(
        records_of_avro, gen_kwargs={"path": str(folder / "r.avro")}, cache_dir=str(tmp_path)
    )
    assert {found.features[name].dtype for name in INTEGERS} == {"int64"}
    assert [dict(row) for row in found] == expected


def records_of_avro(path: str) -> Iterator[Any]:
    with open(path, "rb") as file:
        yield from fastavro.reader(file)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_duckdb_reads_files_by_their_names(folder: Path, expected: Rows, form: str) -> None:
    rows = of_duckdb(f"SELECT * FROM '{folder}/r.{form}'")
    assert (of_csv(rows) if form == "csv" else rows) == expected


def test_calls_in_the_documentation_read_all_records(
    folder: Path, expected: Rows, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    libraries = {"pandas": pd, "polars": pl, "duckdb": duckdb, "datasets": datasets}
    cells = " ".join(table(DOCS / "reference/records.md", "library").values())
    calls = re.findall(r"`([^`]*)`", cells)
    assert len(calls) == 12
    for call in calls:
        assert len(eval(call, libraries)) == len(expected), call


def test_all_forms_have_the_fields_in_their_order(folder: Path, expected: Rows) -> None:
    assert all(tuple(row) == RECORD_FIELDS for row in expected)
    assert tuple(pyarrow.parquet.read_schema(folder / "r.parquet").names) == RECORD_FIELDS
    first = (folder / "r.csv").read_text("utf-8").split("\n")[0]
    assert first == ",".join(f'"{name}"' for name in RECORD_FIELDS)


def test_names_that_are_not_utf8_are_escaped_in_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that strict readers read them; they refuse the JSON Lines, which keep the bytes."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in/\udce5.png", encoded(1))
    assert dedup("-e", "-i", "in", "--records", "r.jsonl", "--quiet") == 0
    lines = Path("r.jsonl").read_bytes().split(b"\n")[:-1]
    for form, write_records in (("parquet", write_parquet), ("csv", write_csv), ("avro", write_avro)):
        with open(f"r.{form}", "wb") as file:
            write_records(file, iter(lines))
    for found in (pl.read_parquet("r.parquet"), pl.read_csv("r.csv")):
        assert found["uri"].to_list() == ["in/\\udce5.png"]
    with open("r.avro", "rb") as file:
        rows: Any = list(fastavro.reader(file))
    assert [row["uri"] for row in rows] == ["in/\\udce5.png"]
    with pytest.raises(pl.exceptions.ComputeError):
        pl.read_ndjson("r.jsonl")
