"""Reads zip archives by their central directory, or, if that is missing, by the members' local headers.

The standard library's `zipfile` is not used: it reads the whole directory into memory, and one name that is
not UTF-8 makes it reject the whole archive.
"""

import dataclasses
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from beam_dedup.core.archives import zip_directory
from beam_dedup.core.archives.decompress import DecompressedStream, read_exactly
from beam_dedup.core.archives.members import WHOLE, BadMember, Budget, Entry, Names, too_large
from beam_dedup.core.archives.zip_directory import LOCAL, LOCAL_HEADER, Record
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

_METHODS = {0: "", 8: "deflate", 12: "bz2", 14: "zip_lzma", 93: "zst", 95: "xz"}
_METHOD_NAMES = {9: "deflate64", 96: "jpeg", 97: "wavpack", 98: "ppmd", 99: "aes"}
_ENCRYPTED, _MASKED = 1 << 0, 1 << 13
_UNIX_KINDS = {0o010000: "a pipe", 0o020000: "a device", 0o060000: "a device", 0o120000: "a symbolic link"}


def entries(stream: BinaryIO, limits: Limits) -> Iterator[Entry | BadMember]:
    """Yields the files of a zip archive in the order of its central directory, without directories.

    Args:
      stream: seekable. `read` of an entry seeks in it.
      limits: of members and decompressed bytes.
    Raises:
      ArchiveError: the archive is damaged or truncated, or exceeds a limit.
      OSError: from reading the stream.
    """
    names = Names()
    end = stream.seek(0, 2)
    budget = Budget(limits, end)
    location = zip_directory.find_directory(stream, end)
    records = (
        zip_directory.directory_records(stream, location)
        if location
        else zip_directory.scanned_records(stream, limits)
    )
    for count, record in enumerate(records, 1):
        if count > limits.max_members:
            raise ArchiveError(Reason.TOO_LARGE, f"more than {limits.max_members} members")
        if record.name.endswith("/") and not record.size:
            continue
        name = names.unique(record.name)
        if bad := _unreadable(record):
            yield BadMember(name, *bad, record.size)
        else:
            member = _StoredMember(stream, record, limits, budget)
            yield Entry(name, member.read, record.size, record.modified_ms)
    if location is None:
        yield BadMember(
            WHOLE,
            Reason.DAMAGED,
            "truncated: the directory at the end of the archive is missing",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _StoredMember:
    """A member in the file, not yet read."""

    stream: BinaryIO
    record: Record
    limits: Limits
    budget: Budget

    def read(self) -> bytes:
        record = self.record
        if record.size > self.limits.max_member_bytes:
            raise too_large(record.size, self.limits)
        if record.size > max(self.limits.free_bytes, self.limits.max_ratio * record.compressed_size):
            detail = f"decompresses to more than {self.limits.max_ratio} times its size"
            raise ImageError(Reason.TOO_LARGE, detail)
        self.budget.spend(record.size)
        self.stream.seek(record.offset)
        local = self.stream.read(LOCAL_HEADER.size)
        if len(local) < LOCAL_HEADER.size or not local.startswith(LOCAL):
            raise ImageError(Reason.DAMAGED, "no member at the offset that the directory states")
        name_bytes, extra_bytes = LOCAL_HEADER.unpack(local)[-2:]
        self.stream.seek(name_bytes + extra_bytes, 1)
        compressed = _Part(self.stream, record.compressed_size)
        content = DecompressedStream(compressed, _METHODS[record.method], self.limits)
        try:
            # One byte more than the record states, to notice a longer member.
            data = read_exactly(content, record.size + 1)
        except ArchiveError as error:  # an error of this member only: the others can be read
            raise ImageError(error.reason, error.detail) from error
        if len(data) < record.size and compressed.ended_early:
            raise ImageError(Reason.DAMAGED, f"truncated after {len(data)} of {record.size} bytes")
        if len(data) != record.size or zlib.crc32(data) != record.crc:
            raise ImageError(Reason.DAMAGED, "size or checksum differ from those recorded in the archive")
        return data


class _Part:
    """The next `size` bytes of a stream."""

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
    """Returns why a member cannot be read, by its record; None if it can."""
    if record.flags & (_ENCRYPTED | _MASKED) or record.method == 99:
        return Reason.ENCRYPTED, ""
    if kind := _UNIX_KINDS.get(record.unix_mode & 0o170000):
        return Reason.NOT_A_FILE, kind
    if record.method not in _METHODS:
        method = _METHOD_NAMES.get(record.method, f"method {record.method}")
        return Reason.UNSUPPORTED, f"compressed with {method}"
    return None
