"""Windows of a stream, each a small batch by itself: judged by the composites for batches, and recorded in one file."""

import dataclasses
import datetime
import time
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VERDICTS
from beam_dedup.core.model import ImageRef
from transforms.progress import Tally
from transforms.stream.record import Folders, desk, run_name, tell, write_files

_ALL = b"all"


@dataclasses.dataclass
class IntoWindows(beam.PTransform[PCollection[list[ImageRef]], PCollection[list[ImageRef]]]):
    """Puts what was admitted into the window that is open now, so that nothing comes too late for its own."""

    seconds: float

    def expand(self, images: PCollection[list[ImageRef]]) -> PCollection[list[ImageRef]]:
        return (
            images
            | "Now" >> beam.Map(at_this_time).with_output_types(list[ImageRef])
            | "Into" >> beam.WindowInto(FixedWindows(self.seconds))
        )


def at_this_time(images: list[ImageRef]) -> Any:
    return TimestampedValue(images, time.time())


@dataclasses.dataclass
class RecordWindows(beam.PTransform[PCollection[bytes], PCollection[bytes]]):
    """Writes the verdicts of each window as one file, named by when it began, and passes them on when they are written.

    In: blocks of `blocks.VERDICTS`, in windows. Out: one for each window, in the global window.
    """

    folders: Folders
    tally: Tally | None = None

    def expand(self, verdicts: PCollection[bytes]) -> PCollection[bytes]:
        return (
            verdicts
            | "Tell" >> beam.Map(tell, self.tally)
            | "Take" >> beam.Map(noted, self.folders.run)
            | "Key" >> beam.WithKeys(_ALL).with_output_types(tuple[bytes, bytes])
            | "Gather" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_WriteWindowFn(self.folders)).with_output_types(bytes)
            | "Global" >> beam.WindowInto(GlobalWindows())
        )


def noted(block: bytes, run: str) -> bytes:
    desk(run).took()
    return block


class _WriteWindowFn(beam.DoFn):
    """The verdicts of one window -> one block, whose records are written."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders

    def process(
        self, group: tuple[bytes, Iterable[bytes]], window: Any = beam.DoFn.WindowParam
    ) -> Iterable[bytes]:
        block = blocks.dump(blocks.load(list(group[1]), VERDICTS))
        began: datetime.datetime = window.start.to_utc_datetime()
        write_files(self.folders, f"{self.folders.run}-window-{run_name(began)}", block)
        desk(self.folders.run).wrote()
        yield block
