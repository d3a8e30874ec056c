"""Copies of the kept images, and of the duplicates where they are asked for."""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection

from beam_dedup.core.model import Placement, Status, Verdict
from beam_dedup.core.paths import copy_name, duplicate_name
from transforms import metrics, storage
from transforms.progress import PLACED, Tally
from transforms.storage import How


@dataclasses.dataclass
class PlaceCopies(beam.PTransform[PCollection[Verdict], PCollection[Placement]]):
    """Copies each kept image to its path below a folder, and duplicates to `_duplicates/<key>/` below it.

    In: verdicts. Out: the copies. A copy gets its name only when it is whole; one that is there already
    is left alone, so that a retried bundle or a second run changes nothing. Names are unique if those of the
    references are.

    folder: local, or of any file system of Beam. duplicates: False leaves the duplicates out. how: links are for local
    files only.
    """

    folder: str
    duplicates: bool = False
    tally: Tally | None = None
    how: How = How.COPY

    def expand(self, verdicts: PCollection[Verdict]) -> PCollection[Placement]:
        return (
            verdicts
            | "Placements" >> beam.FlatMap(placements, self.folder, self.duplicates)
            | "Spread" >> beam.Reshuffle()
            | "Copy" >> beam.Map(place, self.how, self.tally)
        )


def placements(verdict: Verdict, folder: str, duplicates: bool) -> Iterator[Placement]:
    """The copy that is to be made of an image, if any."""
    if verdict.status == Status.KEPT:
        name = copy_name(verdict.ref.name)
    elif verdict.status == Status.DUPLICATE and duplicates:
        name = duplicate_name(verdict.group, verdict.ref.name)
    else:
        return
    yield Placement(verdict.ref.uri, storage.join(folder, name), verdict.digest)


def place(placement: Placement, how: How, tally: Tally | None) -> Placement:
    """Makes a copy or link, unless it is there."""
    if not storage.is_placed(placement.uri, placement.path, placement.digest, how):
        if how == How.COPY:
            storage.copy(placement.uri, placement.path)
        else:
            storage.link(placement.uri, placement.path, how)
        Metrics.counter(metrics.NAMESPACE, metrics.COPIES).inc()
    if tally:
        tally.add(PLACED, 1)
    return placement
