"""Files that are not on this machine: the objects of gs:// and s3://, and whatever else Beam has a file system for.

Beam makes a new client for each file that it opens, which for s3:// takes longer than to decode a picture; tries for hours what
s3:// will never allow; and has errors of each store's own. Here a process has one client for each store, what can't be
had is told at once, and every refusal is an OSError.
"""

import contextlib
import copy
import errno
import io
import os
import shutil
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol, cast

from apache_beam.io.aws import s3io
from apache_beam.io.aws.clients.s3 import boto3_client
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

_CHUNK_BYTES = 1 << 20
_NUMBERS = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT}  # of the system's errors, by status

# What clients raise. ValueError and NotImplementedError: a name, or an encoding, that they do not take.
_REFUSALS: tuple[type[Exception], ...] = (S3ClientError, ValueError, NotImplementedError)
try:
    from apache_beam.io.gcp import gcsio
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

    _REFUSALS = (*_REFUSALS, GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse)
except ImportError:  # the extra [gcp] is not installed
    gcsio = None  # type: ignore[assignment]
try:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    _REFUSALS = (*_REFUSALS, Boto3Error, BotoCoreError, ClientError)
except ImportError:  # the extra [aws] is not installed
    pass


class _Store(Protocol):
    """What a file system does for us. Errors may be of any of `_REFUSALS`."""

    def open(self, path: str, generation: str) -> BinaryIO: ...

    def upload(self, path: str, stream: BinaryIO) -> None: ...

    def copy(self, source: str, target: str, generation: str) -> None: ...

    def exists(self, path: str) -> bool: ...

    def versions(self, prefix: str) -> Iterator[tuple[str, str]]: ...

    def check_place(self, path: str) -> None: ...


def open_object(path: str, generation: str = "") -> BinaryIO:
    """A file for reading, as it is: nothing is unpacked because of its name.

    generation: if given, what has its name later is not meant, in stores that tell one from the other (gs://).
    """
    with _told(path):
        return cast(BinaryIO, _Reading(_store(path).open(path, generation), path))


def upload(path: str, stream: BinaryIO) -> None:
    """Writes a file, in place of an older one of its name, that is there when all of it is there."""
    with _told(path):
        _store(path).upload(path, stream)


def copy_object(source: str, target: str, generation: str = "") -> None:
    """Lets a store copy a file to another place in it: its bytes stay there."""
    with _told(source):
        _store(source).copy(source, target, generation)


def exists(path: str) -> bool:
    """Whether there is a file of this name; a bucket is none."""
    with _told(path):
        return path.rstrip("/").count("/") > 2 and _store(path).exists(path)


def list_objects(prefix: str) -> Iterator[str]:
    """The paths of all files that begin so, one after the other."""
    return (path for path, _ in list_versions(prefix))


def list_versions(prefix: str) -> Iterator[tuple[str, str]]:
    """The same, each with what tells the file from an earlier or later one of its name, or "" where nothing does."""
    with _told(prefix):
        yield from _store(prefix).versions(prefix)


def check_place(path: str) -> None:
    """Raises OSError if it is certain that nothing can be read or written there: there is no such bucket, say."""
    # Who may read and write objects need not be allowed to look at the bucket.
    with contextlib.suppress(PermissionError), _told(path):
        _store(path).check_place(path)


class _Reading(io.RawIOBase):
    """A file of a store, read from its beginning to its end."""

    def __init__(self, stream: BinaryIO, path: str) -> None:
        self._stream = stream
        self._path = path

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with _told(self._path):
            return self._stream.read(size)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:  # of which Beam makes some, and says it otherwise
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    except _REFUSALS as error:
        raise _as_os_error(error, path) from error


def _as_os_error(error: Exception, path: str) -> OSError:
    number = _NUMBERS.get(_status(error), errno.EIO)
    if number == errno.ENOENT:
        return OSError(number, os.strerror(number), path)
    return OSError(number, " ".join(str(getattr(error, "message", error)).split()), path)


def _status(error: Exception) -> int:
    """That of the answer which an error came from, or 0."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # Amazon's own errors
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else 0


def _bucket(path: str) -> str:
    return path.split("/")[2]


_made: dict[str, tuple[Any, _Store]] = {}  # by scheme: with which options, and what
_making = threading.Lock()


def _store(path: str) -> _Store:
    system = FileSystems.get_filesystem(path)
    scheme = system.scheme()
    options = getattr(system, {"gs": "_pipeline_options", "s3": "_options"}.get(scheme, ""), None)
    with _making:
        made = _made.get(scheme)
        if scheme not in ("gs", "s3"):
            return _OtherStore(system)
        if not made or made[0] is not options:
            made = _made[scheme] = (
                options,
                (_GoogleStore if scheme == "gs" else _AmazonStore)(_whole(options)),
            )
    return made[1]


def _whole(options: Any) -> PipelineOptions:
    """Workers have their options in several forms, or none."""
    if isinstance(options, PipelineOptions):
        return options
    return PipelineOptions.from_dictionary(options) if options else PipelineOptions([])


class _GoogleStore:
    """gs://, also without credentials (`--no_auth`), which Beam would look for half a minute."""

    def __init__(self, options: PipelineOptions) -> None:
        anonymous = options.view_as(GoogleCloudOptions).no_auth
        self._io = gcsio.GcsIO(gcsio.create_storage_client(options, use_credentials=not anonymous), options)

    def _blob(self, path: str, generation: str = "") -> Any:
        bucket, name = gcsio.parse_gcs_path(path)
        number = int(generation) if generation.isdecimal() else None
        return self._io.client.bucket(bucket).blob(name, generation=number)

    def open(self, path: str, generation: str) -> BinaryIO:
        if not generation:
            stream: BinaryIO = self._io.open(path, "rb")
            return stream
        of_generation: BinaryIO = self._blob(path, generation).open("rb", chunk_size=_CHUNK_BYTES)
        return of_generation

    def upload(self, path: str, stream: BinaryIO) -> None:
        self._blob(path).upload_from_file(stream, rewind=True, retry=gcsio.DEFAULT_RETRY)

    def copy(self, source: str, target: str, generation: str) -> None:
        if not generation:
            self._io.copy(source, target)
            return
        copied = self._blob(source, generation)
        bucket, name = gcsio.parse_gcs_path(target)
        to = self._io.client.bucket(bucket)
        copied.bucket.copy_blob(copied, to, name, source_generation=copied.generation)

    def exists(self, path: str) -> bool:
        return bool(self._io.exists(path))

    def versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        bucket, start = gcsio.parse_gcs_path(prefix, object_optional=True)
        fields = "items(name,generation),nextPageToken"
        found = self._io.client.list_blobs(bucket, prefix=start, fields=fields)
        return ((f"gs://{bucket}/{blob.name}", str(blob.generation)) for blob in found)

    def check_place(self, path: str) -> None:
        self._io.client.get_bucket(_bucket(path))


class _AmazonStore:
    """s3://"""

    def __init__(self, options: PipelineOptions) -> None:
        self._beams = boto3_client.Client(options=options)
        self._client = self._beams.client

    def open(self, path: str, generation: str) -> BinaryIO:  # noqa: ARG002
        # Beam's client reads one file at a time; its copies share what takes long to make, and may be used by all threads.
        stream: BinaryIO = s3io.S3IO(client=copy.copy(self._beams)).open(path, "rb")
        return stream

    def upload(self, path: str, stream: BinaryIO) -> None:
        stream.seek(0)
        self._client.upload_fileobj(stream, *s3io.parse_s3_path(path))

    def copy(self, source: str, target: str, generation: str) -> None:  # noqa: ARG002
        bucket, key = s3io.parse_s3_path(source)
        self._client.copy({"Bucket": bucket, "Key": key}, *s3io.parse_s3_path(target))

    def exists(self, path: str) -> bool:
        bucket, key = s3io.parse_s3_path(path)
        try:
            self._client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if _status(error) != 404:
                raise
            return False
        return True

    def versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        bucket, start = s3io.parse_s3_path(prefix, object_optional=True)
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start):
            for found in page.get("Contents", ()):
                written = int(found["LastModified"].timestamp())
                yield f"s3://{bucket}/{found['Key']}", f"{written}-{found['ETag'].strip(chr(34))}"

    def check_place(self, path: str) -> None:
        self._client.head_bucket(Bucket=_bucket(path))


class _OtherStore:
    """Any other file system of Beam's, by what they all have."""

    def __init__(self, system: FileSystem) -> None:
        self._system = system

    def open(self, path: str, generation: str) -> BinaryIO:  # noqa: ARG002
        stream: BinaryIO = self._system.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
        return stream

    def upload(self, path: str, stream: BinaryIO) -> None:
        stream.seek(0)
        with self._system.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as remote:
            shutil.copyfileobj(stream, remote, _CHUNK_BYTES)

    def copy(self, source: str, target: str, generation: str) -> None:  # noqa: ARG002
        self._system.copy([source], [target])

    def exists(self, path: str) -> bool:
        return bool(self._system.exists(path))

    def versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        # What Beam's own `match` filters, as a stream: `match` itself makes a list of all.
        return (
            (file.path, f"{file.last_updated_in_seconds}-{file.size_in_bytes}")
            for file in self._system._list(prefix)
        )

    def check_place(self, path: str) -> None:
        """Nothing is known of it."""
