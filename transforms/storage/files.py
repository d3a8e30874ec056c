"""Opens and writes files of any storage: local paths by system calls, all others by `transforms.storage.objects`."""

import contextlib
import errno
import importlib.util
import os
import secrets
import stat
import tempfile
import threading
from collections.abc import Iterator
from typing import BinaryIO, cast

from apache_beam.io.filesystems import FileSystems

from beam_dedup.core.errors import install_command
from beam_dedup.core.paths import PARTIAL_SUFFIX, is_remote, partial_prefix, utf8_name
from transforms.storage import objects
from transforms.storage.own_files import IsOwn, read_head

# For each scheme, the command that installs its packages, and one of these packages.
_PACKAGES = {
    "gs": (install_command("gcp"), "google.cloud.storage"),
    "s3": (install_command("aws"), "boto3"),
    "hdfs": ("pip install 'apache-beam[hadoop]'", "hdfs"),
    "azfs": ("pip install 'apache-beam[azure]'", "azure.storage.blob"),
}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors for which the system names no file
_SPOOLED_BYTES = 1 << 24

_names_lock = threading.RLock()  # held while a file gets its temporary or its final name


def halt() -> None:
    """Blocks all further creating and renaming of files by `whole_file` and `give_name` in this process, for good.

    Call it right before the process ends.
    """
    _names_lock.acquire()


@contextlib.contextmanager
def whole_file(
    path: str, replace: bool | IsOwn = True, lasting: bool = False, directory: int | None = None
) -> Iterator[BinaryIO]:
    """Opens a file for writing that gets its name only when all of it is written.

    Until then, another attempt to write it does no harm. If the block raises, nothing is left behind. Missing
    directories are made.

    Args:
      path: the file, local or of a file system of Beam.
      replace: whether an older file of that name is replaced; or a function that decides by its first bytes. If
        it is not replaced, False is an error (local files only), and with a function the new file is called
        `other_name`.
      lasting: whether the file must survive a power failure once the block has ended; local files only.
      directory: descriptor of the directory of the file, if that is open already: then the other parts of the path
        are only shown in errors, and links in them are not followed; local files only.

    Raises:
      FileExistsError: a file of that name exists, and `replace` is False.
    """
    if is_remote(path):
        # The upload starts when all is written: a store may show the part that arrived before an upload broke off.
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as spool:
            yield cast(BinaryIO, spool)
            if callable(replace) and objects.exists(path) and not replace(_head_of(path)):
                path = other_name(path)
            objects.upload(path, cast(BinaryIO, spool))
        return
    folder = os.path.dirname(path) or "."
    if directory is None:
        os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, f"{partial_prefix(os.getpid())}{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    try:
        with _names_lock:
            stream = _create(partial, directory)
        with named_if_full(path), stream:
            yield stream
            if lasting:
                stream.flush()
                os.fsync(stream.fileno())
        if callable(replace):
            _give_own_name(partial, path, replace)
        else:
            give_name(partial, path, replace, directory)
        if lasting:
            _sync_directory(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(_name_in(partial, directory), dir_fd=directory)


@contextlib.contextmanager
def named_if_full(path: str) -> Iterator[None]:
    """Adds the path of a file to errors of writing it for which the system names no file: a full disk, or a quota."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename:
            raise
        raise OSError(error.errno, os.strerror(error.errno), path) from error


def _name_in(path: str, directory: int | None) -> str:
    """Returns the path by which system calls find a file: its name alone, if its directory is open."""
    return path if directory is None else os.path.basename(path)


@contextlib.contextmanager
def _whole_paths(*paths: str) -> Iterator[None]:
    """Raises the errors of a system call with the whole paths of its files, not with their names in a directory."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, paths[0], None, *paths[1:]) from error


def _create(path: str, directory: int | None) -> BinaryIO:
    """Creates a file, with the permissions that the user's umask gives new files."""
    with _whole_paths(path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(_name_in(path, directory), flags, 0o666, dir_fd=directory)
    return open(descriptor, "wb")


def _sync_directory(folder: str) -> None:
    """Writes the names of the files in a directory to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_name(partial: str, path: str, replace: bool, directory: int | None = None) -> None:
    """Gives a finished local file its final name, in one atomic step.

    Args:
      partial: the file.
      path: the final name, in the same directory.
      replace: whether an older file of that name is replaced.
      directory: descriptor of the directory of both, if it is open; see `whole_file`.

    Raises:
      FileExistsError: a file of that name exists, and `replace` is False.
    """
    old, new = _name_in(partial, directory), _name_in(path, directory)
    with _names_lock, _whole_paths(partial, path):
        if replace:
            os.replace(old, new, src_dir_fd=directory, dst_dir_fd=directory)
            return
        try:
            os.link(
                old, new, src_dir_fd=directory, dst_dir_fd=directory
            )  # unlike a rename, this fails if it exists
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            # The file system has no hard links. The best that is left is to look first, then rename.
            with contextlib.suppress(FileNotFoundError):
                os.stat(new, dir_fd=directory, follow_symlinks=False)
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
            os.rename(old, new, src_dir_fd=directory, dst_dir_fd=directory)


def other_name(path: str) -> str:
    """Returns the name of an output file if another file has its own name."""
    return f"{path}.new"


def _give_own_name(partial: str, path: str, is_own: IsOwn) -> None:
    """Gives a finished local file its final name, or `other_name` if a file has it that no run wrote."""
    try:
        give_name(partial, path, replace=False)
    except FileExistsError:
        if os.path.isfile(path) and is_own(_head_of(path)):
            give_name(partial, path, replace=True)
        else:
            _give_own_name(partial, other_name(path), is_own)


def _head_of(path: str) -> bytes:
    with open_bytes(path) as stream:
        return read_head(stream)


def open_bytes(uri: str, generation: str = "") -> BinaryIO:
    """Opens a local or remote file for reading its bytes as they are; see `transforms.storage.objects.open_object`."""
    return objects.open_object(uri, generation) if is_remote(uri) else open_regular(uri)


def open_regular(path: str) -> BinaryIO:
    """Opens a local file for reading if it is a regular file; never waits for a pipe.

    Raises:
      OSError: the file is missing, cannot be read, or is not a regular file.
    """
    _check_regular(path, os.stat(path).st_mode)  # before it is opened: opening a device may have effects
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _check_regular(path, os.fstat(descriptor).st_mode)
        return open(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def _check_regular(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")
        raise OSError(errno.EINVAL, f"it is {kind}, not a regular file", path)


_KINDS = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


def unusable(path: str) -> str:
    """Returns why no file system of Beam can open a path like gs://..., and what to install; "" if one can."""
    scheme = path.partition("://")[0]
    command, package = _PACKAGES.get(scheme, ("", ""))
    if package and not _is_installed(package):
        # Without the package Beam's file system is there, but fails when it is used.
        return f"{scheme}:// needs packages that are not installed: run {command}"
    try:
        FileSystems.get_filesystem(path)
    except Exception as error:  # noqa: BLE001  of any class: ValueError, BeamIOError, ImportError
        return str(error)
    return ""


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # its parent package is not installed either
        return False


def join(folder: str, name: str) -> str:
    """Returns the path of a file below a directory of any file system. `name` has `/` between its parts."""
    if is_remote(folder):
        name = utf8_name(name)
    return FileSystems.join(folder, *name.split("/"))
