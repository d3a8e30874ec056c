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

from collections.abc import Collection, Iterator
from typing import BinaryIO, NamedTuple

from beam_dedup.core.archives import tar, warc
from beam_dedup.core.archives import zip as zip_format
from beam_dedup.core.archives.decompress import DecompressedStream, compression_of, decompressed_head
from beam_dedup.core.archives.members import WHOLE, BadMember, Entry, Member, Skipped
from beam_dedup.core.archives.webdataset import with_sidecars
from beam_dedup.core.archives.zip_directory import END, LOCAL
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

TAR, ZIP, WARC = "tar", "zip", "warc"

_MOST_DETAILS = 3  # errors of one archive that are reported


class Container(NamedTuple):
    """The kind of an archive, and the compression of the archive as a whole (not of the members of a zip)."""

    kind: str  # `TAR`, `ZIP` or `WARC`
    compression: str = ""  # a key of `decompress.SIGNATURES`, or "" for none

    def __str__(self) -> str:
        return f"{self.kind}.{self.compression}" if self.compression else self.kind


def container_of(head: bytes) -> Container | None:
    """Returns the kind of archive that a file is, by its first `HEAD_BYTES` bytes; None if it is no archive.

    bzip2, xz and zstandard may need more bytes before they return any content. Such a file is assumed to be
    a tar; if it is not, `members` reports that.

    >>> container_of(b"PK\\x03\\x04..."), container_of(b"WARC/1.0\\r\\n..."), container_of(b"GIF89a...")
    (Container(kind='zip', compression=''), Container(kind='warc', compression=''), None)
    """
    if head.startswith((LOCAL, END)):
        return Container(ZIP)
    compression = compression_of(head)
    content = decompressed_head(head, compression, tar.BLOCK) if compression else head
    if content.startswith(warc.MAGIC):
        return Container(WARC, compression)
    if tar.looks_like_tar(content) or (compression not in ("", "gz") and len(content) < tar.BLOCK):
        return Container(TAR, compression)
    return None


def members(
    stream: BinaryIO, container: Container, limits: Limits | None = None
) -> Iterator[Member | BadMember | Skipped]:
    """Yields the members of an archive in their order.

    Args:
      stream: at its beginning; for zip, seekable.
      container: the kind of archive, from `container_of`.
      limits: of members and decompressed bytes; None for the defaults.
    Raises:
      OSError: from reading the stream. No other exception: errors of the archive itself are reported as one
        BadMember, the last item, with the name `WHOLE`.
    """
    limits = limits or Limits()
    items = _read(_entries(stream, container, limits))
    return with_sidecars(items, limits) if container.kind == TAR else items


def read_members(
    stream: BinaryIO, container: Container, names: Collection[str], limits: Limits | None = None
) -> Iterator[tuple[str, bytes]]:
    """Reads some members again, by the names that `members` gave them. Yields names and contents.

    The order is that of the archive. Members that are missing or cannot be read are left out. Other members
    are skipped without reading them, if the kind of archive allows it: always in a zip, and in a tar that
    is not compressed.

    Raises:
      OSError: from reading the stream.
    """
    wanted = set(names)
    entries = _entries(stream, container, limits or Limits())
    while wanted:
        try:
            entry = next(entries, None)
            if entry is None:
                return
            if isinstance(entry, Entry) and entry.name in wanted:
                wanted.discard(entry.name)
                yield entry.name, entry.read()
        except ArchiveError:
            return
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


def _entries(stream: BinaryIO, container: Container, limits: Limits) -> Iterator[Entry | BadMember | Skipped]:
    if container.kind == ZIP:
        return zip_format.entries(stream, limits)
    content = DecompressedStream(stream, container.compression, limits)
    return warc.entries(content, limits) if container.kind == WARC else tar.entries(content, limits)


def _read(entries: Iterator[Entry | BadMember | Skipped]) -> Iterator[Member | BadMember | Skipped]:
    """Reads the members. Errors of the archive itself are reported as one BadMember at the end."""
    errors: list[BadMember] = []
    last = WHOLE
    try:
        for entry in entries:
            if isinstance(entry, BadMember) and entry.name == WHOLE:
                errors.append(entry)
            elif not isinstance(entry, Entry):
                yield entry
            else:
                last = entry.name
                yield _member(entry)
    except ArchiveError as error:
        where = f"{error.detail}; at or after member {last!r}" if last else error.detail
        errors.append(BadMember(WHOLE, error.reason, where))
    if errors:
        details = "; ".join(dict.fromkeys(one.detail for one in errors[:_MOST_DETAILS]))
        more = f"; and {len(errors) - _MOST_DETAILS} more" if len(errors) > _MOST_DETAILS else ""
        yield BadMember(WHOLE, errors[-1].reason, details + more)


def _member(entry: Entry) -> Member | BadMember:
    try:
        data = entry.read()
    except ArchiveError:
        raise
    except ImageError as error:
        return BadMember(entry.name, error.reason, error.detail, entry.size_bytes)
    if nested := container_of(data[:HEAD_BYTES]):
        return BadMember(entry.name, Reason.NESTED_ARCHIVE, f"a {nested}", len(data))
    return Member(entry.name, data, entry.modified_ms, entry.metadata)
