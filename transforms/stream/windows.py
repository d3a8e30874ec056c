"""Windows of a stream, each a small batch by itself: judged by the composites for batches, and recorded in one file."""

import dataclasses
import datetime
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue, WindowFn

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VERDICTS
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.model import ImageRef
from beam_dedup.core.thresholds import Thresholds
from transforms.exact import MarkExactDuplicates
from transforms.fingerprint import FingerprintImages
from transforms.near import MarkNearDuplicates
from transforms.read_settings import ReadSettings
from transforms.stream import clock
from transforms.stream.record import (
    RecordPaths,
    WriteWhenCertain,
    named,
    recording_progress,
    run_name,
    tell,
    write_files,
)
from transforms.stream.skip_judged import without_judged
from transforms.tally import Tally

_ALL = b"all"


@dataclasses.dataclass
class IntoWindows(beam.PTransform[PCollection[list[ImageRef]], PCollection[list[ImageRef]]]):
    """Puts what was admitted into the window that is open now, so that nothing comes too late for its own.

    run: of a source that lies in this process, and waits until what it gave is recorded; "" for others.
    """

    seconds: float
    run: str = ""

    def expand(self, images: PCollection[list[ImageRef]]) -> PCollection[list[ImageRef]]:
        return (
            images
            | "Now" >> beam.Map(at_this_time, self.seconds, self.run).with_output_types(list[ImageRef])
            | "Into" >> beam.WindowInto(FixedWindows(self.seconds))
        )


def at_this_time(images: list[ImageRef], seconds: float, run: str) -> Any:
    now = clock.now()
    if run:
        (window,) = FixedWindows(seconds).assign(WindowFn.AssignContext(now))
        recording_progress(run).opened(float(window.start))
    return TimestampedValue(images, now)


@dataclasses.dataclass(kw_only=True)
class DeduplicateWindows(beam.PTransform[PCollection[list[ImageRef]], PCollection[bytes]]):
    """Reads, fingerprints and judges the images of each window by themselves.

    In: references, in windows; of one URI several generations may be in one window. Out: blocks of `blocks.VERDICTS` in the same
    window, at least one, which may be empty.

    settings, thresholds, planning: as of `transforms.DeduplicateImages`. skipped: a file with the identities
    of images that were judged before, and are no part of any window now.
    """

    settings: ReadSettings = ReadSettings()
    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    skipped: str = ""

    def expand(self, images: PCollection[list[ImageRef]]) -> PCollection[bytes]:
        read = images | "Fingerprint" >> FingerprintImages(settings=self.settings)
        fingerprints, rejections, _ = without_judged(read, self.skipped)
        if self.settings.recipe:
            judged, _ = fingerprints | "MarkNear" >> MarkNearDuplicates(self.thresholds, self.planning)
        else:
            judged = fingerprints | "MarkExact" >> MarkExactDuplicates()
        nothing = images | "Nothing" >> beam.Map(no_verdicts).with_output_types(bytes)
        all_verdicts: PCollection[bytes] = (judged, rejections, nothing) | "All" >> beam.Flatten()
        return all_verdicts


def no_verdicts(_images: list[ImageRef]) -> bytes:
    """So that of each window it is known when it is over, also if all in it was judged before."""
    return blocks.dump(VERDICTS.empty_table())


@dataclasses.dataclass
class RecordWindows(beam.PTransform[PCollection[bytes], PCollection[bytes]]):
    """Writes the verdicts of each window as one file, named by when it began, and passes them on when they are written.

    In: blocks of `blocks.VERDICTS`, in windows. Out: one for each window that has any, in the global window.

    held: the engine has checkpoints, and may go back to one.
    """

    folders: RecordPaths
    tally: Tally | None = None
    checkpointed: bool = False

    def expand(self, verdicts: PCollection[bytes]) -> PCollection[bytes]:
        gathered = (
            verdicts
            | "Key" >> beam.WithKeys(_ALL).with_output_types(tuple[bytes, bytes])
            | "Gather" >> beam.GroupByKey()
        )
        writing = beam.ParDo(_WriteWindowFn(self.folders, self.checkpointed, self.tally))
        if not self.checkpointed:
            written = gathered | "Write" >> writing.with_output_types(bytes)
            return written | "Global" >> beam.WindowInto(GlobalWindows())
        files = gathered | "Name" >> writing.with_output_types(tuple[bytes, bytes])
        return (
            files | "Global" >> beam.WindowInto(GlobalWindows()) | "Certain" >> WriteWhenCertain(self.folders)
        )


class _WriteWindowFn(beam.DoFn):
    """The verdicts of one window -> one block, whose records are written; if they are held, with the name of their file."""

    def __init__(self, folders: RecordPaths, checkpointed: bool, tally: Tally | None) -> None:
        self.folders = folders
        self.checkpointed = checkpointed
        self.tally = tally

    def process(
        self, group: tuple[bytes, Iterable[bytes]], window: Any = beam.DoFn.WindowParam
    ) -> Iterable[Any]:
        verdicts = blocks.load(list(group[1]), VERDICTS)
        if len(verdicts):
            block = blocks.dump(verdicts)
            tell(block, self.tally)
            yield self._recorded(block, window)
        if not self.checkpointed:
            recording_progress(self.folders.run).closed(float(window.start))

    def _recorded(self, block: bytes, window: Any) -> Any:
        began: datetime.datetime = window.start.to_utc_datetime()
        name = f"{self.folders.run}-window-{run_name(began)}"
        if self.checkpointed:
            return _ALL, named(name, block)
        write_files(self.folders, name, block)
        return block
