"""Places images in the output directory: each whole or not at all, and never over another file."""

import contextlib
import enum
import errno
import hashlib
import os
import threading
from collections.abc import Iterator

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


def place_file(source: str, target: str, digest: bytes, how: PlaceMode, generation: str = "") -> bool:
    """Copies or links an image, unless it was placed before. A copy of a local file to a local file keeps the times.

    Args:
      source: the image.
      target: the path of the copy.
      digest: SHA-256 of the bytes that were judged, 32 bytes. Other bytes are not copied, except by a store that copies
        within itself, because then the bytes are not read again.
      how: copy or link.
      generation: if given, the only generation of an object that may be copied.

    Returns:
      Whether there was anything to do.

    Raises:
      TakenError: another file has the name of the copy.
      PlacingError: the image changed or vanished after it was read, or a directory cannot be made because a file has its
        name.
      OSError: the system cannot write.
    """
    if is_remote(target):
        if _is_in_store(target, digest):
            return False
        _copy_to_store(source, target, digest, generation)
        return True
    if _is_placed(source, target, digest, how):
        return False
    # A run with another --place may have left the same image in another form. Only that may be replaced.
    replace = _may_replace(target, digest)
    with _never_replacing(target, digest) as there_already:
        if how == PlaceMode.COPY:
            _copy(source, target, digest, replace, generation)
        else:
            _link(source, target, how, replace)
    return not there_already


def place_bytes(uri: str, data: bytes, target: str, digest: bytes) -> bool:
    """Writes an image that was read as a member of an archive. In all else it is like `place_file`."""
    if hashlib.sha256(data).digest() != digest:
        raise PlacingError(f"{uri} changed after it was read")
    if is_remote(target):
        if _is_in_store(target, digest):
            return False
        with whole_file(target) as written:
            written.write(data)
        return True
    if is_copy(target, digest):
        return False
    replace = _may_replace(target, digest)
    with _never_replacing(target, digest) as there_already, whole_file(target, replace) as written:
        written.write(data)
    return not there_already


def is_copy(target: str, digest: bytes) -> bool:
    """Returns whether a local file exists and has these bytes. A link is not a copy."""
    return not is_remote(target) and not os.path.islink(target) and _has_bytes(target, digest)


def _may_replace(target: str, digest: bytes) -> bool:
    """Returns whether a file with these bytes has the name of the copy.

    Raises:
      TakenError: another file has it.
    """
    replace = os.path.lexists(target)
    if replace and not _has_bytes(target, digest):
        raise TakenError(_DIFFERENT_FILE.format(target))
    return replace


@contextlib.contextmanager
def _never_replacing(target: str, digest: bytes) -> Iterator[list[str]]:
    """Translates the errors of writing a new file. Yields a list that gets the target if a file with its bytes exists."""
    there_already: list[str] = []
    try:
        yield there_already
    except FileExistsError as error:
        if not _has_bytes(target, digest):
            raise TakenError(
                f"{error.filename2 or error.filename} exists; existing files are never replaced"
            ) from error
        there_already.append(target)  # another worker or another run has just placed it
    except NotADirectoryError as error:
        raise PlacingError(
            f"{error.filename} can't be made: a file has the name of a directory that is needed"
        ) from error


def _is_in_store(target: str, digest: bytes) -> bool:
    """Returns whether a remote file has the name of the copy and its bytes.

    Raises:
      TakenError: another file has the name.
      PlacingError: no object can have such a name.
    """
    name = target.split("/", 3)[3]
    if len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES:
        raise PlacingError(f"{target} is too long: the name of an object has at most {_MAX_NAME_BYTES} bytes")
    if not objects.exists(target):
        return False
    sha256 = hashlib.sha256()
    with open_bytes(target) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha256.update(chunk)
    if sha256.digest() != digest:
        raise TakenError(_DIFFERENT_FILE.format(target))
    return True


def _copy_to_store(source: str, target: str, digest: bytes, generation: str) -> None:
    if source.split("://")[0] != target.split("://")[0]:
        _copy(source, target, digest, False, generation)
        return
    try:
        objects.copy_object(source, target, generation)
    except FileNotFoundError as error:
        raise PlacingError(f"{source} vanished after it was read") from error


def _copy(source: str, target: str, digest: bytes, replace: bool, generation: str) -> None:
    with _source_errors(source):
        stream = open_bytes(source, generation)
    with stream, whole_file(target, replace) as written:
        sha256 = hashlib.sha256()
        while True:
            with _source_errors(source):
                chunk = stream.read(_CHUNK_BYTES)
            if not chunk:
                break
            sha256.update(chunk)
            written.write(chunk)
        if sha256.digest() != digest:
            raise PlacingError(f"{source} changed after it was read")
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
        raise PlacingError(f"{source} vanished after it was read") from error
    except OSError as error:
        if is_remote(source):
            raise
        raise PlacingError(f"{source} can't be read again: {error.strerror or error}") from error


def _link(source: str, target: str, how: PlaceMode, replace: bool) -> None:
    folder = os.path.dirname(target) or "."
    os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, f"{partial_prefix(os.getpid())}{threading.get_ident()}{PARTIAL_SUFFIX}")
    name = partial if replace else target
    try:
        if how == PlaceMode.HARDLINK:
            os.link(os.path.realpath(source), name)
        else:
            os.symlink(os.path.abspath(source), name)
    except FileNotFoundError as error:
        raise PlacingError(f"{source} vanished after it was read") from error
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise PlacingError(
            f"{source} is on another device than {target}: use --place copy or symlink"
        ) from error
    if replace:
        give_name(partial, target, replace=True)


def _is_placed(source: str, target: str, digest: bytes, how: PlaceMode) -> bool:
    if how == PlaceMode.SYMLINK:
        return os.path.islink(target) and os.readlink(target) == os.path.abspath(source)
    if os.path.islink(target) or not os.path.isfile(target):
        return False
    same_file = not is_remote(source) and os.path.exists(source) and os.path.samefile(source, target)
    if how == PlaceMode.HARDLINK or same_file:
        # A hard link is not a copy: writing to it would write to the input.
        return same_file and how == PlaceMode.HARDLINK
    return _has_bytes(target, digest)


def _has_bytes(path: str, digest: bytes) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest() == digest
