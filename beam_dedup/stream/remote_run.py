"""Runs a stream on another runner, such as Flink or Dataflow, which resumes it from its own checkpoints."""

import contextlib
import datetime
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import ReadFromPubSub
from apache_beam.io.unbounded_source import ReadFromUnboundedSource
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from beam_dedup.core.errors import DedupError
from beam_dedup.core.stream.protocol import StreamPlan
from beam_dedup.options.config import DedupConfig
from beam_dedup.output import log, write
from beam_dedup.runners import flink, select
from beam_dedup.runners.job_server import stopping_job_server
from beam_dedup.shutdown import as_dedup_error
from beam_dedup.stream import pipeline
from beam_dedup.stream.pipeline import DIGEST_SHARDS, StreamContext, remember_micros, unbounded_source
from beam_dedup.stream.remote_progress import showing_status
from transforms.stream.record import RecordPaths, run_name
from transforms.stream.steps import StreamSettings
from transforms.tally import Tally

_CACHE_BYTES = 1 << 29  # of state that each worker caches
_MAX_BUNDLE = 256  # elements
_MAX_BUNDLE_SECONDS = 1.0


def run(config: DedupConfig, options: PipelineOptions, plan: StreamPlan, tally: Tally | None) -> int:
    """Submits the job, shows its status until it ends, and returns the exit code.

    Args:
      config: the options of the run.
      options: the options of Beam.
      plan: the plan of the stream.
      tally: where workers in this process count what they do; None if they run elsewhere.

    Raises:
      UsageError: an option of Flink is wrong, or Beam has no such runner.
      DedupError: the job failed.
    """
    options.view_as(StandardOptions).streaming = True
    _complete_flink_options(config, options)
    # Periods are counted from a fixed time: a job that continues with the state of another must number them alike.
    settings = StreamSettings(plan, remember_micros(config), origin_micros=0, cache_bytes=_CACHE_BYTES)
    folders = RecordPaths(run_name(datetime.datetime.now(datetime.UTC)), config.records, config.counts)
    context = StreamContext(
        settings,
        folders,
        select.read_settings(options, config, tally),
        shards=DIGEST_SHARDS,
        checkpointed=flink.is_flink(options),
    )
    made = beam.Pipeline(runner=select.runner_for(options, config), options=options)
    pipeline.build(made, config, context, _read(config, options))
    with stopping_job_server():
        result = made.run()
        status = showing_status(options, result, tally) if not config.quiet else contextlib.nullcontext()
        try:
            with status:
                select.wait_for(result, select.interrupted_message(options))
        except Exception as error:
            raise DedupError(f"{as_dedup_error(error)}{flink.failed_message(options)}") from error
    if not config.quiet:
        write(f"dedup: {select.finished_message(options)}\n")
    return 0


def _complete_flink_options(config: DedupConfig, options: PipelineOptions) -> None:
    added = flink.complete(options)
    if config.quiet:
        return
    if added:
        log(f"added {' and '.join(added)}, which a stream on Flink needs")
    if message := flink.checkpoint_message(options):
        log(message)


def _read(config: DedupConfig, options: PipelineOptions) -> beam.PTransform[Any, Any]:
    assert config.stream
    if config.stream.subscription and select.is_dataflow(options):
        return ReadFromPubSub(subscription=config.stream.subscription, with_attributes=True)
    # Beam's default bundles, of up to 10,000 elements or 10 seconds, would reach the decoders late.
    return ReadFromUnboundedSource(
        unbounded_source(config),
        max_records_per_bundle=_MAX_BUNDLE,
        max_read_time_seconds=_MAX_BUNDLE_SECONDS,
    )
