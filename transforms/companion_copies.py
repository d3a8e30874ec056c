"""Chooses the copies of companions to make: files that belong to images and are not judged (`beam_dedup.core.companions`).

No content of a companion is missing among the copies. Companions of kept images are copied beside the copies of these
images. A companion of a duplicate is copied to its own path if no companion of a kept image has the same bytes; of several
such companions with the same bytes, the first by path is copied.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.blocks import VerdictBlock, to_bytes, to_text
from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Placement, Status, Unplaced
from beam_dedup.core.names import shown
from beam_dedup.core.paths import beside, copy_name, escaped_path
from beam_dedup.core.reading.local_files import open_local
from transforms.batching import verdicts_in
from transforms.clashes import named_copies
from transforms.storage import files
from transforms.threaded import ThreadedDoFn

_FAILED: Final = "failed"
_DIGESTS_AT_ONCE = 4  # per worker
_TaggedFailed = TaggedOutput[Literal["failed"], Unplaced]

Wanted = tuple[
    bytes, bool
]  # the URI of a companion, and whether its copy is made whatever else has the same bytes
_Named = tuple[bytes, Wanted]  # the path of the copy


class CompanionCopies(NamedTuple):
    """The outputs of `ChooseCompanionCopies`. Their paths are distinct."""

    wanted: PCollection[Placement]
    failed: PCollection[Unplaced]  # copies of companions that can't be read


@dataclasses.dataclass
class ChooseCompanionCopies(beam.PTransform[PCollection[VerdictBlock], CompanionCopies]):
    """Chooses the copies of companions to make, and computes their digests.

    Element in: a block of `VERDICTS`. Out: `CompanionCopies`: one `Placement` per copy to make, and one `Unplaced` per
    companion that can't be read. Bounded. Each companion is read once. Counts nothing.

    Args:
      folder: the output directory, local or of a file system of Beam.
      duplicates: whether duplicates are placed too: then their companions are placed beside them.
      portable: whether names are chosen that are different on every file system.
      roots: directories and files; if there are any, the real path of a companion must lie in one of them.
    """

    folder: str
    duplicates: bool = False
    portable: bool = False
    roots: tuple[str, ...] = ()

    @no_annotations  # Beam has no types for several outputs
    def expand(self, verdicts: PCollection[VerdictBlock]) -> CompanionCopies:
        reading = beam.ParDo(_DigestFn(self.roots)).with_output_types(
            tuple[bytes, Placement], failed=Unplaced
        )
        read = (
            verdicts
            | "Name" >> beam.FlatMap(named_companions, self.folder, self.duplicates, self.portable)
            | "ByPath" >> beam.GroupByKey()
            | "Once" >> beam.Map(placement_at)
            | "Digest" >> reading.with_outputs(_FAILED, main="main")
        )
        wanted = read["main"] | "ByDigest" >> beam.GroupByKey() | "Choose" >> beam.FlatMap(chosen)
        return CompanionCopies(wanted, read[_FAILED])


def named_companions(block: VerdictBlock, folder: str, duplicates: bool, portable: bool) -> Iterator[_Named]:
    """Yields the companions of the images of a block, keyed by the paths of their copies."""
    for verdict, named in named_copies(verdicts_in(block), True, portable):
        own_path = functools.partial(copy_name, portable=portable)
        is_wanted = duplicates or verdict.status == Status.KEPT
        for name in verdict.ref.companions:
            path = (named if is_wanted else own_path)(beside(verdict.ref.name, name))
            uri = beside(verdict.ref.uri, escaped_path(name))
            yield to_bytes(files.join(folder, path)), (to_bytes(uri), is_wanted)


def placement_at(named: tuple[bytes, Iterable[Wanted]]) -> Placement:
    """Returns the copy with a path. Several images may share the companion; if one of them is kept, the copy is wanted."""
    path, companions = named
    uri, is_wanted = max(companions, key=lambda one: one[1])
    return Placement(to_text(uri), to_text(path), b"", kept=is_wanted)


class _DigestFn(ThreadedDoFn):
    """Computes the digests of companions; tagged: those that can't be read."""

    def __init__(self, roots: tuple[str, ...]) -> None:
        super().__init__(_DIGESTS_AT_ONCE)
        self.roots = roots

    def work(self, element: Placement) -> bytes | str:
        try:
            with open_local(split_uri(element.uri)[0], roots=self.roots) as (stream, _, _):
                digest = hashlib.sha256()
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
                return digest.digest()
        except ImageError as error:
            return f"{shown(element.uri)} can't be read: {error.detail or error.reason.meaning}"

    def outputs(
        self, element: Placement, result: bytes | str
    ) -> Iterator[tuple[bytes, Placement] | _TaggedFailed]:
        if isinstance(result, bytes):
            yield result, dataclasses.replace(element, digest=result)
        else:
            failed: _TaggedFailed = TaggedOutput(_FAILED, Unplaced(element, result))
            yield failed


def chosen(equal: tuple[bytes, Iterable[Placement]]) -> Iterator[Placement]:
    """Yields the copies to make of companions with the same bytes: all that are wanted, or else the first by path."""
    first: Placement | None = None
    is_there = False
    for placement in equal[1]:
        if placement.kept:
            is_there = True
            yield dataclasses.replace(placement, kept=False)
        elif first is None or placement.path < first.path:
            first = placement
    if first and not is_there:
        yield first
