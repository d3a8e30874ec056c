"""Tar archives, read once and forwards: ustar, GNU and pax headers; what GNU tar, Python and WebDataset write.

Not by `tarfile`: that keeps every member in a list, takes a long name of gigabytes to be one, and gives up at the
first damaged header.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator

from beam_dedup.core.archives.decompress import Unpacked, exactly
from beam_dedup.core.archives.members import WHOLE, BadMember, Entry, Names, too_large
from beam_dedup.core.errors import ArchiveError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

BLOCK = 512

MAGIC = b"ustar"
_MAGIC = slice(257, 262)
_CHECKSUM = slice(148, 156)
_OCTAL = b" \x0001234567"  # how a checksum begins
_ZEROS = bytes(BLOCK)
_MOST_BYTES = 1 << 60  # of a member; as far as a file can be sought
_HEADER_BYTES = 1 << 20  # of a long name or of pax records; more is no header of anybody's

_FILES = (b"0", b"\0")
_LEFT_OUT = (b"5", b"D", b"V")  # folders, and what GNU tar notes of folders and volumes
_FOR_OTHERS = (b"L", b"K", b"x", b"g", b"X")  # headers that say something of those that follow
_SPARSE, _CONTINUED = b"S", b"M"
_SPECIAL = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}
_WITHOUT_BYTES = (b"1", b"2", b"3", b"4", b"5", b"6")
_PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=]+)=")


@dataclasses.dataclass(frozen=True, slots=True)
class _Header:
    name: bytes
    kind: bytes
    size: int
    modified: float  # seconds since the epoch


def is_header(block: bytes) -> bool:
    """Whether a block of 512 bytes is a tar header: its checksum is right."""
    if len(block) < BLOCK or block == _ZEROS:
        return False
    said = _number(block[_CHECKSUM])
    if not said:  # the sum counts its own field as spaces, so it is never 0
        return False
    plain = sum(block[:148]) + 8 * 32 + sum(block[156:BLOCK])
    # Some old writers took bytes for signed.
    signed = plain - 256 * sum(byte > 127 for byte in block[:148] + block[156:BLOCK])
    return said in (plain, signed)


def looks_like_tar(head: bytes) -> bool:
    # Pictures are asked about far more often than archives are: one look is enough to see most that are no headers.
    return head[_MAGIC] == MAGIC or (head[148:149] in _OCTAL and is_header(head[:BLOCK]))


def entries(stream: Unpacked, limits: Limits) -> Iterator[Entry | BadMember]:
    """The files of a tar archive in the order of the archive; folders are left out.

    A damaged header is told as a BadMember, and the search goes on for the next sound one.

    Raises:
      ArchiveError: the archive ends without its end mark, or can't be unpacked further.
      OSError: from reading the stream.
    """
    names = Names()
    special: dict[bytes, bytes] = {}  # what headers for the next header say
    common: dict[bytes, bytes] = {}  # what pax headers for all that follow say
    count, sound, ended, first = 0, True, False, True
    while True:
        block = exactly(stream, BLOCK)
        if len(block) < BLOCK:
            if not ended or block.strip(b"\0"):
                raise ArchiveError(Reason.DAMAGED, "cut short: the archive has no end mark")
            return
        if block == _ZEROS:
            ended, special = True, {}  # archives joined by `cat` go on after it
            continue
        header = _header(block)
        if header is None:
            if ended:
                return  # not the archive's: what is left of a longer file in the same place
            if first and block[_MAGIC] != MAGIC:
                raise ArchiveError(Reason.NOT_AN_IMAGE, "packed, but neither an image nor a tar")
            if sound:
                yield BadMember(WHOLE, Reason.DAMAGED, "a header is damaged")
            sound = first = False
            continue
        sound, ended, first = True, False, False
        if header.kind in _FOR_OTHERS:
            said = _extended(stream, header)
            if header.kind == b"g":
                common |= said
            elif header.kind != b"K":
                special |= said
            continue
        header = _completed(header, common | special)
        sparse = header.kind == _SPARSE or any(key.startswith(b"GNU.sparse") for key in special)
        special = {}
        if header.kind in _LEFT_OUT or (header.kind in _FILES and header.name.endswith(b"/")):
            stream.skip(header.size + -header.size % BLOCK)
            continue
        if header.kind == _SPARSE:
            _pass_sparse_map(stream, block)
        count += 1
        if count > limits.max_members:
            raise ArchiveError(Reason.TOO_LARGE, f"more than {limits.max_members} members")
        name = names.unique(header.name.decode("utf-8", "surrogateescape"))
        if header.kind in _SPECIAL:  # no bytes follow, whatever the size says
            yield BadMember(name, Reason.NOT_A_FILE, _SPECIAL[header.kind])
        elif sparse or header.kind == _CONTINUED:
            what = "a sparse file" if sparse else "the rest of a file from another volume"
            yield BadMember(name, Reason.UNSUPPORTED, what, header.size)
            _Body(stream, header.size, limits).finish()
        else:
            body = _Body(stream, header.size, limits)
            yield Entry(name, body.read, header.size, _milliseconds(header.modified))
            body.finish()


class _Body:
    """The bytes of one member, to be read or passed over."""

    def __init__(self, stream: Unpacked, size: int, limits: Limits) -> None:
        self._stream = stream
        self._size = size
        self._limits = limits
        self._left = size + -size % BLOCK

    def read(self) -> bytes:
        if self._size > self._limits.max_member_bytes:
            raise too_large(self._size, self._limits)
        data = exactly(self._stream, self._size)
        self._left -= len(data)
        if len(data) < self._size:
            raise ArchiveError(Reason.DAMAGED, f"cut short after {len(data)} of {self._size} bytes")
        return data

    def finish(self) -> None:
        self._stream.skip(self._left)


def _header(block: bytes) -> _Header | None:
    """What a header says, or None if it is none: its checksum is wrong, or its size no number."""
    if not is_header(block):
        return None
    size, modified = _number(block[124:136]), _number(block[136:148])
    if size is None or not 0 <= size < _MOST_BYTES:
        return None
    name, kind = _text(block[:100]), block[156:157]
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = prefix + b"/" + name
    return _Header(name, kind, 0 if kind in _WITHOUT_BYTES else size, modified or 0)


def _extended(stream: Unpacked, header: _Header) -> dict[bytes, bytes]:
    """What a header for other headers says, by the keys of pax."""
    if header.size > _HEADER_BYTES:
        raise ArchiveError(Reason.TOO_LARGE, f"a header of {header.size} bytes")
    data = exactly(stream, header.size + -header.size % BLOCK)[: header.size]
    if header.kind == b"L":
        return {b"path": _text(data)}
    said, at = {}, 0
    while match := _PAX_RECORD.match(data, at):
        end = at + int(match[1])
        if not match.end() < end <= len(data):
            break
        said[match[2]] = data[match.end() : end - 1]
        at = end
    return said


def _completed(header: _Header, said: dict[bytes, bytes]) -> _Header:
    """A header with what the headers before it say of it; what they say badly does not count."""
    size = said.get(b"size", b"")
    modified = header.modified
    with contextlib.suppress(ValueError):
        modified = float(said[b"mtime"]) if b"mtime" in said else modified
    return dataclasses.replace(
        header,
        name=said.get(b"path") or header.name,
        size=int(size)
        if size.isdigit() and len(size) < 20 and header.kind not in _WITHOUT_BYTES
        else header.size,
        modified=modified,
    )


def _pass_sparse_map(stream: Unpacked, block: bytes) -> None:
    more = block[482:483]
    while more not in (b"", b"\0"):
        more = exactly(stream, BLOCK)[504:505]


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int | None:
    """A number of a header: octal digits, or, where the first bit is set, the bits of the number itself."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=True)
        return value + (1 << (8 * len(field) - 1)) if field[0] == 0x80 else value
    digits = field.strip(b" \0")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return None


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000) if 0 < seconds < 1 << 33 else 0
