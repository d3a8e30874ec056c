"""Writes the kept images into shards: Parquet files or tars of many images, with what belongs to each.

Images do not go through a shuffle. The kept images of an archive or table are read again in one pass over it, and become
shards of its name. Those that are files become shards whose number depends on how many there are and how large.
"""

import contextlib
import dataclasses
import hashlib
import json
import posixpath
import re
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.archives.members import member_uri, split_uri, too_large
from beam_dedup.core.archives.webdataset import split_key
from beam_dedup.core.blocks import VerdictBlock, to_text
from beam_dedup.core.errors import ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Placement, Unplaced, Verdict
from beam_dedup.core.names import shown
from beam_dedup.core.paths import beside, copy_name, escaped_path, is_remote, name_hash
from beam_dedup.core.reading.local_files import open_local
from beam_dedup.core.shards.contents import CHANGED, Chunk, Lost, Sample, ShardFormat, kept_contents
from beam_dedup.core.shards.parquet_shards import ParquetShard
from beam_dedup.core.shards.tar_shards import TarShard
from transforms.batching import verdicts_in
from transforms.clashes import named_copies
from transforms.place import (
    UNPLACED,
    ArchiveMembers,
    GroupMembers,
    Placed,
    PlacingFn,
)
from transforms.stand_ins import MissingCopies, PlaceResult
from transforms.storage import files
from transforms.storage.archive_files import opened_archive
from transforms.storage.placing import PlaceMode, PlacingError, place_file
from transforms.storage.prefetch import fetched
from transforms.tally import Tally

SHARD_BYTES = 1 << 30  # 1 GiB; a shard with more gets no further images
_MEAN_BYTES = 1 << 29  # of the shards of files, on average
_MEAN_IMAGES = 10_000
_SHARDS_AT_ONCE = 2  # per worker: one image of each, or one row group, is in memory

Size = tuple[int, int]  # number of images, and their bytes


@dataclasses.dataclass(frozen=True, slots=True)
class KeptFile:
    """A kept image that is a file of its own."""

    uri: str
    name: str
    digest: bytes
    metadata: str  # as JSON; "" if there are none
    companions: tuple[str, ...]  # their names in the directory of the image


ShardFiles = tuple[bytes, list[KeptFile]]  # the name of a shard without its suffix, and the images in it


@dataclasses.dataclass
class WriteShards(beam.PTransform[PCollection[VerdictBlock], Placed]):
    """Writes the kept images into shards below a directory.

    Element in: a block of `VERDICTS`. Out: `Placed`: one `Placement` per image that is in a shard now, whose path is that of
    the shard, and one `Unplaced` per image that is in none, or file that belongs to one. Bounded.

    - An archive or table becomes shards with its name: the first has the name itself, with the suffix of the format if it
      ends otherwise, and the next ones `.part1` and so on before the suffix. Tables written as Parquet keep all columns;
      tars written as tar keep all members of the keys of kept images that are not images.
    - Files become shards called `images-00000-of-00004`, by the hash of their names. Their companions go with them.

    The content of a shard depends on the input alone. A shard appears under its name only when it is complete. A second run
    changes nothing. Any other file of that name is never replaced; then its images are in no shard. The bundle fails if the
    system cannot write.

    Counters: `Placed_Copy_Count`, `Unplaced_Copy_Count`.

    Args:
      folder: the output directory, local or of a file system of Beam.
      form: the format of the shards.
      tally: where workers report their progress, on one machine; None reports nothing.
      portable: whether names are chosen that are different on every file system.
      image_column: the column of tables from which images were read (`Limits.image_column`).
      roots: directories and files; if there are any, the real path of a companion must lie in one of them.
      shard_bytes: bytes of images after which a shard gets no further images.
      mean_images: how many images a shard of files has on average, at most.
    """

    folder: str
    form: ShardFormat
    tally: Tally | None = None
    portable: bool = False
    image_column: str = ""
    roots: tuple[str, ...] = ()
    shard_bytes: int = SHARD_BYTES
    mean_images: int = _MEAN_IMAGES

    @no_annotations  # Beam has no types for several outputs
    def expand(self, verdicts: PCollection[VerdictBlock]) -> Placed:
        arguments = (self.folder, self.form, self.tally, self.portable, self.image_column, self.roots)
        of_archives = beam.ParDo(_ArchiveShardsFn(*arguments, self.shard_bytes))
        of_files = beam.ParDo(_FileShardsFn(*arguments, self.shard_bytes))
        archives = (
            verdicts
            | "Members" >> beam.FlatMap(kept_members, self.folder, self.form, self.portable)
            | "GroupMembers" >> GroupMembers()
            | "WriteMembers"
            >> of_archives.with_output_types(Placement, unplaced=Unplaced).with_outputs(
                UNPLACED, main="copies"
            )
        )
        kept = verdicts | "Files" >> beam.FlatMap(kept_files)
        size = kept | "Size" >> beam.Map(size_of) | "TotalSize" >> beam.CombineGlobally(total_size)
        images = (
            kept
            | "Shard" >> beam.Map(with_shard, AsSingleton(size), self.mean_images)
            | "ByShard" >> beam.GroupByKey()
            | "Sort" >> beam.MapTuple(sorted_files)
            | "WriteFiles"
            >> of_files.with_output_types(Placement, unplaced=Unplaced).with_outputs(UNPLACED, main="copies")
        )
        return Placed(
            (archives["copies"], images["copies"]) | "Copies" >> beam.Flatten(),
            (archives[UNPLACED], images[UNPLACED]) | "Unplaced" >> beam.Flatten(),
        )


def kept_members(block: VerdictBlock, folder: str, form: ShardFormat, portable: bool) -> Iterator[Placement]:
    """Yields the kept members of archives; their path is that of the first shard of the archive."""
    for verdict, _ in named_copies(verdicts_in(block), False, portable):
        archive, member = split_uri(verdict.ref.uri)
        if member:
            name = copy_name(archive_name(verdict.ref.name, archive, member), portable)
            path = files.join(folder, with_suffix(name, form))
            yield Placement(verdict.ref.uri, path, verdict.digest, kept=True)


def archive_name(name: str, archive: str, member: str) -> str:
    """Returns the name of an archive, given the name of a member, the path of the archive, and the member.

    Of several inputs, the second `a.tar` is called `a#2.tar`.

    >>> (
    ...     archive_name("x/a.tar/b/c.jpg", "/in/x/a.tar", "b/c.jpg"),
    ...     archive_name("a#2.tar/0.jpg", "/a.tar", "0"),
    ... )
    ('x/a.tar', 'a#2.tar')
    """
    if not member.isdecimal() and name.endswith(f"/{member}"):
        return name[: -len(member) - 1]
    # The member is a row, whose copy has a name of its own.
    base = posixpath.basename(archive)
    stem, dot, suffix = base.rpartition(".")
    begin, end = (stem, dot + suffix) if stem else (base, "")
    numbered = re.compile(rf"{re.escape(begin)}(#\d+)?{re.escape(end)}")
    parts = name.split("/")
    for at, part in enumerate(parts[:-1], 1):
        if numbered.fullmatch(part):
            return "/".join(parts[:at])
    return base


def with_suffix(name: str, form: ShardFormat) -> str:
    """Returns the name of a shard.

    >>> with_suffix("a.tar", ShardFormat.TAR), with_suffix("a.tar.gz", ShardFormat.TAR)
    ('a.tar', 'a.tar.gz.tar')
    """
    suffix = f".{form}"
    return name if name.endswith(suffix) else f"{name}{suffix}"


def part_path(path: str, part: int, form: ShardFormat) -> str:
    """Returns the path of a further shard of an archive.

    >>> part_path("out/a.tar", 0, ShardFormat.TAR), part_path("out/a.tar", 2, ShardFormat.TAR)
    ('out/a.tar', 'out/a.part2.tar')
    """
    return f"{path.removesuffix(f'.{form}')}.part{part}.{form}" if part else path


def kept_files(block: VerdictBlock) -> Iterator[tuple[KeptFile, int]]:
    """Yields the kept images that are files, and how many bytes they have, with their metadata."""
    for verdict, _ in named_copies(verdicts_in(block), False, False):
        if not split_uri(verdict.ref.uri)[1]:
            yield _kept_file(verdict), verdict.size_bytes + len(verdict.ref.metadata)


def _kept_file(verdict: Verdict) -> KeptFile:
    ref = verdict.ref
    return KeptFile(ref.uri, ref.name, verdict.digest, ref.metadata, tuple(ref.companions))


def size_of(sized: tuple[KeptFile, int]) -> Size:
    """Returns the size of one image."""
    return 1, sized[1]


def total_size(sizes: Iterable[Size]) -> Size:
    """Returns the size of all images."""
    count = size_bytes = 0
    for images, more_bytes in sizes:
        count += images
        size_bytes += more_bytes
    return count, size_bytes


def with_shard(sized: tuple[KeptFile, int], size: Size, mean_images: int) -> tuple[bytes, KeptFile]:
    """Returns an image, keyed by the name of its shard. Files of one WebDataset key go into the same shard."""
    count, size_bytes = size
    shards = max(1, -(-count // mean_images), -(-size_bytes // _MEAN_BYTES))
    number = name_hash(split_key(sized[0].name)[0]) % shards
    return b"images-%05d-of-%05d" % (number, shards), sized[0]


def sorted_files(name: bytes, images: Iterable[KeptFile]) -> ShardFiles:
    """Returns the images of a shard in the order of their names."""
    return name, sorted(images, key=_by_name)


def _by_name(image: KeptFile) -> tuple[str, str]:
    return image.name, image.uri


class _Reading:
    """Reads contents; notes what can't be read in `lost`, and in `why` the reason if the rest can't be read."""

    def __init__(self, contents: Iterator[Chunk | Lost]) -> None:
        self._contents = contents
        self.lost: list[Lost] = []
        self.why = "is no longer in the archive, or can't be read any more"

    def next(self) -> Chunk | None:
        try:
            for item in self._contents:
                if isinstance(item, Chunk):
                    return item
                self.lost.append(item)
        except ImageError as error:
            self.why = f"can't be read again: {error}"
        return None


class _ShardsFn(PlacingFn):
    """Writes the shards of an element: of an archive, or of some files."""

    def __init__(
        self,
        folder: str,
        form: ShardFormat,
        tally: Tally | None,
        portable: bool,
        image_column: str,
        roots: tuple[str, ...],
        shard_bytes: int,
    ) -> None:
        super().__init__(_SHARDS_AT_ONCE, folder, PlaceMode.COPY, tally, False, MissingCopies(), image_column)
        self.form = form
        self.portable = portable
        self.roots = roots
        self.shard_bytes = shard_bytes

    def write(
        self, contents: Iterator[Chunk | Lost], path: str, wanted: Iterable[Placement], names: Iterable[str]
    ) -> list[PlaceResult]:
        """Writes contents into as many shards as they need.

        Args:
          contents: read from an archive, or from files.
          path: of the first shard.
          wanted: the images.
          names: of the images, as the contents have them.
        """
        reading = _Reading(contents)
        left = dict(zip(names, wanted, strict=True))
        results: list[PlaceResult] = []
        try:
            for written, target, done in self._shards(reading, path):
                results += [(dataclasses.replace(left.pop(name), path=target), done) for name in written]
        except ImageError as error:
            reading.why = f"is not in a shard: {error.detail}"
        for name, why in reading.lost:
            placement = left.pop(name, Placement(name, path, b""))
            results.append((placement, PlacingError(f"{shown(placement.uri)} {why}")))
        results += [(one, PlacingError(f"{shown(one.uri)} {reading.why}")) for one in left.values()]
        return results

    def _shards(self, reading: _Reading, path: str) -> Iterator[tuple[list[str], str, bool | PlacingError]]:
        """Writes shards. Yields the names of the images in each, its path, and whether it is new, or why it is missing."""
        chunk = reading.next()
        part = 0
        while chunk:
            # Written elsewhere first, so that a shard of the same content is recognised.
            full = files.named_if_full(tempfile.gettempdir())
            with full, tempfile.NamedTemporaryFile(prefix="dedup-") as file:
                stream = cast(BinaryIO, file)
                shard = (
                    TarShard(stream, self.portable) if self.form == ShardFormat.TAR else ParquetShard(stream)
                )
                names: list[str] = []
                while chunk and shard.size_bytes < self.shard_bytes:
                    shard.add(cast(Any, chunk.content))
                    names += chunk.names
                    chunk = reading.next()
                shard.close()
                file.flush()
                target = part_path(path, part, self.form)
                yield names, target, self._placed(file.name, target)
                part += 1

    def _placed(self, temporary: str, target: str) -> bool | PlacingError:
        with open(temporary, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
        try:
            return place_file(temporary, target, digest, PlaceMode.COPY, folder=self.folder)
        except PlacingError as error:
            return error


class _ArchiveShardsFn(_ShardsFn):
    """Writes the shards of one archive or table per element."""

    def work(self, element: ArchiveMembers) -> list[PlaceResult]:
        archive, placements = element
        names = [split_uri(one.uri)[1] for one in placements]
        wanted = dict(zip(names, (one.digest for one in placements), strict=True))
        return self.write(
            self._contents(to_text(archive), wanted), min(one.path for one in placements), placements, names
        )

    def _contents(self, archive: str, wanted: dict[str, bytes]) -> Iterator[Chunk | Lost]:
        with opened_archive(archive, self.image_column) as (stream, container):
            if container:
                limits = Limits(image_column=self.image_column)
                for item in kept_contents(stream, container, wanted, self.form, limits):
                    if isinstance(item, Lost) and item.name not in wanted:
                        yield Lost(member_uri(archive, item.name), item.why)
                    else:
                        yield item


class _FileShardsFn(_ShardsFn):
    """Writes the shards of some files per element."""

    def work(self, element: ShardFiles) -> list[PlaceResult]:
        name, images = element
        path = files.join(self.folder, with_suffix(to_text(name), self.form))
        wanted = [Placement(one.uri, path, one.digest, kept=True) for one in images]
        return self.write(self._contents(images), path, wanted, [one.uri for one in images])

    def _contents(self, images: list[KeptFile]) -> Iterator[Chunk | Lost]:
        for image in images:
            try:
                data = read_small(split_uri(image.uri)[0])
            except ImageError as error:
                yield Lost(image.uri, f"can't be read again: {error}")
                continue
            if hashlib.sha256(data).digest() != image.digest:
                yield Lost(image.uri, CHANGED)
                continue
            companions: list[tuple[str, bytes]] = []
            for name in image.companions:
                uri = beside(image.uri, escaped_path(name))
                try:
                    companions.append((name, read_small(split_uri(uri)[0], self.roots)))
                except ImageError as error:
                    yield Lost(uri, f"can't be read: {error}")
            metadata = json.loads(image.metadata) if image.metadata else {}
            yield Chunk([image.uri], Sample(image.name, data, metadata, tuple(companions)))


def read_small(path: str, roots: tuple[str, ...] = ()) -> bytes:
    """Returns the bytes of a file that may be a member of an archive (`Limits.max_member_bytes`).

    Args:
      path: local or remote.
      roots: directories and files; if there are any, the real path of a local file must lie in one of them.
    Raises:
      ImageError: the file is gone, can't be read, or is too large.
    """
    limits = Limits()
    local = fetched(path, limits.max_member_bytes) if is_remote(path) else contextlib.nullcontext(path)
    with local as there, open_local(there, roots=roots) as (stream, size_bytes, _):
        if size_bytes > limits.max_member_bytes:
            raise too_large(size_bytes, limits)
        return stream.read()
