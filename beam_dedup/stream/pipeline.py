"""The whole data flow of a run that stays, on one page.

notifications, or a watched folder -> arrivals -> admitted -> references -> fingerprints -> verdicts -> records -> copies
                                          \\-> redelivered                 \\-> rejections --/             \\-> messages
"""

import dataclasses
from typing import Any

import apache_beam as beam
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
from transforms.stream.pubsub import ParseNotifications
from transforms.stream.record import RecordPaths, RecordVerdicts
from transforms.stream.steps import StreamSettings
from transforms.stream.windows import DeduplicateWindows, IntoWindows, RecordWindows


@dataclasses.dataclass(frozen=True)
class StreamContext:
    """Where a stream runs, and what it goes on from.

    read_settings: how images are read. shards: files of records that are written side by side. held: the engine has checkpoints, and may go back to one.
    """

    streaming: StreamSettings
    folders: RecordPaths
    read_settings: ReadSettings
    resumed: Resumed = dataclasses.field(default_factory=Resumed)
    shards: int = 1
    checkpointed: bool = False


def _judged(images: PCollection[list[ImageRef]], setting: StreamContext) -> PCollection[bytes]:
    """Each image against all that came before."""
    verdicts = images | "Judge" >> JudgeArrivals(
        setting.streaming,
        (setting.folders.state, setting.folders.run),
        setting.resumed.skipped,
        settings=setting.read_settings,
    )
    recorded: PCollection[bytes] = verdicts | "Record" >> RecordVerdicts(
        setting.folders,
        shards=setting.shards,
        tally=setting.read_settings.tally,
        checkpointed=setting.checkpointed,
    )
    return recorded


def _judged_by_window(
    images: PCollection[list[ImageRef]], config: DedupConfig, setting: StreamContext
) -> PCollection[bytes]:
    """The images of each window by themselves."""
    assert config.stream
    verdicts = (
        images
        | "Window"
        >> IntoWindows(config.stream.window_seconds, "" if setting.checkpointed else setting.folders.run)
        | "Deduplicate"
        >> DeduplicateWindows(
            settings=setting.read_settings,
            thresholds=config.thresholds,
            planning=PlanSettings(spread=False, force=config.force_plan),
            skipped=setting.resumed.skipped,
        )
    )
    recorded: PCollection[bytes] = verdicts | "Record" >> RecordWindows(
        setting.folders, setting.read_settings.tally, setting.checkpointed
    )
    return recorded


def build(
    pipeline: beam.Pipeline, config: DedupConfig, setting: StreamContext, source: beam.PTransform[Any, Any]
) -> PCollection[Unplaced] | None:
    """Adds all steps of a stream to a pipeline. source: of packed arrivals, or of messages.

    Returns: copies that could not be made, if any are asked for.
    """
    assert config.stream
    # PCollection[bytes], packed arrivals at the time of their event
    arrivals = pipeline | "Read" >> source
    if config.stream.subscription:
        arrivals = arrivals | "Parse" >> ParseNotifications(config.stream.subscription, config.outputs)
    # PCollection[list[ImageRef]], what is new
    images = arrivals | "Admit" >> AdmitArrivals(setting.streaming, setting.read_settings.tally)
    # PCollection[bytes], blocks with one verdict per image, recorded
    if config.stream.window_seconds:
        recorded = _judged_by_window(images, config, setting)
    else:
        recorded = _judged(images, setting)
    if setting.resumed.undelivered:
        before = pipeline | "Undelivered" >> beam.Create(setting.resumed.undelivered, reshuffle=False)
        recorded = (recorded, before) | "WithUndelivered" >> beam.Flatten()
    if config.stream.verdict_topic:
        recorded | "Publish" >> PublishVerdicts(config.stream.verdict_topic)
    if not config.output_dir:
        return None
    # PCollection[Placement], PCollection[Unplaced]
    placed: Placed = recorded | "Place" >> PlaceCopies(
        config.output_dir,
        config.show_duplicates,
        setting.read_settings.tally,
        PlaceMode(config.place),
        config.portable_names,
        generations=True,
    )
    return placed.unplaced
