"""Lineage names what a pipeline reads and writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import Lineage
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.typehints.row_type import RowTypeConstraint

from beam_dedup.core.model import ImageRef
from tests.transforms.files import encoded, write
from transforms import (
    CountImages,
    DeduplicateImages,
    DeduplicateRows,
    PlaceCopies,
    ReadImages,
    ReadMetadata,
    WriteGroups,
    WriteRecords,
    lineage,
)
from transforms.count import write_json

_HOST = "filesystem:localhost."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("in/a.png", "in/deep/b.png", "more/c.png"):
        write(tmp_path / name, encoded(1))
    rows = [{"__path__": str(tmp_path / name)} for name in ("in/a.png", "more/c.png", "more/gone.png")]
    write(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, rows)).encode())
    return tmp_path


def lineage_of(build: Callable[[beam.Pipeline], Any]) -> tuple[set[str], set[str]]:
    """Runs a pipeline. Returns its sources and sinks; local ones without the prefix."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    build(pipeline)
    result = pipeline.run()
    result.wait_until_finish()
    sources, sinks = (Lineage.query(result.metrics(), label) for label in (Lineage.SOURCE, Lineage.SINK))
    return {name.removeprefix(_HOST) for name in sources}, {name.removeprefix(_HOST) for name in sinks}


def test_directories_and_outputs_are_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)

    def build(pipeline: beam.Pipeline) -> None:
        images = pipeline | ReadImages(("in", f"{folder}/mo*/*.png"))
        verdicts = (images | DeduplicateImages()).verdicts
        verdicts | WriteRecords("records.jsonl")
        verdicts | WriteGroups(f"{folder}/groups.json")
        verdicts | PlaceCopies("unique")
        counts = verdicts | CountImages()
        counts | "Counts" >> beam.Map(write_json, "counts.json", "--counts")
        counts | "Internal" >> beam.Map(write_json, "internal.json")

    outputs = {f"{folder}/{name}" for name in ("records.jsonl", "groups.json", "unique", "counts.json")}
    assert lineage_of(build) == (
        {f"{folder}/in", str(folder)},
        outputs,
    )


def test_metadata_and_the_directories_of_its_images_are_reported(folder: Path) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        pipeline | ReadMetadata(f"{folder}/rows.jsonl") | DeduplicateImages()

    assert lineage_of(build) == ({f"{folder}/rows.jsonl", f"{folder}/in", f"{folder}/more"}, set())


@pytest.mark.parametrize("by_bytes", [False, True])
def test_directories_of_the_images_of_rows_are_reported(by_bytes: bool, folder: Path) -> None:
    fields: list[tuple[str, Any]] = [("uri", str), *([("image", bytes)] if by_bytes else [])]

    def build(pipeline: beam.Pipeline) -> None:
        paths = pipeline | beam.Create([f"{folder}/in/a.png", f"{folder}/in/deep/b.png"])
        make = image_row if by_bytes else uri_row
        rows = paths | "Row" >> beam.Map(make).with_output_types(RowTypeConstraint.from_fields(fields))
        rows | DeduplicateRows()

    read = set() if by_bytes else {f"{folder}/in", f"{folder}/in/deep"}
    assert lineage_of(build) == (read, set())


def uri_row(path: str) -> beam.Row:
    return beam.Row(uri=path)


def image_row(path: str) -> beam.Row:
    return beam.Row(uri=path, image=Path(path).read_bytes())


def test_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    monkeypatch.setattr(lineage, "report_read", reported.append)
    references = [[ImageRef(f"gs://bucket{number}/a.jpg", "a")] for number in range(9)]
    again = [[ImageRef("gs://bucket0/b.jpg", "b"), ImageRef("/etc/x", "x", refused=("not_allowed", ""))]]
    assert list(lineage.reporting(again + references, most=4)) == again + references
    assert reported == [f"gs://bucket{number}/" for number in range(4)]
    reported.clear()
    lineage.report_images((f"/{number}/a" for number in range(9)), most=3)
    assert reported == ["/0", "/1", "/2"]


def test_buckets_are_named_and_unknown_file_systems_are_left_out() -> None:
    def build(pipeline: beam.Pipeline) -> None:
        (
            pipeline
            | beam.Create(["gs://bucket/a/", "s3://other/a*", "nowhere://x"])
            | beam.Map(lineage.report_read)
        )

    assert lineage_of(build) == ({"gcs:bucket.a/", "s3:other"}, set())
