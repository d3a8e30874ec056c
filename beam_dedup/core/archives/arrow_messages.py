"""Checks the messages of an Arrow IPC file or stream before pyarrow reads them.

A message of a few bytes may claim buffers that decompress to gigabytes, or any number of rows. So the sizes in its header
are read here, from the flatbuffer itself, and compared with what the file has. Messages are read in their order; the
footer of a file, which only repeats their places, is not read.

    message   0xFFFFFFFF, size of the header, header (a flatbuffer), body
    file      `ARROW1`, 2 bytes, messages, the end mark, footer
    stream    messages, the end mark
"""

import io
import struct
from typing import BinaryIO

from beam_dedup.core.errors import ArchiveError
from beam_dedup.core.model import Reason

FILE_MAGIC = b"ARROW1"
CONTINUATION = b"\xff\xff\xff\xff"  # before each message
BODY_BYTES = 1 << 28  # of a record batch, also decompressed
_HEADER_BYTES = 1 << 26
_MOST_BUFFERS = 100_000  # of a message
_DICTIONARY_BYTES = 1 << 27  # of all dictionaries together

_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3  # types of messages


def looks_like_arrow(head: bytes) -> bool:
    """Returns whether a file is an Arrow IPC file or stream, by its first bytes."""
    if head.startswith(FILE_MAGIC):
        return True
    if not head.startswith(CONTINUATION) or len(head) < 32:
        return False
    try:
        size = int.from_bytes(head[4:8], "little")
        return 16 <= size <= _HEADER_BYTES and _Table.root(head[8:]).byte(1) == _SCHEMA
    except (struct.error, IndexError):
        return False


class CheckedMessages(io.RawIOBase):
    """A stream of the same messages for pyarrow, each of which is checked before any of it is returned.

    Args:
      stream: the file, at its beginning; seekable.
      most_rows: the most rows of all record batches.
    """

    def __init__(self, stream: BinaryIO, most_rows: int) -> None:
        super().__init__()
        self._stream = stream
        self._size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        self._is_file = stream.read(len(FILE_MAGIC)) == FILE_MAGIC
        stream.seek(8 if self._is_file else 0)
        self._most_rows = most_rows
        self._rows = self._dictionary_bytes = 0
        self._begin: list[bytes] = []  # of the message, before its body
        self._body_bytes = 0  # left to read

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Returns `size` bytes, or fewer at the end. pyarrow asks for parts of one message at a time."""
        if size < 0:
            size = self._size
        parts: list[bytes] = []
        while size:
            if not self._begin and not self._body_bytes:
                self._next()
                if not self._begin:
                    break
            if self._begin:
                part = self._begin[0][:size]
                rest = self._begin[0][size:]
                self._begin[:1] = [rest] if rest else []
            else:
                part = self._exactly(min(size, self._body_bytes))
                self._body_bytes -= len(part)
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise _damaged("truncated")
        return data

    def _next(self) -> None:
        """Reads the header of the next message, and checks it. Leaves `_begin` empty at the end mark."""
        if not self._is_file and self._stream.tell() >= self._size:
            return  # a stream needs no end mark
        mark = self._exactly(8)
        size = int.from_bytes(mark[4:], "little", signed=True)
        if mark[:4] != CONTINUATION:
            raise _damaged("a message does not begin as it should; files of Arrow before 0.15 are not read")
        if size == 0:
            return
        left = self._size - self._stream.tell()
        if not 0 < size <= min(left, _HEADER_BYTES):
            raise _damaged(f"the header of a message has {size} bytes; the file has {left} more")
        header = self._exactly(size)
        try:
            self._body_bytes = self._checked_body(header, left - size)
        except (struct.error, IndexError) as error:
            raise _damaged("the header of a message is malformed") from error
        self._begin = [mark, header]

    def _checked_body(self, header: bytes, left: int) -> int:
        """Returns the size of the body. Raises ArchiveError if the message claims too much."""
        message = _Table.root(header)
        kind, body_bytes = message.byte(1), message.long(3)
        if not 0 <= body_bytes <= left:
            raise _damaged(f"the body of a message has {body_bytes} bytes; the file has {left} more")
        if body_bytes > BODY_BYTES:
            raise _too_large(f"a record batch has {body_bytes} bytes")
        if kind not in (_DICTIONARY, _BATCH):
            return body_bytes
        batch = message.table(2)
        if kind == _DICTIONARY:
            batch = batch.table(1)
        rows = batch.long(0)
        if kind == _BATCH:
            self._rows += max(rows, 0)
        if rows < 0 or max(rows, self._rows) > self._most_rows:
            detail = f"{max(rows, self._rows)} rows; the limit is {self._most_rows}"
            raise ArchiveError(Reason.TOO_LARGE if rows >= 0 else Reason.DAMAGED, detail)
        size = self._decompressed(batch, body_bytes)
        if kind == _DICTIONARY:
            self._dictionary_bytes += size
            if self._dictionary_bytes > _DICTIONARY_BYTES:
                raise ArchiveError(Reason.TOO_LARGE, f"dictionaries of more than {_DICTIONARY_BYTES} bytes")
        return body_bytes

    def _decompressed(self, batch: "_Table", body_bytes: int) -> int:
        """Returns how many bytes the buffers of a record batch take in memory."""
        buffers = batch.pairs(2)
        if len(buffers) > _MOST_BUFFERS:
            raise ArchiveError(Reason.TOO_LARGE, f"{len(buffers)} buffers; the limit is {_MOST_BUFFERS}")
        begin = self._stream.tell()
        is_compressed = batch.has(3)
        total = 0
        for offset, length in buffers:
            if min(offset, length) < 0 or offset + length > body_bytes:
                raise _damaged("a buffer lies outside of its message")
            size = length
            if is_compressed and length >= 8:
                self._stream.seek(begin + offset)
                claimed = int.from_bytes(self._exactly(8), "little", signed=True)
                size = length if claimed < 0 else claimed  # -1 stands for a buffer that is not compressed
            total += size
            if total > BODY_BYTES:
                raise _too_large("a record batch takes more memory")
        self._stream.seek(begin)
        return total


class _Table:
    """A table of a flatbuffer: fields by number. A position outside of the buffer raises struct.error."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        vtable = at - _read("<i", data, at)
        size = _read("<H", data, vtable)
        if size < 4 or size % 2:
            raise struct.error("no table")
        self._fields = struct.unpack_from(f"<{(size - 4) // 2}H", data, vtable + 4)

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, _read("<I", data, 0))

    def _place(self, field: int) -> int:
        """Returns the position of a field; 0 if it is missing."""
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._at + offset if offset else 0

    def has(self, field: int) -> bool:
        return bool(self._place(field))

    def byte(self, field: int) -> int:
        place = self._place(field)
        return _read("<B", self._data, place) if place else 0

    def long(self, field: int) -> int:
        place = self._place(field)
        return _read("<q", self._data, place) if place else 0

    def table(self, field: int) -> "_Table":
        place = self._place(field)
        if not place:
            raise struct.error("a field is missing")
        return _Table(self._data, place + _read("<I", self._data, place))

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """Returns a vector of structs of two 64-bit numbers."""
        place = self._place(field)
        if not place:
            return []
        begin = place + _read("<I", self._data, place)
        count = _read("<I", self._data, begin)
        numbers = struct.unpack_from(f"<{2 * count}q", self._data, begin + 4)
        return list(zip(numbers[::2], numbers[1::2], strict=True))


def _read(form: str, data: bytes, at: int) -> int:
    if at < 0:
        raise struct.error("outside of the buffer")
    value: int = struct.unpack_from(form, data, at)[0]
    return value


def _damaged(detail: str) -> ArchiveError:
    return ArchiveError(Reason.DAMAGED, detail)


def _too_large(detail: str) -> ArchiveError:
    return ArchiveError(
        Reason.TOO_LARGE, f"{detail}; the limit is {BODY_BYTES}: write smaller record batches"
    )
