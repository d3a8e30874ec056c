"""Tests the listing of the images that a metadata file names."""

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_dedup.core.model import ImageRef
from tests.transforms.pipelines import run
from transforms import ReadMetadata
from transforms.read import list_rows


def written(path: Path, *rows: Any) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def read(transform: ReadMetadata) -> list[list[ImageRef]]:
    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        return {"lists": pipeline | transform}

    return run(build).values["lists"]


def test_each_row_becomes_a_reference(tmp_path: Path) -> None:
    path = written(
        tmp_path / "l!",
        {"__path__": "/a/b.jpg", "title": "blå \ud800"},
        "{",
        {"__path__": "c/../d.jpg"},
        {"__path__": "gs://bucket//e.jpg"},
        {"__path__": "\udcff"},
    )
    first, bad, *others = list_rows(path)
    assert first == ImageRef("/a/b.jpg", "a/b.jpg", '{"title": "bl\\u00e5 \\ud800"}', described=True)
    assert (bad.uri, bad.name) == (f"{tmp_path}/l%21!2", "l!/2")
    assert bad.refused is not None
    assert bad.refused[0] == "malformed"
    assert others == [
        ImageRef("d.jpg", "d.jpg", described=True),
        ImageRef("gs://bucket//e.jpg", "gs/bucket//e.jpg", described=True),
        ImageRef("\udcff", "\udcff", described=True),
    ]


def test_references_come_in_lists_with_archives_alone(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d.zip", "e"]
    path = written(tmp_path / "l", *({"__path__": name} for name in names))
    found = read(ReadMetadata(path, batch=2))
    assert sorted([one.uri for one in some] for some in found) == [["a", "b"], ["c", "e"], ["d.zip"]]


def test_excluded_paths_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    names = [f"{tmp_path}/{name}" for name in ("out", "out/a", "link/a", "outer", "\x00")] + ["gs://out/a"]
    path = written(tmp_path / "l", *({"__path__": name} for name in names))
    assert [one.uri for one in list_rows(path, [str(tmp_path / "out")])] == names[3:]


def test_the_file_may_have_an_odd_name(tmp_path: Path) -> None:
    path = written(tmp_path / "l-\udce5 \n", {"__path__": "a"})
    assert read(ReadMetadata(path, ("\udcff",))) == [[ImageRef("a", "a", described=True)]]


def test_types_are_declared() -> None:
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    assert (pipeline | ReadMetadata("l")).element_type == beam.typehints.List[ImageRef]
