"""The pipelines of the guide run as they stand there."""

from pathlib import Path

import apache_beam as beam
import pytest

import beam_dedup
from beam_dedup.samples import picture
from tests.app.cli_runs import records_in
from tests.docs.pages import DOCS, PAGES, fenced, name_of, table

GUIDE = DOCS / "guides" / "your-own-pipeline.md"
FIRST, *OTHERS = fenced(GUIDE, "python")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the pictures of the guide: c.png is a smaller a.jpg."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture(1).save(folder / "a.jpg", quality=90)
    picture(2).save(folder / "b.jpg")
    picture(1).resize((240, 180)).save(folder / "c.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_first_pipeline_has_15_lines_and_writes_records(pictures: Path) -> None:
    assert len([line for line in FIRST.splitlines() if line]) <= 15
    exec(compile(FIRST, "your-own-pipeline.md", "exec"), {})
    records = records_in(pictures / "records.jsonl")
    assert {name: record["duplicate_of"] for name, record in records.items()} == {
        "a.jpg": None,
        "b.jpg": None,
        "c.png": "pictures/a.jpg",
    }


def test_other_pipelines_continue_the_first(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for code in (FIRST, *OTHERS):
        exec(compile(code, "your-own-pipeline.md", "exec"), names)
    add_stream = names["add_stream"]
    assert callable(add_stream)
    assert add_stream(beam.Pipeline(runner="FnApiRunner")) is not None
    assert sorted(path.name for path in (pictures / "unique").iterdir()) == ["a.jpg", "b.jpg"]
    assert sorted(line for line in capfd.readouterr().out.splitlines() if line.startswith("pictures/")) == [
        "pictures/a.jpg kept",
        "pictures/b.jpg kept",
        "pictures/c.png duplicate",
    ]
    against_known = records_in(pictures / "against-known.jsonl")
    assert {name: record["duplicate_of"] for name, record in against_known.items()} == {
        "a.jpg": "unique/a.jpg",
        "b.jpg": "unique/b.jpg",
        "c.png": "unique/a.jpg",
    }


def test_every_python_block_is_tested() -> None:
    assert {name_of(page) for page in PAGES if fenced(page, "python")} == {
        name_of(GUIDE),
        "docs/guides/clean-training-set.md",  # tests/docs/test_training_set.py
    }


def test_every_public_transform_is_in_the_table() -> None:
    composites = {
        name
        for name in beam_dedup.__all__
        if isinstance(value := getattr(beam_dedup, name), type) and issubclass(value, beam.PTransform)
    }
    assert {name for names in table(GUIDE, "transform") for name in names.split(", ")} == composites
