"""Unpacking as a stream, step by step and within limits: a few bytes can ask for terabytes."""

import bz2
import io
import lzma
import zlib
from collections.abc import Generator, Iterator
from typing import Protocol

import zstandard

from beam_dedup.core.errors import ArchiveError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

# How packed bytes begin. What is stored as it is, and the bare deflate of zip, have no signature.
SIGNATURES: dict[str, bytes] = {
    "gz": b"\x1f\x8b\x08",
    "bz2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "zst": b"\x28\xb5\x2f\xfd",
}

_NAMES = {signature[:2]: name for name, signature in SIGNATURES.items()}

_BARE = {"deflate": -zlib.MAX_WBITS, "zlib": zlib.MAX_WBITS}

_STEP_BYTES = 1 << 16  # unpacked at a time
# Of packed bytes at a time: little, since what follows the end of a gzip member is copied.
_READ_BYTES = 1 << 14
_ZSTD_READ_BYTES = 1 << 9  # zstandard gives all at once; of this many bytes, at most 16 MiB
_MOST_ATTEMPTS = 100_000  # to find the next sound part after a damaged one
_WINDOW_BYTES = 1 << 27  # memory that a file may ask a decoder for; what the tools themselves allow

_Steps = Generator[bytes, None, bytes]


class Readable(Protocol):
    """All that is asked of a stream that is read once."""

    def read(self, size: int, /) -> bytes: ...


class _Decoder(Protocol):
    """What bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Counted:
    """A stream that knows how much has been read of it."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.seekable = isinstance(stream, io.IOBase) and stream.seekable()
        self.count = 0

    def jump(self, size: int) -> None:
        """Passes over bytes unread, also beyond the end; of a seekable stream only."""
        assert isinstance(self._stream, io.IOBase)
        self._stream.seek(size, io.SEEK_CUR)

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        return data


class _BrokenError(ArchiveError):
    """Damage, with what was read of the packed bytes from about there on."""

    def __init__(self, reason: Reason, detail: str = "", rest: bytes = b"") -> None:
        super().__init__(reason, detail)
        self.rest = rest


class After:
    """A stream, with some bytes before it."""

    def __init__(self, first: bytes, stream: Readable) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._stream.read(size)


class Unpacked:
    """What a packed stream holds, to be read once and forwards; at most `_STEP_BYTES` or so are held.

    `read` raises ArchiveError where the packed bytes are damaged, end too early, or unpack beyond the limits.
    """

    def __init__(self, stream: Readable, packing: str, limits: Limits) -> None:
        """`packing` is "" for what is not packed, "deflate" or "zlib", or a key of `SIGNATURES`."""
        self._source = Counted(stream)
        self._chunks = chunks(self._source, packing)
        self.packed = packing != ""
        self._jumps = not self.packed and self._source.seekable
        self._limits = limits
        self._rest = memoryview(b"")
        self._failure: ArchiveError | None = None  # it is met again by whoever reads on
        self.count = 0  # of unpacked bytes so far

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end only."""
        while not self._rest:
            if self._failure:
                raise self._failure
            try:
                chunk = next(self._chunks, None)
            except ArchiveError as error:
                self._failure = error
                raise
            if chunk is None:
                return b""
            self._rest = memoryview(self._allowed(chunk))
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return data

    def skip(self, size: int) -> int:
        """Passes over `size` bytes; returns how many there were, or may have been where they are jumped over."""
        left = size
        while left and (self._rest or not self._jumps or left < _STEP_BYTES):
            data = self.read(min(left, _STEP_BYTES))
            if not data:
                return size - left
            left -= len(data)
        if left:
            self._source.jump(left)
        return size

    def resume(self, expected: bytes) -> bool:
        """After damage in one of several gzip streams: goes on with the next that unpacks to `expected` and more.

        False if there is none, or the search took too long.
        """
        window = self._failure.rest[1:] if isinstance(self._failure, _BrokenError) else b""
        for _ in range(_MOST_ATTEMPTS):
            at = window.find(SIGNATURES["gz"])
            if at >= 0:
                window = window[at:]
                if len(window) < _READ_BYTES // 4:
                    window += self._source.read(_READ_BYTES)
                if beginning(window, "gz", len(expected)) == expected:
                    self._chunks = chunks(After(window, self._source), "gz")
                    self._failure = None
                    return True
                window = window[1:]
            elif more := self._source.read(_READ_BYTES):
                window = window[-2:] + more
            else:
                return False
        return False

    def _allowed(self, chunk: bytes) -> bytes:
        """As much of a chunk as the limits allow; if that is not all, the next reading fails."""
        self.count += len(chunk)
        if not self.packed:
            return chunk
        limits = self._limits
        by_ratio = max(limits.free_bytes, limits.max_ratio * self._source.count)
        excess = self.count - min(by_ratio, limits.max_unpacked_bytes)
        if excess <= 0:
            return chunk
        too_much = (
            f"{limits.max_unpacked_bytes} bytes"
            if by_ratio > limits.max_unpacked_bytes
            else f"{limits.max_ratio} times its size"
        )
        self._failure = ArchiveError(Reason.TOO_LARGE, f"unpacks to more than {too_much}")
        return chunk[: max(len(chunk) - excess, 0)]


def exactly(stream: Readable, size: int) -> bytes:
    """`size` bytes, or fewer where the stream ends before that."""
    parts = []
    while size and (data := stream.read(min(size, 1 << 20))):
        parts.append(data)
        size -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def chunks(stream: Readable, packing: str) -> Iterator[bytes]:
    """The unpacked bytes of a stream in small pieces, of which some may be empty.

    Raises:
      ArchiveError: the packed bytes are damaged, or end too early.
      OSError: from reading the stream.
    """
    if packing == "":
        while data := stream.read(_STEP_BYTES):
            yield data
    elif packing in _BARE:
        yield from inflated(stream, b"", _BARE[packing])
    else:
        signature, pending = SIGNATURES[packing], b""
        while True:
            pending = yield from _unpacked(stream, packing, pending)
            while len(pending) < len(signature) and (more := stream.read(_READ_BYTES)):
                pending += more
            # Several packed streams, one after the other, are one. What else follows is padding, or nobody's.
            if not pending.startswith(signature):
                return


def _unpacked(stream: Readable, packing: str, pending: bytes) -> _Steps:
    if packing == "gz":
        return inflated(stream, pending, 16 + zlib.MAX_WBITS)
    if packing == "zst":
        return _zstd(stream, pending)
    if packing == "bz2":
        return _stepwise(stream, pending, bz2.BZ2Decompressor())
    return _stepwise(stream, pending, lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_WINDOW_BYTES))


# Each of these unpacks one packed stream, of which `pending` has been read before, and returns what was read of the
# bytes after its end.


def inflated(stream: Readable, pending: bytes, wbits: int) -> _Steps:
    """Unpacks what zlib packed; `wbits` is as zlib wants it."""
    decoder = zlib.decompressobj(wbits)
    while not decoder.eof:
        pending = pending or _more(stream)
        try:
            data = decoder.decompress(pending, _STEP_BYTES)
        except zlib.error as error:
            raise _BrokenError(Reason.DAMAGED, f"the packed bytes are damaged: {error}", pending) from error
        pending = decoder.unconsumed_tail
        yield data
    return decoder.unused_data


def _stepwise(stream: Readable, pending: bytes, decoder: _Decoder) -> _Steps:
    while not decoder.eof:
        if decoder.needs_input:
            pending = pending or _more(stream)
        try:
            data = decoder.decompress(pending, _STEP_BYTES)
        except (
            OSError,
            ValueError,
            lzma.LZMAError,
        ) as error:  # bz2 says OSError, of its bytes and not of the file
            raise _damaged(error) from error
        pending = b""
        yield data
    return decoder.unused_data


def _zstd(stream: Readable, pending: bytes) -> _Steps:
    decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
    while not decoder.eof:
        pending = pending or _more(stream)
        try:
            data = decoder.decompress(pending[:_ZSTD_READ_BYTES])
        except zstandard.ZstdError as error:
            raise _damaged(error) from error
        pending = pending[_ZSTD_READ_BYTES:]
        yield data
    return decoder.unused_data + pending


def _more(stream: Readable) -> bytes:
    if data := stream.read(_READ_BYTES):
        return data
    raise ArchiveError(Reason.DAMAGED, "cut short: the packed bytes end too early")


def _damaged(error: Exception) -> ArchiveError:
    return ArchiveError(Reason.DAMAGED, f"the packed bytes are damaged: {error}"[:200])


def beginning(head: bytes, packing: str, size: int) -> bytes:
    """The first `size` unpacked bytes of which the first packed ones are `head`; fewer if that says no more."""
    unpacked = b""
    try:
        for chunk in chunks(io.BytesIO(head), packing):
            unpacked += chunk[:size]
            if len(unpacked) >= size:
                break
    except ArchiveError:
        pass
    return unpacked[:size]


def packing_of(head: bytes) -> str:
    """How a stream is packed, by its first bytes; "" if in no way we know."""
    return _NAMES[head[:2]] if head.startswith(tuple(SIGNATURES.values())) else ""
