"""Reads tar archives of GNU tar, Python and WebDataset once and forwards: ustar, GNU and pax headers.

The standard library's `tarfile` is not used: it keeps every member in a list, accepts a long name of
gigabytes, and stops at the first damaged header.
"""

import contextlib
import dataclasses
import functools
import posixpath
import re
from collections.abc import Callable, Iterator

from beam_dedup.core.archives.decompress import DecompressedStream, read_exactly
from beam_dedup.core.archives.members import WHOLE, BadMember, Budget, Entry, Names, too_large
from beam_dedup.core.errors import ArchiveError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

BLOCK = 512

MAGIC = b"ustar"
_MAGIC = slice(257, 262)
_CHECKSUM = slice(148, 156)
_OCTAL = b" \x0001234567"  # the first byte of a checksum is one of these
_ZEROS = bytes(BLOCK)
_MOST_BYTES = 1 << 60  # of a member; `seek` accepts no much larger offset
_HEADER_BYTES = 1 << 20  # of a long name or of pax records; no tool writes a larger header

_FILES = (b"0", b"\0")
_LEFT_OUT = (b"5", b"D", b"V")  # directories, and GNU tar's notes on directories and volumes
_EXTENDED = (b"L", b"K", b"x", b"g", b"X")  # headers with fields for the headers that follow
_SPARSE, _CONTINUED = b"S", b"M"
_HARD_LINK = b"1"
_SPECIAL = {b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}
_MOST_LINKS = 500_000  # hard links of one archive; they are kept in memory, a few hundred bytes each
_WITHOUT_BYTES = (b"1", b"2", b"3", b"4", b"5", b"6")
_PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=]+)=")


@dataclasses.dataclass(frozen=True, slots=True)
class _Header:
    name: bytes
    kind: bytes
    size: int
    modified: float  # seconds since the epoch
    target: bytes = b""  # of a link


@dataclasses.dataclass(frozen=True, slots=True)
class HardLink:
    """A member without bytes, which is another name of an earlier member."""

    name: str
    target: str  # the unique name of that member, or, if there is none, its name in the archive
    is_broken: bool  # the archive has no such member before the link
    modified_ms: int


def is_header(block: bytes) -> bool:
    """Returns whether a block of 512 bytes is a tar header, i.e. its checksum is right."""
    if len(block) < BLOCK or block == _ZEROS:
        return False
    recorded = _number(block[_CHECKSUM])
    if not recorded:  # the sum counts its own field as spaces, so it is never 0
        return False
    plain = sum(block[:148]) + 8 * 32 + sum(block[156:BLOCK])
    # Some old tools added up signed bytes.
    signed = plain - 256 * sum(byte > 127 for byte in block[:148] + block[156:BLOCK])
    return recorded in (plain, signed)


def looks_like_tar(head: bytes) -> bool:
    """Returns whether a file may be a tar, by its first 512 bytes."""
    # Most files are pictures. One byte of the checksum field is enough to see that most of them are no tar.
    return head[_MAGIC] == MAGIC or (head[148:149] in _OCTAL and is_header(head[:BLOCK]))


def entries(stream: DecompressedStream, limits: Limits, links: list[HardLink]) -> Iterator[Entry | BadMember]:
    """Yields the files of a tar archive in their order, without directories and hard links.

    A damaged header is reported as a BadMember, and the search continues with the next intact header.

    Args:
      stream: at its beginning.
      limits: of members and decompressed bytes.
      links: the hard links that are found are appended to it. `linked_entries` reads them.
    Raises:
      ArchiveError: the archive ends without its end mark, cannot be decompressed further, or exceeds a limit.
      OSError: from reading the stream.
    """
    names = Names()
    special: dict[bytes, bytes] = {}  # fields from extended headers for the next header
    common: dict[bytes, bytes] = {}  # fields from pax headers for all following headers
    targets: dict[str, str] = {}  # of the hard links so far
    count, intact, ended = 0, True, False
    while True:
        block = read_exactly(stream, BLOCK)
        if len(block) < BLOCK:
            if not ended or block.strip(b"\0"):
                raise ArchiveError(Reason.DAMAGED, "truncated: the archive has no end mark")
            return
        if block == _ZEROS:
            ended, special = True, {}  # archives joined by `cat` continue after it
            continue
        header = _header(block)
        if header is None:
            if ended:
                return  # not part of the archive: the rest of a longer file that it overwrote
            if intact:
                yield BadMember(WHOLE, Reason.DAMAGED, "a header is damaged")
            intact = False
            continue
        intact, ended = True, False
        if header.kind in _EXTENDED:
            fields = _extended_fields(stream, header)
            if header.kind == b"g":
                common |= fields
            else:
                special |= fields
            continue
        header = _completed(header, common | special)
        sparse = header.kind == _SPARSE or any(key.startswith(b"GNU.sparse") for key in special)
        special = {}
        if header.kind in _LEFT_OUT or (header.kind in _FILES and header.name.endswith(b"/")):
            stream.skip(header.size + -header.size % BLOCK)
            continue
        if header.kind == _SPARSE:
            _skip_sparse_map(stream, block)
        count += 1
        if count > limits.max_members:
            raise ArchiveError(Reason.TOO_LARGE, f"more than {limits.max_members} members")
        if header.kind == _HARD_LINK:
            target = _latest(names, _decoded(header.target))
            name = names.unique(_decoded(header.name))
            if len(links) == _MOST_LINKS:
                yield BadMember(name, Reason.TOO_LARGE, f"more than {_MOST_LINKS} hard links in the archive")
                continue
            targets[name] = resolved = targets.get(target or "", target or _decoded(header.target))
            links.append(HardLink(name, resolved, target is None, _milliseconds(header.modified)))
            continue
        name = names.unique(_decoded(header.name))
        if header.kind in _SPECIAL:  # no bytes follow, whatever the size is
            yield BadMember(name, Reason.NOT_A_FILE, _SPECIAL[header.kind])
        elif sparse or header.kind == _CONTINUED:
            detail = "a sparse file" if sparse else "the rest of a file from another volume"
            yield BadMember(name, Reason.UNSUPPORTED, detail, header.size)
            _Body(stream, header.size, limits).finish()
        else:
            body = _Body(stream, header.size, limits)
            yield Entry(name, body.read, header.size, _milliseconds(header.modified))
            body.finish()


def linked_entries(
    links: list[HardLink], reopen: Callable[[], DecompressedStream] | None, limits: Limits, budget: Budget
) -> Iterator[Entry | BadMember]:
    """Yields the hard links that `entries` found, with the bytes of the members that they name.

    The archive is read a second time for that, if it has hard links.

    Args:
      links: from `entries`, after it has ended.
      reopen: returns the content of the archive from its beginning; None if it can be read only once.
      limits: of members and decompressed bytes.
      budget: of the bytes of all hard links.
    Raises:
      ArchiveError: a limit is exceeded.
      OSError: from reading the stream.
    """
    waiting: dict[str, list[HardLink]] = {}
    for link in links:
        if link.is_broken:
            detail = f"a hard link to {link.target!r}, which is not in the archive before it"
            yield BadMember(link.name, Reason.NOT_FOUND, detail)
        elif reopen is None:
            yield BadMember(link.name, Reason.UNSUPPORTED, "a hard link in an archive that is read only once")
        else:
            waiting.setdefault(link.target, []).append(link)
    again = entries(reopen(), limits, []) if waiting and reopen else iter(())
    while waiting:
        try:
            entry = next(again, None)
        except ArchiveError:  # `entries` has reported it
            break
        if entry is None:
            break
        yield from _names_of(entry, waiting.pop(entry.name, []), budget)
    for link in (link for some in waiting.values() for link in some):
        yield BadMember(link.name, Reason.DAMAGED, f"a hard link to {link.target!r}, which cannot be read")


def _names_of(entry: Entry | BadMember, links: list[HardLink], budget: Budget) -> Iterator[Entry | BadMember]:
    """Yields the hard links that name one member."""
    if isinstance(entry, BadMember):
        for link in links:
            yield BadMember(link.name, entry.reason, f"a hard link to {entry.detail}", entry.size_bytes)
        return
    read = functools.cache(entry.read)
    for link in links:
        budget.spend(entry.size_bytes)
        yield Entry(link.name, read, entry.size_bytes, link.modified_ms)


def _latest(names: Names, target: str) -> str | None:
    """Returns the unique name of the member that a hard link names; None if there is none so far."""
    plain = posixpath.normpath(target).lstrip("/")
    found = (names.latest(name) for name in (target, plain, f"./{plain}") if name)
    return next((name for name in found if name is not None), None)


class _Body:
    """The bytes of one member, which are read or skipped."""

    def __init__(self, stream: DecompressedStream, size: int, limits: Limits) -> None:
        self._stream = stream
        self._size = size
        self._limits = limits
        self._left = size + -size % BLOCK

    def read(self) -> bytes:
        if self._size > self._limits.max_member_bytes:
            raise too_large(self._size, self._limits)
        data = read_exactly(self._stream, self._size)
        self._left -= len(data)
        if len(data) < self._size:
            raise ArchiveError(Reason.DAMAGED, f"truncated after {len(data)} of {self._size} bytes")
        return data

    def finish(self) -> None:
        self._stream.skip(self._left)


def _header(block: bytes) -> _Header | None:
    """Parses a header; returns None if its checksum is wrong, or its size is no number."""
    if not is_header(block):
        return None
    size, modified = _number(block[124:136]), _number(block[136:148])
    if size is None or not 0 <= size < _MOST_BYTES:
        return None
    name, kind = _text(block[:100]), block[156:157]
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = prefix + b"/" + name
    return _Header(name, kind, 0 if kind in _WITHOUT_BYTES else size, modified or 0, _text(block[157:257]))


def _extended_fields(stream: DecompressedStream, header: _Header) -> dict[bytes, bytes]:
    """Reads the fields of an extended header, under their names in pax."""
    if header.size > _HEADER_BYTES:
        raise ArchiveError(Reason.TOO_LARGE, f"a header of {header.size} bytes")
    data = read_exactly(stream, header.size + -header.size % BLOCK)[: header.size]
    if header.kind in (b"L", b"K"):
        return {b"path" if header.kind == b"L" else b"linkpath": _text(data)}
    fields, at = {}, 0
    while match := _PAX_RECORD.match(data, at):
        end = at + int(match[1])
        if not match.end() < end <= len(data):
            break
        fields[match[2]] = data[match.end() : end - 1]
        at = end
    return fields


def _completed(header: _Header, fields: dict[bytes, bytes]) -> _Header:
    """Replaces fields of a header by those of the extended headers before it; malformed fields are ignored."""
    size = fields.get(b"size", b"")
    modified = header.modified
    with contextlib.suppress(ValueError):
        modified = float(fields[b"mtime"]) if b"mtime" in fields else modified
    return dataclasses.replace(
        header,
        name=fields.get(b"path") or header.name,
        size=int(size)
        if size.isdigit() and len(size) < 20 and header.kind not in _WITHOUT_BYTES
        else header.size,
        modified=modified,
        target=fields.get(b"linkpath") or header.target,
    )


def _skip_sparse_map(stream: DecompressedStream, block: bytes) -> None:
    """Skips the blocks that continue the map of a sparse file."""
    more = block[482:483]
    while more not in (b"", b"\0"):
        more = read_exactly(stream, BLOCK)[504:505]


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int | None:
    """Parses a number of a header: octal digits, or, if the first bit is set, a binary number."""
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
