"""Copies of the members of archives: an archive is gone through once, for all that is wanted of it."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import containers
from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.errors import ImageError
from beam_dedup.core.formats import HEAD_BYTES
from beam_dedup.core.limits import Limits
from beam_dedup.core.local import open_local
from beam_dedup.core.members import split_uri
from beam_dedup.core.model import Placement, Unplaced
from beam_dedup.core.paths import is_remote
from transforms.fetching import fetched
from transforms.placing import How, PlacingError, TakenError, is_copy, place_bytes
from transforms.placing_fn import UNPLACED, Done, PlacingFn
from transforms.progress import Tally

_AT_ONCE = 2  # archives: a member of each is in memory


def is_member(placement: Placement) -> bool:
    return bool(split_uri(placement.uri)[1])


@dataclasses.dataclass
class PlaceMembers(beam.PTransform[PCollection[tuple[bytes, list[Placement]]], PCollection[Placement]]):
    """Copies members of archives to their paths.

    In: archives, and the placements of members of each. Out: those that are there now, and on the tagged output `UNPLACED`
    why others are not. One member at a time is in memory.
    """

    how: How = How.COPY
    tally: Tally | None = None

    @no_annotations  # Beam has no types for several outputs
    def expand(self, members: PCollection[tuple[bytes, list[Placement]]]) -> PCollection[Placement]:
        place = _PlaceMembersFn(_AT_ONCE, self.how, self.tally)
        copying = beam.ParDo(place).with_output_types(Placement, unplaced=Unplaced)
        return members | "Copy" >> copying.with_outputs(UNPLACED, main="copies")


@dataclasses.dataclass
class GroupMembers(beam.PTransform[PCollection[Placement], PCollection[tuple[bytes, list[Placement]]]]):
    """Placements of members, bounded, by archive: those of one are in the memory of one worker."""

    def expand(self, placements: PCollection[Placement]) -> PCollection[tuple[bytes, list[Placement]]]:
        return (
            placements
            | "Members" >> beam.Filter(is_member)
            | "Archive" >> beam.Map(by_archive)
            | "ByArchive" >> beam.GroupByKey()
            | "List" >> beam.MapTuple(as_list)
        )


def grouped(placements: Iterable[Placement]) -> Iterator[tuple[bytes, list[Placement]]]:
    """The same for some placements."""
    groups: dict[bytes, list[Placement]] = {}
    for archive, placement in map(by_archive, filter(is_member, placements)):
        groups.setdefault(archive, []).append(placement)
    yield from groups.items()


def by_archive(placement: Placement) -> tuple[bytes, Placement]:
    return to_bytes(split_uri(placement.uri)[0]), placement


def as_list(archive: bytes, placements: Iterable[Placement]) -> tuple[bytes, list[Placement]]:
    return archive, list(placements)  # an engine's own iterable is not for other threads


class _PlaceMembersFn(PlacingFn):
    """(archive, its placements) -> each of them."""

    def work(self, element: tuple[bytes, list[Placement]]) -> list[Done]:
        archive, placements = element
        if self.how != How.COPY:
            why = f"is a member of an archive, which can only be copied, not made a {self.how}: use --place copy"
            return [(one, PlacingError(f"{one.uri} {why}")) for one in placements]
        return list(copied(to_text(archive), placements))


def copied(archive: str, placements: Iterable[Placement]) -> Iterator[Done]:
    """Copies members in one pass; for each placement whether there was something to do, or why it can't be done.

    Raises:
      OSError: the system can't write.
    """
    wanted: dict[str, Placement] = {}
    for placement in placements:
        if any(is_copy(path, placement.digest) for path in (placement.path, placement.otherwise) if path):
            yield placement, False
        else:
            wanted[split_uri(placement.uri)[1]] = placement
    why = "is no longer in the archive, or can't be read any more"
    try:
        for name, data in _members(archive, wanted):
            yield _placed(wanted.pop(name), data)
    except ImageError as error:
        why = f"can't be read again: {error}"
    for placement in wanted.values():
        yield placement, PlacingError(f"{placement.uri} {why}")


def _placed(placement: Placement, data: bytes) -> Done:
    try:
        return placement, place_bytes(placement.uri, data, placement.path, placement.digest)
    except TakenError as error:
        if placement.otherwise:
            return _placed(dataclasses.replace(placement, path=placement.otherwise, otherwise=""), data)
        return placement, error
    except PlacingError as error:
        return placement, error


def _members(archive: str, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Some members of an archive.

    Raises:
      ImageError: the archive is gone, or refused by the system, or none any more.
    """
    wanted = list(names)
    if not wanted:
        return
    local = fetched(archive, Limits().max_bytes) if is_remote(archive) else contextlib.nullcontext(archive)
    with local as path, open_local(path) as (stream, _, _):
        container = containers.container_of(stream.read(HEAD_BYTES))
        stream.seek(0)
        if container:
            yield from containers.read_members(stream, container, wanted)
