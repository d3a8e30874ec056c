"""Copies of the kept images, and of the duplicates where they are asked for."""

import contextlib
import dataclasses
import functools
import posixpath
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.archives import containers
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.arrivals import event_metadata
from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.errors import ImageError
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Flag, Placement, Status, Unplaced
from beam_dedup.core.paths import copy_name, duplicate_name, is_remote
from beam_dedup.core.reading.local_files import open_local
from transforms import metrics
from transforms.batching import verdicts_in
from transforms.storage import files
from transforms.storage.placing import PlaceMode, PlacingError, TakenError, is_copy, place_bytes, place_file
from transforms.storage.prefetch import fetched
from transforms.tally import PLACED, Tally
from transforms.threaded import ThreadedDoFn

UNPLACED: Final = "unplaced"
_TaggedUnplaced = TaggedOutput[Literal["unplaced"], Unplaced]

Done = tuple[Placement, bool | PlacingError]  # whether there was something to do, or why it can't be done


class PlacingFn(ThreadedDoFn):
    """What `work` is done on -> each placement of it that is there now, or Unplaced on the tagged output."""

    def __init__(self, threads: int, how: PlaceMode, tally: Tally | None) -> None:
        super().__init__(threads)
        self.how = how
        self.tally = tally
        self.copies = Metrics.counter(metrics.NAMESPACE, metrics.COPIES)
        self.unplaced = Metrics.counter(metrics.NAMESPACE, metrics.UNPLACED)

    def work(self, element: Any) -> list[Done]:
        """Places an element's copies."""
        raise NotImplementedError

    def outputs(self, _element: Any, result: list[Done]) -> Iterator[Placement | _TaggedUnplaced]:
        for placement, done in result:
            if isinstance(done, PlacingError):
                self.unplaced.inc()
                unplaced: _TaggedUnplaced = TaggedOutput(UNPLACED, Unplaced(placement, str(done)))
                yield unplaced
            else:
                if done:
                    self.copies.inc()
                yield placement
        if self.tally:
            self.tally.add(PLACED, len(result))


_AT_ONCE = 2  # archives: a member of each is in memory


def is_member(placement: Placement) -> bool:
    return bool(split_uri(placement.uri)[1])


@dataclasses.dataclass
class PlaceMembers(beam.PTransform[PCollection[tuple[bytes, list[Placement]]], PCollection[Placement]]):
    """Copies members of archives to their paths.

    In: archives, and the placements of members of each. Out: those that are there now, and on the tagged output `UNPLACED`
    why others are not. One member at a time is in memory.
    """

    how: PlaceMode = PlaceMode.COPY
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
        if self.how != PlaceMode.COPY:
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
    how: PlaceMode = PlaceMode.COPY
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
    for verdict in verdicts_in(block):
        if Flag.DESCRIBED in verdict.flags:
            continue
        if verdict.status == Status.KEPT:
            named = functools.partial(copy_name, portable=portable)
        elif verdict.status == Status.DUPLICATE and duplicates:
            named = functools.partial(duplicate_name, verdict.group, portable=portable)
        else:
            continue
        name = verdict.ref.name
        placement = Placement(verdict.ref.uri, files.join(folder, named(name)), verdict.digest)
        generation, _ = event_metadata(verdict.ref.metadata) if generations else ("", None)
        if generation:
            otherwise = files.join(folder, named(with_generation(name, generation)))
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
