"""Writes the records and counts of a stream to files, and then passes the verdicts on.

Files appear complete, and in order. A copy or a message about an image always follows its record. Verdicts
wait in state for some seconds (`RecordVerdicts.interval`), so that a file contains many. Files are numbered
within their shard. If the runner may go back to a checkpoint, a file is only written once a checkpoint
contains its verdicts (`transforms.stream.commit_gate`): a repeated bundle writes the same file.
"""

import dataclasses
import datetime
import json
import math
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
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
from beam_dedup.core.blocks import VERDICTS, VerdictBlock
from transforms import metrics
from transforms.batching import verdicts_in
from transforms.count import as_counts
from transforms.lineage import report_written
from transforms.storage import files as storage
from transforms.storage.files import whole_file
from transforms.stream.commit_gate import HoldUntilCommitted
from transforms.stream.local_state import note_undelivered
from transforms.stream.recent_times import verdict_times
from transforms.tally import LATENCY, Tally

INTERVAL_SECONDS = 10.0
RECORDS_PREFIX, COUNTS_PREFIX = "records-", "counts-"
RECORDS_SUFFIX, COUNTS_SUFFIX = ".jsonl", ".json"
_LATENCY_GAUGES = (metrics.LATENCY_P50, metrics.LATENCY_P95)
_NUMBER_DIGITS = 8
_END_OF_NAME = b"\0"
_RUN = r"\d{8}T\d{9}Z"
_RECORDS_NAME = re.compile(
    rf"{RECORDS_PREFIX}{_RUN}-(?:\d+-\d{{{_NUMBER_DIGITS},}}|window-{_RUN}){re.escape(RECORDS_SUFFIX)}"
)


@dataclasses.dataclass(frozen=True)
class RecordPaths:
    """Where the files of a stream go.

    Attributes:
      run: the start of the names of all files: the time at which the stream started (`run_name`).
      records: directory of records; "" for none.
      counts: directory of counts; "" for none.
      state: directory of `transforms.stream.local_state`, for a runner that does not itself resume the copies
        and messages that follow a record; "" for others.
    """

    run: str
    records: str = ""
    counts: str = ""
    state: str = ""


@dataclasses.dataclass
class RecordVerdicts(beam.PTransform[PCollection[VerdictBlock], PCollection[VerdictBlock]]):
    """Writes records and counts of verdicts, and passes the verdicts on when their records are written.

    In: blocks of `blocks.VERDICTS`; unbounded. Out: the same verdicts in larger blocks. Both are in the
    global window.

    Attributes:
      folders: where the files go.
      interval: seconds between two files of a shard, at least.
      shards: number of files that may be written in parallel.
      tally: where workers on this machine report progress.
      checkpointed: the runner has checkpoints, and may go back to one.
      max_waiting_bytes: a file is written earlier when a shard has more bytes of verdicts than this.
    """

    folders: RecordPaths
    interval: float = INTERVAL_SECONDS
    shards: int = 1
    tally: Tally | None = None
    checkpointed: bool = False
    max_waiting_bytes: int = 1 << 26

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[VerdictBlock]:
        sharded = verdicts | "Shard" >> beam.Map(with_shard, self.shards).with_output_types(
            tuple[bytes, bytes]
        )
        recording = beam.ParDo(
            _RecordFn(self.folders, self.interval, self.checkpointed, self.tally, self.max_waiting_bytes)
        )
        if not self.checkpointed:
            return sharded | "Record" >> recording.with_output_types(bytes)
        named = sharded | "Record" >> recording.with_output_types(tuple[bytes, bytes])
        return named | "Certain" >> WriteWhenCommitted(self.folders)


@dataclasses.dataclass
class WriteWhenCommitted(beam.PTransform[PCollection[tuple[bytes, bytes]], PCollection[VerdictBlock]]):
    """Writes files of records once a checkpoint contains their verdicts, and passes the verdicts on.

    In: pairs of a key and a block with the name of its file (`with_name`), in the global window; unbounded.
    Out: the blocks.
    """

    folders: RecordPaths

    def expand(self, files: PCollection[tuple[bytes, bytes]]) -> PCollection[VerdictBlock]:
        certain = files | "Hold" >> HoldUntilCommitted()
        return certain | "Write" >> beam.Map(write_named_block, self.folders).with_output_types(bytes)


def run_name(now: datetime.datetime) -> str:
    """Returns the name of a run: the time at which it started, in UTC.

    >>> run_name(datetime.datetime(2026, 1, 31, 12, 0, 0, 250_000))
    '20260131T120000250Z'
    """
    return now.strftime("%Y%m%dT%H%M%S") + f"{now.microsecond // 1000:03}Z"


def is_records_name(path: str) -> bool:
    """Returns whether a stream gives this name to a file of records.

    >>> (
    ...     is_records_name("r/records-20260131T120000250Z-0-00000007.jsonl"),
    ...     is_records_name("r/records-1 (copy).jsonl"),
    ... )
    (True, False)
    """
    return _RECORDS_NAME.fullmatch(os.path.basename(path)) is not None


def count_verdicts(block: VerdictBlock, tally: Tally | None = None) -> None:
    """Counts verdicts, and the latency of each since its event, in Beam metrics and in the tally.

    Only for steps after a GroupByKey or with state: Flink executes a step after a Flatten once per branch,
    and does not add up the counters of the branches.
    """
    counts, times = metrics.counts_of(block), list(latencies(block))
    metrics.add(counts)
    distribution = Metrics.distribution(metrics.NAMESPACE, metrics.LATENCY)
    for milliseconds in times:
        distribution.update(milliseconds)
    verdict_times.add(times)
    for name, value in zip(_LATENCY_GAUGES, verdict_times.quantiles(0.5, 0.95), strict=False):
        metrics.set_gauge(name, value)
    if tally:
        for name, count in counts.items():
            tally.add(name, count)
        tally.add_times(LATENCY, times)


def latencies(block: VerdictBlock) -> Iterator[int]:
    """Yields the milliseconds since the event of each image in a block whose event time is known."""
    now_ms = time.time_ns() // 10**6
    for metadata in blocks.load([block], VERDICTS)["metadata"].to_pylist():
        _, event_ms = event_metadata(blocks.to_text(metadata))
        if event_ms is not None:
            yield max(0, now_ms - event_ms)


def with_shard(block: VerdictBlock, shards: int) -> tuple[bytes, VerdictBlock]:
    """Returns a block with its shard as the key."""
    return b"%d" % (zlib.crc32(block) % shards), block


def with_name(name: str, block: VerdictBlock) -> bytes:
    """Returns a block together with the name of its file, for `write_named_block`."""
    return name.encode() + _END_OF_NAME + block


def write_named_block(named_block: bytes, folders: RecordPaths) -> VerdictBlock:
    """Writes the files of a block from `with_name`. Returns the block without the name."""
    name, _, block = named_block.partition(_END_OF_NAME)
    write_files(folders, name.decode(), block)
    return block


class _RecordFn(beam.DoFn):
    """(shard, block) -> larger blocks whose records are written.

    With `checkpointed` the records are not written yet: the output is the shard, and the block with the name
    of its file.
    """

    WAITING = BagStateSpec("waiting", BytesCoder())
    BYTES = ReadModifyWriteStateSpec("bytes", BytesCoder())  # size of WAITING; empty if no timer is set
    NUMBER = ReadModifyWriteStateSpec("number", BytesCoder())  # of the next file
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def __init__(
        self,
        folders: RecordPaths,
        interval: float,
        checkpointed: bool,
        tally: Tally | None,
        max_waiting_bytes: int,
    ) -> None:
        self.folders = folders
        self.interval = interval
        self.max_waiting_bytes = max_waiting_bytes
        self.checkpointed = checkpointed
        self.tally = tally

    def process(
        self,
        element: tuple[bytes, VerdictBlock],
        waiting: Any = beam.DoFn.StateParam(WAITING),
        size: Any = beam.DoFn.StateParam(BYTES),
        number: Any = beam.DoFn.StateParam(NUMBER),
        due: Any = beam.DoFn.TimerParam(DUE),
        end: Any = beam.DoFn.TimerParam(END),
    ) -> Iterator[Any]:
        shard, block = element
        count_verdicts(block, self.tally)
        waiting.add(block)
        before = int(size.read() or b"0")
        size.write(b"%d" % (before + len(block)))
        recording_progress(self.folders.run).received()
        if not before:
            due.set(Timestamp.now() + self.interval)
            end.set(GlobalWindow().max_timestamp())
        if before + len(block) > self.max_waiting_bytes:
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
        recording_progress(self.folders.run).recorded()
        yield (shard, with_name(name, block)) if self.checkpointed else block


def write_files(folders: RecordPaths, name: str, block: VerdictBlock) -> None:
    """Writes the records and the counts of a block, each file completely or not at all.

    name: of the files, without prefix and suffix.
    """
    if folders.state:
        note_undelivered(folders.state, name, block)
    if folders.records:
        report_written(folders.records)
        path = storage.join(folders.records, f"{RECORDS_PREFIX}{name}{RECORDS_SUFFIX}")
        with whole_file(path, lasting=True) as file:  # lasting: the source acknowledges these images next
            for verdict in verdicts_in(block):
                file.write(verdict.json_line().encode() + b"\n")
    if folders.counts:
        write_counts(folders, name, block)


def write_counts(folders: RecordPaths, name: str, block: VerdictBlock) -> None:
    """Writes the counts of a block of verdicts. name: as in `write_files`."""
    counts = {
        "Written": rfc3339(time.time_ns() // 10**6),
        **as_counts(metrics.counts_of(block), None, None),
    }
    del counts["Plan"]
    with whole_file(storage.join(folders.counts, f"{COUNTS_PREFIX}{name}{COUNTS_SUFFIX}")) as file:
        file.write(json.dumps(counts, indent=2).encode() + b"\n")


class RecordingProgress:
    """Tracks whether verdicts are recorded, for a source in the same process.

    Times are those of `clock`, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._received = self._recorded = 0.0  # times of the last calls
        self._open: dict[
            float, float
        ] = {}  # start of each window that is not recorded, and time of its first image

    def received(self) -> None:
        """Notes that verdicts have reached the recording step."""
        self._received = self._clock()

    def recorded(self) -> None:
        """Notes that all verdicts received so far are recorded."""
        self._recorded = self._clock()

    def window_opened(self, window: float) -> None:
        """Notes that an image belongs to a window, which is recorded when the window ends.

        window: its start.
        """
        self._open.setdefault(window, self._clock())

    def window_closed(self, window: float) -> None:
        """Notes that a window is recorded completely."""
        self._open.pop(window, None)

    def is_done(self, since: float) -> bool:
        """Returns whether everything received up to a time is recorded."""
        first_open = min(tuple(self._open.values()), default=math.inf)
        return self._recorded >= min(self._received, since) and since < first_open


_progress_by_run: dict[str, RecordingProgress] = {}


def recording_progress(run: str) -> RecordingProgress:
    """Returns the progress of a run of this process."""
    return _progress_by_run.setdefault(run, RecordingProgress())
