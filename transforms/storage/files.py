"""The one gate to storage: local paths by the system's own calls, everything else by `transforms.storage.objects`."""

import contextlib
import errno
import importlib.util
import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from typing import BinaryIO, cast

from apache_beam.io.filesystems import FileSystems

from beam_dedup.core.errors import install_command
from beam_dedup.core.paths import PARTIAL_SUFFIX, is_remote, partial_prefix, utf8_name
from transforms.storage import objects

_EXTRAS = {"gs": ("gcp", "google.cloud.storage"), "s3": ("aws", "boto3")}  # of setup.py, and what each brings
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of which the system does not say where
_SPOOLED_BYTES = 1 << 24

_gate = threading.RLock()  # held while a file gets its first or its final name


def halt() -> None:
    """From now on no file of this process gets a name, first or final; for ending it at once. There is no way back."""
    _gate.acquire()


@contextlib.contextmanager
def whole_file(path: str, replace: bool = True, lasting: bool = False) -> Iterator[BinaryIO]:
    """A file that gets its name only when all of it is written; until then another attempt does no harm.

    Folders on the way are made. lasting: what is done after this may rely on the file even if the power fails.

    Raises:
      FileExistsError: there is a file of that name, and it is not to be replaced; for local files.
    """
    if is_remote(path):
        # Nothing is uploaded before all of it is there: stores may show what was uploaded till it was broken off.
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as spool:
            yield cast(BinaryIO, spool)
            objects.upload(path, cast(BinaryIO, spool))
        return
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    partial = os.path.join(folder, f"{partial_prefix(os.getpid())}{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
    try:
        with _gate:
            stream = open(partial, "xb")  # noqa: SIM115  with the rights of any new file, as the user's umask has it
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
            _make_names_last(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)


def _make_names_last(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_name(partial: str, path: str, replace: bool) -> None:
    """Gives a finished local file its name, at once."""
    with _gate:
        if replace:
            os.replace(partial, path)
            return
        try:
            os.link(partial, path)  # unlike a renaming it fails where there is a file already
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
                raise
            # A file system without hard links: all that can be done is to look first.
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
            os.rename(partial, path)


def open_bytes(uri: str, generation: str = "") -> BinaryIO:
    """Any file for reading, as it is: nothing is unpacked because of its name."""
    return objects.open_object(uri, generation) if is_remote(uri) else open(uri, "rb")


def unusable(path: str) -> str:
    """Why no file system of Beam's can take a path like gs://..., or "" if one can; and what to install."""
    scheme = path.partition("://")[0]
    extra, package = _EXTRAS.get(scheme, ("", ""))
    hint = f"{scheme}:// needs packages that are not installed: run {install_command(extra)}" if extra else ""
    if package and not _is_installed(package):
        return hint  # Beam has file systems that fail only when they are used
    try:
        FileSystems.get_filesystem(path)
    except ValueError as error:
        return hint or str(error)
    return ""


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


def join(folder: str, name: str) -> str:
    """The path of `name`, with `/` between its folders, below a folder of any file system."""
    if is_remote(folder):
        name = utf8_name(name)
    return FileSystems.join(folder, *name.split("/"))
