"""Records and counts of a stream, as files that appear whole and in order; what follows of a verdict follows its record.

Verdicts wait in state until it is time for a file (`RecordVerdicts.interval`), so that a file has many. A file is numbered
in its shard. Where an engine may go back to a checkpoint, a file is written when its contents are in one (`transforms.stream.commit_gate`):
what is done again writes the same file.
"""

import dataclasses
import datetime
import json
import math
import time
import zlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

from beam_dedup.core import blocks
from beam_dedup.core.arrivals import event_metadata, rfc3339
from beam_dedup.core.blocks import VERDICTS
from transforms import metrics
from transforms.batching import verdicts_in
from transforms.count import as_counts
from transforms.storage import files as storage
from transforms.storage.files import whole_file
from transforms.stream.commit_gate import HoldUntilCommitted
from transforms.stream.local_state import note_undelivered
from transforms.tally import LATENCY, Tally

INTERVAL_SECONDS = 10.0
RECORDS_PREFIX, COUNTS_PREFIX = "records-", "counts-"
RECORDS_SUFFIX, COUNTS_SUFFIX = ".jsonl", ".json"
_MOST_BYTES = 1 << 26  # of verdicts that wait
_NUMBER_DIGITS = 8
_END_OF_NAME = b"\0"


@dataclasses.dataclass(frozen=True)
class RecordPaths:
    """Where files go; "" for what is not wanted. run: what their names begin with, the time at which the stream began.

    state: of an engine that does not remember itself what follows a record (`transforms.stream.local_state`).
    """

    run: str
    records: str = ""
    counts: str = ""
    state: str = ""


@dataclasses.dataclass
class RecordVerdicts(beam.PTransform[PCollection[bytes], PCollection[bytes]]):
    """Writes verdicts, and passes them on when they are written.

    In: blocks of `blocks.VERDICTS`, unbounded. Out: the same verdicts in larger blocks, each once its records are in a file.

    interval: seconds between two files at least. shards: files that are written side by side. held: the engine has
    checkpoints, and may go back to one.
    """

    folders: RecordPaths
    interval: float = INTERVAL_SECONDS
    shards: int = 1
    tally: Tally | None = None
    checkpointed: bool = False

    def expand(self, verdicts: PCollection[bytes]) -> PCollection[bytes]:
        sharded = verdicts | "Shard" >> beam.Map(with_shard, self.shards).with_output_types(
            tuple[bytes, bytes]
        )
        recording = beam.ParDo(_RecordFn(self.folders, self.interval, self.checkpointed, self.tally))
        if not self.checkpointed:
            return sharded | "Record" >> recording.with_output_types(bytes)
        named = sharded | "Record" >> recording.with_output_types(tuple[bytes, bytes])
        return named | "Certain" >> WriteWhenCertain(self.folders)


@dataclasses.dataclass
class WriteWhenCertain(beam.PTransform[PCollection[tuple[bytes, bytes]], PCollection[bytes]]):
    """Writes files whose contents are in a checkpoint, and passes their verdicts on.

    In: keys and what `named` makes, in the global window.
    """

    folders: RecordPaths

    def expand(self, files: PCollection[tuple[bytes, bytes]]) -> PCollection[bytes]:
        certain = files | "Hold" >> HoldUntilCommitted()
        return certain | "Write" >> beam.Map(write_named, self.folders).with_output_types(bytes)


def run_name(now: datetime.datetime) -> str:
    """
    >>> run_name(datetime.datetime(2026, 1, 31, 12, 0, 0, 250_000))
    '20260131T120000250Z'
    """
    return now.strftime("%Y%m%dT%H%M%S") + f"{now.microsecond // 1000:03}Z"


def tell(block: bytes, tally: Tally | None = None) -> None:
    """Counts verdicts on the engine's dashboard, and how long after its event each came.

    In a step behind a key: one behind a Flatten, Flink runs in each branch, and adds up no counters of the two.
    """
    counts, waited = metrics.counts_of(block), list(latencies(block))
    metrics.add(counts)
    distribution = Metrics.distribution(metrics.NAMESPACE, metrics.LATENCY)
    for milliseconds in waited:
        distribution.update(milliseconds)
    if tally:
        for name, count in counts.items():
            tally.add(name, count)
        tally.add_times(LATENCY, waited)


def latencies(block: bytes) -> Iterator[int]:
    """Milliseconds since the event of each image of a block, where it is known."""
    now_ms = time.time_ns() // 10**6
    for metadata in blocks.load([block], VERDICTS)["metadata"].to_pylist():
        _, event_ms = event_metadata(blocks.to_text(metadata))
        if event_ms is not None:
            yield max(0, now_ms - event_ms)


def with_shard(block: bytes, shards: int) -> tuple[bytes, bytes]:
    return b"%d" % (zlib.crc32(block) % shards), block


def named(name: str, block: bytes) -> bytes:
    """A block, and the name of its file."""
    return name.encode() + _END_OF_NAME + block


def write_named(named_block: bytes, folders: RecordPaths) -> bytes:
    name, _, block = named_block.partition(_END_OF_NAME)
    write_files(folders, name.decode(), block)
    return block


class _RecordFn(beam.DoFn):
    """(shard, block) -> larger blocks that are recorded; if they are held, (shard, block with the name of its file)."""

    WAITING = BagStateSpec("waiting", BytesCoder())
    BYTES = ReadModifyWriteStateSpec("bytes", BytesCoder())  # that wait; none: no timer is set
    NUMBER = ReadModifyWriteStateSpec("number", BytesCoder())  # of the next file
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def __init__(
        self, folders: RecordPaths, interval: float, checkpointed: bool, tally: Tally | None
    ) -> None:
        self.folders = folders
        self.interval = interval
        self.checkpointed = checkpointed
        self.tally = tally

    def process(
        self,
        element: tuple[bytes, bytes],
        waiting: Any = beam.DoFn.StateParam(WAITING),
        size: Any = beam.DoFn.StateParam(BYTES),
        number: Any = beam.DoFn.StateParam(NUMBER),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
    ) -> Iterator[Any]:
        shard, block = element
        tell(block, self.tally)
        waiting.add(block)
        before = int(size.read() or b"0")
        size.write(b"%d" % (before + len(block)))
        recording_progress(self.folders.run).took()
        if not before:
            due.set(Timestamp.now() + self.interval)
            end.set(GlobalWindow().max_timestamp())
        if before + len(block) > _MOST_BYTES:
            due.clear()
            yield from self._write(shard, waiting, size, number)

    @on_timer(DUE)
    def write_when_due(
        self,
        key: Any = beam.DoFn.KeyParam,
        waiting: Any = beam.DoFn.StateParam(WAITING),
        size: Any = beam.DoFn.StateParam(BYTES),
        number: Any = beam.DoFn.StateParam(NUMBER),
    ) -> Iterator[Any]:
        yield from self._write(key, waiting, size, number)

    @on_timer(END)
    def write_the_rest(
        self,
        key: Any = beam.DoFn.KeyParam,
        waiting: Any = beam.DoFn.StateParam(WAITING),
        size: Any = beam.DoFn.StateParam(BYTES),
        number: Any = beam.DoFn.StateParam(NUMBER),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        due.clear()
        yield from self._write(key, waiting, size, number)

    def _write(self, shard: bytes, waiting: Any, size: Any, number: Any) -> Iterator[Any]:
        parts = list(waiting.read())
        if not parts:
            return
        count = int(number.read() or b"0")
        block = blocks.dump(blocks.load(parts, VERDICTS))
        name = f"{self.folders.run}-{shard.decode()}-{count:0{_NUMBER_DIGITS}}"
        if not self.checkpointed:
            write_files(self.folders, name, block)
        number.write(b"%d" % (count + 1))
        waiting.clear()
        size.clear()
        recording_progress(self.folders.run).wrote()
        yield (shard, named(name, block)) if self.checkpointed else block


def write_files(folders: RecordPaths, name: str, block: bytes) -> None:
    """Writes the records of a block of verdicts, and their counts, each whole or not at all."""
    if folders.state:
        note_undelivered(folders.state, name, block)
    if folders.records:
        path = storage.join(folders.records, f"{RECORDS_PREFIX}{name}{RECORDS_SUFFIX}")
        with whole_file(path, lasting=True) as file:  # what it tells of is acknowledged next
            for verdict in verdicts_in(block):
                file.write(verdict.json_line().encode() + b"\n")
    if folders.counts:
        write_counts(folders, name, block)


def write_counts(folders: RecordPaths, name: str, block: bytes) -> None:
    """Writes the counts of a block of verdicts."""
    counts = {
        "Written": rfc3339(time.time_ns() // 10**6),
        **as_counts(metrics.counts_of(block), None, None),
    }
    del counts["Plan"]
    with whole_file(storage.join(folders.counts, f"{COUNTS_PREFIX}{name}{COUNTS_SUFFIX}")) as file:
        file.write(json.dumps(counts, indent=2).encode() + b"\n")


class RecordingProgress:
    """When verdicts came to this process to be recorded, and when they last were; and which windows are not recorded yet: for a
    source that lies in it.
    """

    def __init__(self) -> None:
        self._took = self._wrote = 0.0
        # Windows by when they began, and when the first image came into each.
        self._open: dict[float, float] = {}

    def took(self) -> None:
        self._took = time.monotonic()

    def wrote(self) -> None:
        self._wrote = time.monotonic()

    def opened(self, window: float) -> None:
        """An image goes into a window, which will be recorded when its time is over."""
        self._open.setdefault(window, time.monotonic())

    def closed(self, window: float) -> None:
        """All of a window is recorded."""
        self._open.pop(window, None)

    def is_done(self, since: float) -> bool:
        """Whether all that had come at a time is recorded."""
        return self._wrote >= min(self._took, since) and since < min(
            tuple(self._open.values()), default=math.inf
        )


_progress_by_run: dict[str, RecordingProgress] = {}


def recording_progress(run: str) -> RecordingProgress:
    """That of a run."""
    return _progress_by_run.setdefault(run, RecordingProgress())
