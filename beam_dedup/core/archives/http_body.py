"""What an HTTP response holds: its header, and its body without the codings of transport.

Crawlers often undo a coding and leave its header: a body that does not begin as its header says is taken as it is.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from beam_dedup.core.archives.decompress import SIGNATURES, Readable, Unpacked, exactly
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

_LINE = re.compile(rb"\r?\n")
_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d[.\d]* +(\d{3})")
_CHUNK = re.compile(rb"(?:\r?\n)?([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
_CHUNK_LINE_BYTES = 1 << 8
_MOST_CODINGS = 4


class Head(NamedTuple):
    """The header of a response: names in lower case; of several fields of one name the first."""

    status: int
    fields: dict[str, str]
    size: int  # bytes, with the empty line

    @property
    def content_type(self) -> str:
        """The type without its parameters, in lower case."""
        return self.fields.get("content-type", "").partition(";")[0].strip().lower()


def head_of(data: bytes) -> Head | None:
    """The header with which a response begins; None if there is none, or no end to it."""
    status, end = _STATUS.match(data), _END.search(data)
    if not status or not end:
        return None
    fields: dict[str, str] = {}
    for line in _LINE.split(data[: end.start()])[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            fields.setdefault(
                name.strip().lower().decode("latin-1"), value.strip().decode("utf-8", "replace")
            )
    return Head(int(status[1]), fields, end.end())


class Body:
    """The body of a response, to be read once and forwards.

    Where it ends too early, or is damaged, it is what comes before that, and `cut` is true. `unknown` is the name of a
    coding that we can't undo, or "".
    """

    def __init__(self, stream: Readable, head: Head | None, limits: Limits) -> None:
        self.cut = False
        self.unknown = ""
        fields = head.fields if head else {}
        self._stream = Ahead(stream)
        if "chunked" in fields.get("transfer-encoding", "").lower() and _CHUNK.match(
            self._stream.peek(_CHUNK_LINE_BYTES)
        ):
            self._stream = Ahead(_Pieces(self._dechunked(self._stream)))
        codings = fields.get("content-encoding", "").lower().replace(" ", "").split(",")
        for coding in reversed(codings[:_MOST_CODINGS]):
            if packing := self._packing(coding):
                self._stream = Ahead(Unpacked(self._stream, packing, limits))
            elif coding in ("br", "compress", "x-compress"):
                self.unknown = coding

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end only.

        Raises:
          ImageError: the body unpacks to more than the limits allow.
        """
        try:
            return self._stream.read(size)
        except ArchiveError as error:
            if error.reason != Reason.DAMAGED:
                raise ImageError(error.reason, error.detail) from error
            self.cut = True
            return b""

    def _packing(self, coding: str) -> str:
        begin = self._stream.peek(4)
        if coding in ("gzip", "x-gzip") and begin.startswith(SIGNATURES["gz"]):
            return "gz"
        if coding == "zstd" and begin.startswith(SIGNATURES["zst"]):
            return "zst"
        if coding == "deflate" and begin[:1] == b"x" and int.from_bytes(begin[:2], "big") % 31 == 0:
            return "zlib"
        return ""

    def _dechunked(self, stream: "Ahead") -> Iterator[bytes]:
        while match := _CHUNK.match(stream.peek(_CHUNK_LINE_BYTES)):
            exactly(stream, match.end())
            left = int(match[1], 16)
            if not left:
                return
            while left and (data := stream.read(left)):
                left -= len(data)
                yield data
        self.cut = True


class Ahead:
    """A stream that can be looked into without reading it."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._seen = b""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, or all that are left."""
        with contextlib.suppress(ArchiveError):  # met again by the reading that follows
            while len(self._seen) < size and (data := self._stream.read(size - len(self._seen))):
                self._seen += data
        return self._seen[:size]

    def read(self, size: int, /) -> bytes:
        if self._seen:
            data, self._seen = self._seen[:size], self._seen[size:]
            return data
        return self._stream.read(size)


class _Pieces:
    """A stream made of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
