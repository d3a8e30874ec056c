"""Archives as folders: what is one, what its members are, and how members are read again.

Reading is one pass, member by member; nothing is unpacked to disk, and no more than one member is in memory, or, in a
tar, the members of one WebDataset key. Everything that is not a folder is told: a Member, or a BadMember with a reason.
Whether a member is an image is not asked here: what is none is rejected as such later, like any file; save the side-cars
of WebDataset (`beam_dedup.core.archives.webdataset`) and the pages of a crawl (`beam_dedup.core.archives.warc`).

Names are unique in their archive: the second `a.jpg` is `a#2.jpg`.
"""

from collections.abc import Collection, Iterator
from typing import BinaryIO, NamedTuple

from beam_dedup.core.archives import tar, warc
from beam_dedup.core.archives import zip as zip_format
from beam_dedup.core.archives.decompress import Unpacked, beginning, packing_of
from beam_dedup.core.archives.members import WHOLE, BadMember, Entry, Member, Skipped
from beam_dedup.core.archives.webdataset import with_sidecars
from beam_dedup.core.archives.zip_directory import EMPTY, LOCAL
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

TAR, ZIP, WARC = "tar", "zip", "warc"

_MOST_DETAILS = 3  # of what is wrong with one archive


class Container(NamedTuple):
    """A kind of archive: `kind` is one of the above, `packing` "" or how the whole of it is packed."""

    kind: str
    packing: str = ""

    def __str__(self) -> str:
        return f"{self.kind}.{self.packing}" if self.packing else self.kind


def container_of(head: bytes) -> Container | None:
    """What archive a file is, by its first `HEAD_BYTES` bytes; None if it is none.

    bzip2, xz and zstandard may need more bytes than that to say what they hold: they are taken for tar, and where they
    hold none, `members` says so.

    >>> container_of(b"PK\\x03\\x04..."), container_of(b"WARC/1.0\\r\\n..."), container_of(b"GIF89a...")
    (Container(kind='zip', packing=''), Container(kind='warc', packing=''), None)
    """
    if head.startswith((LOCAL, EMPTY)):
        return Container(ZIP)
    packing = packing_of(head)
    first = beginning(head, packing, tar.BLOCK) if packing else head
    if first.startswith(warc.MAGIC):
        return Container(WARC, packing)
    if tar.looks_like_tar(first) or (packing not in ("", "gz") and len(first) < tar.BLOCK):
        return Container(TAR, packing)
    return None


def members(
    stream: BinaryIO, container: Container, limits: Limits | None = None
) -> Iterator[Member | BadMember | Skipped]:
    """What an archive holds, in the order of the archive.

    Args:
      stream: at its beginning; for zip, seekable.
    Raises:
      OSError: from reading the stream. Nothing else: what is wrong with the archive is one BadMember, the last item, with
        the name `WHOLE`.
    """
    limits = limits or Limits()
    found = _read(_entries(stream, container, limits))
    return with_sidecars(found, limits) if container.kind == TAR else found


def read_members(
    stream: BinaryIO, container: Container, names: Collection[str], limits: Limits | None = None
) -> Iterator[tuple[str, bytes]]:
    """Some members again, by the names that `members` gave, in the order of the archive; what can't be had is left out.

    The others are passed over unread where the kind of archive allows it: always for zip, for tar if not packed.

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
    """One member again.

    Raises:
      ImageError: it is not there, or can't be had any more.
      OSError: from reading the stream.
    """
    for _, data in read_members(stream, container, [name], limits):
        return data
    raise ImageError(Reason.NOT_FOUND, "no longer in the archive, or damaged")


def _entries(stream: BinaryIO, container: Container, limits: Limits) -> Iterator[Entry | BadMember | Skipped]:
    if container.kind == ZIP:
        return zip_format.entries(stream, limits)
    unpacked = Unpacked(stream, container.packing, limits)
    return warc.entries(unpacked, limits) if container.kind == WARC else tar.entries(unpacked, limits)


def _read(entries: Iterator[Entry | BadMember | Skipped]) -> Iterator[Member | BadMember | Skipped]:
    """Reads the members. What is wrong with the archive itself is said once, at the end."""
    wrong: list[BadMember] = []
    last = WHOLE
    try:
        for entry in entries:
            if isinstance(entry, BadMember) and entry.name == WHOLE:
                wrong.append(entry)
            elif not isinstance(entry, Entry):
                yield entry
            else:
                last = entry.name
                yield _member(entry)
    except ArchiveError as error:
        where = f"{error.detail}; at or after member {last!r}" if last else error.detail
        wrong.append(BadMember(WHOLE, error.reason, where))
    if wrong:
        told = "; ".join(dict.fromkeys(one.detail for one in wrong[:_MOST_DETAILS]))
        more = f"; and {len(wrong) - _MOST_DETAILS} more" if len(wrong) > _MOST_DETAILS else ""
        yield BadMember(WHOLE, wrong[-1].reason, told + more)


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
