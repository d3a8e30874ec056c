"""Zip archives, by their directory; or by their members' own headers, where the end of the file is missing.

Not by `zipfile`: that reads the whole directory into memory, and one name that is no UTF-8 costs the whole archive.
"""

import dataclasses
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from beam_dedup.core.archives import zip_directory
from beam_dedup.core.archives.decompress import Unpacked, exactly
from beam_dedup.core.archives.members import WHOLE, BadMember, Entry, Names, too_large
from beam_dedup.core.archives.zip_directory import LOCAL, LOCAL_HEADER, Record
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

_METHODS = {0: "", 8: "deflate", 12: "bz2", 93: "zst"}
_METHOD_NAMES = {9: "deflate64", 14: "lzma", 95: "xz", 96: "jpeg", 97: "wavpack", 98: "ppmd", 99: "aes"}
_ENCRYPTED, _MASKED = 1 << 0, 1 << 13
_UNIX_KINDS = {0o010000: "a pipe", 0o020000: "a device", 0o060000: "a device", 0o120000: "a symbolic link"}


def entries(stream: BinaryIO, limits: Limits) -> Iterator[Entry | BadMember]:
    """The files of a zip archive in the order of its directory; folders are left out.

    Args:
      stream: seekable. `read` of an entry seeks in it.
    Raises:
      ArchiveError: it is damaged, cut short, or unpacks to too much.
      OSError: from reading the stream.
    """
    names = Names()
    end = stream.seek(0, 2)
    budget = _Budget(limits, end)
    place = zip_directory.directory(stream, end)
    records = zip_directory.listed(stream, *place) if place else zip_directory.scanned(stream, limits)
    for count, record in enumerate(records, 1):
        if count > limits.max_members:
            raise ArchiveError(Reason.TOO_LARGE, f"more than {limits.max_members} members")
        if record.name.endswith(b"/") and not record.size:
            continue
        name = names.unique(record.name.decode("utf-8", "surrogateescape"))
        if bad := _unreadable(record):
            yield BadMember(name, *bad, record.size)
        else:
            member = _Packed(stream, record, limits, budget)
            yield Entry(name, member.read, record.size, record.modified_ms)
    if place is None:
        yield BadMember(
            WHOLE,
            Reason.DAMAGED,
            "cut short: the directory at the end of the archive is missing",
        )


class _Budget:
    """What all members together may unpack to: members may overlap in the file, so each may be small."""

    def __init__(self, limits: Limits, archive_bytes: int) -> None:
        self._left = min(limits.max_unpacked_bytes, max(limits.free_bytes, limits.max_ratio * archive_bytes))
        self._text = f"its members unpack to more than {self._left} bytes, of an archive of {archive_bytes}"

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ArchiveError(Reason.TOO_LARGE, self._text)


@dataclasses.dataclass(frozen=True, slots=True)
class _Packed:
    """A member where it lies."""

    stream: BinaryIO
    record: Record
    limits: Limits
    budget: _Budget

    def read(self) -> bytes:
        record = self.record
        if record.size > self.limits.max_member_bytes:
            raise too_large(record.size, self.limits)
        if record.size > max(self.limits.free_bytes, self.limits.max_ratio * record.packed):
            detail = f"unpacks to more than {self.limits.max_ratio} times its size"
            raise ImageError(Reason.TOO_LARGE, detail)
        self.budget.spend(record.size)
        self.stream.seek(record.offset)
        local = self.stream.read(LOCAL_HEADER.size)
        if len(local) < LOCAL_HEADER.size or not local.startswith(LOCAL):
            raise ImageError(Reason.DAMAGED, "the member is not where the directory says")
        name_bytes, extra_bytes = LOCAL_HEADER.unpack(local)[-2:]
        self.stream.seek(name_bytes + extra_bytes, 1)
        packed = _Part(self.stream, record.packed)
        try:
            # One byte more than there should be, to see that there are no more.
            data = exactly(Unpacked(packed, _METHODS[record.method], self.limits), record.size + 1)
        except ArchiveError as error:  # of this member alone: the others lie elsewhere
            raise ImageError(error.reason, error.detail) from error
        if len(data) < record.size and packed.ended_early:
            raise ImageError(Reason.DAMAGED, f"cut short after {len(data)} of {record.size} bytes")
        if len(data) != record.size or zlib.crc32(data) != record.crc:
            raise ImageError(Reason.DAMAGED, "size or checksum are not what the archive says")
        return data


class _Part:
    """The next bytes of a stream, up to a number."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size
        self.ended_early = False

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(min(size, self._left))
        self.ended_early = not data and self._left > 0
        self._left -= len(data)
        return data


def _unreadable(record: Record) -> tuple[Reason, str] | None:
    """Why a member is not to be read, by what is said of it."""
    if record.flags & (_ENCRYPTED | _MASKED) or record.method == 99:
        return Reason.ENCRYPTED, ""
    if kind := _UNIX_KINDS.get(record.unix_mode & 0o170000):
        return Reason.NOT_A_FILE, kind
    if record.method not in _METHODS:
        return Reason.UNSUPPORTED, f"packed by {_METHOD_NAMES.get(record.method, f'method {record.method}')}"
    return None
