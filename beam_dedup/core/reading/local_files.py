"""Opens local files safely: an entry of a crawl's directory may be a pipe or a device instead of a file."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

from beam_dedup.core.allowed import leads_to, real_root
from beam_dedup.core.errors import ImageError
from beam_dedup.core.full_reads import FullReads
from beam_dedup.core.model import Reason

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_DIRECTORY_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
_REPLACED = "it was replaced after it was listed"


@contextlib.contextmanager
def open_local(
    path: str, version: str = "", roots: Sequence[str] = (), outside: Reason = Reason.LINK_OUTSIDE
) -> Iterator[tuple[BinaryIO, int, int]]:
    """Opens a file.

    Args:
      path: the file.
      version: `version_of` the file to open; "" for any version.
      roots: directories and files; if there are any, the real path of the file must lie in one of them.
      outside: the reason with which a file outside of the roots is rejected.

    Yields:
      A seekable stream, the number of bytes, and the time of modification in milliseconds since the epoch.
      Reads return fewer bytes than asked for only at the end of the file; an end before the number of bytes
      is an error.

    Raises:
      ImageError: the file is gone or was replaced, the system refused to open or read it, it ends too early,
        it is not a file, or it lies outside of the roots.
    """
    try:
        if roots:
            _root_of(path, roots, outside)
        # Checked before it is opened, since opening a device may have side effects; and opened without
        # blocking, since opening a pipe would wait for a writer.
        try:
            kind = os.stat(path).st_mode
        except ValueError as error:  # no file can have such a name, for example one that contains a NUL
            raise ImageError(Reason.NOT_FOUND, str(error)) from error
        if not stat.S_ISREG(kind):
            if stat.S_ISDIR(kind):
                raise ImageError(Reason.UNREADABLE, "this directory could not be listed")
            raise ImageError(Reason.NOT_A_FILE)
        descriptor = _open_inside(path, roots, outside) if roots else os.open(path, _FLAGS)
        with open(descriptor, "rb", buffering=0) as stream:
            status = os.fstat(descriptor)
            if version and version_of(status) != version:
                raise ImageError(Reason.NOT_FOUND, _REPLACED)
            whole = FullReads(cast(BinaryIO, stream), status.st_size)
            yield cast(BinaryIO, whole), status.st_size, status.st_mtime_ns // 1_000_000
    except OSError as error:
        raise as_image_error(error) from error


def _root_of(path: str, roots: Sequence[str], outside: Reason) -> str:
    """Returns the real path of the root in which a file lies.

    Raises:
      ImageError: the real path of the file lies in none of the roots.
    """
    root = real_root(path, roots)
    if root is None:
        raise ImageError(outside, leads_to(path))
    return root


def _open_inside(path: str, roots: Sequence[str], outside: Reason) -> int:
    """Opens a file by its real path, part by part and without following links: a link may be changed at any moment."""
    root = _root_of(path, roots, outside)
    real = os.path.realpath(path)
    folder = os.path.dirname(root) if real == root else root
    *parts, name = real[len(os.path.join(folder, "")) :].split(os.sep)
    directory = os.open(folder, _DIRECTORY_FLAGS)
    try:
        for part in parts:
            outer, directory = directory, os.open(part, _DIRECTORY_FLAGS, dir_fd=directory)
            os.close(outer)
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise ImageError(Reason.NOT_FOUND, _REPLACED)
        return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise ImageError(Reason.NOT_FOUND, _REPLACED) from error
        raise
    finally:
        os.close(directory)


def size_of(path: str) -> int:
    """Returns the size of a file in bytes, without opening it; 0 if it is gone or not a file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def version_of(status: os.stat_result) -> str:
    """Returns the version of a file; a later file of the same name has another version."""
    return f"{status.st_mtime_ns}-{status.st_size}"


def as_image_error(error: OSError) -> ImageError:
    """Returns the rejection of an image that the system could not open or read."""
    reason = Reason.NOT_FOUND if isinstance(error, FileNotFoundError) else Reason.UNREADABLE
    return ImageError(reason, error.strerror or str(error))
