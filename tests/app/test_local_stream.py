"""Checks the local runner of streams: reading, watermarks, stopping, and when it acknowledges elements."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp

from beam_dedup.runners import local_stream
from beam_dedup.runners.local_stream import LocalRead, LocalStreamRunner
from tests.waiting import soon

waiting: "queue.SimpleQueue[bytes | Exception]" = queue.SimpleQueue()
committed: list[bytes] = []
seen: list[Any] = []
reader_closed = threading.Event()


class Mark(CheckpointMark):
    def __init__(self, read: list[bytes]) -> None:
        self.read = read

    def finalize_checkpoint(self) -> None:
        committed.extend(self.read)


class Reader(UnboundedReader):
    def __init__(self, ends: bool) -> None:
        self.ends = ends
        self.read: list[bytes] = []

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        try:
            found = waiting.get_nowait()
        except queue.Empty:
            return False
        if isinstance(found, Exception):
            raise found
        self.read.append(found)
        return True

    def get_current(self) -> bytes:
        return self.read[-1]

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp(int(self.read[-1]))

    def get_watermark(self) -> Timestamp:
        if self.ends and waiting.empty():
            return MAX_TIMESTAMP
        return Timestamp(int(self.read[-1])) if self.read else Timestamp(0)

    def get_checkpoint_mark(self) -> Mark:
        read, self.read = self.read, self.read[-1:]
        return Mark(list(read))

    def close(self) -> None:
        reader_closed.set()


class Source(UnboundedSource):
    def __init__(self, ends: bool = False) -> None:
        self.ends = ends

    def create_reader(self, options: Any, checkpoint_mark: Any) -> Reader:  # noqa: ARG002
        return Reader(self.ends)


@pytest.fixture(autouse=True)
def _empty() -> None:
    while not waiting.empty():
        waiting.get()
    committed.clear()
    seen.clear()
    reader_closed.clear()


def see(value: Any) -> None:
    seen.append(value)


def see_group(group: tuple[int, Any]) -> None:
    seen.append(sorted(group[1]))


def started(
    read: LocalRead, build: Callable[[Any], Any] = lambda values: values | "See" >> beam.Map(see)
) -> Any:
    pipeline = beam.Pipeline(runner=LocalStreamRunner(), options=PipelineOptions([]))
    _ = build(pipeline | read)
    return pipeline.run()


def until(condition: Callable[[], bool]) -> None:
    assert soon(condition), "the condition did not become true in time"


def put(*numbers: int) -> None:
    for number in numbers:
        waiting.put(b"%d" % number)


def test_elements_are_processed_as_they_arrive_and_stop_finishes_them() -> None:
    read = LocalRead(Source(), lambda _: True)
    put(1, 2)
    result = started(read)
    until(lambda: seen == [b"1", b"2"])
    put(3)
    until(lambda: seen == [b"1", b"2", b"3"])
    read.stop()
    assert result.wait_until_finish() == "DONE"
    local_stream.finish(read)
    assert reader_closed.is_set()
    assert committed[-1] == b"3"


def test_run_ends_with_its_source() -> None:
    read = LocalRead(Source(ends=True), lambda _: True)
    put(1, 2)
    assert started(read).wait_until_finish() == "DONE"
    assert seen == [b"1", b"2"]
    local_stream.finish(read)


def test_elements_are_acknowledged_only_when_settled() -> None:
    settled = False
    read = LocalRead(Source(), lambda _: settled)
    put(1)
    result = started(read)
    until(lambda: seen == [b"1"])
    time.sleep(0.2)
    assert committed == []
    settled = True
    until(lambda: committed == [b"1"])
    read.stop()
    result.wait_until_finish()
    local_stream.finish(read)


def test_windows_close_when_the_watermark_passes() -> None:
    read = LocalRead(Source(), lambda _: True)
    put(1, 2, 12)
    result = started(
        read,
        lambda values: (
            values
            | beam.WindowInto(FixedWindows(10))
            | "Key" >> beam.WithKeys(0).with_output_types(tuple[int, bytes])
            | beam.GroupByKey()
            | "See" >> beam.Map(see_group)
        ),
    )
    until(lambda: seen == [[b"1", b"2"]])
    read.stop()
    result.wait_until_finish()
    assert seen == [[b"1", b"2"], [b"12"]]
    local_stream.finish(read)


def test_failing_reader_ends_the_run() -> None:
    read = LocalRead(Source(), lambda _: True)
    for _ in range(4):  # the runner tries four times
        waiting.put(OSError("the bucket is gone"))
    result = started(read)
    with pytest.raises(OSError, match="the bucket is gone"):
        result.wait_until_finish()
    local_stream.finish(read)


def fail_on_two(value: bytes) -> bytes:
    if value == b"2":
        raise OSError("the disk is full")
    return value


@pytest.mark.parametrize("attempt", range(3))  # a race once made it fail now and then
def test_nothing_is_acknowledged_after_a_step_has_failed(attempt: int) -> None:
    """After a failure the runner does not even ask whether elements are settled."""
    asked: list[float] = []

    def is_settled(since: float) -> bool:
        asked.append(since)
        return True

    read = LocalRead(Source(), is_settled)
    put(1)
    result = started(read, lambda values: values | beam.Map(fail_on_two) | "See" >> beam.Map(see))
    until(lambda: committed == [b"1"])
    put(2)
    with pytest.raises(OSError, match="the disk is full"):
        result.wait_until_finish()
    before = len(asked)
    time.sleep(0.3)
    assert b"2" not in committed
    assert len(asked) == before
