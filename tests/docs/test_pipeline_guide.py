"""The pipelines of the guide run as they stand there."""

import inspect
from pathlib import Path

import apache_beam as beam
import pytest
import yaml
from apache_beam.yaml import main

import beam_dedup
from beam_dedup import beam_yaml
from beam_dedup.samples import picture
from tests.app.cli_runs import records_in
from tests.app.yaml_pipelines import EXPECTED, rows_of_parquet, write_pipeline
from tests.docs.pages import DOCS, PAGES, fenced, name_of, table
from transforms.row_schema import FINGERPRINT_FIELDS, VERDICT_FIELDS

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


def test_first_pipeline_has_15_lines_and_prints_verdicts(
    pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len([line for line in FIRST.splitlines() if line]) <= 15
    exec(compile(FIRST, "your-own-pipeline.md", "exec"), {})
    assert printed(capfd) == [
        "pictures/a.jpg kept None May",
        "pictures/b.jpg kept None May",
        "pictures/c.png duplicate pictures/a.jpg May",
    ]


def printed(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Returns the lines about images that pipelines have printed, in the order of the alphabet."""
    return sorted(line for line in capfd.readouterr().out.splitlines() if "pictures/" in line)


def test_other_pipelines_continue_the_first(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (pictures / "pictures" / "notes.txt").write_text("notes")
    names: dict[str, object] = {}
    by_bytes, *others = OTHERS
    for code in (FIRST, by_bytes):
        exec(compile(code, "your-own-pipeline.md", "exec"), names)
    (pictures / "pictures" / "notes.txt").unlink()
    assert printed(capfd)[:4] == [
        "kept pictures/a.jpg cat",
        "kept pictures/b.jpg cat",
        "kept pictures/c.png cat",
        "pictures/a.jpg kept None May",
    ]
    for code in others:
        exec(compile(code, "your-own-pipeline.md", "exec"), names)
    add_stream = names["add_stream"]
    assert callable(add_stream)
    assert add_stream(beam.Pipeline(runner="FnApiRunner")) is not None
    assert sorted(path.name for path in (pictures / "unique").iterdir()) == ["a.jpg", "b.jpg"]
    assert printed(capfd) == ["pictures/a.jpg kept", "pictures/b.jpg kept", "pictures/c.png duplicate"]
    records = records_in(pictures / "records.jsonl")
    assert {name: record["duplicate_of"] for name, record in records.items()} == {
        "a.jpg": None,
        "b.jpg": None,
        "c.png": "pictures/a.jpg",
    }
    against_known = records_in(pictures / "against-known.jsonl")
    assert {name: record["duplicate_of"] for name, record in against_known.items()} == {
        "a.jpg": "unique/a.jpg",
        "b.jpg": "unique/b.jpg",
        "c.png": "unique/a.jpg",
    }


def test_fields_of_rows_are_documented() -> None:
    rows = table(DOCS / "reference" / "schema.md", "field out")
    assert tuple(rows) == VERDICT_FIELDS
    assert tuple(name for name, cells in rows.items() if "| yes" in cells) == FINGERPRINT_FIELDS


def test_pipeline_of_the_yaml_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beam's writer of JSON does not work with the pandas of these tests, so text is written."""
    [text] = fenced(DOCS / "guides" / "beam-yaml.md", "yaml")
    write_pipeline(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    made = yaml.safe_load(text)
    *others, to_json = made["pipeline"]["transforms"]
    fields = {"msg": "msg"}
    as_text = {"type": "MapToFields", "input": to_json["input"], "config": {"fields": fields}}
    to_text = {"type": "WriteToText", "input": "MapToFields", "config": to_json["config"]}
    made["pipeline"]["transforms"] = [*others, as_text, to_text]
    Path("pipeline.yaml").write_text(yaml.safe_dump(made))
    main.run(["--yaml_pipeline_file=pipeline.yaml", "--runner=FnApiRunner"])
    verdicts = rows_of_parquet(tmp_path, "verdicts.parquet")
    assert {row["uri"]: (row["status"], row["duplicate_of"]) for row in verdicts} == EXPECTED
    [rejected] = tmp_path.glob("rejected.json*")
    assert rejected.read_text() == "not_an_image: first bytes: b'no picture'\n"


def test_options_of_the_yaml_guide_are_those_of_the_transform() -> None:
    documented = {
        name for names in table(DOCS / "guides" / "beam-yaml.md", "option") for name in names.split(", ")
    }
    assert documented == set(inspect.signature(beam_yaml.DeduplicateImages).parameters)
    others = {"near", "bit_distance", "verify", "keep"}
    assert documented - others == set(inspect.signature(beam_yaml.FingerprintImages).parameters)


def test_every_python_block_is_tested() -> None:
    assert {name_of(page) for page in PAGES if fenced(page, "python")} == {
        name_of(GUIDE),
        "docs/guides/clean-training-set.md",  # tests/docs/test_training_set.py
        "docs/guides/shards.md",  # tests/app/test_shards.py
        "docs/guides/warehouses.md",  # tests/docs/test_warehouses.py
    }


def test_every_public_transform_is_in_the_table() -> None:
    composites = {
        name
        for name in beam_dedup.__all__
        if isinstance(value := getattr(beam_dedup, name), type) and issubclass(value, beam.PTransform)
    }
    assert {name for names in table(GUIDE, "transform") for name in names.split(", ")} == composites
