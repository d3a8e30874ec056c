"""Parses an HTTP response: its header, and its body with chunked transfer coding and content codings removed.

Crawlers often remove a coding but keep its header field. So a coding is removed only if the body begins
like it.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from beam_dedup.core.archives.decompress import SIGNATURES, DecompressedStream, Readable, read_exactly
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

_LINE = re.compile(rb"\r?\n")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d[.\d]* +(\d{3})")
_CHUNK_HEADER = re.compile(rb"(?:\r?\n)?([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
_CHUNK_HEADER_BYTES = 1 << 8
_MOST_CODINGS = 4


class Head(NamedTuple):
    """The header of a response: names in lower case, and the first of several fields of one name."""

    status: int
    fields: dict[str, str]
    size: int  # bytes, including the empty line at the end

    @property
    def content_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.fields.get("content-type", "").partition(";")[0].strip().lower()


def head_of(data: bytes) -> Head | None:
    """Parses the header at the beginning of a response; returns None if it is missing or incomplete."""
    status, end = _STATUS.match(data), _HEADER_END.search(data)
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
    """The body of a response, read once and forwards.

    A body that ends too early, or is damaged, ends there, and `truncated` becomes true. `unsupported` is
    the name of a content coding that cannot be removed, or "".
    """

    def __init__(self, stream: Readable, head: Head | None, limits: Limits) -> None:
        self.truncated = False
        self.unsupported = ""
        fields = head.fields if head else {}
        self._stream = PeekableStream(stream)
        if "chunked" in fields.get("transfer-encoding", "").lower() and _CHUNK_HEADER.match(
            self._stream.peek(_CHUNK_HEADER_BYTES)
        ):
            self._stream = PeekableStream(_ChunkStream(self._dechunked(self._stream)))
        codings = fields.get("content-encoding", "").lower().replace(" ", "").split(",")
        for coding in reversed(codings[:_MOST_CODINGS]):
            if compression := self._compression(coding):
                self._stream = PeekableStream(DecompressedStream(self._stream, compression, limits))
            elif coding in ("br", "compress", "x-compress"):
                self.unsupported = coding

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; no bytes only at the end.

        Raises:
          ImageError: the body decompresses to more than the limits allow.
        """
        try:
            return self._stream.read(size)
        except ArchiveError as error:
            if error.reason != Reason.DAMAGED:
                raise ImageError(error.reason, error.detail) from error
            self.truncated = True
            return b""

    def _compression(self, coding: str) -> str:
        """Returns the compression of a content coding, or "" if the body does not begin like it."""
        begin = self._stream.peek(4)
        if coding in ("gzip", "x-gzip") and begin.startswith(SIGNATURES["gz"]):
            return "gz"
        if coding == "zstd" and begin.startswith(SIGNATURES["zst"]):
            return "zst"
        if coding == "deflate" and begin[:1] == b"x" and int.from_bytes(begin[:2], "big") % 31 == 0:
            return "zlib"
        return ""

    def _dechunked(self, stream: "PeekableStream") -> Iterator[bytes]:
        while match := _CHUNK_HEADER.match(stream.peek(_CHUNK_HEADER_BYTES)):
            read_exactly(stream, match.end())
            left = int(match[1], 16)
            if not left:
                return
            while left and (data := stream.read(left)):
                left -= len(data)
                yield data
        self.truncated = True


class PeekableStream:
    """A stream whose next bytes can be inspected before they are read."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._peeked = b""

    def peek(self, size: int) -> bytes:
        """Returns the next `size` bytes, or all that are left, without consuming them."""
        with contextlib.suppress(ArchiveError):  # raised again by the next `read`
            while len(self._peeked) < size and (data := self._stream.read(size - len(self._peeked))):
                self._peeked += data
        return self._peeked[:size]

    def read(self, size: int, /) -> bytes:
        if self._peeked:
            data, self._peeked = self._peeked[:size], self._peeked[size:]
            return data
        return self._stream.read(size)


class _ChunkStream:
    """A stream of the bytes of an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._rest = chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
