"""`--pairs`, `--max_pairs` and `--components` from the command line."""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from beam_dedup.core.errors import UsageError
from beam_dedup.core.pair_tables import PAIR_FIELDS, PairRows, write_pairs
from beam_dedup.options import checks, parser
from tests.app.cli_runs import dedup, records_in
from tests.docs.pages import DOCS, table
from tests.transforms.files import encoded, write
from transforms.storage.own_files import is_own, read_head

LOOKS = {
    "a": (1, "PNG"),
    "=b": (1, "JPEG"),
    "copy of a": (1, "PNG"),
    "c": (2, "PNG"),
    "é,\n": (2, "JPEG"),
    "d": (3, "PNG"),
}

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with two pictures in two formats each (`in/`), and one of them again in `known/`."""
    monkeypatch.chdir(tmp_path)
    for name, (seed, form) in LOOKS.items():
        write(tmp_path / "in" / name, encoded(seed, form))
    for quality in (60, 90):
        write(tmp_path / f"known/{quality}", encoded(1, "JPEG", quality=quality))
    return tmp_path


def lines(path: str) -> Rows:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def test_every_pair_is_listed_once() -> None:
    assert dedup("-n", "-i", "in", "--pairs", "p.jsonl", "--quiet") == 0
    assert dedup("-n", "-i", "in", "--pairs", "p.csv", "--quiet") == 0
    pairs = lines("p.jsonl")
    assert {frozenset((pair["uri_a"], pair["uri_b"])) for pair in pairs} == {
        frozenset(("in/a", "in/=b")),  # `copy of a` has the same content, and comes later
        frozenset(("in/c", "in/é,\n")),
    }
    assert not any(pair["known_a"] or pair["known_b"] for pair in pairs)
    assert pl.read_csv("p.csv").to_dicts() == pairs


def test_known_images_are_paired_with_new_ones_only(here: Path) -> None:
    assert dedup("-n", "-i", "in", "--reference", "known", "--pairs", "p.jsonl", "--quiet") == 0
    pairs = {
        frozenset((pair[f"uri_{side}"], pair[f"known_{side}"]) for side in "ab") for pair in lines("p.jsonl")
    }
    new, known = [("in/a", False), ("in/=b", False)], [("known/60", True), ("known/90", True)]
    other = frozenset((("in/c", False), ("in/é,\n", False)))
    assert pairs == {frozenset(new), other, *map(frozenset, itertools.product(new, known))}


@pytest.mark.parametrize("extra", [("--pairs", "p.csv"), ("--reference", "known")])
def test_records_have_components(extra: tuple[str, ...]) -> None:
    assert dedup("-n", "-i", "in", "--components", *extra, "--records", "r.jsonl", "--quiet") == 0
    found = records_in(Path("r.jsonl"))
    members: dict[str, set[str]] = {}
    for name, record in found.items():
        members.setdefault(record["component"], set()).add(name)
        assert record["group_size"]
    assert sorted(map(sorted, members.values())) == [["=b", "a", "copy of a"], ["c", "é,\n"], ["d"]]
    for component, names in members.items():
        assert component <= min(found[name]["digest"] for name in names)
        assert "--reference" in extra or component == min(found[name]["digest"] for name in names)


def test_without_pictures_each_content_is_its_own_component(here: Path) -> None:
    write(here / "in/text", b"no image")
    assert dedup("-e", "-i", "in", "--records", "r.jsonl", "--components", "--pairs", "p.csv", "--quiet") == 0
    for record in records_in(Path("r.jsonl")).values():
        assert record["component"] == (None if record["status"] == "rejected" else record["digest"])
    assert Path("p.csv").read_text() == ",".join(f'"{name}"' for name in PAIR_FIELDS) + "\n"


def test_components_are_null_unless_asked_for() -> None:
    assert dedup("-e", "-i", "in", "--records", "r.jsonl", "--quiet") == 0
    assert {record["component"] for record in records_in(Path("r.jsonl")).values()} == {None}


def test_too_many_pairs_are_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert dedup("-n", "-i", "in", "--pairs", "p.csv", "--max_pairs", "1", "--quiet") == 1
    assert capsys.readouterr().err == (
        "dedup: 2 pairs are within the thresholds, and --max_pairs allows 1: use a smaller -k or a larger --max_pairs\n"
    )
    assert not Path("p.csv").exists()


def test_files_of_others_are_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.csv").write_bytes(b"mine")
    assert dedup("-n", "-i", "in", "--pairs", "p.csv", "--quiet") == 2
    assert "--pairs: p.csv already exists and was not written by --pairs" in capsys.readouterr().err
    rows = PairRows([], [])
    for form in ("avro", "parquet", "csv", "jsonl"):
        file = io.BytesIO()
        write_pairs(file, rows, f"p.{form}")
        file.seek(0)
        assert is_own("--pairs", read_head(file)), form
    assert is_own("--pairs", b'{"digest_a": "00')
    assert not is_own("--pairs", b'{"uri": "a')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max_pairs", "5"], "--max_pairs applies only with --pairs, the file of pairs; got --max_pairs 5"),
        (["--pairs", "p.csv", "--max_pairs", "0"], "--max_pairs must be between 1 and 1000000000; got 0"),
        (["--components"], "--components requires --records, whose records it extends"),
        (["--pairs", "p.txt"], "--pairs must end in .jsonl, .ndjson, .avro, .parquet or .csv"),
        (
            ["--watch", "-d", "out", "--pairs", "p.csv"],
            "--pairs is not available with --watch .* Remove --pairs",
        ),
        (["--watch", "-d", "out", "--components"], "--components is not available with --watch"),
    ],
)
def test_errors_say_what_to_do(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checks.configure(parser.parse(["-n", "-i", "in", *arguments])[0])


def test_fields_are_documented() -> None:
    documented = [
        name
        for names in table(DOCS / "reference/records.md", "field of a pair")
        for name in names.split(", ")
    ]
    assert documented == list(PAIR_FIELDS)
