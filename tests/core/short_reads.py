"""Streams and files that are read in small pieces, or only up to a bad sector, as from a failing disk."""

import errno
import io
import os

import pytest

from beam_dedup.core.reading import local_files


class BadDisk(io.FileIO):
    """A file whose reads return at most `most` bytes, and fail from byte `bad` on.

    Like Linux, a read across the bad sector returns the bytes before it, and only the next read fails.
    """

    most = 1 << 40
    bad = 1 << 40

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        if at >= self.bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        wanted = self.most if size is None or size < 0 else min(size, self.most)
        return super().read(min(wanted, self.bad - at)) or b""


def use_bad_disk(monkeypatch: pytest.MonkeyPatch, most: int = 1 << 40, bad: int = 1 << 40) -> None:
    """Makes this process open all input files as `BadDisk`; also changes files that it has opened so."""
    monkeypatch.setattr(BadDisk, "most", most)
    monkeypatch.setattr(BadDisk, "bad", bad)
    monkeypatch.setattr(local_files, "open", lambda file, *_, **__: BadDisk(file), raising=False)
