"""Recognises archives by their first bytes, reads their members, and reads single members again.

An archive is read in one pass, member by member. Nothing is extracted to disk. One member at a time is in
memory, or, in a tar, the members of one WebDataset key. Each entry that is not a directory is returned: as
a Member, or as a BadMember with a reason.

This module does not check whether a member is an image: other members are rejected later, like any file.
Exceptions are the sidecar files of WebDataset (`beam_dedup.core.archives.webdataset`) and the pages of a
crawl
(`beam_dedup.core.archives.warc`).

Names are unique within an archive: the second `a.jpg` is named `a#2.jpg`.
"""

import io
from collections.abc import Collection, Iterable, Iterator
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from beam_dedup.core.archives import arrow_images, parquet_images, tar, tfrecord, warc, zip_directory
from beam_dedup.core.archives import zip as zip_format
from beam_dedup.core.archives.arrow_messages import looks_like_arrow
from beam_dedup.core.archives.decompress import DecompressedStream, compression_of, decompressed_head
from beam_dedup.core.archives.members import WHOLE, BadMember, Budget, Entry, Member, Skipped
from beam_dedup.core.archives.other_archives import unsupported, unsupported_content
from beam_dedup.core.archives.webdataset import with_sidecars
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

TAR, ZIP, WARC, PARQUET, ARROW = "tar", "zip", "warc", "parquet", "arrow"
TFRECORD = "tfrecord"
TABLES = (PARQUET, ARROW)

_Entries = Iterator[Entry | BadMember | Skipped]

_MOST_DETAILS = 3  # errors of one archive that are reported


class Container(NamedTuple):
    """The kind of an archive, and the compression of the archive as a whole (not of the members of a zip)."""

    kind: str  # `TAR`, `ZIP`, `WARC`, `PARQUET`, `ARROW` or `TFRECORD`
    compression: str = ""  # a key of `decompress.SIGNATURES`, or "" for none
    column: str = ""  # of a table, with the images; or feature of TFRecord

    def __str__(self) -> str:
        return f"{self.kind}.{self.compression}" if self.compression else self.kind


def container_of(head: bytes, image_column: str = "") -> Container | None:
    """Returns the kind of archive that a file is, by its first `HEAD_BYTES` bytes; None if it is no archive.

    Compressed data may need more bytes before it returns any content. Such a file is assumed to be a tar;
    `members` reads the content, and finds whether it is a tar, a WARC file or neither.

    Args:
      head: the first bytes.
      image_column: the column with the images of a table (Parquet or Arrow), or the feature of TFRecord; "" if such
        files are no archives.

    >>> container_of(b"PK\\x03\\x04..."), container_of(b"WARC/1.0\\r\\n..."), container_of(b"GIF89a...")
    (Container(kind='zip', compression='', column=''), Container(kind='warc', compression='', column=''), None)
    """
    if image_column and head.startswith(parquet_images.PARQUET_MAGIC):
        return Container(PARQUET, column=image_column)
    if image_column and looks_like_arrow(head):
        return Container(ARROW, column=image_column)
    if image_column and tfrecord.looks_like_tfrecord(head):
        return Container(TFRECORD, column=image_column)
    if head.startswith(zip_directory.SIGNATURES):
        return Container(ZIP)
    compression = compression_of(head)
    content = decompressed_head(head, compression, tar.BLOCK) if compression else head
    if content.startswith(warc.MAGIC):
        return Container(WARC, compression)
    # gzip returns content at once, unless its header has a field that is longer than the head.
    needs_more = len(content) < tar.BLOCK and (compression != "gz" or len(head) >= HEAD_BYTES)
    if tar.looks_like_tar(content) or (compression and needs_more):
        return Container(TAR, compression)
    return None


def members(
    stream: BinaryIO, container: Container, limits: Limits | None = None, as_found: bool = False
) -> Iterator[Member | BadMember | Skipped]:
    """Yields the members of an archive in their order.

    Args:
      stream: at its beginning; for zip, seekable.
      container: the kind of archive, from `container_of`.
      limits: of members and decompressed bytes; None for the defaults.
      as_found: whether archives inside, and sidecar files of WebDataset, are members like others.
    Raises:
      OSError: from reading the stream. No other exception: errors of the archive itself are reported as one
        BadMember, the last item, with the name `WHOLE`.
    """
    limits = limits or Limits()
    try:
        kind, parts = _open(stream, container, limits)
    except ArchiveError as error:
        yield BadMember(WHOLE, error.reason, error.detail)
        return
    items = _read(parts, as_found)
    yield from with_sidecars(items, limits) if kind == TAR and not as_found else items


def read_members(
    stream: BinaryIO, container: Container, names: Collection[str], limits: Limits | None = None
) -> Iterator[tuple[str, bytes]]:
    """Reads some members again, by the names that `members` gave them. Yields names and contents.

    The order is that of `members`. Members that are missing or cannot be read are left out. Other members
    are skipped without reading them, if the kind of archive allows it: always in a zip, in a tar that
    is not compressed, and by row groups in Parquet. Record batches of Arrow are read, but not their values.

    Raises:
      OSError: from reading the stream.
    """
    wanted = set(names)
    try:
        _, parts = _open(stream, container, limits or Limits(), wanted)
    except ArchiveError:
        return
    for entries in parts:
        while wanted:
            try:
                entry = next(entries, None)
                if entry is None:
                    break
                if isinstance(entry, Entry) and entry.name in wanted:
                    wanted.discard(entry.name)
                    yield entry.name, entry.read()
            except ArchiveError:
                break
            except ImageError:
                continue


def read_member(stream: BinaryIO, container: Container, name: str, limits: Limits | None = None) -> bytes:
    """Reads one member again.

    Raises:
      ImageError: the member is missing, or cannot be read any more.
      OSError: from reading the stream.
    """
    for _, data in read_members(stream, container, [name], limits):
        return data
    raise ImageError(Reason.NOT_FOUND, "no longer in the archive, or damaged")


def row_batches(
    stream: BinaryIO, container: Container, limits: Limits, wanted: Collection[int]
) -> tuple[pa.Schema, Iterator[tuple[int, pa.RecordBatch]]]:
    """Returns the schema of a table, and an iterator over batches of its rows with all columns.

    Yields the number of the first row, and the batch. Rows that are not wanted may be left out.

    Raises:
      ImageError: the table is damaged; also while it is read.
      OSError: from reading the stream.
    """
    if container.kind == ARROW:
        return arrow_images.row_batches(stream, container.column, limits, wanted)
    return parquet_images.row_batches(stream, container.column, limits, wanted)


def _open(
    stream: BinaryIO, container: Container, limits: Limits, wanted: Collection[str] | None = None
) -> tuple[str, Iterable[_Entries]]:
    """Opens an archive.

    Args:
      stream: at its beginning.
      container: the kind of archive.
      limits: of members and decompressed bytes.
      wanted: names of members; others may be left out. None wants all.
    Returns:
      The kind of the archive; and its entries, in parts: damage to one part does not end the next one.
    Raises:
      ArchiveError: the file is compressed, but its content is no archive.
      OSError: from reading the stream.
    """
    if container.kind == PARQUET:
        return PARQUET, parquet_images.row_groups(stream, container.column, limits, wanted)
    if container.kind == ARROW:
        return ARROW, arrow_images.record_batches(stream, container.column, limits, wanted)
    if container.kind == TFRECORD:
        return TFRECORD, [tfrecord.records(stream, container.column, limits, wanted)]
    if container.kind == ZIP:
        return ZIP, [zip_format.entries(stream, limits)]
    content = DecompressedStream(stream, container.compression, limits)
    if container.kind == WARC or (container.compression and _is_warc(content, container.compression)):
        return WARC, [warc.entries(content, limits)]
    links: list[tar.HardLink] = []
    return TAR, [tar.entries(content, limits, links), _linked_entries(stream, container, limits, links)]


def _is_warc(content: DecompressedStream, compression: str) -> bool:
    """Returns whether the content of a compressed file is WARC; raises ArchiveError if it is no tar either."""
    first = content.peek(HEAD_BYTES)
    if first.startswith(warc.MAGIC):
        return True
    if tar.looks_like_tar(first) or first[: tar.BLOCK] == bytes(tar.BLOCK):
        return False
    if len(first) < tar.BLOCK and content.failure:
        raise content.failure
    if kind := unsupported_content(first, compression):
        raise ArchiveError(Reason.UNSUPPORTED, kind)
    raise ArchiveError(Reason.NOT_AN_IMAGE, "compressed, but neither an image nor a tar")


def _linked_entries(
    stream: BinaryIO, container: Container, limits: Limits, links: list[tar.HardLink]
) -> _Entries:
    if not links:
        return
    if not (isinstance(stream, io.IOBase) and stream.seekable()):
        yield from tar.linked_entries(links, None, limits, Budget(limits, 0))
        return

    def reopen() -> DecompressedStream:
        stream.seek(0)
        return DecompressedStream(stream, container.compression, limits)

    yield from tar.linked_entries(links, reopen, limits, Budget(limits, stream.seek(0, io.SEEK_END)))


def _read(parts: Iterable[_Entries], as_found: bool) -> Iterator[Member | BadMember | Skipped]:
    """Reads the members. Errors of the archive itself are reported as one BadMember at the end."""
    errors: list[BadMember] = []
    last = WHOLE
    for entries in parts:
        try:
            for entry in entries:
                if isinstance(entry, BadMember) and entry.name == WHOLE:
                    errors.append(entry)
                elif not isinstance(entry, Entry):
                    yield entry
                else:
                    last = entry.name
                    yield _member(entry, as_found)
        except ArchiveError as error:
            where = f"{error.detail}; at or after member {last!r}" if last else error.detail
            errors.append(BadMember(WHOLE, error.reason, where))
    if errors:
        details = "; ".join(dict.fromkeys(one.detail for one in errors[:_MOST_DETAILS]))
        more = f"; and {len(errors) - _MOST_DETAILS} more" if len(errors) > _MOST_DETAILS else ""
        yield BadMember(WHOLE, errors[-1].reason, details + more)


def _member(entry: Entry, as_found: bool) -> Member | BadMember:
    try:
        data = entry.read()
    except ArchiveError:
        raise
    except ImageError as error:
        return BadMember(entry.name, error.reason, error.detail, entry.size_bytes)
    if as_found:
        return Member(entry.name, data, entry.modified_ms, entry.metadata, entry.copy_name)
    if nested := container_of(data[:HEAD_BYTES]):
        return BadMember(entry.name, Reason.NESTED_ARCHIVE, f"a {nested}", len(data))
    if kind := unsupported(data[:HEAD_BYTES]):
        return BadMember(entry.name, Reason.UNSUPPORTED, kind, len(data))
    return Member(entry.name, data, entry.modified_ms, entry.metadata, entry.copy_name)
