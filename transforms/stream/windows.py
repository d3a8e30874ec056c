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
from transforms.stream.record import Folders, WriteWhenCertain, desk, named, run_name, tell, write_files

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

    held: the engine has checkpoints, and may go back to one.
    """

    folders: Folders
    tally: Tally | None = None
    held: bool = False

    def expand(self, verdicts: PCollection[bytes]) -> PCollection[bytes]:
        gathered = (
            verdicts
            | "Tell" >> beam.Map(tell, self.tally)
            | "Take" >> beam.Map(noted, self.folders.run)
            | "Key" >> beam.WithKeys(_ALL).with_output_types(tuple[bytes, bytes])
            | "Gather" >> beam.GroupByKey()
        )
        writing = beam.ParDo(_WriteWindowFn(self.folders, self.held))
        if not self.held:
            written = gathered | "Write" >> writing.with_output_types(bytes)
            return written | "Global" >> beam.WindowInto(GlobalWindows())
        files = gathered | "Name" >> writing.with_output_types(tuple[bytes, bytes])
        return (
            files | "Global" >> beam.WindowInto(GlobalWindows()) | "Certain" >> WriteWhenCertain(self.folders)
        )


def noted(block: bytes, run: str) -> bytes:
    desk(run).took()
    return block


class _WriteWindowFn(beam.DoFn):
    """The verdicts of one window -> one block, whose records are written; if they are held, with the name of their file."""

    def __init__(self, folders: Folders, held: bool) -> None:
        self.folders = folders
        self.held = held

    def process(
        self, group: tuple[bytes, Iterable[bytes]], window: Any = beam.DoFn.WindowParam
    ) -> Iterable[Any]:
        block = blocks.dump(blocks.load(list(group[1]), VERDICTS))
        began: datetime.datetime = window.start.to_utc_datetime()
        name = f"{self.folders.run}-window-{run_name(began)}"
        if self.held:
            yield _ALL, named(name, block)
            return
        write_files(self.folders, name, block)
        desk(self.folders.run).wrote()
        yield block
