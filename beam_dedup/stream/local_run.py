"""Runs a stream on this machine: resumes from its records, runs until a signal, and prints the summary."""

import contextlib
import datetime
import functools
import os
import time
from collections.abc import Callable, Iterator

import apache_beam as beam
import psutil
from apache_beam.options.pipeline_options import PipelineOptions

from beam_dedup.core.errors import UsageError
from beam_dedup.core.paths import is_remote
from beam_dedup.core.stream.protocol import StreamPlan
from beam_dedup.execution import executing
from beam_dedup.options.config import DedupConfig
from beam_dedup.output import log, write
from beam_dedup.runners import local_stream, select
from beam_dedup.runners.local_stream import LocalRead, LocalStreamRunner
from beam_dedup.service_log import encoded
from beam_dedup.shutdown import remove_partial_files
from beam_dedup.stream import pipeline, progress
from beam_dedup.stream.pipeline import MICROS, StreamContext, remember_micros, unbounded_source
from beam_dedup.stream.resume import Resumed, resume
from beam_dedup.unplaced import append_unplaced, unplaced_message
from transforms.stream import local_state
from transforms.stream.record import RecordPaths, recording_progress, run_name
from transforms.stream.steps import StreamSettings
from transforms.tally import Tally

STATE_DIRECTORY = ".state"  # in the directory of the records
STATE_DIRECTORY_OF_REMOTE = "image_records.state"  # in the current directory, if the records are remote
_STOPPING = "\ndedup: finishing the images that were read; press Ctrl-C again to stop at once\n"


def run(config: DedupConfig, options: PipelineOptions, plan: StreamPlan, scratch: str, started: float) -> int:
    """Runs a stream until the input ends or a signal stops it.

    The first signal ends only the reading: the run then finishes what it has read. The second one ends it.

    Args:
      config: the options of `dedup`.
      options: the options of Beam.
      plan: how images are compared.
      scratch: path of the scratch directory.
      started: time.monotonic() when the command began.

    Returns:
      The exit code: 0 at the end of the input, else 128 plus the number of the signal.

    Raises:
      UsageError: another run writes to the same records, or they were made with another algorithm.
      DedupError: the records or the state are damaged, or the run failed.
    """
    state = state_directory(config)
    with _locked(config, state):
        now = datetime.datetime.now(datetime.UTC)
        folders = RecordPaths(run_name(now), config.records, config.counts, state)
        if state:
            _remove_files_of_killed_runs(config, state)
        resumed = resume(config, folders, plan, int(now.timestamp() * 1000), scratch)
        if not config.quiet:
            log(_start_message(config, resumed))
        tally = Tally(scratch)
        settings = StreamSettings(
            plan, remember_micros(config), int(now.timestamp() * MICROS), resumed.initial_state
        )
        context = StreamContext(settings, folders, select.read_settings(options, config, tally), resumed)
        read = LocalRead(unbounded_source(config, state, tally), _is_settled(folders))
        made = beam.Pipeline(runner=LocalStreamRunner(), options=options)
        unplaced = os.path.join(scratch, "unplaced")
        _build(made, config, context, read, unplaced)
        stopping = _StopReading(read)
        show = None if config.quiet else functools.partial(progress.show_progress, tally)
        with executing(config, scratch, show, go_on=stopping):
            made.run().wait_until_finish()
            local_stream.finish(read)
        if state:
            local_state.forget_undelivered(state)
            local_state.note_finished(state)
        _report(config, tally, unplaced, time.monotonic() - started)
    return 128 + stopping.signal if stopping.signal else 0


def state_directory(config: DedupConfig) -> str:
    """Makes the directory with the state from which the next run resumes, and returns its path.

    Returns "" if the run keeps no records, and so no state.
    """
    if not config.records:
        return ""
    if is_remote(config.records):
        path = STATE_DIRECTORY_OF_REMOTE
    else:
        path = os.path.join(config.records, STATE_DIRECTORY)
    os.makedirs(path, exist_ok=True)
    return path


@contextlib.contextmanager
def _locked(config: DedupConfig, state: str) -> Iterator[None]:
    """Holds the lock of the state directory, because two runs with the same records would judge each image twice.

    Raises:
      UsageError: another run holds the lock.
    """
    with contextlib.ExitStack() as stack:
        try:
            if state:
                stack.enter_context(local_state.exclusive_lock(state))
        except BlockingIOError as error:
            raise UsageError(
                f"--records: another run writes to {config.records}; stop it first, or name another directory"
            ) from error
        yield


def _remove_files_of_killed_runs(config: DedupConfig, state: str) -> None:
    """Removes the partial files that earlier runs left when they were killed."""
    if killed := local_state.note_started(state):
        # The system may have given a process id again: to a process that is not ours, or to this one, which
        # has begun no file yet.
        gone = [process for process in killed if not psutil.pid_exists(process)]
        remove_partial_files(config, gone, [state])


def _start_message(config: DedupConfig, resumed: Resumed) -> str:
    if resumed.judged:
        return f"resuming: {config.records} has records of {resumed.judged:,} images, {resumed.kept:,} of them kept"
    if config.records:
        return f"writing records to {config.records}; run the same command again to resume from there"
    return "without --records this run can't be resumed; the next run will judge all images again"


def _is_settled(folders: RecordPaths) -> Callable[[float], bool]:
    """Returns a function that says whether all images read before a time are recorded (see `LocalRead`)."""

    def is_settled(since: float) -> bool:
        done = recording_progress(folders.run).is_done(since)
        if done and folders.state:
            # The runner is idle, so copies and messages of all records are made as well.
            local_state.forget_undelivered(folders.state)
        return done

    return is_settled


def _build(
    made: beam.Pipeline, config: DedupConfig, context: StreamContext, read: LocalRead, unplaced: str
) -> None:
    """Builds the pipeline, which also writes a file with the images that could not be placed."""
    not_placed = pipeline.build(made, config, context, read)
    open(unplaced, "wb").close()
    if not_placed is not None:
        not_placed | "TellUnplaced" >> beam.Map(append_unplaced, unplaced)


class _StopReading:
    """Ends the reading at the first signal, and lets the run continue to finish what it has read.

    Attributes:
      signal: the number of the first signal; 0 before.
    """

    def __init__(self, read: LocalRead) -> None:
        self.signal = 0
        self._read = read

    def __call__(self, number: int) -> bool:
        """Returns whether the run continues."""
        if self.signal:
            return False
        self.signal = number
        self._read.stop()
        with contextlib.suppress(OSError):  # stderr may be closed, which is no reason to stop at once
            os.write(2, encoded(_STOPPING))
        return True


def _report(config: DedupConfig, tally: Tally, unplaced: str, seconds: float) -> None:
    """Prints the summary, and the images that could not be placed.

    These are no failure of a stream: an object may be overwritten or deleted soon after it was read.
    """
    if not config.quiet:
        write(f"{progress.summary(tally, config, seconds)}\n")
    if message := unplaced_message(unplaced):
        log(message)
