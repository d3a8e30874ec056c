"""Copies of the kept images, and of the duplicates where they are asked for."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection

from beam_dedup.core.model import Status, Verdict
from beam_dedup.core.paths import copy_name, duplicate_name
from transforms import metrics, storage
from transforms.progress import PLACED, Tally


@dataclasses.dataclass
class PlaceCopies(beam.PTransform[PCollection[Verdict], PCollection[str]]):
    """Copies each kept image to its path below a folder, and duplicates to `_duplicates/<key>/` below it.

    In: verdicts. Out: the paths of the copies. A copy gets its name only when it is whole; one that is there already
    is left alone, so that a retried bundle or a second run changes nothing. Names are unique if those of the
    references are.

    folder: local, or of any file system of Beam. duplicates: False leaves the duplicates out.
    """

    folder: str
    duplicates: bool = False
    tally: Tally | None = None

    def expand(self, verdicts: PCollection[Verdict]) -> PCollection[str]:
        return (
            verdicts
            | "Targets" >> beam.FlatMap(targets, self.folder, self.duplicates)
            | "Spread" >> beam.Reshuffle()
            | "Copy" >> beam.Map(place, self.tally)
        )


def targets(verdict: Verdict, folder: str, duplicates: bool) -> Iterator[tuple[str, str, bytes]]:
    """(URI, path of the copy, digest) of an image that is to be copied."""
    if verdict.status == Status.KEPT:
        yield verdict.ref.uri, storage.join(folder, copy_name(verdict.ref.name)), verdict.digest
    elif verdict.status == Status.DUPLICATE and duplicates:
        name = duplicate_name(verdict.group, verdict.ref.name)
        yield verdict.ref.uri, storage.join(folder, name), verdict.digest


def place(target: tuple[str, str, bytes], tally: Tally | None) -> str:
    uri, path, digest = target
    if not _is_there(path, digest):
        storage.copy(uri, path)
        Metrics.counter(metrics.NAMESPACE, metrics.COPIES).inc()
    if tally:
        tally.add(PLACED, 1)
    return path


def _is_there(path: str, digest: bytes) -> bool:
    if storage.is_remote(path) or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest() == digest
