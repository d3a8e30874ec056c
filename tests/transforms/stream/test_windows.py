"""Windows of streams: images are committed once they are recorded, no sooner; verdicts are counted once."""

import json
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.timestamp import Timestamp

from beam_dedup.core.arrivals import identity
from beam_dedup.core.model import ImageRef
from beam_dedup.runners import local_stream
from beam_dedup.runners.local_stream import LocalRead, LocalStreamRunner
from tests.waiting import soon
from transforms.stream.record import RecordPaths, recording_progress
from transforms.stream.windows import DeduplicateWindows, IntoWindows, RecordWindows

given: "queue.SimpleQueue[str]" = queue.SimpleQueue()
committed: list[str] = []


class Mark(CheckpointMark):
    def __init__(self, read: list[str]) -> None:
        self.read = read

    def finalize_checkpoint(self) -> None:
        committed.extend(self.read)


class Reader(UnboundedReader):
    def __init__(self) -> None:
        self.read: list[str] = []

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        if given.empty():
            return False
        self.read.append(given.get())
        return True

    def get_current(self) -> str:
        return self.read[-1]

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp.now()

    def get_watermark(self) -> Timestamp:
        return Timestamp.now()

    def get_checkpoint_mark(self) -> Mark:
        read, self.read = self.read, self.read[-1:]
        return Mark(list(dict.fromkeys(read)))

    def close(self) -> None:
        pass


class Source(UnboundedSource):
    def create_reader(self, options: Any, checkpoint_mark: Any) -> Reader:  # noqa: ARG002
        return Reader()


def put(name: str) -> None:
    """Puts a name into the source, and waits until it is read."""
    given.put(name)
    while not given.empty():
        time.sleep(0.01)


def references(path: str) -> list[ImageRef]:
    return [ImageRef(path, path)]


class Run:
    """A stream of paths of files that do not exist, in windows of 1.5 seconds."""

    SECONDS = 1.5

    def __init__(self, folder: Path, skipped: str) -> None:
        self.folders = RecordPaths(folder.name, str(folder / "records"))
        self.read = LocalRead(Source(), recording_progress(self.folders.run).is_done)
        pipeline = beam.Pipeline(runner=LocalStreamRunner(), options=PipelineOptions([]))
        images = pipeline | self.read | beam.Map(references).with_output_types(list[ImageRef])
        windows = images | IntoWindows(self.SECONDS, self.folders.run)
        _ = windows | DeduplicateWindows(skipped=skipped) | RecordWindows(self.folders)
        self.result: Any = pipeline.run()

    def recorded(self) -> list[str]:
        paths = sorted(Path(self.folders.records).glob("records-*"))
        return [json.loads(line)["uri"] for path in paths for line in path.read_text().splitlines()]

    def drain(self) -> None:
        self.read.stop()
        self.result.wait_until_finish()
        local_stream.finish(self.read)


@pytest.fixture
def skipped(tmp_path: Path) -> str:
    path = tmp_path / "skipped.npy"
    np.save(path, np.array([identity("old", "")], "S16"))
    return str(path)


@pytest.fixture
def run(tmp_path: Path, skipped: str) -> Iterator[Run]:
    while not given.empty():
        given.get()
    committed.clear()
    made = Run(tmp_path, skipped)
    yield made
    made.drain()


def test_nothing_is_committed_before_its_window_is_recorded(run: Run) -> None:
    names = [f"{number}" for number in range(12)]
    for name in names:
        put(name)
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            is_committed = list(committed)  # read before the records, which must contain all of it
            assert set(is_committed) <= set(run.recorded())
            time.sleep(0.01)
    run.drain()
    assert sorted(run.recorded()) == sorted(names)
    assert sorted(set(committed)) == sorted(names)


def test_window_of_images_judged_before_is_committed_and_leaves_no_file(run: Run) -> None:
    given.put("old")
    assert soon(lambda: "old" in committed)
    run.drain()
    assert run.recorded() == []
    assert not Path(run.folders.records).exists()


def test_verdicts_are_counted_once(tmp_path: Path, skipped: str) -> None:
    """On a runner that has counters."""
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    images = pipeline | beam.Create([references(name) for name in ("a", "old", "b")])
    windows = images | IntoWindows(3600.0, "") | DeduplicateWindows(skipped=skipped)
    _ = windows | RecordWindows(RecordPaths("run", str(tmp_path / "records")))
    result = pipeline.run()
    result.wait_until_finish()
    counters = {
        counter.key.metric.name: counter.committed for counter in result.metrics().query()["counters"]
    }
    assert {name: count for name, count in counters.items() if "Image" in name or "Rejected" in name} == {
        "Found_Image_Count": 3,
        "Initial_Image_Count": 2,
        "Rejected_Count": 2,
        "Rejected_not_found_Count": 2,
    }
