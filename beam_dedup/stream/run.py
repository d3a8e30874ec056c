"""One run that stays, from its configuration to its exit code."""

import contextlib
import datetime
import io
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import psutil
from apache_beam.io.gcp.pubsub import ReadFromPubSub
from apache_beam.io.unbounded_source import ReadFromUnboundedSource
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from rich.console import Console

from beam_dedup import preflight
from beam_dedup.core.errors import DEBUG_VARIABLE, UsageError
from beam_dedup.core.imaging.views import most_codes
from beam_dedup.core.paths import is_remote
from beam_dedup.core.stream import sizing
from beam_dedup.core.stream.protocol import StreamPlan, exact_plan, words_of
from beam_dedup.core.stream.sizing import Sizing
from beam_dedup.options.config import DedupConfig
from beam_dedup.runners import flink, local_stream, select
from beam_dedup.runners.local_stream import LocalRead, LocalStreamRunner
from beam_dedup.shutdown import as_dedup_error, remove_partial_files, stopping_on_signals
from beam_dedup.stream import pipeline, progress
from beam_dedup.stream.pipeline import StreamContext
from beam_dedup.stream.resume import Resumed, resume
from beam_dedup.unplaced import append_unplaced, unplaced_message
from transforms.stream import local_state
from transforms.stream.record import Folders, recording_progress, run_name
from transforms.stream.steps import StreamSettings
from transforms.stream.watch import WatchedSource
from transforms.tally import Tally

STATE_FOLDER = ".state"
_CACHE_BYTES = 1 << 29  # of the state of other engines, in each worker
_DIGEST_SHARDS = 4  # shards of what is known of images by number
_MOST_IN_BUNDLE = 256  # arrivals
_MICROS = 10**6


def run(config: DedupConfig, beam_arguments: Sequence[str], started: float) -> int:
    """Builds the pipeline, runs it until it is told to end, and tells what came of it. See `beam_dedup.batch.run.run`."""
    prepared = preflight.prepare(config, beam_arguments)
    config, options = prepared.config, prepared.beam_options
    plan = _plan(config)
    scratch = tempfile.mkdtemp(prefix="dedup-")
    try:
        if prepared.is_local:
            state = _state_folder(config)
            with _alone(config, state):
                return _run_here(config, options, plan, scratch, state, started)
        return _submit(config, options, plan)
    except Exception as error:
        remove_partial_files(config)
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        raise as_dedup_error(error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _plan(config: DedupConfig) -> StreamPlan:
    """How images are judged; and says what it will cost once the memory is full."""
    assert config.stream
    if not config.near:
        return exact_plan(_DIGEST_SHARDS)
    chosen = sizing.choose(
        config.thresholds,
        config.stream.expected_images,
        most_codes(config.recipe),
        words_of(config.recipe.algorithm),
        _DIGEST_SHARDS,
    )
    if not config.quiet and not config.stream.window_seconds:
        _say_cost(chosen)
    return chosen.plan


def _say_cost(chosen: Sizing) -> None:
    _say(f"once full: {chosen.describe()}")
    smaller, shorter = chosen.alternatives()
    _say(
        f"with half of -k: {smaller.microseconds:,.0f} us an image; with a tenth of --remember: {shorter.microseconds:,.0f} us"
    )


def _say(text: str) -> None:
    print(f"dedup: {text}", file=sys.stderr)


def _run_here(
    config: DedupConfig, options: PipelineOptions, plan: StreamPlan, scratch: str, state: str, started: float
) -> int:
    now = datetime.datetime.now(datetime.UTC)
    folders = Folders(run_name(now), config.records, config.counts, state)
    if folders.state:
        _clear_up(config, folders.state)
    resumed = resume(config, folders, plan, int(now.timestamp() * 1000), scratch)
    tally = Tally(scratch)
    streaming = StreamSettings(plan, _remember(config), int(now.timestamp() * _MICROS), resumed.beginning)
    setting = StreamContext(
        streaming, folders, resumed, processes=select.processes(options, config), tally=tally
    )
    if not config.quiet:
        _say_start(config, resumed)
    read = LocalRead(_source(config, state), _settled(folders))
    made = beam.Pipeline(runner=LocalStreamRunner(), options=options)
    unplaced = pipeline.build(made, config, setting, read)
    unplaced_path = os.path.join(scratch, "unplaced")
    open(unplaced_path, "wb").close()
    if unplaced is not None:
        unplaced | "TellUnplaced" >> beam.Map(append_unplaced, unplaced_path)
    ended_by = 0

    def drain(number: int) -> bool:
        nonlocal ended_by
        if ended_by:
            return False
        ended_by = number
        read.stop()
        with contextlib.suppress(OSError):  # nobody may listen any more: that is no reason to finish nothing
            os.write(2, b"\ndedup: finishing what was read; once more ends at once\n")
        return True

    with contextlib.ExitStack() as around:
        around.enter_context(stopping_on_signals(config, scratch, drain))
        if not config.quiet:
            around.enter_context(progress.shown(tally, Console(file=sys.stderr)))
        if not os.environ.get(DEBUG_VARIABLE):
            around.enter_context(contextlib.redirect_stderr(io.StringIO()))
        made.run().wait_until_finish()
        local_stream.finish(read)
    if folders.state:
        local_state.forget_undelivered(folders.state)
        local_state.note_finished(folders.state)
    if not config.quiet:
        print(progress.summary(tally, config, time.monotonic() - started))
    if told := unplaced_message(
        unplaced_path
    ):  # objects that are overwritten soon do not end a stream, and are no failure
        _say(told)
    return 128 + ended_by if ended_by else 0


def _clear_up(config: DedupConfig, state: str) -> None:
    """Removes what runs before this one had begun to write when they were killed."""
    if killed := local_state.note_started(state):
        # A number may have been given again: to one that runs and is none of ours, or to this process, which has begun nothing.
        gone = [process for process in killed if not psutil.pid_exists(process)]
        remove_partial_files(config, gone, [state])


def _settled(folders: Folders) -> Any:
    def is_settled(since: float) -> bool:
        done = recording_progress(folders.run).is_done(since)
        if done and folders.state:
            local_state.forget_undelivered(
                folders.state
            )  # the engine has nothing left to do: all is delivered
        return done

    return is_settled


def _state_folder(config: DedupConfig) -> str:
    """Where a run on this machine keeps what it needs to go on; "" if it keeps no records either."""
    if not config.records:
        return ""
    folder = (
        "image_records.state" if is_remote(config.records) else os.path.join(config.records, STATE_FOLDER)
    )
    os.makedirs(folder, exist_ok=True)
    return folder


@contextlib.contextmanager
def _alone(config: DedupConfig, state: str) -> Iterator[None]:
    """Of two runs that go on from the same records each would judge what the other has judged."""
    with contextlib.ExitStack() as held:
        try:
            if state:
                held.enter_context(local_state.exclusive_lock(state))
        except BlockingIOError as error:
            raise UsageError(
                f"--records: another run writes to {config.records}: end it first, or name another folder"
            ) from error
        yield


def _say_start(config: DedupConfig, resumed: Resumed) -> None:
    if resumed.judged:
        _say(
            f"going on after {resumed.judged:,} images in {config.records}, of which {resumed.kept:,} were kept"
        )
    elif config.records:
        _say(f"records go to {config.records}, and from there the same command goes on")
    else:
        _say("without --records nothing is remembered when this ends")


def _source(config: DedupConfig, state: str = "") -> Any:
    assert config.stream
    if not config.stream.subscription:
        return WatchedSource(
            config.inputs, (*config.excluded_paths, state) if state else config.excluded_paths
        )
    from transforms.stream.pubsub import SubscriptionSource

    return SubscriptionSource(config.stream.subscription)


def _remember(config: DedupConfig) -> int:
    assert config.stream
    return int(config.stream.remember_seconds * _MICROS)


def _submit(config: DedupConfig, options: PipelineOptions, plan: StreamPlan) -> int:
    """Hands the job to another runner, and waits as long as it runs. It goes on from its own checkpoints."""
    assert config.stream
    now = datetime.datetime.now(datetime.UTC)
    options.view_as(StandardOptions).streaming = True
    added = flink.complete(options)
    if added and not config.quiet:
        _say(f"a stream on Flink needs {' and '.join(added)}: added")
    if (told := flink.checkpoint_message(options)) and not config.quiet:
        _say(told)
    # Not from now on: a job that goes on with the state of another has to number stretches of time as that one did.
    streaming = StreamSettings(plan, _remember(config), origin_micros=0, cache_bytes=_CACHE_BYTES)
    folders = Folders(run_name(now), config.records, config.counts)
    made = beam.Pipeline(runner=select.runner_for(options, config), options=options)
    if config.stream.subscription and select.is_dataflow(options):
        read: Any = ReadFromPubSub(subscription=config.stream.subscription, with_attributes=True)
    else:
        # Beam's own bundles, of up to 10,000 elements and 10 seconds, would come late to where images are decoded.
        read = ReadFromUnboundedSource(
            _source(config), max_records_per_bundle=_MOST_IN_BUNDLE, max_read_time_seconds=1.0
        )
    setting = StreamContext(streaming, folders, shards=_DIGEST_SHARDS, checkpointed=flink.is_flink(options))
    pipeline.build(made, config, setting, read)
    select.wait_for(made.run(), select.interrupted_message(options))
    if not config.quiet:
        print(f"dedup: {select.finished_message(options)}")
    return 0
