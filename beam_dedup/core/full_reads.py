"""Reads streams completely: a read that returns fewer bytes than asked for is not taken for the end."""

import errno
import io
from typing import BinaryIO

_STEP_BYTES = 1 << 20  # asked for at a time, since a read allocates what it asks for


class FullReads(io.RawIOBase):
    """A stream whose reads return fewer bytes than asked for only at its end.

    The system may return fewer at any time: before a bad sector, on a network or FUSE file system, at a
    signal. Two different files of which only the beginnings can be read must not be taken for equal. So a
    read is repeated until it has all bytes, none are left, or the system reports an error. Memory grows with
    the bytes that come, not with those that are asked for.

    `failure` keeps the last error of the system, since a decoder may take it for damage of the file.

    Args:
      stream: the file. It is not closed with this stream.
      size_bytes: size of the file, if it is known: an end before that is an error.
    """

    def __init__(self, stream: BinaryIO, size_bytes: int = 0) -> None:
        self._stream = stream
        self._size_bytes = size_bytes
        self.failure: OSError | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        """Returns `size` bytes, or all that are left with None or a negative number; fewer only at the end.

        Raises:
          OSError: the system reports an error, or the file ends before its known size.
        """
        try:
            return self._read(-1 if size is None else size)
        except OSError as error:
            self.failure = error
            raise

    def _read(self, size: int) -> bytes:
        parts: list[bytes] = []
        left = size
        while left:
            data = self._stream.read(_STEP_BYTES if left < 0 else min(left, _STEP_BYTES))
            if not data:
                self._check_end()
                break
            parts.append(data)
            left -= len(data) if left > 0 else 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check_end(self) -> None:
        if self._size_bytes and (at := self._stream.tell()) < self._size_bytes:
            raise OSError(errno.EIO, f"the file ends after {at} of {self._size_bytes} bytes")

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def fileno(self) -> int:
        return self._stream.fileno()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
