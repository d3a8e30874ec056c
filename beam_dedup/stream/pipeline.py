"""Builds the pipeline of a stream.

notifications, or a watched directory -> arrivals -> admitted -> references -> fingerprints -> verdicts -> records -> copies
                                             \\-> redelivered                 \\-> rejections --/             \\-> messages
"""

import dataclasses
from typing import Any

import apache_beam as beam
from apache_beam.io.unbounded_source import UnboundedSource
from apache_beam.pvalue import PCollection

from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.model import ImageRef, Unplaced
from beam_dedup.options.config import DedupConfig
from beam_dedup.stream.resume import Resumed
from transforms import PlaceCopies, Placed
from transforms.read_settings import ReadSettings
from transforms.storage.placing import PlaceMode
from transforms.stream.judge import AdmitArrivals, JudgeArrivals
from transforms.stream.publish import PublishVerdicts
from transforms.stream.pubsub import ParseNotifications, SubscriptionSource
from transforms.stream.record import INTERVAL_SECONDS, RecordPaths, RecordVerdicts
from transforms.stream.steps import StreamSettings
from transforms.stream.watch import ScanTimes, WatchedSource
from transforms.stream.windows import DeduplicateWindows, IntoWindows, RecordWindows
from transforms.tally import Tally

DIGEST_SHARDS = 4  # parts of the known images by digest, judged in parallel
MICROS = 10**6  # per second
RECORD_SECONDS = INTERVAL_SECONDS  # between two files of records


def remember_micros(config: DedupConfig) -> int:
    """Returns the length of a period, in microseconds."""
    assert config.stream
    return int(config.stream.remember_seconds * MICROS)


def unbounded_source(config: DedupConfig, state: str = "", tally: Tally | None = None) -> UnboundedSource:
    """Returns the source of a stream: the watched inputs, or the subscription.

    Args:
      config: the options of the run.
      state: path of the state directory, which may lie in a watched directory and is no input.
      tally: where workers on this machine report progress; None if they run elsewhere.
    """
    assert config.stream
    if config.stream.subscription:
        return SubscriptionSource(config.stream.subscription)
    excluded = (*config.excluded_paths, state) if state else config.excluded_paths
    times = ScanTimes(quiet_seconds=config.stream.quiet_seconds)
    return WatchedSource(config.inputs, excluded, times, config.links_inside, config.selection, tally)


@dataclasses.dataclass(frozen=True)
class StreamContext:
    """Where a stream runs, and what it resumes from.

    Attributes:
      streaming: the settings that all steps share.
      folders: where records and counts are written.
      read_settings: how images are read.
      resumed: the results of earlier runs.
      shards: number of record files that are written in parallel.
      checkpointed: whether the runner has checkpoints, and may restart from one.
    """

    streaming: StreamSettings
    folders: RecordPaths
    read_settings: ReadSettings
    resumed: Resumed = dataclasses.field(default_factory=Resumed)
    shards: int = 1
    checkpointed: bool = False


def _judged(
    images: PCollection[list[ImageRef]], config: DedupConfig, context: StreamContext
) -> PCollection[bytes]:
    """Compares each image with all images before it, and records the verdicts.

    Returns:
      Blocks of `blocks.VERDICTS`, unbounded, in the global window.
    """
    verdicts = images | "Judge" >> JudgeArrivals(
        context.streaming,
        (context.folders.state, context.folders.run),
        context.resumed.skipped,
        settings=context.read_settings,
        preference=config.keep,
    )
    recorded: PCollection[bytes] = verdicts | "Record" >> RecordVerdicts(
        context.folders,
        RECORD_SECONDS,
        shards=context.shards,
        tally=context.read_settings.tally,
        checkpointed=context.checkpointed,
    )
    return recorded


def _judged_by_window(
    images: PCollection[list[ImageRef]], config: DedupConfig, context: StreamContext
) -> PCollection[bytes]:
    """Deduplicates the images of each window as a batch of its own, and records the verdicts.

    Returns:
      Blocks of `blocks.VERDICTS`, unbounded, in the global window.
    """
    assert config.stream
    verdicts = (
        images
        | "Window"
        >> IntoWindows(config.stream.window_seconds, "" if context.checkpointed else context.folders.run)
        | "Deduplicate"
        >> DeduplicateWindows(
            settings=context.read_settings,
            thresholds=config.thresholds,
            planning=PlanSettings(spread=False, force=config.force_plan),
            skipped=context.resumed.skipped,
            preference=config.keep,
        )
    )
    recorded: PCollection[bytes] = verdicts | "Record" >> RecordWindows(
        context.folders, context.read_settings.tally, context.checkpointed
    )
    return recorded


def build(
    pipeline: beam.Pipeline, config: DedupConfig, context: StreamContext, source: beam.PTransform[Any, Any]
) -> PCollection[Unplaced] | None:
    """Adds all steps of a stream to a pipeline.

    Args:
      pipeline: the pipeline to add them to.
      config: the options of the run.
      context: where the stream runs, and what it resumes from.
      source: reads serialised arrivals (with `--watch`) or Pub/Sub messages (with `--subscription`).

    Returns:
      The images that could not be placed; None without `-d`.
    """
    assert config.stream
    # PCollection[bytes], serialised arrivals, with the times of their events as timestamps
    arrivals = pipeline | "Read" >> source
    if config.stream.subscription:
        arrivals = arrivals | "Parse" >> ParseNotifications(
            config.stream.subscription,
            config.outputs,
            allow=config.allow,
            selection=config.selection,
            tally=context.read_settings.tally,
        )
    # PCollection[list[ImageRef]], arrivals that are not redelivered
    images = arrivals | "Admit" >> AdmitArrivals(context.streaming, context.read_settings.tally)
    # PCollection[bytes], blocks with one verdict per image, after their records are written
    if config.stream.window_seconds:
        recorded = _judged_by_window(images, config, context)
    else:
        recorded = _judged(images, config, context)
    if context.resumed.undelivered:
        before = pipeline | "Undelivered" >> beam.Create(context.resumed.undelivered, reshuffle=False)
        recorded = (recorded, before) | "WithUndelivered" >> beam.Flatten()
    if config.stream.verdict_topic:
        recorded | "Publish" >> PublishVerdicts(config.stream.verdict_topic)
    if not config.output_dir:
        return None
    # PCollection[Placement], PCollection[Unplaced]
    placed: Placed = recorded | "Place" >> PlaceCopies(
        config.output_dir,
        config.show_duplicates,
        context.read_settings.tally,
        PlaceMode(config.place),
        config.portable_names,
        generations=True,
        missing=context.folders.state,
        image_column=config.limits.image_column,
    )
    return placed.unplaced
