"""Files of pairs, read by the libraries that data people use."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from beam_dedup.core import blocks
from beam_dedup.core.codes import VIEWS
from beam_dedup.core.pair_tables import PAIR_FIELDS, PAIR_TABLE, PairRows, digests_in, names_of, write_pairs

NAMES = [
    "a.png",
    "=1+1.png",
    "+a",
    "-a",
    "@a",
    "\t",
    "'a",
    "NA",
    "null",
    'q"u,o\nt\re',
    "é😀",
    "\\udce5",
    "a,b",
    "\x1b[",
]

Row = dict[str, Any]


def digest(content: int) -> bytes:
    return hashlib.sha256(bytes([content])).digest()


def some_pairs() -> list[Row]:
    """Returns pairs of contents 0, 1, ..., in the form of `PAIRS`. The null values are in the first ones."""
    rng = random.Random("pairs")
    pairs = []
    for number in range(60):
        a, b = sorted(map(digest, rng.sample(range(len(NAMES)), 2)))
        distance, long = (None if number < 3 else rng.randint(0, 16) for _ in range(2))
        view = rng.randrange(len(VIEWS))
        pairs.append({"a": a, "b": b, "distance": distance, "long_distance": long, "view": view})
    return list({(pair["a"], pair["b"]): pair for pair in reversed(pairs)}.values())


def split_of(content: int) -> int:
    """Returns the number of the split of a content; -1 for none."""
    return content % 3 - 1


def rows_of(pairs: list[Row], names: list[str], rng: random.Random, splits: tuple[str, ...] = ()) -> PairRows:
    """Returns pairs as they are written; they and the names come in blocks, in random order."""
    if splits:
        content = {digest(number): number for number in range(len(names))}
        pairs = [
            {**pair, "split_a": split_of(content[pair["a"]]), "split_b": split_of(content[pair["b"]])}
            for pair in pairs
        ]
    pairs = rng.sample(pairs, len(pairs))
    named = [
        {"digest": digest(i), "uri": blocks.to_bytes(name), "known": i % 3 == 0}
        for i, name in enumerate(names)
    ]
    if splits:
        named = [{**name, "split": split_of(number)} for number, name in enumerate(named)]
    rng.shuffle(named)
    schemas = (blocks.PAIRS_OF_SPLITS, blocks.NAMES_OF_SPLITS) if splits else (blocks.PAIRS, blocks.NAMES)
    return PairRows(
        [dumped(pairs[at : at + 11], schemas[0]) for at in range(0, len(pairs), 11)],
        [dumped(named[at : at + 5], schemas[1]) for at in range(0, len(named), 5)],
        splits,
    )


def dumped(rows: list[Row], schema: pa.Schema) -> bytes:
    return blocks.dump(pa.Table.from_pylist(rows, schema))


def expected(pairs: list[Row], names: list[str], splits: tuple[str, ...] = ()) -> list[Row]:
    content = {digest(number): number for number in range(len(names))}

    def name_of(side: bytes) -> str | None:
        number = split_of(content[side])
        return splits[number] if splits and number >= 0 else None

    return [
        {
            "digest_a": pair["a"].hex(),
            "digest_b": pair["b"].hex(),
            "uri_a": names[content[pair["a"]]],
            "uri_b": names[content[pair["b"]]],
            "distance": pair["distance"],
            "long_distance": pair["long_distance"],
            "view": VIEWS[pair["view"]],
            "known_a": content[pair["a"]] % 3 == 0,
            "known_b": content[pair["b"]] % 3 == 0,
            "split_a": name_of(pair["a"]),
            "split_b": name_of(pair["b"]),
        }
        for pair in sorted(pairs, key=lambda pair: (pair["a"], pair["b"]))
    ]


def write(path: Path, rows: PairRows) -> bytes:
    with open(path, "wb") as file:
        write_pairs(file, rows, str(path))
    return path.read_bytes()


@pytest.mark.parametrize("splits", [(), ("train", "test")])
def test_all_forms_have_the_same_pairs_for_all_libraries(
    splits: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path
    for form in ("jsonl", "csv", "parquet", "avro"):
        write(tmp_path / f"p.{form}", rows_of(some_pairs(), NAMES, random.Random(1), splits))
    pairs = expected(some_pairs(), NAMES, splits)
    assert len(pairs) > 30
    assert [json.loads(line) for line in (folder / "p.jsonl").read_text("utf-8").splitlines()] == pairs
    with open("p.avro", "rb") as file:
        assert list(fastavro.reader(file)) == pairs
    in_parquet = pyarrow.parquet.read_table("p.parquet")
    assert in_parquet.to_pylist() == pairs
    assert in_parquet.schema.equals(PAIR_TABLE)
    assert pl.read_parquet("p.parquet").to_dicts() == pairs
    assert pl.read_ndjson("p.jsonl", infer_schema_length=None).to_dicts() == pairs
    protected = [
        {**pair, **{side: f"'{pair[side]}" for side in ("uri_a", "uri_b") if pair[side][0] in "=+-@\t'"}}
        for pair in pairs
    ]
    assert pl.read_csv("p.csv", infer_schema_length=None).to_dicts() == protected
    for path, same in (("p.parquet", pairs), ("p.jsonl", pairs), ("p.csv", protected)):
        found = duckdb.sql(f"FROM '{path}'")
        assert found is not None
        assert [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()] == same
    frames = {
        "p.parquet": pd.read_parquet("p.parquet"),
        "p.jsonl": pd.read_json("p.jsonl", lines=True, dtype_backend="numpy_nullable"),
        "p.csv": pd.read_csv("p.csv", dtype_backend="numpy_nullable", keep_default_na=False, na_values=[""]),
    }
    for path, frame in frames.items():
        assert json.loads(frame.to_json(orient="records")) == (protected if path == "p.csv" else pairs), path
        assert all(pd.api.types.is_integer_dtype(frame[name]) for name in ("distance", "long_distance")), path


def test_content_of_two_splits_has_the_first_image_of_each() -> None:
    a, b = sorted((digest(0), digest(1)))
    plain = {"distance": 0, "long_distance": None, "view": 0}
    ends = [(a, a, 0, 1), (a, b, 0, -1), (a, b, 1, -1)]
    pairs = [{"a": one, "b": two, **plain, "split_a": s, "split_b": t} for one, two, s, t in reversed(ends)]
    named = [(b, b"b", True, -1), (a, b"2", False, 1), (a, b"1", False, 0)]
    names = [dict(zip(blocks.NAMES_OF_SPLITS.names, row, strict=True)) for row in named]
    rows = PairRows(
        [dumped(pairs, blocks.PAIRS_OF_SPLITS)], [dumped(names, blocks.NAMES_OF_SPLITS)], ("train", "test")
    )
    [table] = rows.tables()
    assert [
        (row["uri_a"], row["uri_b"], row["split_a"], row["split_b"], row["known_b"])
        for row in table.to_pylist()
    ] == [("1", "2", "train", "test", False), ("1", "b", "train", None, True), ("2", "b", "test", None, True)]


def test_order_of_the_blocks_does_not_matter(tmp_path: Path) -> None:
    for form in ("jsonl", "csv", "parquet"):
        written = {
            write(tmp_path / f"p.{form}", rows_of(some_pairs(), NAMES, random.Random(seed)))
            for seed in range(5)
        }
        assert len(written) == 1, form


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """JSON Lines keep their bytes; the others, which strict readers read, escape them."""
    names = ["b", "\udce5"]
    pair = dict(zip("ab", sorted((digest(0), digest(1))), strict=True))
    rows = rows_of([{**pair, "distance": 1, "long_distance": 2, "view": 0}], names, random.Random(1))
    uris = {}
    for form in ("jsonl", "csv", "parquet"):
        write(tmp_path / f"p.{form}", rows)
    uris["jsonl"] = json.loads((tmp_path / "p.jsonl").read_text())["uri_a"]
    uris["csv"] = pl.read_csv(tmp_path / "p.csv")["uri_a"][0]
    uris["parquet"] = pl.read_parquet(tmp_path / "p.parquet")["uri_a"][0]
    assert uris == {"jsonl": "\udce5", "csv": "\\udce5", "parquet": "\\udce5"}


def test_no_pairs_make_an_empty_table(tmp_path: Path) -> None:
    nothing = PairRows([], [])
    assert write(tmp_path / "p.jsonl", nothing) == b""
    assert write(tmp_path / "p.csv", nothing).decode() == ",".join(f'"{name}"' for name in PAIR_FIELDS) + "\n"
    write(tmp_path / "p.parquet", nothing)
    assert tuple(pl.read_parquet(tmp_path / "p.parquet").columns) == PAIR_FIELDS


def test_a_table_has_few_rows_at_a_time() -> None:
    rows = rows_of(some_pairs(), NAMES, random.Random(1))
    tables = list(rows.tables(rows=7))
    assert {len(table) for table in tables[:-1]} == {7}
    assert pa.concat_tables(tables).to_pylist() == expected(some_pairs(), NAMES)


def test_only_names_of_contents_in_pairs_are_kept() -> None:
    pairs = some_pairs()[:4]
    wanted = {pair[side] for pair in pairs for side in "ab"}
    named = [{"digest": digest(i), "uri": b"u", "known": False} for i in range(len(NAMES))]
    found: list[bytes] = []
    for shard, digests in digests_in(dumped(pairs, blocks.PAIRS), 3):
        assert all(
            int.from_bytes(digests[at : at + 4], "big") % 3 == shard for at in range(0, len(digests), 32)
        )
        kept = names_of([digests], [dumped(named[:9], blocks.NAMES), dumped(named[9:], blocks.NAMES)])
        found += blocks.load([kept], blocks.NAMES)["digest"].to_pylist()
    assert sorted(found) == sorted(wanted)
    assert not len(blocks.load([names_of([], [dumped(named, blocks.NAMES)])], blocks.NAMES))
