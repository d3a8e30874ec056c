"""Tests the listing of directories: every file once, whatever its name, and circular links end."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_dedup.core.model import ImageRef
from beam_dedup.core.paths import PARTIAL_PREFIX
from tests.transforms.files import write
from tests.transforms.pipelines import run
from transforms import ReadImages
from transforms.read import list_files, list_inputs

ODD_NAMES = (
    "-rf.jpg",
    ".hidden.jpg",
    "å ä ö 日本.jpg",
    os.fsdecode(b"latin-\xe5.jpg"),
    os.fsdecode(b"\xff\x80"),
    "new\nline\t.jpg",
    "back\\slash",
    "50%.jpg",
    "%2Fetc",
    "a b'c\"d$e`f*g?[h]",
    "x" * 240 + ".jpg",
    "no extension",
    "https:/",
)


def listed(folder: Path, *exclude: Path | str) -> list[str]:
    return list(list_files(str(folder), [str(path) for path in exclude]))


def make(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / name, b"")


def test_names_are_sorted_and_relative(tmp_path: Path) -> None:
    make(tmp_path, "b/z", "b/a", "c", "a/q/r/s", "a/q/b", "a.jpg", "Z")
    assert listed(tmp_path) == ["Z", "a.jpg", "c", "a/q/b", "a/q/r/s", "b/a", "b/z"]


def test_a_directory_without_files_lists_nothing(tmp_path: Path) -> None:
    assert listed(tmp_path) == []
    (tmp_path / "a/b").mkdir(parents=True)
    assert listed(tmp_path) == []


def test_odd_names_are_listed_as_they_are(tmp_path: Path) -> None:
    names = [name.rstrip("/") for name in ODD_NAMES]
    make(tmp_path, *names, *(f"-odd \udcff\n/{name}" for name in names))
    assert listed(tmp_path) == [*sorted(names), *(f"-odd \udcff\n/{name}" for name in sorted(names))]


def test_the_path_of_the_directory_may_be_written_in_many_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "in", "a/b")
    (tmp_path / "link").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    for folder in ("in", "in/", "./in//", "../" + tmp_path.name + "/in", "link"):
        assert list(list_files(folder)) == ["a/b"]


def test_hidden_files_are_listed(tmp_path: Path) -> None:
    make(tmp_path, ".a", ".b/c", "d/dedup-")
    assert listed(tmp_path) == [".a", ".b/c", "d/dedup-"]


def test_only_partial_files_of_this_run_beside_its_outputs_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that only has such a name is input."""
    ours, ended = f"{PARTIAL_PREFIX}{os.getpid()}-x.part", f"{PARTIAL_PREFIX}{ended_process()}-x.part"
    huge = f"{PARTIAL_PREFIX}{'9' * 30}-x.part"
    make(tmp_path, ours, ended, huge, f"d/{ours}", "d/a")
    assert sorted(listed(tmp_path)) == sorted([ours, ended, huge, f"d/{ours}", "d/a"])
    assert sorted(listed(tmp_path, tmp_path / "r.jsonl")) == sorted([ended, huge, f"d/{ours}", "d/a"])
    monkeypatch.chdir(tmp_path)
    found = sorted(file.path for file in list_inputs([f"{tmp_path}/**"], ["r.jsonl"]))
    assert found == sorted(f"{tmp_path}/{name}" for name in ("d/a",)), "** matches no hidden files"
    found = sorted(file.path for file in list_inputs([f"{tmp_path}/.dedup-*"], ["r.jsonl"]))
    assert found == sorted(f"{tmp_path}/{name}" for name in (ended, huge))


def ended_process() -> int:
    """Returns the number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_pipe_and_a_broken_link_are_listed_to_be_rejected(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("nowhere")
    assert listed(tmp_path) == ["broken", "pipe"]


class TestLinks:
    def test_a_link_to_a_file_is_a_file(self, tmp_path: Path) -> None:
        make(tmp_path / "in", "a")
        make(tmp_path, "outside")
        (tmp_path / "in/to-a").symlink_to("a")
        (tmp_path / "in/b").symlink_to(tmp_path / "outside")
        assert listed(tmp_path / "in") == ["a", "b", "to-a"]

    def test_a_linked_directory_is_listed_once_by_its_own_path(self, tmp_path: Path) -> None:
        make(tmp_path, "z/real/file")
        for link in ("a", "z/a", "z/real/zz"):
            (tmp_path / link).symlink_to(tmp_path / "z/real")
        assert listed(tmp_path) == ["z/real/file"]

    def test_a_linked_directory_outside_the_input_is_listed_once(self, tmp_path: Path) -> None:
        make(tmp_path, "outside/sub/file", "in/own")
        for link in ("b", "a"):
            (tmp_path / f"in/{link}").symlink_to(tmp_path / "outside")
        assert listed(tmp_path / "in") == ["own", "a/sub/file"]

    def test_circular_links_end(self, tmp_path: Path) -> None:
        make(tmp_path, "in/a/b/file", "beside")
        (tmp_path / "in/a/b/up").symlink_to("..")
        (tmp_path / "in/top").symlink_to(".")
        (tmp_path / "in/z").symlink_to(tmp_path)  # holds the input itself
        assert listed(tmp_path / "in") == ["a/b/file", "z/beside"]

    def test_a_link_to_itself_is_listed_to_be_rejected(self, tmp_path: Path) -> None:
        make(tmp_path, "a", "z")
        (tmp_path / "itself").symlink_to("itself")
        (tmp_path / "ping").symlink_to("pong")
        (tmp_path / "pong").symlink_to("ping")
        assert listed(tmp_path) == ["a", "itself", "ping", "pong", "z"]

    def test_a_link_through_a_file_is_listed_to_be_rejected(self, tmp_path: Path) -> None:
        make(tmp_path, "a")
        (tmp_path / "through").symlink_to("a/b")
        assert listed(tmp_path) == ["a", "through"]


class TestExclude:
    def test_directories_and_files_are_left_out(self, tmp_path: Path) -> None:
        make(tmp_path, "out/a", "out/deep/b", "in.jpg", "records.jsonl", "sub/out/c", "sub/records.jsonl")
        found = listed(tmp_path, tmp_path / "out", tmp_path / "records.jsonl", tmp_path / "not there")
        assert found == ["in.jpg", "sub/records.jsonl", "sub/out/c"]

    def test_excluded_paths_may_be_written_in_many_ways(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make(tmp_path, "out/a", "b")
        monkeypatch.chdir(tmp_path)
        for path in ("out", "./out/", "out/../out", str(tmp_path / "out")):
            assert listed(tmp_path, path) == ["b"]
            assert list(list_files(".", [path])) == ["b"]

    def test_links_to_excluded_paths_are_left_out(self, tmp_path: Path) -> None:
        make(tmp_path, "out/a", "b")
        (tmp_path / "in").mkdir()
        (tmp_path / "in/link").symlink_to("../out")
        (tmp_path / "in/file").symlink_to("../b")
        assert listed(tmp_path / "in", tmp_path / "out", tmp_path / "b") == []
        assert listed(tmp_path / "in", tmp_path / "b") == ["link/a"]

    def test_a_name_that_ends_like_an_excluded_one_is_listed(self, tmp_path: Path) -> None:
        make(tmp_path, "my-out/a", "out/b", "x/out/c")
        assert listed(tmp_path, tmp_path / "out") == ["my-out/a", "x/out/c"]


def test_a_directory_that_cannot_be_listed_is_yielded_itself(refused: Path, tmp_path: Path) -> None:
    make(tmp_path, "a", "z/b")
    assert listed(tmp_path) == ["a", "refused", "z/b"]
    assert listed(refused) == [""]


def test_a_missing_directory_and_a_file_are_yielded_themselves(tmp_path: Path) -> None:
    make(tmp_path, "file")
    assert listed(tmp_path / "nowhere") == [""]
    assert listed(tmp_path / "file") == [""]


@pytest.mark.parametrize("batch", [1, 32, 100_000])
@pytest.mark.parametrize("known", [False, True])
def test_references_come_in_lists_of_the_batch_size(tmp_path: Path, batch: int, known: bool) -> None:
    """Odd names pass through the runner unchanged."""
    names = [name.rstrip("/") for name in ODD_NAMES] + [f"sub/{i}" for i in range(70)]
    make(tmp_path / "in", *names, "out/a", "list.json")
    folder = str(tmp_path / "in")
    lists = read(ReadImages(folder, (f"{folder}/out", f"{folder}/list.json"), known, batch))
    assert {len(references) for references in lists} <= {batch, len(names) % batch}
    found = [reference for references in lists for reference in references]
    assert sorted(found, key=lambda reference: reference.name) == [
        ImageRef(f"{folder}/{name}", name, known=known) for name in sorted(names)
    ]


def read(transform: ReadImages) -> list[list[ImageRef]]:
    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        return {"lists": pipeline | transform}

    return run(build).values["lists"]


def test_the_directory_may_have_an_odd_name(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"in-\xe5 \n")
    make(folder, "a")

    found = read(ReadImages(str(folder), (str(tmp_path / "\udcff"),)))
    assert found == [[ImageRef(f"{folder}/a", "a")]]


def test_an_empty_directory_gives_no_list(tmp_path: Path) -> None:
    assert read(ReadImages(str(tmp_path))) == []


def test_types_are_declared() -> None:
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    assert (pipeline | ReadImages("folder")).element_type == beam.typehints.List[ImageRef]


def test_links_into_an_excluded_directory_are_left_out(tmp_path: Path) -> None:
    """Otherwise a second run would read the copies of the first."""
    folder, out = tmp_path / "in", tmp_path / "in/out"
    write(out / "sub/a", b"copy")
    write(folder / "b", b"image")
    (folder / "link").symlink_to(out / "sub")
    (folder / "file link").symlink_to(out / "sub/a")
    assert list(list_files(str(folder), [str(out)])) == ["b"]
