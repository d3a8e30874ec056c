"""Identifies files by what the system knows of them, and by their digests."""

import dataclasses
import errno
import hashlib
import os
import stat

_CHUNK_BYTES = 1 << 20


class LeftError(Exception):
    """A file is left as it is; the message says why."""


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
        raise LeftError(_reason(error)) from error
    if stat.S_ISLNK(found.st_mode):
        raise LeftError("it is a link")
    if not stat.S_ISREG(found.st_mode):
        raise LeftError("it is no regular file")
    return found


def digest_of(path: str) -> tuple[State, bytes]:
    """Returns the state of a regular file, and the SHA-256 of its content.

    Raises:
      LeftError: it can't be read, is no regular file, or changes meanwhile.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would make it wait
        with open(descriptor, "rb", buffering=0) as file:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise LeftError("it is no regular file")
            digest = hashlib.file_digest(file, "sha256").digest()
            state = State.of(os.fstat(descriptor))
    except (OSError, ValueError) as error:
        raise LeftError(_reason(error)) from error
    if state != State.of(before):
        raise LeftError("it changes while it is read")
    return state, digest


def copy_content(source: str, target: str, digest: bytes) -> None:
    """Copies a file's content, and then its mode and times, to an existing empty file.

    Raises:
      OSError: it can't be read or written.
      LeftError: what was copied has another digest.
    """
    hashed = hashlib.sha256()
    with (
        open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as reading,
        open(target, "r+b") as writing,
    ):
        while chunk := reading.read(_CHUNK_BYTES):
            hashed.update(chunk)
            writing.write(chunk)
        writing.flush()
        found = os.fstat(reading.fileno())
        if hashed.digest() != digest:
            raise LeftError("its content has changed")
        give_attributes(writing.fileno(), found.st_mode, found.st_atime_ns, found.st_mtime_ns)
        os.fsync(writing.fileno())


def give_attributes(file: int, mode: int, atime_ns: int, mtime_ns: int) -> None:
    """Sets the permissions and times of an open file."""
    os.fchmod(file, stat.S_IMODE(mode))
    os.utime(file, ns=(atime_ns, mtime_ns))


def rename_if_free(path: str, target: str) -> None:
    """Renames a file, unless the new name is taken.

    Raises:
      FileExistsError: it is taken.
      OSError: it can't be renamed.
    """
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
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


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
