"""Judges each window of a stream as a small batch by itself, and records it in one file.

Uses the composites for batch runs.
"""

import dataclasses
import datetime
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue, WindowFn

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VERDICTS, VerdictBlock
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.model import ImageRef
from beam_dedup.core.preference import Preference
from beam_dedup.core.thresholds import Thresholds
from transforms.exact import MarkExactDuplicates
from transforms.fingerprint import FingerprintImages
from transforms.near import MarkNearDuplicates
from transforms.read_settings import ReadSettings
from transforms.stream import clock
from transforms.stream.record import (
    RecordPaths,
    WriteWhenCommitted,
    count_verdicts,
    recording_progress,
    run_name,
    with_name,
    write_files,
)
from transforms.stream.skip_judged import without_judged
from transforms.tally import Tally

_ALL = b"all"


@dataclasses.dataclass
class IntoWindows(beam.PTransform[PCollection[list[ImageRef]], PCollection[list[ImageRef]]]):
    """Assigns new images to the window of the current time, so that no image is too late for its window.

    In: lists of references, unbounded. Out: the same, in fixed windows.

    Attributes:
      seconds: length of a window.
      run: name of the run, if its source is in this process and waits until its images are recorded; "" for
        others.
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
    """Returns the images at the current time. With `run`, notes that their window is not recorded yet."""
    now = clock.now()
    if run:
        (window,) = FixedWindows(seconds).assign(WindowFn.AssignContext(now))
        recording_progress(run).window_opened(float(window.start))
    return TimestampedValue(images, now)


@dataclasses.dataclass(kw_only=True)
class DeduplicateWindows(beam.PTransform[PCollection[list[ImageRef]], PCollection[VerdictBlock]]):
    """Reads, fingerprints and judges the images of each window, without the images of other windows.

    In: lists of references, in windows, unbounded. A window may contain several generations of the same URI.
    Out: blocks of `blocks.VERDICTS` in the same window: at least one per window, which may be empty.

    Attributes:
      settings, thresholds, planning: as in `transforms.DeduplicateImages`.
      skipped: file with the identities of images that were judged before and belong to no window now
        (`SkipJudgedFn`).
      preference: which images of a window are preferred, and which are protected.
    """

    settings: ReadSettings = ReadSettings()
    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    skipped: str = ""
    preference: Preference = Preference()

    def expand(self, images: PCollection[list[ImageRef]]) -> PCollection[VerdictBlock]:
        read = images | "Fingerprint" >> FingerprintImages(settings=self.settings)
        fingerprints, rejections, _ = without_judged(read, self.skipped, self.settings.tally)
        if self.settings.recipe:
            mark = MarkNearDuplicates(self.thresholds, self.planning, keep=self.preference)
            judged = (fingerprints | "MarkNear" >> mark).verdicts
        else:
            judged = fingerprints | "MarkExact" >> MarkExactDuplicates(keep=self.preference)
        nothing = images | "Nothing" >> beam.Map(no_verdicts).with_output_types(bytes)
        all_verdicts: PCollection[VerdictBlock] = (judged, rejections, nothing) | "All" >> beam.Flatten()
        return all_verdicts


def no_verdicts(_images: list[ImageRef]) -> VerdictBlock:
    """Returns an empty block: so a window ends visibly even if all its images were judged before."""
    return blocks.dump(VERDICTS.empty_table())


@dataclasses.dataclass
class RecordWindows(beam.PTransform[PCollection[VerdictBlock], PCollection[VerdictBlock]]):
    """Writes the verdicts of each window to one file, then passes them on.

    The file is named by the start of the window.

    In: blocks of `blocks.VERDICTS`, in windows, unbounded. Out: one block per window that has verdicts, in
    the global window.

    Attributes:
      folders: where the files go.
      tally: where workers on this machine report progress.
      checkpointed: the runner has checkpoints, and may go back to one.
    """

    folders: RecordPaths
    tally: Tally | None = None
    checkpointed: bool = False

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[VerdictBlock]:
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
            files
            | "Global" >> beam.WindowInto(GlobalWindows())
            | "Certain" >> WriteWhenCommitted(self.folders)
        )


class _WriteWindowFn(beam.DoFn):
    """(key, verdicts of one window) -> one block whose records are written.

    With `checkpointed` the records are not written yet: the output is the key, and the block with the name of
    its file.
    """

    def __init__(self, folders: RecordPaths, checkpointed: bool, tally: Tally | None) -> None:
        self.folders = folders
        self.checkpointed = checkpointed
        self.tally = tally

    def process(
        self, group: tuple[bytes, Iterable[VerdictBlock]], window: Any = beam.DoFn.WindowParam
    ) -> Iterable[Any]:
        verdicts = blocks.load(list(group[1]), VERDICTS)
        if len(verdicts):
            block = blocks.dump(verdicts)
            count_verdicts(block, self.tally)
            yield self._recorded(block, window)
        if not self.checkpointed:
            recording_progress(self.folders.run).window_closed(float(window.start))

    def _recorded(self, block: VerdictBlock, window: Any) -> Any:
        began: datetime.datetime = window.start.to_utc_datetime()
        name = f"{self.folders.run}-window-{run_name(began)}"
        if self.checkpointed:
            return _ALL, with_name(name, block)
        write_files(self.folders, name, block)
        return block
