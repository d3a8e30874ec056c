"""Placing images in the output folder: whole or not at all, and never in place of something else."""

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
_MOST_NAME_BYTES = 1024  # of an object, in gs:// and s3:// alike
_SOMETHING_ELSE = "{} is there already and is something else; nothing is ever replaced"


class PlaceMode(enum.StrEnum):
    """How an image is placed."""

    COPY = "copy"
    HARDLINK = "hardlink"
    SYMLINK = "symlink"


class PlacingError(Exception):
    """One image can't be placed, for a reason that lies in its file or in what is there already."""


class TakenError(PlacingError):
    """Something else has its name in the folder."""


def place_file(source: str, target: str, digest: bytes, how: PlaceMode, generation: str = "") -> bool:
    """Copies or links an image, unless that was done before. Between local files a copy keeps the times.

    digest: of the bytes that were judged; a copy of other bytes is not made, but where a store copies by itself: then its
    bytes are not read again. generation: of an object, where only this one is meant.
    Returns: whether there was something to do.

    Raises:
      PlacingError: the image changed or vanished since it was read, or something else has its name in the folder.
      OSError: the system can't write.
    """
    if is_remote(target):
        if _is_in_store(target, digest):
            return False
        _copy_to_store(source, target, digest, generation)
        return True
    if _is_placed(source, target, digest, how):
        return False
    # Another form of the same image may be there, from a run with another --place: that may go, and nothing else.
    replace = _may_replace(target, digest)
    with _never_replacing(target, digest) as there_already:
        if how == PlaceMode.COPY:
            _copy(source, target, digest, replace, generation)
        else:
            _link(source, target, how, replace)
    return not there_already


def place_bytes(uri: str, data: bytes, target: str, digest: bytes) -> bool:
    """Writes an image that was read as a member of an archive; all else as `place_file` does it."""
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
    """Whether a local file is there already, as a copy: links are not."""
    return not is_remote(target) and not os.path.islink(target) and _has_bytes(target, digest)


def _may_replace(target: str, digest: bytes) -> bool:
    replace = os.path.lexists(target)
    if replace and not _has_bytes(target, digest):
        raise TakenError(_SOMETHING_ELSE.format(target))
    return replace


@contextlib.contextmanager
def _never_replacing(target: str, digest: bytes) -> Iterator[list[str]]:
    """Writing a new file: it may turn out to be there. The list then has its name, if its bytes are right."""
    there_already: list[str] = []
    try:
        yield there_already
    except FileExistsError as error:
        if not _has_bytes(target, digest):
            raise TakenError(
                f"{error.filename2 or error.filename} is there already; nothing is ever replaced"
            ) from error
        there_already.append(target)  # another worker, or another run, was faster
    except NotADirectoryError as error:
        raise PlacingError(
            f"{error.filename} can't be made: a file stands where a folder is needed"
        ) from error


def _is_in_store(target: str, digest: bytes) -> bool:
    """Whether an image has been placed there before.

    Raises:
      PlacingError: something else has its name, or its name is none for a store.
    """
    name = target.split("/", 3)[3]
    if len(name.encode("utf-8", "replace")) > _MOST_NAME_BYTES:
        raise PlacingError(
            f"{target} is too long: names in object stores have at most {_MOST_NAME_BYTES} bytes"
        )
    if not objects.exists(target):
        return False
    sha256 = hashlib.sha256()
    with open_bytes(target) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha256.update(chunk)
    if sha256.digest() != digest:
        raise TakenError(_SOMETHING_ELSE.format(target))
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
        # A hard link is no copy: to write to it would be to write to the input.
        return same_file and how == PlaceMode.HARDLINK
    return _has_bytes(target, digest)


def _has_bytes(path: str, digest: bytes) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest() == digest
