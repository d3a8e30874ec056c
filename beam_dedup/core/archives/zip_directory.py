"""Reads the records of a zip archive's members, from the central directory or from the local headers."""

import contextlib
import dataclasses
import datetime
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from beam_dedup.core.archives.decompress import CountingStream, inflate, read_exactly
from beam_dedup.core.errors import ArchiveError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

LOCAL = b"PK\x03\x04"
END = b"PK\x05\x06"  # also the beginning of an archive without members, which is an end record only
# Programs that can split an archive put one of these before it, also if it needs only one part.
_SPANNING_MARKERS = (b"PK00", b"PK\x07\x08")
SIGNATURES = (LOCAL, END, *(marker + LOCAL for marker in _SPANNING_MARKERS))

LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END_RECORD = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64_RECORD = struct.Struct("<4sQ2H2L4Q")
_CENTRAL_SIGNATURE = b"PK\x01\x02"

DEFLATE = 8
_HAS_DESCRIPTOR = 1 << 3  # sizes and checksum follow the data, in a data descriptor
_IS_UTF8 = 1 << 11  # the name is in UTF-8
_UNICODE_PATH = 0x7075  # kind of the extra field with the name in UTF-8
_IN_ZIP64 = 0xFFFFFFFF  # the number did not fit, and is in the zip64 field


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """The header of a member."""

    name: str  # bytes that are not UTF-8, though the header says so, are surrogates
    flags: int
    method: int
    modified_ms: int
    crc: int
    compressed_size: int  # bytes
    size: int  # bytes, decompressed
    offset: int  # bytes from the beginning of the file to the local header
    unix_mode: int = 0


class DirectoryLocation(NamedTuple):
    """The position of the central directory."""

    begin: int  # bytes from the beginning of the file
    size: int  # bytes
    before: int  # bytes in the file before the archive; offsets in the archive do not count them


def find_directory(stream: BinaryIO, end: int) -> DirectoryLocation | None:
    """Finds the central directory by the end record of the archive; returns None if there is no end record.

    Args:
      stream: the file, seekable.
      end: size of the file, bytes.
    """
    start = max(end - _END_RECORD.size - 0xFFFF, 0)
    stream.seek(start)
    tail = read_exactly(stream, end - start)
    at = len(tail)
    while (at := tail.rfind(END, 0, at)) >= 0:
        if at + _END_RECORD.size <= len(tail):
            *_, size, offset, comment = _END_RECORD.unpack_from(tail, at)
            if at + _END_RECORD.size + comment <= len(tail):
                break
    else:
        return None
    directory_end = start + at  # unless zip64 records lie between
    locator_at = directory_end - _END64_LOCATOR.size
    if locator_at >= 0:
        stream.seek(locator_at)
        locator = stream.read(_END64_LOCATOR.size)
        if locator.startswith(b"PK\x06\x07"):
            recorded = _END64_LOCATOR.unpack(locator)[2]
            directory_end, size, offset = _zip64_end_record(stream, locator_at, recorded)
    begin = directory_end - size
    before = begin - offset
    # If bytes lie both before and after the archive, it is probably a stored member of a truncated archive.
    if begin < 0 or (before > 0 and at + _END_RECORD.size + comment < len(tail)):
        return None
    return DirectoryLocation(begin, size, max(before, 0))


def _zip64_end_record(stream: BinaryIO, locator_at: int, recorded: int) -> tuple[int, int, int]:
    """Finds the zip64 end record; returns its position, and size and offset of the directory.

    Args:
      stream: the file.
      locator_at: position of the zip64 locator.
      recorded: position of the end record, as the locator states it.
    """
    before_locator = locator_at - _END64_RECORD.size  # the position if bytes were put before the archive
    for at in (recorded, before_locator):
        if 0 <= at <= before_locator:
            stream.seek(at)
            record = stream.read(_END64_RECORD.size)
            if len(record) == _END64_RECORD.size and record.startswith(b"PK\x06\x06"):
                *_, size, offset = _END64_RECORD.unpack(record)
                return at, size, offset
    raise ArchiveError(Reason.DAMAGED, "the end record of the archive is damaged")


def directory_records(stream: BinaryIO, location: DirectoryLocation) -> Iterator[Record]:
    """Yields the records of the central directory.

    Raises:
      ArchiveError: the directory is damaged.
    """
    at, end = location.begin, location.begin + location.size
    while at < end:
        stream.seek(at)  # reading a member has moved the position
        fixed = stream.read(_CENTRAL.size)
        if len(fixed) < _CENTRAL.size or not fixed.startswith(_CENTRAL_SIGNATURE):
            raise ArchiveError(Reason.DAMAGED, "the directory of the archive is damaged")
        fields = _CENTRAL.unpack(fixed)
        (
            _,
            made_by,
            _,
            flags,
            method,
            time,
            date,
            crc,
            compressed_size,
            size,
            name_bytes,
            extra_bytes,
            comment_bytes,
        ) = fields[:13]
        attributes, offset = fields[-2:]
        rest = read_exactly(stream, name_bytes + extra_bytes)
        if len(rest) < name_bytes + extra_bytes:
            raise ArchiveError(Reason.DAMAGED, "the directory of the archive is damaged")
        name, extra = rest[:name_bytes], rest[name_bytes:]
        size, compressed_size, offset = _with_zip64(extra, size, compressed_size, offset)
        mode = attributes >> 16 if made_by >> 8 in (3, 19) else 0  # made on Unix or macOS
        yield Record(
            _decoded_name(name, flags, extra),
            flags,
            method,
            _modified(extra, date, time),
            crc,
            compressed_size,
            size,
            offset + location.before,
            mode,
        )
        at += _CENTRAL.size + name_bytes + extra_bytes + comment_bytes


def scanned_records(stream: BinaryIO, limits: Limits) -> Iterator[Record]:
    """Yields the records of the members' local headers, one after the other, until a header is missing.

    Also stops at a member whose size is unknown and cannot be found by decompressing it.
    """
    stream.seek(0)
    at = 4 if stream.read(4) in _SPANNING_MARKERS else 0
    while True:
        stream.seek(at)
        fixed = stream.read(LOCAL_HEADER.size)
        if len(fixed) < LOCAL_HEADER.size or not fixed.startswith(LOCAL):
            return
        fields = LOCAL_HEADER.unpack(fixed)
        _, _, flags, method, time, date, crc, compressed_size, size, name_bytes, extra_bytes = fields
        rest = read_exactly(stream, name_bytes + extra_bytes)
        if len(rest) < name_bytes + extra_bytes:
            return
        name, extra = rest[:name_bytes], rest[name_bytes:]
        size, compressed_size, _ = _with_zip64(extra, size, compressed_size, 0)
        begin = at + LOCAL_HEADER.size + name_bytes + extra_bytes
        has_descriptor = bool(flags & _HAS_DESCRIPTOR)
        if has_descriptor:
            measured = _measured(stream, begin, limits) if method == DEFLATE else None
            if measured is None:
                return
            compressed_size, size, crc = measured
        decoded = _decoded_name(name, flags, extra)
        yield Record(decoded, flags, method, _modified(extra, date, time), crc, compressed_size, size, at)
        at = begin + compressed_size
        if has_descriptor:
            at = _after_descriptor(stream, at)


def _measured(stream: BinaryIO, begin: int, limits: Limits) -> tuple[int, int, int] | None:
    """Decompresses a deflated member whose header lacks its sizes and checksum.

    Returns:
      Compressed size, size, both in bytes, and checksum; None if the member is damaged, incomplete or too
      large.
    """
    stream.seek(begin)
    source = CountingStream(stream)
    chunks = inflate(source, b"", -zlib.MAX_WBITS)
    size = crc = 0
    try:
        while size <= limits.max_member_bytes:
            data = next(chunks)
            size, crc = size + len(data), zlib.crc32(data, crc)
    except StopIteration as ended:
        return source.count - len(ended.value), size, crc
    except ArchiveError:
        pass
    return None


def _after_descriptor(stream: BinaryIO, at: int) -> int:
    """Returns the position of the next header, after a data descriptor of 12 to 24 bytes at `at`."""
    stream.seek(at)
    data = stream.read(28)
    found = [size for size in (12, 16, 20, 24) if data[size : size + 4] in (LOCAL, _CENTRAL_SIGNATURE)]
    return at + found[0] if found else at


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields kind and data of each extra field of a header."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        yield kind, extra[at + 4 : at + 4 + size]
        at += 4 + size


def _decoded_name(name: bytes, flags: int, extra: bytes) -> str:
    """Decodes the name of a member.

    An extra field may hold it in UTF-8, with the checksum of the name that it replaces. Without that field
    and without the flag for UTF-8, a name is in code page 437, unless it is valid UTF-8: many programs write
    UTF-8 without the flag.
    """
    for kind, data in _extra_fields(extra):
        if kind == _UNICODE_PATH and data[:5] == struct.pack("<BL", 1, zlib.crc32(name)):
            with contextlib.suppress(UnicodeDecodeError):
                return data[5:].decode("utf-8")
    if flags & _IS_UTF8:
        return name.decode("utf-8", "surrogateescape")
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return name.decode("cp437")


def _with_zip64(extra: bytes, size: int, compressed_size: int, offset: int) -> tuple[int, int, int]:
    """Replaces the numbers that did not fit into the header by those of the zip64 field (in this order)."""
    field = next((data for kind, data in _extra_fields(extra) if kind == 1), b"")
    numbers = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
    size, compressed_size, offset = (
        next(numbers, number) if number == _IN_ZIP64 else number for number in (size, compressed_size, offset)
    )
    return size, compressed_size, offset


def _modified(extra: bytes, date: int, time: int) -> int:
    """Returns the modification time in milliseconds since the epoch; 0 if it is invalid.

    A DOS time has no time zone. It is taken as UTC, so that the result is the same on every machine.
    """
    for kind, data in _extra_fields(extra):
        if kind == 0x5455 and len(data) >= 5 and data[0] & 1:
            return max(int(struct.unpack_from("<l", data, 1)[0]), 0) * 1000
    with contextlib.suppress(ValueError):
        day = datetime.datetime(
            1980 + (date >> 9),
            date >> 5 & 15,
            date & 31,
            time >> 11,
            time >> 5 & 63,
            (time & 31) * 2,
            tzinfo=datetime.UTC,
        )
        return int(day.timestamp()) * 1000
    return 0
