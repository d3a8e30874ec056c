"""Files of this machine, opened with care: what a crawl left in a folder need not be a file."""

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Reason


@contextlib.contextmanager
def open_local(path: str, version: str = "") -> Iterator[tuple[BinaryIO, int, int]]:
    """Opens an image: (seekable stream, bytes, modified in milliseconds since the epoch).

    version: if given, what has its name later is not meant.

    Raises:
      ImageError: it is gone, refused by the system, or not a file.
    """
    try:
        # Looked at before it is opened, and opened without blocking: a device may do things when it is opened, and a
        # pipe waits for a writer for ever.
        try:
            kind = os.stat(path).st_mode
        except ValueError as error:  # no file can have such a name: with a NUL in it, say
            raise ImageError(Reason.NOT_FOUND, str(error)) from error
        if not stat.S_ISREG(kind):
            folder = "this folder could not be listed"
            raise ImageError(*((Reason.UNREADABLE, folder) if stat.S_ISDIR(kind) else (Reason.NOT_A_FILE,)))
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb", buffering=0) as stream:
            status = os.fstat(descriptor)
            if version and version_of(status) != version:
                raise ImageError(Reason.NOT_FOUND, "it was replaced after it was seen")
            yield stream, status.st_size, status.st_mtime_ns // 1_000_000
    except OSError as error:
        raise refused(error) from error


def version_of(status: os.stat_result) -> str:
    """What tells a file from one that has its name later."""
    return f"{status.st_mtime_ns}-{status.st_size}"


def refused(error: OSError) -> ImageError:
    """What an image is rejected for that the system would not open or read."""
    reason = Reason.NOT_FOUND if isinstance(error, FileNotFoundError) else Reason.UNREADABLE
    return ImageError(reason, error.strerror or str(error))
