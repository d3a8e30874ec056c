"""Copies or links the kept images into an output directory, and their duplicates if asked to."""

import dataclasses
import functools
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsIter, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.archives import containers
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.arrivals import event_metadata
from beam_dedup.core.blocks import VerdictBlock, to_bytes, to_text
from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Placement, Status, Unplaced, Verdict
from beam_dedup.core.names import shown
from beam_dedup.core.paths import copy_name, in_another_form, is_remote, name_hash
from transforms import lineage, metrics
from transforms.batching import verdicts_in
from transforms.clashes import FindClashes, named_copies, unpacked
from transforms.companion_copies import CompanionCopies
from transforms.stand_ins import MissingCopies, PlaceResult, exact_duplicates, made_up, stand_ins
from transforms.storage import files
from transforms.storage.archive_files import opened_archive
from transforms.storage.placing import (
    BlockedError,
    PlaceMode,
    PlacingError,
    TakenError,
    is_copy,
    place_bytes,
    place_file,
)
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
      image_column: the column of Parquet files from which images were read (`Limits.image_column`).
      companions: the copies of companions to make too, as `ChooseCompanionCopies` returns them.
    """

    folder: str
    duplicates: bool = False
    tally: Tally | None = None
    how: PlaceMode = PlaceMode.COPY
    portable: bool = False
    generations: bool = False
    missing: str = ""
    image_column: str = ""
    companions: CompanionCopies | None = None

    @no_annotations  # Beam has no types for several outputs
    def expand(self, verdicts: PCollection[VerdictBlock]) -> Placed:
        missing = MissingCopies(self.missing)
        copying = beam.ParDo(
            PlaceFn(
                _COPIES_AT_ONCE,
                self.folder,
                self.how,
                self.tally,
                self.generations,
                missing,
                self.image_column,
            )
        ).with_output_types(Placement, unplaced=Unplaced)
        wanted = wanted_copies(
            verdicts, self.folder, self.duplicates, self.portable, self.generations, missing
        )
        if verdicts.is_bounded:
            members = wanted | "GroupMembers" >> GroupMembers()
        else:  # an unbounded input never ends, so only the members within one block are grouped
            members = verdicts | "MembersOfBlock" >> beam.FlatMap(
                members_of, self.folder, self.duplicates, self.portable, self.generations, missing
            )
        members = members | "PlaceMembers" >> PlaceMembers(
            self.how, self.tally, self.folder, self.generations, missing, self.image_column
        )
        done = (
            wanted
            | "Files" >> beam.Filter(is_file)
            | "Spread" >> beam.Reshuffle()
            | "Copy" >> copying.with_outputs(UNPLACED, main="copies")
        )
        copies = [done["copies"], members["copies"]]
        unplaced = [done[UNPLACED], members[UNPLACED]]
        if self.companions:
            beside = self.companions.wanted | "CopyCompanions" >> copying.with_outputs(
                UNPLACED, main="copies"
            )
            copies.append(beside["copies"])
            unplaced += [beside[UNPLACED], self.companions.failed]
        return Placed(copies | "Copies" >> beam.Flatten(), unplaced | "Unplaced" >> beam.Flatten())


def wanted_copies(
    verdicts: PCollection[VerdictBlock],
    folder: str,
    duplicates: bool,
    portable: bool,
    generations: bool = False,
    missing: MissingCopies = MissingCopies(),  # noqa: B008  immutable
) -> PCollection[Placement]:
    """Returns the copies to make for the images of a PCollection; see `PlaceCopies` for the arguments.

    A local file system can't hold a file and a directory of one name. If the copies need both, the file gets another
    form of its name. An unbounded input never ends, so its clashes are found when the second one is placed.
    """
    clashes: tuple[AsIter, ...] = ()
    if verdicts.is_bounded and not is_remote(folder):
        clashes = (AsIter(verdicts | "Clashes" >> FindClashes(duplicates, portable)),)
    return verdicts | "Placements" >> beam.FlatMap(
        placements, folder, duplicates, portable, generations, missing, *clashes
    )


def placements(
    block: VerdictBlock,
    folder: str,
    duplicates: bool,
    portable: bool,
    generations: bool = False,
    missing: MissingCopies = MissingCopies(),  # noqa: B008  immutable
    clashes: Iterable[bytes] = (),
) -> Iterator[Placement]:
    """Yields the copies to make for the images of a block; see `PlaceCopies` for the arguments.

    If missing copies are noted, exact duplicates of images in earlier blocks may stand in for these, so their copies are
    yielded too, to be made only if it is noted (`Placement.if_missing`).

    clashes: hashes of the paths that are also directories, as `FindClashes` returns them.
    """
    taken = unpacked(clashes)
    equal = stand_ins(block, generations)
    kept: set[bytes] = set()
    for verdict, named in named_copies(verdicts_in(block), duplicates, portable):
        path = named(verdict.ref.name)
        if taken and name_hash(path) in taken:
            path = in_another_form(path, -1)
        placement = _placement(verdict, folder, path, named, generations)
        if verdict.status == Status.KEPT:
            kept.add(placement.digest)
            placement = dataclasses.replace(placement, kept=True, stand_ins=equal.get(placement.digest, ()))
        yield placement
    if missing.folder:
        named = functools.partial(copy_name, portable=portable)
        for verdict in exact_duplicates(block):
            if verdict.digest in equal and verdict.digest not in kept:
                placement = _placement(verdict, folder, named(verdict.ref.name), named, generations)
                yield dataclasses.replace(placement, kept=True, if_missing=True)


def _placement(
    verdict: Verdict, folder: str, path: str, named: Callable[[str], str], generations: bool
) -> Placement:
    placement = Placement(verdict.ref.uri, files.join(folder, path), verdict.digest)
    generation, _ = event_metadata(verdict.ref.metadata) if generations else ("", None)
    if not generation:
        return placement
    otherwise = files.join(folder, named(with_generation(verdict.ref.name, generation)))
    return dataclasses.replace(placement, generation=generation, otherwise=otherwise)


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


class PlacingFn(ThreadedDoFn):
    """Outputs each placement of an element that exists now, and `Unplaced` on the tagged output."""

    def __init__(
        self,
        threads: int,
        folder: str,
        how: PlaceMode,
        tally: Tally | None,
        moves: bool,
        missing: MissingCopies,
        image_column: str = "",
    ) -> None:
        super().__init__(threads)
        self.folder = folder
        self.moves = moves
        self.how = how
        self.tally = tally
        self.missing = missing
        self.image_column = image_column
        self.copies = Metrics.counter(metrics.NAMESPACE, metrics.COPIES)
        self.unplaced = Metrics.counter(metrics.NAMESPACE, metrics.UNPLACED)

    def work(self, element: Any) -> list[PlaceResult]:
        """Makes the copies of an element."""
        raise NotImplementedError

    def place(self, placement: Placement) -> PlaceResult:
        """Makes one copy, of a file or of a member of an archive."""
        path, member = split_uri(placement.uri)
        if member:
            return self.place_members(path, [placement])[0]
        return placed(placement, self._place_file, self.folder, self.moves)

    def place_members(self, archive: str, placements: list[Placement]) -> list[PlaceResult]:
        """Makes the copies of members of an archive."""
        if self.how == PlaceMode.COPY:
            return list(place_members(archive, placements, self.folder, self.moves, self.image_column))
        why = f"is a member of an archive and can only be copied, not made a {self.how}: use --place copy"
        return [(one, PlacingError(f"{shown(one.uri)} {why}")) for one in placements]

    def made_up(self, result: PlaceResult) -> PlaceResult:
        """Copies an equal image if a kept one could not be copied."""
        return made_up(*result, self.place, self.missing)

    def made_if_missing(self, placements: list[Placement]) -> list[PlaceResult]:
        """Makes the copies of images whose kept one has none."""
        return [result for one in placements if (result := self.missing.made_if_missing(one, self.place))]

    def _place_file(self, placement: Placement) -> bool:
        path, _ = split_uri(placement.uri)
        return place_file(path, placement.path, placement.digest, self.how, placement.generation, self.folder)

    def outputs(self, _element: Any, result: list[PlaceResult]) -> Iterator[Placement | _TaggedUnplaced]:
        if result:
            lineage.report_written(self.folder)
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


class PlaceFn(PlacingFn):
    """Places one file per element."""

    def work(self, element: Placement) -> list[PlaceResult]:
        if element.if_missing:
            return self.made_if_missing([element])
        return [self.made_up(self.place(element))]


def placed(placement: Placement, place: Callable[[Placement], bool], folder: str, moves: bool) -> PlaceResult:
    """Places one image, under another name if its own one is taken.

    Args:
      placement: the copy.
      place: makes it.
      folder: the output directory.
      moves: whether a name that is a file and a directory is changed. Otherwise that is an error.
    """
    below = os.path.join(folder, "")
    changed: set[int] = set()  # parts of the path
    while True:
        try:
            return placement, place(placement)
        except BlockedError as error:
            part = error.path.removeprefix(below).count("/")
            if not moves or part in changed:
                return placement, error
            changed.add(part)
            path = below + in_another_form(placement.path.removeprefix(below), part)
            placement = dataclasses.replace(placement, path=path)
        except TakenError as error:
            if not placement.otherwise:
                return placement, error
            placement = dataclasses.replace(placement, path=placement.otherwise, otherwise="")
            changed.clear()
        except PlacingError as error:
            return placement, error


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
    block: VerdictBlock,
    folder: str,
    duplicates: bool,
    portable: bool,
    generations: bool,
    missing: MissingCopies,
) -> Iterator[ArchiveMembers]:
    """Yields the archives that the images of a block are members of, and the copies to make of these."""
    groups: dict[bytes, list[Placement]] = {}
    wanted = filter(is_member, placements(block, folder, duplicates, portable, generations, missing))
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
    folder: str = ""  # the output directory, below which no link is followed
    moves: bool = False  # whether a name that is a file and a directory is changed when it is placed
    missing: MissingCopies = MissingCopies()
    image_column: str = ""  # of Parquet files

    @no_annotations  # Beam has no types for several outputs
    def expand(self, members: PCollection[ArchiveMembers]) -> PCollection[Placement]:
        place = PlaceMembersFn(
            _ARCHIVES_AT_ONCE,
            self.folder,
            self.how,
            self.tally,
            self.moves,
            self.missing,
            self.image_column,
        )
        copying = beam.ParDo(place).with_output_types(Placement, unplaced=Unplaced)
        return members | "Copy" >> copying.with_outputs(UNPLACED, main="copies")


class PlaceMembersFn(PlacingFn):
    """Places the members of one archive per element."""

    def work(self, element: ArchiveMembers) -> list[PlaceResult]:
        archive, placements = element
        wanted = [one for one in placements if not one.if_missing]
        done = self.place_members(to_text(archive), wanted)
        later = self.made_if_missing([one for one in placements if one.if_missing])
        return [self.made_up(result) for result in done] + later


def place_members(
    archive: str,
    placements: Iterable[Placement],
    folder: str = "",
    moves: bool = False,
    image_column: str = "",
) -> Iterator[PlaceResult]:
    """Copies members of an archive in one pass over it.

    Yields each placement, and whether its copy was made (False: it existed) or why it cannot be made.

    Args:
      archive: its path.
      placements: the copies.
      folder: the output directory.
      moves: whether a name that is a file and a directory is changed.
      image_column: the column with the images of a Parquet file.

    Raises:
      OSError: the system cannot write.
    """
    wanted: dict[str, Placement] = {}
    for placement in placements:
        paths = filter(None, (placement.path, placement.otherwise))
        if any(is_copy(path, placement.digest, folder) for path in paths):
            yield placement, False
        else:
            wanted[split_uri(placement.uri)[1]] = placement
    why = "is no longer in the archive, or can't be read any more"
    try:
        for name, data in _read_members(archive, wanted, image_column):
            place = functools.partial(_place_member, data=data, folder=folder)
            yield placed(wanted.pop(name), place, folder, moves)
    except ImageError as error:
        why = f"can't be read again: {error}"
    for placement in wanted.values():
        yield placement, PlacingError(f"{shown(placement.uri)} {why}")


def _place_member(placement: Placement, data: bytes, folder: str) -> bool:
    return place_bytes(placement.uri, data, placement.path, placement.digest, folder)


def _read_members(archive: str, names: Iterable[str], image_column: str = "") -> Iterator[tuple[str, bytes]]:
    """Yields the names and bytes of some members of an archive.

    Raises:
      ImageError: the archive is gone, the system refuses to read it, or it is no archive any more.
    """
    wanted = list(names)
    if not wanted:
        return
    with opened_archive(archive, image_column) as (stream, container):
        if container:
            yield from containers.read_members(stream, container, wanted)
