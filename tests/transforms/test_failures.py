"""Tests that outputs are the same after a failing step, a repeated bundle, a killed decoder or a failed run."""

import contextlib
import json
from pathlib import Path
from typing import Any, BinaryIO, cast

import apache_beam as beam
import psutil
import pytest

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.matching import shard_verdicts
from beam_dedup.core.model import ImageRef, Status, Verdict
from beam_dedup.core.reading import decoder_process, isolated_decoder
from tests.transforms import image_blocks
from tests.transforms.files import encoded, write
from tests.transforms.pipelines import IN_MEMORY, PROCESSES, REPEATED, THREADS, Ran, run
from transforms import (
    CheckConservation,
    CountImages,
    DeduplicateImages,
    PlaceCopies,
    WriteGroups,
    WriteRecords,
)
from transforms import write as writing
from transforms.count import write_json
from transforms.read import list_files
from transforms.read_settings import ReadSettings
from transforms.storage import placing

FILES = {
    f"{number % 5}/{number}.png": encoded(1 + number % 12, compress_level=number // 12 % 4)
    for number in range(60)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a directory with 60 files of 12 pictures, some with equal bytes, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("in")
    for name, data in FILES.items():
        write(folder / name, data)
    write(folder / "notes", b"no picture")
    return folder


def whole_run(folder: Path, outputs: Path, recipe: Recipe | None, *flags: str) -> Ran:
    """Runs all composites as a user would."""
    images = [ImageRef(str(folder / name), name) for name in list_files(str(folder))]

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        read = image_blocks.references(pipeline, images)
        done = read | DeduplicateImages(settings=ReadSettings(recipe=recipe), digest_shards=3)
        return {
            "read": read | CheckConservation(done.verdicts, done.read_tally),
            "records": done.verdicts | "Records" >> WriteRecords(str(outputs / "records.jsonl")),
            "groups": done.verdicts | "Groups" >> WriteGroups(str(outputs / "groups.json")),
            "counts": done.verdicts
            | "Counts" >> CountImages(done.plan, done.read_tally)
            | "WriteCounts" >> beam.Map(write_json, str(outputs / "counts.json")),
            "placed": (done.verdicts | "Place" >> PlaceCopies(str(outputs / "out"), duplicates=True)).copies,
        }

    return run(build, *flags)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def near(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Returns the outputs of an undisturbed run in near mode."""
    outputs = tmp_path_factory.mktemp("near")
    assert whole_run(folder, outputs, Recipe()).values["read"] == [61]
    files = tree(outputs)
    counts = json.loads(files["counts.json"])
    assert counts["Final_Image_Count"] == 12
    assert counts["Exact_Duplicate_Count"]
    assert counts["Near_Duplicate_Count"]
    assert sum(name.startswith("out/") for name in files) == 60
    return files


@pytest.fixture(scope="module")
def exact(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Returns the outputs of an undisturbed run in exact mode, which is faster."""
    outputs = tmp_path_factory.mktemp("exact")
    whole_run(folder, outputs, None)
    return tree(outputs)


@pytest.mark.parametrize(
    "flags",
    [REPEATED, pytest.param(PROCESSES, marks=pytest.mark.processes)],
    ids=["bundles repeated", "processes"],
)
def test_outputs_do_not_depend_on_the_runner(
    folder: Path, tmp_path: Path, near: dict[str, bytes], flags: tuple[str, ...]
) -> None:
    """All outputs have the same bytes. Elements that pass between processes here pass between workers on any runner."""
    whole_run(folder, tmp_path, Recipe(), *flags)
    assert tree(tmp_path) == near


class FailsOnce:
    """Replaces a function: the first `good` calls pass, then one fails, then all pass."""

    def __init__(self, function: Any, good: int) -> None:
        self.function = function
        self.good = good
        self.calls = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        if self.calls == self.good + 1:
            raise MemoryError("the worker died")
        return self.function(*arguments, **named)


@pytest.mark.parametrize(
    ("module", "name", "good", "flags"),
    [
        pytest.param(isolated_decoder, "receive", 13, IN_MEMORY, id="while it reads"),
        pytest.param(shard_verdicts, "verdicts", 2, IN_MEMORY, id="while it judges"),
        pytest.param(placing, "whole_file", 29, THREADS, id="while it copies"),
    ],
)
def test_a_run_after_a_failed_run_gives_the_right_outputs(
    folder: Path,
    tmp_path: Path,
    exact: dict[str, bytes],
    module: Any,
    name: str,
    good: int,
    flags: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The failed run leaves only whole files with final names, and each of them is correct."""
    function = FailsOnce(getattr(module, name), good)
    monkeypatch.setattr(module, name, function)
    with pytest.raises(Exception, match="the worker died"):
        whole_run(folder, tmp_path, None, *flags)
    assert function.calls > good
    left = tree(tmp_path)
    assert left.items() <= exact.items()
    assert len(left) < len(exact)
    if name == "whole_file":
        assert sum(path.startswith("out/") for path in left) >= good
    whole_run(folder, tmp_path, None, *flags)
    assert tree(tmp_path) == exact


class KillsDecoders:
    """Replaces a function: before some of its calls it kills all decoder processes."""

    def __init__(self, function: Any, at: set[int]) -> None:
        self.function = function
        self.at = at
        self.calls = 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.calls in self.at:
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(
                    psutil.NoSuchProcess
                ):  # also of one that was killed, but not waited for yet
                    if decoder_process.__name__ in child.cmdline():
                        child.kill()
        return self.function(*arguments)


@pytest.mark.parametrize("name", ["send", "receive"])
def test_a_killed_decoder_changes_nothing(
    folder: Path, tmp_path: Path, exact: dict[str, bytes], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example by a system that runs out of memory. Another decoder reads its images, and none is rejected for it."""
    function = KillsDecoders(getattr(isolated_decoder, name), {3, 7})
    monkeypatch.setattr(isolated_decoder, name, function)
    whole_run(folder, tmp_path, None)
    assert function.calls > 9
    assert tree(tmp_path) == exact


class FullDisk:
    """A file on a disk with room for a few lines."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        if self.writes > 5:
            raise OSError("No space left on device")
        self.file.write(data)


def test_a_full_disk_leaves_the_older_file_and_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = [Verdict(ImageRef(str(number), ""), Status.KEPT) for number in range(20)]
    write(tmp_path / "records.jsonl", b"older")
    write_lines = writing.write_lines
    monkeypatch.setattr(
        writing, "write_lines", lambda file, lines: write_lines(cast(BinaryIO, FullDisk(file)), lines)
    )

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        return {
            "file": image_blocks.verdicts(pipeline, verdicts) | WriteRecords(str(tmp_path / "records.jsonl"))
        }

    with pytest.raises(Exception, match="No space left"):
        run(build)
    assert tree(tmp_path) == {"records.jsonl": b"older"}
