"""Files that are not on this machine: the objects of gs:// and s3://, and whatever else Beam has a file system for.

Beam makes a new client for each file that it opens, which for s3:// takes longer than to decode a picture; tries for hours what
s3:// will never allow; and has errors of each store's own. Here a process has one client for each store, what can't be
had is told at once, and every refusal is an OSError.
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

from transforms.storage.clients import REFUSALS, AmazonStore, GoogleStore, OtherStore, Store, status_of

_NUMBERS = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT}  # of the system's errors, by status


def open_object(path: str, generation: str = "") -> BinaryIO:
    """A file for reading, as it is: nothing is unpacked because of its name.

    generation: if given, what has its name later is not meant, in stores that tell one from the other (gs://).
    """
    with _as_os_errors(path):
        return cast(BinaryIO, _Reading(_store(path).open(path, generation), path))


def upload(path: str, stream: BinaryIO) -> None:
    """Writes a file, in place of an older one of its name, that is there when all of it is there."""
    with _as_os_errors(path):
        _store(path).upload(path, stream)


def copy_object(source: str, target: str, generation: str = "") -> None:
    """Lets a store copy a file to another place in it: its bytes stay there."""
    with _as_os_errors(source):
        _store(source).copy(source, target, generation)


def exists(path: str) -> bool:
    """Whether there is a file of this name; a bucket is none."""
    with _as_os_errors(path):
        return path.rstrip("/").count("/") > 2 and _store(path).exists(path)


def list_objects(prefix: str) -> Iterator[str]:
    """The paths of all files that begin so, one after the other."""
    return (path for path, _ in list_versions(prefix))


def list_versions(prefix: str) -> Iterator[tuple[str, str]]:
    """The same, each with what tells the file from an earlier or later one of its name, or "" where nothing does."""
    with _as_os_errors(prefix):
        yield from _store(prefix).versions(prefix)


def check_place(path: str) -> None:
    """Raises OSError if it is certain that nothing can be read or written there: there is no such bucket, say."""
    # Who may read and write objects need not be allowed to look at the bucket.
    with contextlib.suppress(PermissionError), _as_os_errors(path):
        _store(path).check_place(path)


class _Reading(io.RawIOBase):
    """A file of a store, read from its beginning to its end."""

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
    try:
        yield
    except FileNotFoundError as error:  # of which Beam makes some, and says it otherwise
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    except OSError:
        raise
    except Exception as error:  # clients raise errors of any class for a name or an answer they do not expect
        raise _as_os_error(error, path) from error


def _as_os_error(error: Exception, path: str) -> OSError:
    number = _NUMBERS.get(status_of(error), errno.EIO)
    if number == errno.ENOENT:
        return OSError(number, os.strerror(number), path)
    text = " ".join(str(getattr(error, "message", error)).split())
    return OSError(number, text if isinstance(error, REFUSALS) else f"{type(error).__name__}: {text}", path)


_made: dict[str, tuple[Any, Store]] = {}  # by scheme: with which options, and what
_making = threading.Lock()


def _store(path: str) -> Store:
    system = FileSystems.get_filesystem(path)
    scheme = system.scheme()
    options = getattr(system, {"gs": "_pipeline_options", "s3": "_options"}.get(scheme, ""), None)
    with _making:
        made = _made.get(scheme)
        if scheme not in ("gs", "s3"):
            return OtherStore(system)
        if not made or made[0] is not options:
            made = _made[scheme] = (
                options,
                (GoogleStore if scheme == "gs" else AmazonStore)(_whole(options)),
            )
    return made[1]


def _whole(options: Any) -> PipelineOptions:
    """Workers have their options in several forms, or none."""
    if isinstance(options, PipelineOptions):
        return options
    return PipelineOptions.from_dictionary(options) if options else PipelineOptions([])
