"""Copies of the kept images, and of the duplicates where they are asked for."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.members import split_uri
from beam_dedup.core.model import Flag, Placement, Status, Unplaced
from beam_dedup.core.paths import copy_name, duplicate_name
from transforms import storage
from transforms.packing import unpack_verdicts
from transforms.place_members import PlaceMembers, is_member
from transforms.placing import How, PlacingError, place_file
from transforms.placing_fn import UNPLACED, Done, PlacingFn
from transforms.progress import Tally

_AT_ONCE = 8  # copies: disks and stores like to be asked for several


class Placed(NamedTuple):
    """What came of the copies: each is in exactly one of the two."""

    copies: PCollection[Placement]
    unplaced: PCollection[Unplaced]


@dataclasses.dataclass
class PlaceCopies(beam.PTransform[PCollection[bytes], Placed]):
    """Copies each kept image to its path below a folder, and duplicates to `_duplicates/<key>/` below it.

    In: blocks of `blocks.VERDICTS`. Out: `Placed`. A copy gets its name only when it is whole; one that is there already is left alone,
    so that a retried bundle or a second run changes nothing; something else of that name is never replaced. Names are
    unique if those of the references are. The members of an archive can only be copied.

    folder: local, or of any file system of Beam. duplicates: False leaves the duplicates out. how: links are for local
    files only. portable: names that are apart on any file system, see `beam_dedup.core.paths`.
    """

    folder: str
    duplicates: bool = False
    tally: Tally | None = None
    how: How = How.COPY
    portable: bool = False

    @no_annotations  # Beam has no types for several outputs
    def expand(self, verdicts: PCollection[bytes]) -> Placed:
        copying = beam.ParDo(_PlaceFn(_AT_ONCE, self.how, self.tally)).with_output_types(
            Placement, unplaced=Unplaced
        )
        wanted = verdicts | "Placements" >> beam.FlatMap(
            placements, self.folder, self.duplicates, self.portable
        )
        members = (
            wanted
            | "Members" >> beam.Filter(is_member)
            | "PlaceMembers" >> PlaceMembers(self.how, self.tally)
        )
        done = (
            wanted
            | "Files" >> beam.Filter(is_file)
            | "Spread" >> beam.Reshuffle()
            | "Copy" >> copying.with_outputs(UNPLACED, main="copies")
        )
        copies = (done["copies"], members["copies"]) | "Copies" >> beam.Flatten()
        return Placed(copies, (done[UNPLACED], members[UNPLACED]) | "Unplaced" >> beam.Flatten())


def is_file(placement: Placement) -> bool:
    return not is_member(placement)


def placements(block: bytes, folder: str, duplicates: bool, portable: bool) -> Iterator[Placement]:
    """The copies that are to be made of images, given the verdicts on them; of those that could not be opened there are none."""
    for verdict in unpack_verdicts(block):
        if Flag.DESCRIBED in verdict.flags:
            continue
        if verdict.status == Status.KEPT:
            name = copy_name(verdict.ref.name, portable)
        elif verdict.status == Status.DUPLICATE and duplicates:
            name = duplicate_name(verdict.group, verdict.ref.name, portable)
        else:
            continue
        yield Placement(verdict.ref.uri, storage.join(folder, name), verdict.digest)


class _PlaceFn(PlacingFn):
    """Placement -> the same: a file."""

    def work(self, element: Placement) -> list[Done]:
        try:
            path, _ = split_uri(element.uri)
            return [(element, place_file(path, element.path, element.digest, self.how))]
        except PlacingError as error:
            return [(element, error)]
