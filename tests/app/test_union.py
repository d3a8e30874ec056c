"""`--union`: the records of kept images say what their duplicates have."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import fastavro
import pytest

from beam_dedup.core.model import avro_record
from tests.app.cli_runs import dedup, records_in
from tests.transforms.files import encoded, write


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    """Rows that name three equal pictures, a near one, and another picture."""
    jpeg = encoded(1, "JPEG")
    for name, data in (
        ("a", jpeg),
        ("b", jpeg),
        ("c", jpeg),
        ("near", encoded(1, "JPEG", quality=60)),
        ("other", encoded(2)),
    ):
        write(tmp_path / f"{name}.jpg", data)
    return [
        {"__path__": str(tmp_path / "a.jpg"), "label": "cat"},
        {"__path__": str(tmp_path / "b.jpg"), "label": "dog", "caption": "A dog", "url": "http://x/b"},
        {"__path__": str(tmp_path / "c.jpg"), "geo:lat": "48.1", "geo:long": "11.5"},
        {"__path__": str(tmp_path / "near.jpg"), "datetime": "2026-11-30"},
        {"__path__": str(tmp_path / "other.jpg"), "label": "cat"},
    ]


def listed(path: Path, rows: list[dict[str, Any]]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def test_a_kept_image_says_what_its_duplicates_have(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    rng = random.Random("rows")
    texts = set()
    for number in range(2):
        source = listed(tmp_path / "rows.jsonl", rows)
        records = tmp_path / f"{number}.jsonl"
        assert dedup("-n", "-l", source, "--records", records, "--union") == 0
        texts.add(records.read_bytes())
        rng.shuffle(rows)
    assert len(texts) == 1, "the order of the input matters"
    found = records_in(tmp_path / "0.jsonl")
    nothing = dict.fromkeys(("url", "caption", "label", "date", "position"))
    assert found["a.jpg"]["also"] == {
        "count": 3,
        "images": [
            {
                "uri": str(tmp_path / "b.jpg"),
                **nothing,
                "url": "http://x/b",
                "caption": "A dog",
                "label": "dog",
            },
            {"uri": str(tmp_path / "c.jpg"), **nothing, "position": [48.1, 11.5]},
            {"uri": str(tmp_path / "near.jpg"), **nothing, "date": "2026-11-30"},
        ],
    }
    assert found["a.jpg"]["label_conflict"] is True
    for name in ("b.jpg", "c.jpg", "near.jpg", "other.jpg"):
        assert (found[name]["also"], found[name]["label_conflict"]) == (None, None)
    assert dedup("-n", "-l", source, "--records", tmp_path / "r.avro", "--union") == 0
    with (tmp_path / "r.avro").open("rb") as stream:
        rows_read = cast(Iterator[dict[str, Any]], fastavro.reader(stream))
        avro = {Path(record["uri"]).name: record for record in rows_read}
    assert avro == {name: avro_record(record) for name, record in found.items()}


def test_without_it_records_have_none(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    source = listed(tmp_path / "rows.jsonl", rows)
    assert dedup("-e", "-l", source, "--records", tmp_path / "r.jsonl") == 0
    assert {record["also"] for record in records_in(tmp_path / "r.jsonl").values()} == {None}


def test_it_needs_records_and_a_batch_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dedup("-e", "-i", tmp_path, "--union") == 2
    assert "--union requires --records" in capsys.readouterr().err
    assert dedup("-e", "--watch", "-i", tmp_path, "--union") == 2
    assert "--union is not available with --watch" in capsys.readouterr().err
