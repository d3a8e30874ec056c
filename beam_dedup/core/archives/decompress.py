"""Decompresses gzip, bzip2, xz, lzma, zstandard and deflate as a stream, in small steps and within limits.

A file of a few bytes can decompress to terabytes, so the limits are checked at every step.
"""

import bz2
import contextlib
import io
import lzma
import re
import zlib
from collections.abc import Generator, Iterator
from typing import Protocol

import zstandard

from beam_dedup.core.errors import ArchiveError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

# The first bytes of compressed data. Stored data, and the raw deflate of zip, have no signature.
SIGNATURES: dict[str, bytes] = {
    "gz": b"\x1f\x8b\x08",
    "bz2": b"BZh",
    "xz": b"\xfd7zXZ\x00",
    "zst": b"\x28\xb5\x2f\xfd",
    "lzma": b"\x5d\x00\x00",
}
LZ4 = b"\x04\x22\x4d\x18"  # is recognised, but not decompressed

_WITHOUT_SIGNATURE = {"deflate": -zlib.MAX_WBITS, "zlib": zlib.MAX_WBITS}  # and their `wbits` for zlib

# Three bytes are too few to recognise lzma. Dictionary size and size of the content (unknown, or below 1 TiB)
# follow, then compressed data, which begins with a zero.
_LZMA_HEADER = re.compile(rb"\x5d\x00\x00..(?:\xff{8}|.{5}\x00{3})\x00", re.DOTALL)

# zstandard and lz4 have skippable frames, which hold data of other programs: four bytes, the size, the data.
_SKIPPABLE_FRAME = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_DICTIONARY_FRAME = b"\x5d\x2a\x4d\x18"  # the skippable frame with the dictionary of a WARC file
_DICTIONARY_MAGIC = b"\x37\xa4\x30\xec"
_DICTIONARY_BYTES = 1 << 24  # a larger dictionary is not used
_FRAME_HEADER_BYTES = 18  # the longest header of a zstandard frame

_STEP_BYTES = 1 << 16  # decompressed at a time
# Compressed bytes read at a time; few, since zlib copies what follows the end of a gzip member.
_READ_BYTES = 1 << 14
_ZSTD_READ_BYTES = 1 << 9  # zstandard returns all output at once: for so many bytes at most 16 MiB
_MOST_ATTEMPTS = 100_000  # to find the next intact gzip member after a damaged one
_WINDOW_BYTES = 1 << 27  # memory that a file may demand of a decoder; the limit of the command line tools

_Chunks = Generator[bytes, None, bytes]


class Readable(Protocol):
    """A stream that is read once, forwards."""

    def read(self, size: int, /) -> bytes: ...


class _Decoder(Protocol):
    """The common interface of the decoders of bz2 and lzma."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class CountingStream:
    """A stream that counts the bytes read from it."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.seekable = isinstance(stream, io.IOBase) and stream.seekable()
        self.count = 0

    def jump(self, size: int) -> None:
        """Skips `size` bytes without reading or counting them, even beyond the end. Needs a seekable stream."""
        assert isinstance(self._stream, io.IOBase)
        self._stream.seek(size, io.SEEK_CUR)

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        return data


class PrefixedStream:
    """A stream with some bytes put in front of it."""

    def __init__(self, prefix: bytes, stream: Readable) -> None:
        self._prefix = prefix
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        if self._prefix:
            data, self._prefix = self._prefix[:size], self._prefix[size:]
            return data
        return self._stream.read(size)


class _DamagedDeflateError(ArchiveError):
    """Damage in deflated data; `rest` is the compressed data that was already read, from near the damage on."""

    def __init__(self, reason: Reason, detail: str = "", rest: bytes = b"") -> None:
        super().__init__(reason, detail)
        self.rest = rest


class DecompressedStream:
    """The decompressed content of a stream, read once and forwards. Holds about `_STEP_BYTES` bytes.

    `read` and `skip` raise ArchiveError if the compressed data is damaged, ends too early, or decompresses
    to more than the limits allow.
    """

    def __init__(self, stream: Readable, compression: str, limits: Limits) -> None:
        """Wraps a stream.

        Args:
          stream: at the start of the compressed data.
          compression: a key of `SIGNATURES`, "deflate", "zlib", "zip_lzma", or "" for data that is not
            compressed.
          limits: of the size of the content; they do not apply to data that is not compressed.
        """
        self._source = CountingStream(stream)
        self._chunks = decompressed_chunks(self._source, compression)
        self.compressed = compression != ""
        self._jumps = not self.compressed and self._source.seekable
        self._limits = limits
        self._rest = memoryview(b"")
        self.failure: ArchiveError | None = None  # raised by every later `read`
        self.count = 0  # decompressed bytes so far

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; no bytes only at the end."""
        while not self._rest:
            if self.failure:
                raise self.failure
            try:
                chunk = next(self._chunks, None)
            except ArchiveError as error:
                self.failure = error
                raise
            if chunk is None:
                return b""
            self._rest = memoryview(self._within_limits(chunk))
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return data

    def peek(self, size: int) -> bytes:
        """Returns the next `size` bytes, or all that can be read, without consuming them."""
        parts = []
        with contextlib.suppress(ArchiveError):  # raised again by a later `read`
            while size > 0 and (data := self.read(size)):
                parts.append(data)
                size -= len(data)
        peeked = b"".join(parts)
        self._rest = memoryview(peeked + bytes(self._rest))
        return peeked

    def skip(self, size: int) -> int:
        """Skips `size` bytes and returns how many were skipped: fewer at the end of the stream.

        A seekable stream that is not compressed is not read, so its end is not noticed here.
        """
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
        """Continues after damage with the next gzip member whose content begins with `expected`.

        Returns whether one was found within the remaining stream and `_MOST_ATTEMPTS` attempts.
        """
        window = self.failure.rest[1:] if isinstance(self.failure, _DamagedDeflateError) else b""
        for _ in range(_MOST_ATTEMPTS):
            at = window.find(SIGNATURES["gz"])
            if at >= 0:
                window = window[at:]
                if len(window) < _READ_BYTES // 4:
                    window += self._source.read(_READ_BYTES)
                if decompressed_head(window, "gz", len(expected)) == expected:
                    self._chunks = decompressed_chunks(PrefixedStream(window, self._source), "gz")
                    self.failure = None
                    return True
                window = window[1:]
            elif more := self._source.read(_READ_BYTES):
                window = window[-2:] + more
            else:
                return False
        return False

    def _within_limits(self, chunk: bytes) -> bytes:
        """Returns the part of a chunk that the limits allow. If a part is missing, the next `read` raises."""
        self.count += len(chunk)
        if not self.compressed:
            return chunk
        limits = self._limits
        by_ratio = max(limits.free_bytes, limits.max_ratio * self._source.count)
        excess = self.count - min(by_ratio, limits.max_decompressed_bytes)
        if excess <= 0:
            return chunk
        maximum = (
            f"{limits.max_decompressed_bytes} bytes"
            if by_ratio > limits.max_decompressed_bytes
            else f"{limits.max_ratio} times its size"
        )
        self.failure = ArchiveError(Reason.TOO_LARGE, f"decompresses to more than {maximum}")
        return chunk[: max(len(chunk) - excess, 0)]


def read_exactly(stream: Readable, size: int) -> bytes:
    """Reads `size` bytes, or fewer if the stream ends earlier."""
    parts = []
    while size and (data := stream.read(min(size, 1 << 20))):
        parts.append(data)
        size -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decompressed_chunks(stream: Readable, compression: str) -> Iterator[bytes]:
    """Yields the decompressed content of a stream in small chunks, some of which may be empty.

    Args:
      stream: at the start of the compressed data.
      compression: as for `DecompressedStream`.
    Raises:
      ArchiveError: the compressed data is damaged, or ends too early.
      OSError: from reading the stream.
    """
    if compression == "":
        while data := stream.read(_STEP_BYTES):
            yield data
    elif compression in _WITHOUT_SIGNATURE:
        yield from inflate(stream, b"", _WITHOUT_SIGNATURE[compression])
    elif compression == "zip_lzma":
        yield from _decompress_zip_lzma(stream)
    elif compression == "zst":
        yield from _decompress_zstd_frames(stream)
    else:
        signature, pending = SIGNATURES[compression], b""
        while True:
            pending = yield from _decompress(stream, compression, pending)
            pending = _filled(stream, pending, len(signature))
            # Several compressed streams in a row are one. Anything else after a stream is padding, and is
            # ignored.
            if not pending.startswith(signature):
                return


def _decompress(stream: Readable, compression: str, pending: bytes) -> _Chunks:
    if compression == "gz":
        return inflate(stream, pending, 16 + zlib.MAX_WBITS)
    if compression == "bz2":
        return _decompress_stepwise(stream, pending, bz2.BZ2Decompressor())
    layout = lzma.FORMAT_XZ if compression == "xz" else lzma.FORMAT_ALONE
    return _decompress_stepwise(stream, pending, lzma.LZMADecompressor(layout, memlimit=_WINDOW_BYTES))


# Each of the following generators decompresses one compressed stream. `pending` is the part of it that was
# already read. The return value is the data after its end that was already read.


def inflate(stream: Readable, pending: bytes, wbits: int) -> _Chunks:
    """Decompresses one deflated stream; `wbits` is the parameter of `zlib.decompressobj`."""
    decoder = zlib.decompressobj(wbits)
    while not decoder.eof:
        pending = pending or _read_more(stream)
        try:
            data = decoder.decompress(pending, _STEP_BYTES)
        except zlib.error as error:
            detail = f"the compressed data is damaged: {error}"
            raise _DamagedDeflateError(Reason.DAMAGED, detail, pending) from error
        pending = decoder.unconsumed_tail
        yield data
    return decoder.unused_data


def _decompress_stepwise(stream: Readable, pending: bytes, decoder: _Decoder) -> _Chunks:
    while not decoder.eof:
        if decoder.needs_input:
            pending = pending or _read_more(stream)
        try:
            data = decoder.decompress(pending, _STEP_BYTES)
        except (OSError, ValueError, lzma.LZMAError) as error:  # bz2 raises OSError for damaged data
            raise _damaged(error) from error
        pending = b""
        yield data
    return decoder.unused_data


def _decompress_zstd(stream: Readable, pending: bytes, decompressor: zstandard.ZstdDecompressor) -> _Chunks:
    decoder = decompressor.decompressobj()
    while not decoder.eof:
        pending = pending or _read_more(stream)
        try:
            data = decoder.decompress(pending[:_ZSTD_READ_BYTES])
        except zstandard.ZstdError as error:
            raise _damaged(error) from error
        pending = pending[_ZSTD_READ_BYTES:]
        yield data
    return decoder.unused_data + pending


def _decompress_zstd_frames(stream: Readable) -> Iterator[bytes]:
    """Decompresses the frames of a zstandard file, with the dictionary in a skippable frame, if it has one.

    Anything else after a frame is padding, and is ignored.
    """
    decompressor, dictionary_id = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES), 0
    pending, is_empty = b"", True
    while True:
        pending = _filled(stream, pending, _FRAME_HEADER_BYTES)
        if _SKIPPABLE_FRAME.match(pending):
            size = int.from_bytes(pending[4:8], "little")
            is_dictionary = pending.startswith(_DICTIONARY_FRAME) and size <= _DICTIONARY_BYTES
            content, pending = _skip_frame(stream, pending[8:], size, keep=is_dictionary)
            with contextlib.suppress(zstandard.ZstdError):  # the frame holds something else
                decompressor, dictionary_id = _with_dictionary(content) or (decompressor, dictionary_id)
        elif pending.startswith(SIGNATURES["zst"]):
            if _needed_dictionary(pending) not in (0, dictionary_id):
                detail = "compressed with a dictionary that is not in the file"
                raise ArchiveError(Reason.UNSUPPORTED, detail)
            pending = yield from _decompress_zstd(stream, pending, decompressor)
            is_empty = False
        elif is_empty and pending.startswith(LZ4):
            raise ArchiveError(Reason.UNSUPPORTED, "compressed with lz4")
        else:
            return


def _skip_frame(stream: Readable, pending: bytes, size: int, keep: bool) -> tuple[bytes, bytes]:
    """Reads the data of a skippable frame; returns it if it is kept, and what was read after it."""
    kept, pending = [pending[:size]], pending[size:]
    left = size - len(kept[0])
    while left and (data := stream.read(min(left, _READ_BYTES))):
        left -= len(data)
        if keep:
            kept.append(data)
    return b"".join(kept) if keep else b"", pending


def _with_dictionary(data: bytes) -> tuple[zstandard.ZstdDecompressor, int] | None:
    """Returns a decompressor with a dictionary, and the number of the dictionary; None if the data is none.

    The dictionary may be compressed itself.
    """
    if data.startswith(SIGNATURES["zst"]):
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).stream_reader(io.BytesIO(data))
        data = reader.read(_DICTIONARY_BYTES)
    if not data.startswith(_DICTIONARY_MAGIC):
        return None
    dictionary = zstandard.ZstdCompressionDict(data)
    return zstandard.ZstdDecompressor(dictionary, max_window_size=_WINDOW_BYTES), dictionary.dict_id()


def _needed_dictionary(header: bytes) -> int:
    """Returns the number of the dictionary that a zstandard frame names; 0 if it names none."""
    with contextlib.suppress(zstandard.ZstdError):
        return zstandard.get_frame_parameters(header).dict_id
    return 0


def _decompress_zip_lzma(stream: Readable) -> Iterator[bytes]:
    """Decompresses the lzma data of a zip member: version, size of the properties, properties, raw data.

    The data may lack an end mark, so a member that ends too early is noticed only by its size.
    """
    header = read_exactly(stream, 9)
    if len(header) < 9 or header[2:4] != b"\5\0":
        raise ArchiveError(Reason.DAMAGED, "the compressed data is damaged: malformed lzma properties")
    bits, dictionary_bytes = header[4], int.from_bytes(header[5:], "little")
    if dictionary_bytes > _WINDOW_BYTES:
        raise ArchiveError(Reason.TOO_LARGE, f"needs {dictionary_bytes} bytes of memory to be decompressed")
    properties = {"dict_size": dictionary_bytes, "lc": bits % 9, "lp": bits // 9 % 5, "pb": bits // 45}
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, **properties}])
        while not decoder.eof:
            pending = stream.read(_READ_BYTES) if decoder.needs_input else b""
            if decoder.needs_input and not pending:
                return
            yield decoder.decompress(pending, _STEP_BYTES)
    except (ValueError, lzma.LZMAError) as error:
        raise _damaged(error) from error


def _filled(stream: Readable, pending: bytes, size: int) -> bytes:
    """Reads until `pending` has `size` bytes, or the stream ends."""
    while len(pending) < size and (more := stream.read(_READ_BYTES)):
        pending += more
    return pending


def _read_more(stream: Readable) -> bytes:
    if data := stream.read(_READ_BYTES):
        return data
    raise ArchiveError(Reason.DAMAGED, "truncated: the compressed data ends too early")


def _damaged(error: Exception) -> ArchiveError:
    return ArchiveError(Reason.DAMAGED, f"the compressed data is damaged: {error}"[:200])


def decompressed_head(head: bytes, compression: str, size: int) -> bytes:
    """Decompresses the first bytes of a file; returns up to `size` bytes, fewer if `head` does not suffice."""
    content = b""
    try:
        for chunk in decompressed_chunks(io.BytesIO(head), compression):
            content += chunk[:size]
            if len(content) >= size:
                break
    except ArchiveError:
        pass
    return content[:size]


def compression_of(head: bytes) -> str:
    """Returns the key of `SIGNATURES` with which a file begins; "" if it begins with none.

    A skippable frame is taken for zstandard.
    """
    if _SKIPPABLE_FRAME.match(head):
        return "zst"
    found = next((name for name, signature in SIGNATURES.items() if head.startswith(signature)), "")
    return "" if found == "lzma" and not _LZMA_HEADER.match(head) else found
