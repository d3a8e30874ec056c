"""Defines what is written into shards, and reads it from archives and tables that hold kept images."""

import enum
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import pyarrow as pa

from beam_dedup.core.archives import containers
from beam_dedup.core.archives.containers import Container
from beam_dedup.core.archives.members import BadMember, Member
from beam_dedup.core.archives.table_rows import image_column
from beam_dedup.core.archives.webdataset import keys_of
from beam_dedup.core.imaging.formats import HEAD_BYTES, sniff
from beam_dedup.core.limits import Limits
from beam_dedup.core.metadata.parquet_rows import plain_batches

_ROW_BYTES = 1 << 28  # of a row with all its columns
CHANGED = "changed after it was read"
_TOO_FAR = "is too far from the image of its key"


class ShardFormat(enum.StrEnum):
    """The format of shards."""

    PARQUET = "parquet"
    TAR = "tar"


class Sample(NamedTuple):
    """A kept image, and what belongs to it."""

    name: str
    data: bytes
    metadata: Mapping[str, Any]
    companions: tuple[tuple[str, bytes], ...] = ()  # names and contents


class TarFile(NamedTuple):
    """A file in a tar; its name is that of its source."""

    name: str
    data: bytes
    modified_ms: int = 0


Content: TypeAlias = "Sample | list[TarFile] | pa.RecordBatch"


class Chunk(NamedTuple):
    """Kept images that are written together."""

    names: list[str]
    content: Content


class Lost(NamedTuple):
    """An image, or a member that belongs to one, that can't be written, and why."""

    name: str
    why: str


def kept_contents(
    stream: BinaryIO, container: Container, wanted: Mapping[str, bytes], form: ShardFormat, limits: Limits
) -> Iterator[Chunk | Lost]:
    """Reads kept images of an archive or table again, in their order. Each wanted image is in at most one result.

    Tables written as Parquet keep all columns, and tars written as tar keep all members of the keys of kept images that
    are not images. All else becomes a `Sample`.

    Args:
      stream: at its beginning; seekable.
      container: the kind of archive.
      wanted: the SHA-256 of each kept image, by the name of its member.
      form: the format of the shards.
      limits: of the images.
    Raises:
      ImageError: the archive can't be read, or not to its end.
      OSError: from reading the stream.
    """
    if container.kind in containers.TABLES and form == ShardFormat.PARQUET:
        yield from _rows(stream, container, wanted, limits)
    elif container.kind == containers.TAR and form == ShardFormat.TAR:
        yield from _members_with_keys(stream, container, wanted, limits)
    else:
        yield from _samples(stream, container, wanted, limits)


def _samples(
    stream: BinaryIO, container: Container, wanted: Mapping[str, bytes], limits: Limits
) -> Iterator[Chunk | Lost]:
    for item in containers.members(stream, container, limits):
        if isinstance(item, Member) and item.name in wanted:
            if hashlib.sha256(item.data).digest() == wanted[item.name]:
                sample = Sample(item.copy_name or item.name, item.data, item.metadata)
                yield Chunk([item.name], sample)
            else:
                yield Lost(item.name, CHANGED)


def _members_with_keys(
    stream: BinaryIO, container: Container, wanted: Mapping[str, bytes], limits: Limits
) -> Iterator[Chunk | Lost]:
    """Yields kept images of a tar with the members of the same key that are not images."""
    last_key = ""
    has_kept = False  # of the last key
    missed: list[str] = []  # members of the last key that are no images, before its first kept image
    for key, found in keys_of(containers.members(stream, container, limits, as_found=True), limits):
        if key != last_key:
            last_key, has_kept = key, False
            missed.clear()
        members = [one for one in found if isinstance(one, Member)]
        same = {one.name for one in members if hashlib.sha256(one.data).digest() == wanted.get(one.name)}
        yield from (Lost(one.name, CHANGED) for one in members if one.name in wanted and one.name not in same)
        beside = [one for one in members if one.name not in wanted and sniff(one.data[:HEAD_BYTES]) is None]
        if not same and not has_kept:
            missed += [one.name for one in beside]
            continue
        has_kept = True
        yield from (Lost(name, _TOO_FAR) for name in missed)
        missed.clear()
        yield from (
            Lost(one.name, f"can't be read: {one.detail or one.reason.meaning}")
            for one in found
            if isinstance(one, BadMember)
        )
        names = {one.name for one in beside} | same
        files = [TarFile(one.name, one.data, one.modified_ms) for one in members if one.name in names]
        yield Chunk([one.name for one in members if one.name in same], files)


def _rows(
    stream: BinaryIO, container: Container, wanted: Mapping[str, bytes], limits: Limits
) -> Iterator[Chunk | Lost]:
    """Yields kept rows of a table with all columns."""
    numbers = sorted(int(name) for name in wanted if name.isdecimal())
    schema, batches = containers.row_batches(stream, container, limits, numbers)
    column = image_column(schema.field(container.column))
    assert column is not None, "row_batches has found it"
    for first, batch in batches:
        rows = [row for row in range(batch.num_rows) if str(first + row) in wanted]
        if not rows:
            continue
        done = 0
        for plain in plain_batches(batch.take(pa.array(rows, pa.int64())), schema, _ROW_BYTES):
            count = 1 if plain is None else plain.num_rows
            names = [str(first + row) for row in rows[done : done + count]]
            done += count
            if plain is None:
                yield Lost(names[0], f"is in a row of more than {_ROW_BYTES} bytes")
                continue
            values, _ = column.values(plain)
            same = [_digest(value) == wanted[name] for value, name in zip(values, names, strict=True)]
            for name, is_same in zip(names, same, strict=True):
                if not is_same:
                    yield Lost(name, CHANGED)
            kept = [name for name, is_same in zip(names, same, strict=True) if is_same]
            if kept:
                whole = plain if len(kept) == count else plain.filter(pa.array(same))
                yield Chunk(kept, pa.RecordBatch.from_arrays(whole.columns, schema=schema))


def _digest(value: pa.Scalar) -> bytes:
    return hashlib.sha256(value.as_buffer() or b"").digest()
