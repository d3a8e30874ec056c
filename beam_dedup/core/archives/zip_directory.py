"""What a zip archive says of its members: in its directory, or, where that is missing, in their own headers."""

import contextlib
import dataclasses
import datetime
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from beam_dedup.core.archives.decompress import Counted, exactly, inflated
from beam_dedup.core.errors import ArchiveError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

LOCAL = b"PK\x03\x04"
EMPTY = b"PK\x05\x06"  # an archive without members is its end record only

LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64_PLACE = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_DIRECTORY = b"PK\x01\x02"

DEFLATE = 8
_DESCRIBED = 1 << 3
_UNKNOWN = 0xFFFFFFFF  # the number did not fit: it is in the zip64 field


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """What a header says of its member."""

    name: bytes
    flags: int
    method: int
    modified_ms: int
    crc: int
    packed: int  # bytes
    size: int
    offset: int  # of the local header, from the beginning of the file
    unix_mode: int = 0


def directory(stream: BinaryIO, end: int) -> tuple[int, int, int] | None:
    """Where the directory is, how long, and how many bytes lie before the archive in the file; None without one."""
    start = max(end - _END.size - 0xFFFF, 0)
    stream.seek(start)
    tail = exactly(stream, end - start)
    at = len(tail)
    while (at := tail.rfind(EMPTY, 0, at)) >= 0:
        if at + _END.size <= len(tail):
            *_, size, offset, comment = _END.unpack_from(tail, at)
            if at + _END.size + comment <= len(tail):
                break
    else:
        return None
    here = start + at  # where the directory ends, unless zip64 records come between
    place = here - _END64_PLACE.size
    if place >= 0:
        stream.seek(place)
        record = stream.read(_END64_PLACE.size)
        if record.startswith(b"PK\x06\x07"):
            here, size, offset = _large_end(stream, place, _END64_PLACE.unpack(record)[2])
    begin = here - size
    before = begin - offset
    # Bytes both before and after the archive: rather an archive that was stored within one that is cut short.
    if begin < 0 or (before > 0 and at + _END.size + comment < len(tail)):
        return None
    return begin, size, max(before, 0)


def _large_end(stream: BinaryIO, place: int, said: int) -> tuple[int, int, int]:
    """Where the large end record is, and size and offset of the directory as it says."""
    for at in (said, place - _END64.size):  # the second, where something was put before the archive
        if 0 <= at <= place - _END64.size:
            stream.seek(at)
            record = stream.read(_END64.size)
            if len(record) == _END64.size and record.startswith(b"PK\x06\x06"):
                *_, size, offset = _END64.unpack(record)
                return at, size, offset
    raise ArchiveError(Reason.DAMAGED, "the end record of the archive is damaged")


def listed(stream: BinaryIO, begin: int, size: int, before: int) -> Iterator[Record]:
    """The records of the directory."""
    at, end = begin, begin + size
    while at < end:
        stream.seek(at)  # the members between were read elsewhere
        fixed = stream.read(_CENTRAL.size)
        if len(fixed) < _CENTRAL.size or not fixed.startswith(_DIRECTORY):
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
            packed,
            plain,
            name_bytes,
            extra_bytes,
            comment_bytes,
        ) = fields[:13]
        attributes, offset = fields[-2:]
        rest = exactly(stream, name_bytes + extra_bytes)
        if len(rest) < name_bytes + extra_bytes:
            raise ArchiveError(Reason.DAMAGED, "the directory of the archive is damaged")
        name, extra = rest[:name_bytes], rest[name_bytes:]
        plain, packed, offset = _large(extra, plain, packed, offset)
        mode = attributes >> 16 if made_by >> 8 in (3, 19) else 0  # made on Unix or macOS
        yield Record(
            name, flags, method, _modified(extra, date, time), crc, packed, plain, offset + before, mode
        )
        at += _CENTRAL.size + name_bytes + extra_bytes + comment_bytes


def scanned(stream: BinaryIO, limits: Limits) -> Iterator[Record]:
    """The members by their own headers, one after the other, as far as that goes."""
    at = 0
    while True:
        stream.seek(at)
        fixed = stream.read(LOCAL_HEADER.size)
        if len(fixed) < LOCAL_HEADER.size or not fixed.startswith(LOCAL):
            return
        _, _, flags, method, time, date, crc, packed, plain, name_bytes, extra_bytes = LOCAL_HEADER.unpack(
            fixed
        )
        rest = exactly(stream, name_bytes + extra_bytes)
        if len(rest) < name_bytes + extra_bytes:
            return
        name, extra = rest[:name_bytes], rest[name_bytes:]
        plain, packed, _ = _large(extra, plain, packed, 0)
        begin = at + LOCAL_HEADER.size + name_bytes + extra_bytes
        described = bool(flags & _DESCRIBED)
        if described:
            measured = _measured(stream, begin, limits) if method == DEFLATE else None
            if measured is None:
                return
            packed, plain, crc = measured
        yield Record(name, flags, method, _modified(extra, date, time), crc, packed, plain, at)
        at = begin + packed
        if described:
            at = _after_descriptor(stream, at)


def _measured(stream: BinaryIO, begin: int, limits: Limits) -> tuple[int, int, int] | None:
    """Packed bytes, bytes and checksum of a deflated member that says none of them; None if it does not end."""
    stream.seek(begin)
    source = Counted(stream)
    steps = inflated(source, b"", -zlib.MAX_WBITS)
    size = crc = 0
    try:
        while size <= limits.max_member_bytes:
            data = next(steps)
            size, crc = size + len(data), zlib.crc32(data, crc)
    except StopIteration as ended:
        return source.count - len(ended.value), size, crc
    except ArchiveError:
        pass
    return None


def _after_descriptor(stream: BinaryIO, at: int) -> int:
    """Where the next header begins, after a descriptor of 12 to 24 bytes at `at`."""
    stream.seek(at)
    data = stream.read(28)
    found = [size for size in (12, 16, 20, 24) if data[size : size + 4] in (LOCAL, _DIRECTORY)]
    return at + found[0] if found else at


def _fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        yield kind, extra[at + 4 : at + 4 + size]
        at += 4 + size


def _large(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The three numbers, from the zip64 field where they did not fit: it has those, in this order."""
    field = next((data for kind, data in _fields(extra) if kind == 1), b"")
    numbers = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
    size, packed, offset = (
        next(numbers, number) if number == _UNKNOWN else number for number in (size, packed, offset)
    )
    return size, packed, offset


def _modified(extra: bytes, date: int, time: int) -> int:
    """Milliseconds since the epoch, or 0. DOS times have no zone: they are taken for UTC, so that all agree."""
    for kind, data in _fields(extra):
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
