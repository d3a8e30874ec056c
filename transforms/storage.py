"""The one gate to storage: local paths by the system's own calls, everything else by Beam's FileSystems."""

import contextlib
import enum
import errno
import hashlib
import io
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_dedup.core.errors import DedupError, ImageError
from beam_dedup.core.fingerprints import MAX_BYTES
from beam_dedup.core.model import Reason
from beam_dedup.core.paths import PARTIAL_SUFFIX, partial_prefix


class How(enum.StrEnum):
    """How an image is placed in the output folder."""

    COPY = "copy"
    HARDLINK = "hardlink"
    SYMLINK = "symlink"


_gate = threading.RLock()  # held while a file gets its first or its final name


def halt() -> None:
    """From now on no file of this process gets a name, first or final; for ending it at once. There is no way back."""
    _gate.acquire()


def is_remote(uri: str) -> bool:
    """Whether a URI names a scheme, as in gs://bucket/object."""
    return "://" in uri


@contextlib.contextmanager
def open_image(uri: str) -> Iterator[tuple[BinaryIO, int, int]]:
    """Opens an image: (seekable stream, bytes, modified in milliseconds since the epoch or 0).

    Raises:
      ImageError: it is gone, refused by the system, or not a file.
    """
    try:
        if is_remote(uri):
            with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as remote:
                data = remote.read(MAX_BYTES + 1)
            yield io.BytesIO(data), len(data), 0
            return
        # Without blocking: opening a pipe for reading would wait for a writer for ever.
        descriptor = os.open(uri, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb", buffering=0) as stream:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise ImageError(Reason.UNREADABLE, "this folder could not be listed")
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(Reason.NOT_A_FILE)
            yield stream, status.st_size, status.st_mtime_ns // 1_000_000
    except FileNotFoundError as error:
        raise ImageError(Reason.NOT_FOUND, _said(error)) from error
    except OSError as error:
        raise ImageError(Reason.UNREADABLE, _said(error)) from error


def _said(error: OSError) -> str:
    return error.strerror or str(error)


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """A file that gets its name only when all of it is written; until then another attempt does no harm.

    Folders on the way are made. An existing file is replaced.
    """
    if is_remote(path):
        # Object stores show an object when its upload is complete.
        with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as remote:
            yield remote
        return
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    with _gate:
        descriptor, partial = tempfile.mkstemp(
            dir=folder, prefix=partial_prefix(os.getpid()), suffix=PARTIAL_SUFFIX
        )
    try:
        with open(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o666 & ~_umask())
            yield stream
        with _gate:
            os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def copy(source: str, target: str) -> None:
    """Copies a file's bytes and, between local files, its times; the copy appears whole or not at all."""
    if is_remote(source) and is_remote(target) and source.split("://")[0] == target.split("://")[0]:
        FileSystems.copy([source], [target])
        return
    with contextlib.ExitStack() as stack:
        if is_remote(source):
            stream: BinaryIO = stack.enter_context(
                FileSystems.open(source, compression_type=CompressionTypes.UNCOMPRESSED)
            )
        else:
            stream = stack.enter_context(open(source, "rb"))
        with whole_file(target) as written:
            shutil.copyfileobj(stream, written, 1 << 20)
            if not is_remote(source) and not is_remote(target):
                written.flush()
                status = os.stat(source)
                os.utime(written.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def link(source: str, target: str, how: How) -> None:
    """Links a local file to another name; the link appears at once, in place of whatever had the name.

    Raises:
      DedupError: hard links don't reach from one device to another.
    """
    folder = os.path.dirname(target) or "."
    os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, f"{partial_prefix(os.getpid())}{threading.get_ident()}{PARTIAL_SUFFIX}")
    with _gate:
        try:
            if how == How.HARDLINK:
                os.link(os.path.realpath(source), partial)
            else:
                os.symlink(os.path.abspath(source), partial)
            os.replace(partial, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise DedupError(
                f"--place hardlink can't link {source} to {target}: they are on different devices; "
                "use --place copy or symlink"
            ) from error


def is_placed(source: str, target: str, digest: bytes, how: How) -> bool:
    """Whether the copy or link is there already; of remote targets that is not asked."""
    if is_remote(target):
        return False
    if how == How.SYMLINK:
        return os.path.islink(target) and os.readlink(target) == os.path.abspath(source)
    if os.path.islink(target) or not os.path.isfile(target):
        return False
    same_file = not is_remote(source) and os.path.samefile(source, target)
    if how == How.HARDLINK or same_file:
        # A hard link is no copy: to write to it would be to write to the input.
        return same_file and how == How.HARDLINK
    with open(target, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest() == digest


def join(folder: str, name: str) -> str:
    """The path of `name`, with `/` between its folders, below a folder of any file system."""
    return FileSystems.join(folder, *name.split("/"))
