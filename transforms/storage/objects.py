"""Reads, writes and lists remote files: the objects of gs:// and s3://, and files of Beam's other file systems.

Beam makes a new client for each file that it opens, which for s3:// takes longer than decoding a picture. It retries for
hours requests that s3:// will never allow, and raises the errors of each store. This module has one client per store and
process, reports at once what cannot be had, and raises every refusal as an OSError.
"""

import contextlib
import errno
import io
import os
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from transforms.storage.clients import REFUSALS, AmazonStore, Found, GoogleStore, OtherStore, Store, status_of

_ERROR_NUMBERS = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT}  # by HTTP status


def open_object(path: str, generation: str = "") -> BinaryIO:
    """Opens a remote file for reading its bytes as they are: it is not decompressed, whatever its name.

    Args:
      path: the remote file.
      generation: if given, the only generation that may be opened, in stores that have them (gs://).
    """
    with _as_os_errors(path):
        return cast(BinaryIO, _ObjectReader(_store(path).open(path, generation), path))


def upload(path: str, stream: BinaryIO) -> None:
    """Writes a remote file from its stream. It replaces an older one of its name, when all of it is uploaded."""
    with _as_os_errors(path):
        _store(path).upload(path, stream)


def copy_object(source: str, target: str, generation: str = "") -> None:
    """Copies a file within a store; the bytes do not leave the store."""
    with _as_os_errors(source):
        _store(source).copy(source, target, generation)


def exists(path: str) -> bool:
    """Returns whether there is a remote file of this name. A bucket is not a file."""
    with _as_os_errors(path):
        return path.rstrip("/").count("/") > 2 and _store(path).exists(path)


def list_objects(prefix: str) -> Iterator[str]:
    """Yields the paths of all remote files that begin with the prefix."""
    return (found.path for found in list_versions(prefix))


def list_versions(prefix: str) -> Iterator[Found]:
    """Yields all remote files that begin with the prefix, each with its version and size.

    A file that replaces another one of its name has another version. The version is "" if the store has none.
    """
    with _as_os_errors(prefix):
        yield from _store(prefix).versions(prefix)


def check_bucket(path: str) -> None:
    """Raises OSError if nothing can be read or written at a path for certain, for example because the bucket is missing."""
    # A permission error proves nothing: reading and writing objects does not need the permission to look at the bucket.
    with contextlib.suppress(PermissionError), _as_os_errors(path):
        _store(path).check_bucket(path)


class _ObjectReader(io.RawIOBase):
    """Reads a remote file from its beginning to its end, and raises every refusal of the store as an OSError."""

    def __init__(self, stream: BinaryIO, path: str) -> None:
        self._stream = stream
        self._path = path

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with _as_os_errors(self._path):
            return self._stream.read(size)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


@contextlib.contextmanager
def _as_os_errors(path: str) -> Iterator[None]:
    """Raises every refusal of a store as an OSError that names the path."""
    try:
        yield
    except FileNotFoundError as error:  # some are raised by Beam, with other messages than the system's
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    except OSError:
        raise
    except Exception as error:  # clients raise errors of any class for a name or an answer they do not expect
        raise _as_os_error(error, path) from error


def _as_os_error(error: Exception, path: str) -> OSError:
    number = _ERROR_NUMBERS.get(status_of(error), errno.EIO)
    if number == errno.ENOENT:
        return OSError(number, os.strerror(number), path)
    text = " ".join(str(getattr(error, "message", error)).split())
    return OSError(number, text if isinstance(error, REFUSALS) else f"{type(error).__name__}: {text}", path)


_stores: dict[str, tuple[Any, Store]] = {}  # by scheme: the options it was made with, and the store
_store_locks = {
    scheme: threading.Lock() for scheme in ("gs", "s3")
}  # one store may search for credentials for long


def _store(path: str) -> Store:
    """Returns the store of a path: the same one as before, unless Beam's options have changed."""
    system = FileSystems.get_filesystem(path)
    scheme = system.scheme()
    options = getattr(system, {"gs": "_pipeline_options", "s3": "_options"}.get(scheme, ""), None)
    if scheme not in ("gs", "s3"):
        return OtherStore(system)
    with _store_locks[scheme]:
        made = _stores.get(scheme)
        if not made or made[0] is not options:
            make_store = GoogleStore if scheme == "gs" else AmazonStore
            made = _stores[scheme] = (options, make_store(_pipeline_options(options)))
    return made[1]


def _pipeline_options(options: Any) -> PipelineOptions:
    """Returns the options of a file system as `PipelineOptions`: workers have them in several forms, or none."""
    if isinstance(options, PipelineOptions):
        return options
    return PipelineOptions.from_dictionary(options) if options else PipelineOptions([])
