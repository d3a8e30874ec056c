"""Identifies files by what the system knows of them, and by their digests."""

import contextlib
import dataclasses
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from io import BufferedRandom, BufferedReader

from beam_dedup.core.names import shown

DIGEST_BYTES = 32  # of SHA-256
_CHUNK_BYTES = 1 << 20
# Errors of link(2): the file system has no hard links, the file has as many names as it can have, or it belongs to another user.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class LeftError(Exception):
    """A file is left as it is; the message says why."""


class SameFileError(LeftError):
    """A file is left as it is, since its name leads to its witness: to remove it would free nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What identifies the content of a regular file without reading it. Renaming the file does not change it."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "State":
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    @property
    def file(self) -> tuple[int, int]:
        """The same for all names of a file."""
        return self.device, self.inode


def regular(path: str) -> os.stat_result:
    """Returns what the system knows of a regular file.

    Raises:
      LeftError: there is no such file, or it is a link, directory, pipe, socket or device.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        raise LeftError("it does not exist") from None
    except (OSError, ValueError) as error:
        raise LeftError(reason(error)) from error
    if stat.S_ISLNK(found.st_mode):
        raise LeftError("it is a link")
    if not stat.S_ISREG(found.st_mode):
        raise LeftError("it is no regular file")
    return found


def are_same(path: str, file: str) -> bool:
    """Returns whether a path is another name of a regular file, or a link that leads to it."""
    try:
        found = os.lstat(file)
        return stat.S_ISREG(found.st_mode) and os.path.samestat(os.stat(path), found)
    except (OSError, ValueError):  # one of them is no file, or a link that leads nowhere
        return False


def digest_of(path: str) -> tuple[State, bytes]:
    """Returns the state of a regular file, and the SHA-256 of its content.

    Raises:
      LeftError: it can't be read, is no regular file, or changes meanwhile.
    """
    try:
        with opened(path) as file:
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise LeftError("it is no regular file")
            digest = hashlib.file_digest(file, "sha256").digest()
            state = State.of(os.fstat(file.fileno()))
    except (OSError, ValueError) as error:
        raise LeftError(reason(error)) from error
    if state != State.of(before):
        raise LeftError("it changes while it is read")
    return state, digest


def opened(path: str) -> BufferedReader:
    """Opens a file for reading. A link is never followed, and a pipe does not make it wait.

    Raises:
      OSError: it can't be opened, or is a link.
    """
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")


def create(path: str) -> BufferedRandom:
    """Creates a file that nobody else can read yet, and opens it. An existing file or link is never opened.

    Raises:
      OSError: it can't be created.
    """
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w+b")


def copy_content(source: str, target: BufferedRandom, digest: bytes) -> None:
    """Copies a file's content to an empty file.

    Raises:
      OSError: it can't be read or written.
      LeftError: what was copied has another digest.
    """
    hashed = hashlib.sha256()
    with opened(source) as reading:
        while chunk := reading.read(_CHUNK_BYTES):
            hashed.update(chunk)
            target.write(chunk)
    target.flush()
    if hashed.digest() != digest:
        raise LeftError("its content has changed")


def give_attributes(file: int, mode: int, owner: tuple[int, int], times_ns: tuple[int, int]) -> None:
    """Sets the permissions, owner and times of an open file.

    A file that can't be given to its owner does not run with the rights of the user of this process instead.

    Args:
      file: a descriptor.
      mode: as in `stat`.
      owner: user and group.
      times_ns: of the last access and of the last change.
    """
    try:
        os.fchown(file, *owner)
    except OSError:
        mode &= 0o777
    os.fchmod(file, stat.S_IMODE(mode))
    os.utime(file, ns=times_ns)
    os.fsync(file)


def real(path: str) -> str:
    """Returns the path of a name itself, which may be a link, without links in its directories."""
    directory, name = os.path.split(path)
    try:
        return os.path.join(os.path.realpath(directory), name)
    except ValueError:  # no file can have such a name
        return path


def rename_if_free(path: str, target: str) -> None:
    """Renames a file, unless the new name is taken. If a killed process has left it both names, it loses the old one.

    Raises:
      FileExistsError: it is taken.
      OSError: it can't be renamed.
    """
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        old, new = os.lstat(path), os.lstat(target)
        if (old.st_dev, old.st_ino) != (new.st_dev, new.st_ino):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):  # a file system without hard links
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(path, target)
        return
    os.unlink(path)


def sync_directory(path: str) -> None:
    """Writes the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def with_token(path: str, token: str) -> str:
    """Returns a path with a token before its suffix, as the name of a file whose own name is taken.

    >>> with_token("a/b.jpg", "1-2")
    'a/b (1-2).jpg'
    """
    stem, suffix = os.path.splitext(path)
    return f"{stem} ({token}){suffix}"


def reason(error: Exception) -> str:
    """Returns why a file is left, or what the system refused, as the end of a sentence."""
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


@contextlib.contextmanager
def about_witness(path: str) -> Iterator[None]:
    """Names the witness in a LeftError that the block raises about it."""
    try:
        yield
    except LeftError as error:
        raise LeftError(f"its witness {shown(path)}: {error}") from error
