"""Places images in the output directory: each whole or not at all, and never over another file.

Directories below the output directory are opened one after the other, and links in them are not followed: a link that
somebody puts there can't lead copies to another place.
"""

import contextlib
import enum
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from typing import NamedTuple

from beam_dedup.core.names import shown
from beam_dedup.core.paths import PARTIAL_SUFFIX, is_remote, partial_prefix
from transforms.storage import objects
from transforms.storage.files import give_name, open_bytes, whole_file

_CHUNK_BYTES = 1 << 20
_MAX_NAME_BYTES = 1024  # of an object, in gs:// and s3:// alike
_DIFFERENT_FILE = "{} exists with other content; existing files are never replaced"


class PlaceMode(enum.StrEnum):
    """How an image is placed."""

    COPY = "copy"
    HARDLINK = "hardlink"
    SYMLINK = "symlink"


class PlacingError(Exception):
    """One image cannot be placed, because of its own file or of a file in the output directory."""


class TakenError(PlacingError):
    """Another file has the name of the copy."""


class BlockedError(TakenError):
    """A directory has the name of the copy, or a file that of a directory that the copy needs.

    Args:
      message: says so.
      path: of that directory or file.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message, path)
        self.path = path

    def __str__(self) -> str:
        return str(self.args[0])


class _Target(NamedTuple):
    """Where a local copy goes."""

    directory: int  # descriptor of its directory
    name: str  # in the directory
    path: str

    def status(self, follow_links: bool = False) -> os.stat_result | None:
        """Returns the status of what has the name; None if there is nothing that can be used."""
        try:
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=follow_links)
        except OSError:
            return None

    def is_link(self) -> bool:
        status = self.status()
        return status is not None and stat.S_ISLNK(status.st_mode)


def place_file(
    source: str, target: str, digest: bytes, how: PlaceMode, generation: str = "", folder: str = ""
) -> bool:
    """Copies or links an image, unless it was placed before. A copy of a local file to a local file keeps the times.

    Args:
      source: the image.
      target: the path of the copy.
      digest: SHA-256 of the bytes that were judged, 32 bytes. Other bytes are not copied, except by a store that copies
        within itself, because then the bytes are not read again.
      how: copy or link.
      generation: if given, the only generation of an object that may be copied.
      folder: the output directory, below which no link is followed; by default that of the copy.

    Returns:
      Whether there was anything to do.

    Raises:
      TakenError: another file has the name of the copy.
      PlacingError: the image changed or vanished after it was read, can't be read or is no file any more, or a directory
        of the copy is a link.
      OSError: the system cannot write.
    """
    if is_remote(target):
        if _is_in_store(target, digest):
            return False
        _copy_to_store(source, target, digest, generation)
        return True
    with _opened(target, folder) as opened:
        if _is_placed(source, opened, digest, how):
            return False
        # A run with another --place may have left the same image in another form. Only that may be replaced.
        replace = _may_replace(opened, digest)
        with _never_replacing(opened, digest) as there_already:
            if how == PlaceMode.COPY:
                _copy(source, target, digest, replace, generation, opened.directory)
            else:
                _link(source, opened, how, replace)
        return not there_already


def place_bytes(uri: str, data: bytes, target: str, digest: bytes, folder: str = "") -> bool:
    """Writes an image that was read as a member of an archive. In all else it is like `place_file`."""
    if hashlib.sha256(data).digest() != digest:
        raise PlacingError(f"{shown(uri)} changed after it was read")
    if is_remote(target):
        if _is_in_store(target, digest):
            return False
        with whole_file(target) as written:
            written.write(data)
        return True
    with _opened(target, folder) as opened:
        if not opened.is_link() and _has_bytes(opened, digest):
            return False
        replace = _may_replace(opened, digest)
        with (
            _never_replacing(opened, digest) as there_already,
            whole_file(target, replace, directory=opened.directory) as written,
        ):
            written.write(data)
        return not there_already


def is_copy(target: str, digest: bytes, folder: str = "") -> bool:
    """Returns whether a local file exists below the output directory and has these bytes. A link is not a copy."""
    if is_remote(target):
        return False
    try:
        with _opened(target, folder, make=False) as opened:
            return not opened.is_link() and _has_bytes(opened, digest)
    except (FileNotFoundError, PlacingError):
        return False


@contextlib.contextmanager
def _opened(target: str, folder: str, make: bool = True) -> Iterator[_Target]:
    """Opens the directory of a copy.

    Args:
      target: the path of the copy.
      folder: the output directory, which may be a link itself; by default the directory of the copy.
      make: whether missing directories are made.

    Raises:
      PlacingError: a directory below the output directory is a link.
      BlockedError: a file has the name of a directory.
    """
    folder = folder or os.path.dirname(target) or "."
    below = target.removeprefix(os.path.join(folder, ""))
    *parts, name = (os.path.basename(target),) if below == target else below.split(os.sep)
    if make:
        os.makedirs(folder, exist_ok=True)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    path = folder
    try:
        for part in parts:
            path = os.path.join(path, part)
            outer, directory = directory, _open_directory(directory, part, path, make)
            os.close(outer)
        yield _Target(directory, name, target)
    finally:
        os.close(directory)


def _open_directory(outer: int, name: str, path: str, make: bool) -> int:
    """Returns the descriptor of a directory within another one, and makes it if it is missing."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        try:
            return os.open(name, flags, dir_fd=outer)
        except FileNotFoundError:
            if not make:
                raise
            with contextlib.suppress(FileExistsError):  # another worker has just made it
                os.mkdir(name, dir_fd=outer)
            return os.open(name, flags, dir_fd=outer)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise OSError(error.errno, error.strerror, path) from error
        if stat.S_ISLNK(os.stat(name, dir_fd=outer, follow_symlinks=False).st_mode):
            raise PlacingError(
                f"{shown(path)} is a link; links below the output directory are not followed"
            ) from error
        raise BlockedError(
            f"{shown(path)} can't be made: a file has the name of a directory that is needed", path
        ) from error


def _may_replace(target: _Target, digest: bytes) -> bool:
    """Returns whether a file with these bytes has the name of the copy.

    Raises:
      TakenError: another file has it.
    """
    status = target.status()
    if status is None:
        return False
    if stat.S_ISDIR(status.st_mode):
        raise BlockedError(f"{shown(target.path)} exists and is a directory", target.path)
    if not _has_bytes(target, digest):
        raise TakenError(_DIFFERENT_FILE.format(shown(target.path)))
    return True


@contextlib.contextmanager
def _never_replacing(target: _Target, digest: bytes) -> Iterator[list[str]]:
    """Translates the errors of writing a new file. Yields a list that gets the target if a file with its bytes exists."""
    there_already: list[str] = []
    try:
        yield there_already
    except FileExistsError as error:
        if not _has_bytes(target, digest):
            raise TakenError(f"{shown(target.path)} exists; existing files are never replaced") from error
        there_already.append(target.path)  # another worker or another run has just placed it


def _is_in_store(target: str, digest: bytes) -> bool:
    """Returns whether a remote file has the name of the copy and its bytes.

    Raises:
      TakenError: another file has the name.
      PlacingError: no object can have such a name.
    """
    name = target.split("/", 3)[3]
    if len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        raise PlacingError(
            f"{shown(target)} is too long: the name of an object has at most {_MAX_NAME_BYTES} bytes"
        )
    if not objects.exists(target):
        return False
    sha256 = hashlib.sha256()
    with open_bytes(target) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha256.update(chunk)
    if sha256.digest() != digest:
        raise TakenError(_DIFFERENT_FILE.format(shown(target)))
    return True


def _copy_to_store(source: str, target: str, digest: bytes, generation: str) -> None:
    if source.split("://")[0] != target.split("://")[0]:
        _copy(source, target, digest, False, generation)
        return
    with _source_errors(source):
        objects.copy_object(source, target, generation)


def _copy(
    source: str, target: str, digest: bytes, replace: bool, generation: str, directory: int | None = None
) -> None:
    with _source_errors(source):
        stream = open_bytes(source, generation)
    with stream, whole_file(target, replace, directory=directory) as written:
        sha256 = hashlib.sha256()
        while True:
            with _source_errors(source):
                chunk = stream.read(_CHUNK_BYTES)
            if not chunk:
                break
            sha256.update(chunk)
            written.write(chunk)
        if sha256.digest() != digest:
            raise PlacingError(f"{shown(source)} changed after it was read")
        if not is_remote(source) and not is_remote(target):
            written.flush()
            status = os.fstat(stream.fileno())
            os.utime(written.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


@contextlib.contextmanager
def _source_errors(source: str) -> Iterator[None]:
    """Raises PlacingError if a source is gone, or the system can't read a local one: then only this image is not placed.

    Other errors of stores are raised as they are: the runner tries again.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise PlacingError(f"{shown(source)} vanished after it was read") from error
    except OSError as error:
        if is_remote(source):
            raise
        raise PlacingError(f"{shown(source)} can't be read again: {error.strerror or error}") from error


def _link(source: str, target: _Target, how: PlaceMode, replace: bool) -> None:
    with _source_errors(source), open_bytes(source):  # a link must not lead to a pipe or a device
        pass
    partial = f"{partial_prefix(os.getpid())}{threading.get_ident()}{PARTIAL_SUFFIX}"
    name = partial if replace else target.name
    try:
        if how == PlaceMode.HARDLINK:
            os.link(os.path.realpath(source), name, dst_dir_fd=target.directory)
        else:
            os.symlink(os.path.abspath(source), name, dir_fd=target.directory)
    except FileNotFoundError as error:
        raise PlacingError(f"{shown(source)} vanished after it was read") from error
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise OSError(error.errno, error.strerror, target.path) from error
        raise PlacingError(
            f"{shown(source)} is on another device than {shown(target.path)}: use --place copy or symlink"
        ) from error
    if replace:
        folder = os.path.dirname(target.path)
        give_name(os.path.join(folder, partial), target.path, replace=True, directory=target.directory)


def _is_placed(source: str, target: _Target, digest: bytes, how: PlaceMode) -> bool:
    status = target.status()
    if status is None:
        return False
    is_link = stat.S_ISLNK(status.st_mode)
    if how == PlaceMode.SYMLINK:
        return is_link and os.readlink(target.name, dir_fd=target.directory) == os.path.abspath(source)
    if not stat.S_ISREG(status.st_mode):
        return False
    same_file = not is_remote(source) and os.path.exists(source) and os.path.samestat(os.stat(source), status)
    if how == PlaceMode.HARDLINK or same_file:
        # A hard link is not a copy: writing to it would write to the input.
        return same_file and how == PlaceMode.HARDLINK
    return _has_bytes(target, digest)


def _has_bytes(target: _Target, digest: bytes) -> bool:
    """Returns whether a regular file, or a link to one, has these bytes. No pipe or device is opened."""
    status = target.status(follow_links=True)
    if status is None or not stat.S_ISREG(status.st_mode):
        return False
    descriptor = os.open(target.name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=target.directory)
    with open(descriptor, "rb") as file:
        if not os.path.samestat(os.fstat(descriptor), status):
            return False
        return hashlib.file_digest(file, "sha256").digest() == digest
