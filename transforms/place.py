"""Copies of the kept images, and of the duplicates where they are asked for."""

import dataclasses
import functools
import posixpath
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.arrivals import said_of
from beam_dedup.core.members import split_uri
from beam_dedup.core.model import Flag, Placement, Status, Unplaced
from beam_dedup.core.paths import copy_name, duplicate_name
from transforms import storage
from transforms.packing import unpack_verdicts
from transforms.place_members import GroupMembers, PlaceMembers, grouped, is_member
from transforms.placing import How, PlacingError, TakenError, place_file
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
    files only. portable: names that are apart on any file system, see `beam_dedup.core.paths`. generations: names come again
    with other images, whose metadata tell their generation: it goes into the name of a copy whose own is taken.
    """

    folder: str
    duplicates: bool = False
    tally: Tally | None = None
    how: How = How.COPY
    portable: bool = False
    generations: bool = False

    @no_annotations  # Beam has no types for several outputs
    def expand(self, verdicts: PCollection[bytes]) -> Placed:
        copying = beam.ParDo(_PlaceFn(_AT_ONCE, self.how, self.tally)).with_output_types(
            Placement, unplaced=Unplaced
        )
        wanted = verdicts | "Placements" >> beam.FlatMap(
            placements, self.folder, self.duplicates, self.portable, self.generations
        )
        if verdicts.is_bounded:
            members = wanted | "GroupMembers" >> GroupMembers()
        else:  # no more than those of a block can be waited for
            members = verdicts | "MembersOfBlock" >> beam.FlatMap(
                members_of, self.folder, self.duplicates, self.portable, self.generations
            )
        members = members | "PlaceMembers" >> PlaceMembers(self.how, self.tally)
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


def placements(
    block: bytes, folder: str, duplicates: bool, portable: bool, generations: bool = False
) -> Iterator[Placement]:
    """The copies that are to be made of images, given the verdicts on them; of those that could not be opened there are none."""
    for verdict in unpack_verdicts(block):
        if Flag.DESCRIBED in verdict.flags:
            continue
        if verdict.status == Status.KEPT:
            named = functools.partial(copy_name, portable=portable)
        elif verdict.status == Status.DUPLICATE and duplicates:
            named = functools.partial(duplicate_name, verdict.group, portable=portable)
        else:
            continue
        name = verdict.ref.name
        placement = Placement(verdict.ref.uri, storage.join(folder, named(name)), verdict.digest)
        generation, _ = said_of(verdict.ref.metadata) if generations else ("", None)
        if generation:
            otherwise = storage.join(folder, named(with_generation(name, generation)))
            placement = dataclasses.replace(placement, generation=generation, otherwise=otherwise)
        yield placement


def members_of(
    block: bytes, folder: str, duplicates: bool, portable: bool, generations: bool
) -> Iterator[tuple[bytes, list[Placement]]]:
    """Archives, and the copies that are to be made of their members, given verdicts."""
    yield from grouped(placements(block, folder, duplicates, portable, generations))


def with_generation(name: str, generation: str) -> str:
    """
    >>> with_generation("a/b.jpg", "17"), with_generation("a.b/c", "17")
    ('a/b~17.jpg', 'a.b/c~17')
    """
    stem, suffix = posixpath.splitext(name)
    return f"{stem}~{generation}{suffix}"


class _PlaceFn(PlacingFn):
    """Placement -> the same: a file."""

    def work(self, element: Placement) -> list[Done]:
        try:
            return [self._placed(element)]
        except PlacingError as error:
            return [(element, error)]

    def _placed(self, placement: Placement) -> Done:
        path, _ = split_uri(placement.uri)
        try:
            done = place_file(path, placement.path, placement.digest, self.how, placement.generation)
        except TakenError:
            if not placement.otherwise:
                raise
            return self._placed(dataclasses.replace(placement, path=placement.otherwise, otherwise=""))
        return placement, done
