"""Copies or links the kept images into an output directory, and their duplicates if asked to."""

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

from beam_dedup.core import blocks, tables
from beam_dedup.core.archives import containers
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.arrivals import event_metadata
from beam_dedup.core.blocks import VerdictBlock, to_bytes, to_text
from beam_dedup.core.errors import ImageError
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Flag, Placement, Status, Unplaced
from beam_dedup.core.paths import copy_name, duplicate_name, is_remote
from beam_dedup.core.reading.local_files import open_local
from transforms import metrics
from transforms.batching import verdicts_in
from transforms.stand_ins import MissingCopies, PlaceResult, exact_duplicates, made_up, with_stand_ins
from transforms.storage import files
from transforms.storage.placing import PlaceMode, PlacingError, TakenError, is_copy, place_bytes, place_file
from transforms.storage.prefetch import fetched
from transforms.tally import PLACED, Tally
from transforms.threaded import ThreadedDoFn

UNPLACED: Final = "unplaced"
_TaggedUnplaced = TaggedOutput[Literal["unplaced"], Unplaced]

_COPIES_AT_ONCE = 8  # per worker: disks and stores work faster on several at a time
_ARCHIVES_AT_ONCE = 2  # per worker: one member of each is in memory

ArchiveMembers = tuple[bytes, list[Placement]]  # the path of an archive, and the copies of members of it


class Placed(NamedTuple):
    """The outputs of `PlaceCopies`. Each placement is in exactly one of the two."""

    copies: PCollection[Placement]  # copies that exist now, made by this run or before
    unplaced: PCollection[Unplaced]  # copies that could not be made, and why


@dataclasses.dataclass
class PlaceCopies(beam.PTransform[PCollection[VerdictBlock], Placed]):
    """Places each kept image below a directory, and duplicates below its `_duplicates/<key>/` if asked to.

    Element in: a block of `VERDICTS`. Out: `Placed`: one `Placement` per copy that exists now, and one `Unplaced` per copy
    that could not be made. Bounded or unbounded; windowed as the input.

    A copy appears under its name only when it is complete. A copy that exists already is left alone, so a retried bundle
    or a second run changes nothing. Any other file of that name is never replaced. The copies have unique names if the
    references have. Members of an archive can only be copied, not linked. Images that could not be opened (flag
    `described`) are not placed. The bundle fails if the system cannot write, for example on a full disk.

    Counters: `Placed_Copy_Count`, `Unplaced_Copy_Count`.

    Args:
      folder: the output directory, local or of a file system of Beam.
      duplicates: whether duplicates are placed too.
      tally: where workers report their progress, on one machine; None reports nothing.
      how: copies or links. Links are for local files only.
      portable: whether names are chosen that are different on every file system (`beam_dedup.core.paths`).
      generations: whether the same name may come again with another image, whose metadata has its generation. The
        generation goes into the name of the copy if the plain name is taken.
      missing: directory in which a stream notes kept images without a copy (`transforms.stand_ins`); "" notes none.
    """

    folder: str
    duplicates: bool = False
    tally: Tally | None = None
    how: PlaceMode = PlaceMode.COPY
    portable: bool = False
    generations: bool = False
    missing: str = ""

    @no_annotations  # Beam has no types for several outputs
    def expand(self, verdicts: PCollection[VerdictBlock]) -> Placed:
        place = _PlaceFn(_COPIES_AT_ONCE, self.how, self.tally)
        place.missing = MissingCopies(self.missing)
        copying = beam.ParDo(place).with_output_types(Placement, unplaced=Unplaced)
        wanted = verdicts | "Placements" >> beam.FlatMap(
            placements_with_stand_ins,
            self.folder,
            self.duplicates,
            self.portable,
            self.generations,
            self.missing,
        )
        if verdicts.is_bounded:
            members = wanted | "GroupMembers" >> GroupMembers()
        else:  # an unbounded input never ends, so only the members within one block are grouped
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


def placements(
    block: VerdictBlock, folder: str, duplicates: bool, portable: bool, generations: bool = False
) -> Iterator[Placement]:
    """Yields the copies to make for the images of a block; see `PlaceCopies` for the arguments."""
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


def placements_with_stand_ins(
    block: VerdictBlock, folder: str, duplicates: bool, portable: bool, generations: bool, missing: str
) -> Iterator[Placement]:
    """Yields the copies to make for the images of a block, those of kept images with stand-ins."""
    verdicts = list(verdicts_in(block))
    exact = exact_duplicates(verdicts)
    if not exact and not missing:
        yield from placements(block, folder, duplicates, portable, generations)
        return
    kept, equal, others = (
        placements(blocks.dump(tables.verdicts_table(some)), folder, duplicates, portable, generations)
        for some in (
            [verdict for verdict in verdicts if verdict.status == Status.KEPT],
            exact,
            [verdict for verdict in verdicts if verdict.status == Status.DUPLICATE],
        )
    )
    yield from with_stand_ins(kept, equal, MissingCopies(missing))
    yield from others


def with_generation(name: str, generation: str) -> str:
    """Returns a name with the generation before its suffix.

    >>> with_generation("a/b.jpg", "17"), with_generation("a.b/c", "17")
    ('a/b~17.jpg', 'a.b/c~17')
    """
    stem, suffix = posixpath.splitext(name)
    return f"{stem}~{generation}{suffix}"


def is_member(placement: Placement) -> bool:
    """Returns whether the image is a member of an archive."""
    return bool(split_uri(placement.uri)[1])


def is_file(placement: Placement) -> bool:
    """Returns whether the image is a file of its own."""
    return not is_member(placement)


class _PlacingFn(ThreadedDoFn):
    """Outputs each placement of an element that exists now, and `Unplaced` on the tagged output."""

    def __init__(self, threads: int, how: PlaceMode, tally: Tally | None) -> None:
        super().__init__(threads)
        self.how = how
        self.tally = tally
        self.copies = Metrics.counter(metrics.NAMESPACE, metrics.COPIES)
        self.unplaced = Metrics.counter(metrics.NAMESPACE, metrics.UNPLACED)

    def work(self, element: Any) -> list[PlaceResult]:
        """Makes the copies of an element."""
        raise NotImplementedError

    def outputs(self, _element: Any, result: list[PlaceResult]) -> Iterator[Placement | _TaggedUnplaced]:
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


class _PlaceFn(_PlacingFn):
    """Places one file per element."""

    missing = MissingCopies()

    def work(self, element: Placement) -> list[PlaceResult]:
        return [made_up(self._place(element), self._place, self.missing)]

    def _place(self, placement: Placement) -> PlaceResult:
        try:
            return self._placed(placement)
        except PlacingError as error:
            return placement, error

    def _placed(self, placement: Placement) -> PlaceResult:
        path, _ = split_uri(placement.uri)
        try:
            done = place_file(path, placement.path, placement.digest, self.how, placement.generation)
        except TakenError:
            if not placement.otherwise:
                raise
            return self._placed(dataclasses.replace(placement, path=placement.otherwise, otherwise=""))
        return placement, done


@dataclasses.dataclass
class GroupMembers(beam.PTransform[PCollection[Placement], PCollection[ArchiveMembers]]):
    """Groups the copies of members by their archive.

    Element in: a `Placement`; those of plain files are dropped. Element out: (archive, its placements), which are in the
    memory of one worker. Bounded.
    """

    def expand(self, placements: PCollection[Placement]) -> PCollection[ArchiveMembers]:
        return (
            placements
            | "Members" >> beam.Filter(is_member)
            | "Archive" >> beam.Map(by_archive)
            | "ByArchive" >> beam.GroupByKey()
            | "List" >> beam.MapTuple(as_list)
        )


def by_archive(placement: Placement) -> tuple[bytes, Placement]:
    """Returns the placement of a member, keyed by the path of its archive."""
    return to_bytes(split_uri(placement.uri)[0]), placement


def as_list(archive: bytes, placements: Iterable[Placement]) -> ArchiveMembers:
    """Returns the placements as a list, because threads may not share the iterable of a runner."""
    return archive, list(placements)


def members_of(
    block: VerdictBlock, folder: str, duplicates: bool, portable: bool, generations: bool
) -> Iterator[ArchiveMembers]:
    """Yields the archives that the images of a block are members of, and the copies to make of these."""
    groups: dict[bytes, list[Placement]] = {}
    wanted = filter(is_member, placements(block, folder, duplicates, portable, generations))
    for archive, placement in map(by_archive, wanted):
        groups.setdefault(archive, []).append(placement)
    yield from groups.items()


@dataclasses.dataclass
class PlaceMembers(beam.PTransform[PCollection[ArchiveMembers], PCollection[Placement]]):
    """Copies members of archives to their paths; one member at a time of each archive is in memory.

    Element in: (archive, placements of its members). Element out: a `Placement` that exists now; on the tagged output
    `UNPLACED`, an `Unplaced`.
    """

    how: PlaceMode = PlaceMode.COPY
    tally: Tally | None = None

    @no_annotations  # Beam has no types for several outputs
    def expand(self, members: PCollection[ArchiveMembers]) -> PCollection[Placement]:
        place = _PlaceMembersFn(_ARCHIVES_AT_ONCE, self.how, self.tally)
        copying = beam.ParDo(place).with_output_types(Placement, unplaced=Unplaced)
        return members | "Copy" >> copying.with_outputs(UNPLACED, main="copies")


class _PlaceMembersFn(_PlacingFn):
    """Places the members of one archive per element."""

    def work(self, element: ArchiveMembers) -> list[PlaceResult]:
        archive, placements = element
        if self.how != PlaceMode.COPY:
            why = f"is a member of an archive and can only be copied, not made a {self.how}: use --place copy"
            return [(one, PlacingError(f"{one.uri} {why}")) for one in placements]
        return list(place_members(to_text(archive), placements))


def place_members(archive: str, placements: Iterable[Placement]) -> Iterator[PlaceResult]:
    """Copies members of an archive in one pass over it.

    Yields each placement, and whether its copy was made (False: it existed) or why it cannot be made.

    Raises:
      OSError: the system cannot write.
    """
    wanted: dict[str, Placement] = {}
    for placement in placements:
        if any(is_copy(path, placement.digest) for path in (placement.path, placement.otherwise) if path):
            yield placement, False
        else:
            wanted[split_uri(placement.uri)[1]] = placement
    why = "is no longer in the archive, or can't be read any more"
    try:
        for name, data in _read_members(archive, wanted):
            yield _place_member(wanted.pop(name), data)
    except ImageError as error:
        why = f"can't be read again: {error}"
    for placement in wanted.values():
        yield placement, PlacingError(f"{placement.uri} {why}")


def _place_member(placement: Placement, data: bytes) -> PlaceResult:
    try:
        return placement, place_bytes(placement.uri, data, placement.path, placement.digest)
    except TakenError as error:
        if placement.otherwise:
            return _place_member(dataclasses.replace(placement, path=placement.otherwise, otherwise=""), data)
        return placement, error
    except PlacingError as error:
        return placement, error


def _read_members(archive: str, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yields the names and bytes of some members of an archive.

    Raises:
      ImageError: the archive is gone, the system refuses to read it, or it is no archive any more.
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
