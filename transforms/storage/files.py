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
def whole_file(path: str, replace: bool = True, lasting: bool = False) -> Iterator[BinaryIO]:
    """Opens a file for writing that gets its name only when all of it is written.

    Until then, another attempt to write it does no harm. If the block raises, nothing is left behind. Missing
    directories are made.

    Args:
      path: the file, local or of a file system of Beam.
      replace: whether an older file of that name is replaced; local files only.
      lasting: whether the file must survive a power failure once the block has ended; local files only.

    Raises:
      FileExistsError: a file of that name exists, and `replace` is False.
    """
    if is_remote(path):
        # The upload starts when all is written: a store may show the part that arrived before an upload broke off.
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as spool:
            yield cast(BinaryIO, spool)
            objects.upload(path, cast(BinaryIO, spool))
        return
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, f"{partial_prefix(os.getpid())}{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    try:
        with _names_lock:
            stream = open(partial, "xb")  # noqa: SIM115  with the permissions that the user's umask gives new files
        try:
            with stream:
                yield stream
                if lasting:
                    stream.flush()
                    os.fsync(stream.fileno())
        except OSError as error:
            if error.errno not in _NO_ROOM or error.filename:
                raise
            raise OSError(error.errno, os.strerror(error.errno), path) from error
        give_name(partial, path, replace)
        if lasting:
            _sync_directory(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)


def _sync_directory(folder: str) -> None:
    """Writes the names of the files in a directory to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_name(partial: str, path: str, replace: bool) -> None:
    """Gives a finished local file its final name, in one atomic step.

    Raises:
      FileExistsError: a file of that name exists, and `replace` is False.
    """
    with _names_lock:
        if replace:
            os.replace(partial, path)
            return
        try:
            os.link(partial, path)  # unlike a rename, this fails if the file exists
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            # The file system has no hard links. The best that is left is to look first, then rename.
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
            os.rename(partial, path)


def open_bytes(uri: str, generation: str = "") -> BinaryIO:
    """Opens a local or remote file for reading its bytes as they are; see `transforms.storage.objects.open_object`."""
    return objects.open_object(uri, generation) if is_remote(uri) else open(uri, "rb")


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
