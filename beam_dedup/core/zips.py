"""Zip archives, by their directory; or by their members' own headers, where the end of the file is missing.

Not by `zipfile`: that reads the whole directory into memory, and one name that is no UTF-8 costs the whole archive.
"""

import contextlib
import dataclasses
import datetime
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.members import WHOLE, BadMember, Entry, Names, too_large
from beam_dedup.core.model import Reason
from beam_dedup.core.packing import Counted, Unpacked, exactly, inflated

LOCAL = b"PK\x03\x04"
EMPTY = b"PK\x05\x06"  # an archive without members is its end record only

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64_PLACE = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_DIRECTORY = b"PK\x01\x02"

_METHODS = {0: "", 8: "deflate", 12: "bz2", 93: "zst"}
_METHOD_NAMES = {9: "deflate64", 14: "lzma", 95: "xz", 96: "jpeg", 97: "wavpack", 98: "ppmd", 99: "aes"}
_ENCRYPTED, _DESCRIBED, _MASKED = 1 << 0, 1 << 3, 1 << 13
_UNKNOWN = 0xFFFFFFFF  # the number did not fit: it is in the zip64 field
_UNIX_KINDS = {0o010000: "a pipe", 0o020000: "a device", 0o060000: "a device", 0o120000: "a symbolic link"}


@dataclasses.dataclass(frozen=True, slots=True)
class _Record:
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
    place = _directory(stream, end)
    records = _listed(stream, *place) if place else _scanned(stream, limits)
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
            names.unique(WHOLE),
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
    record: _Record
    limits: Limits
    budget: _Budget

    def read(self) -> bytes:
        record = self.record
        if record.size > self.limits.max_member_bytes:
            raise too_large(record.size, self.limits)
        self.budget.spend(record.size)
        self.stream.seek(record.offset)
        local = self.stream.read(_LOCAL.size)
        if len(local) < _LOCAL.size or not local.startswith(LOCAL):
            raise ImageError(Reason.DAMAGED, "the member is not where the directory says")
        name_bytes, extra_bytes = _LOCAL.unpack(local)[-2:]
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


def _unreadable(record: _Record) -> tuple[Reason, str] | None:
    """Why a member is not to be read, by what is said of it."""
    if record.flags & (_ENCRYPTED | _MASKED) or record.method == 99:
        return Reason.ENCRYPTED, ""
    if kind := _UNIX_KINDS.get(record.unix_mode & 0o170000):
        return Reason.NOT_A_FILE, kind
    if record.method not in _METHODS:
        return Reason.UNSUPPORTED, f"packed by {_METHOD_NAMES.get(record.method, f'method {record.method}')}"
    return None


def _directory(stream: BinaryIO, end: int) -> tuple[int, int, int] | None:
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
            here, size, offset = _directory64(stream, place, _END64_PLACE.unpack(record)[2])
    begin = here - size
    before = begin - offset
    # Bytes both before and after the archive: rather an archive that was stored within one that is cut short.
    if begin < 0 or (before > 0 and at + _END.size + comment < len(tail)):
        return None
    return begin, size, max(before, 0)


def _directory64(stream: BinaryIO, place: int, said: int) -> tuple[int, int, int]:
    """Where the large end record is, and size and offset of the directory as it says."""
    for at in (said, place - _END64.size):  # the second, where something was put before the archive
        if 0 <= at <= place - _END64.size:
            stream.seek(at)
            record = stream.read(_END64.size)
            if len(record) == _END64.size and record.startswith(b"PK\x06\x06"):
                *_, size, offset = _END64.unpack(record)
                return at, size, offset
    raise ArchiveError(Reason.DAMAGED, "the end record of the archive is damaged")


def _listed(stream: BinaryIO, begin: int, size: int, before: int) -> Iterator[_Record]:
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
        yield _Record(
            name, flags, method, _modified(extra, date, time), crc, packed, plain, offset + before, mode
        )
        at += _CENTRAL.size + name_bytes + extra_bytes + comment_bytes


def _scanned(stream: BinaryIO, limits: Limits) -> Iterator[_Record]:
    """The members by their own headers, one after the other, as far as that goes."""
    at = 0
    while True:
        stream.seek(at)
        fixed = stream.read(_LOCAL.size)
        if len(fixed) < _LOCAL.size or not fixed.startswith(LOCAL):
            return
        _, _, flags, method, time, date, crc, packed, plain, name_bytes, extra_bytes = _LOCAL.unpack(fixed)
        rest = exactly(stream, name_bytes + extra_bytes)
        if len(rest) < name_bytes + extra_bytes:
            return
        name, extra = rest[:name_bytes], rest[name_bytes:]
        plain, packed, _ = _large(extra, plain, packed, 0)
        begin = at + _LOCAL.size + name_bytes + extra_bytes
        described = bool(flags & _DESCRIBED)
        if described:
            measured = _measured(stream, begin, limits) if method == 8 else None
            if measured is None:
                return
            packed, plain, crc = measured
        yield _Record(name, flags, method, _modified(extra, date, time), crc, packed, plain, at)
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
