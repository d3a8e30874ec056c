"""Wraps the clients of gs:// and s3://, and Beam's other file systems, in one interface for `transforms.storage.objects`."""

import contextlib
import dataclasses
import errno
import functools
import io
import shutil
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from apache_beam.io.aws import s3io
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import CompressionTypes, FileSystem
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, S3Options

_CHUNK_BYTES = 1 << 20
_ATTEMPTS = 3  # per request to s3:// when reading
FIRST_REQUEST_BYTES = 1 << 22  # of an object of gs://; nearly every picture fits in one request
NEXT_REQUEST_BYTES = 1 << 23  # of an object of gs:// that did not fit in the first request
_CONNECTIONS = (
    64  # kept open; more than there are threads, because a thread without one makes one per request
)

# Exceptions that clients raise on purpose. ValueError and NotImplementedError: a name, or an encoding, that they do not accept.
REFUSALS: tuple[type[Exception], ...] = (S3ClientError, ValueError, NotImplementedError)
try:
    from apache_beam.io.gcp import gcsio
    from google.api_core.exceptions import GoogleAPIError, RequestRangeNotSatisfiable
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from requests.adapters import HTTPAdapter

    REFUSALS = (*REFUSALS, GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse)
except ImportError:  # the extra [gcp] is not installed
    gcsio = None  # type: ignore[assignment]
try:
    import boto3
    from boto3.exceptions import Boto3Error
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    REFUSALS = (*REFUSALS, Boto3Error, BotoCoreError, ClientError)
except ImportError:  # the extra [aws] is not installed
    pass


@dataclasses.dataclass(frozen=True)
class FetchTimes:
    """How long a store is waited for when it is read. A store that cannot be reached costs less than a minute.

    The limits are on silence, not on size: a slow connection that still transmits is never given up.

    Attributes:
      connect_seconds: until a connection is accepted.
      read_seconds: until the next byte arrives.
      retry_seconds: after that time since the first attempt, no other attempt is made.
    """

    connect_seconds: float = 5.0
    read_seconds: float = 15.0
    retry_seconds: float = 20.0


class Found(NamedTuple):
    """A file that a store lists. A file that replaces it has another version."""

    path: str
    version: str = ""  # if the store has none
    size_bytes: int | None = None  # if the store does not say


class Store(Protocol):
    """The operations on one file system. They raise errors of any class."""

    def open(self, path: str, generation: str) -> BinaryIO:
        """Opens a file for reading; only this generation of it, if one is given and the store has generations."""

    def upload(self, path: str, stream: BinaryIO) -> None:
        """Writes a file from the beginning of a stream."""

    def copy(self, source: str, target: str, generation: str) -> None:
        """Copies a file within the file system; only this generation of it, as in `open`."""

    def exists(self, path: str) -> bool:
        """Returns whether there is a file of this name."""

    def versions(self, prefix: str) -> Iterator[Found]:
        """Yields every file that begins with the prefix."""

    def check_bucket(self, path: str) -> None:
        """Raises an error if the bucket of a path is missing."""


def status_of(error: Exception) -> int:
    """Returns the HTTP status that an error came from, or 0."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # Amazon's own errors
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else 0


def _bucket(path: str) -> str:
    return path.split("/")[2]


class GoogleStore:
    """The store gs://. With `--no_auth` it uses no credentials; Beam would search for them for half a minute."""

    def __init__(self, options: PipelineOptions, times: FetchTimes = FetchTimes()) -> None:
        self._waiting = {
            "timeout": (times.connect_seconds, times.read_seconds),
            "retry": gcsio.DEFAULT_RETRY.with_timeout(times.retry_seconds).with_delay(
                maximum=times.retry_seconds / 4
            ),
        }
        anonymous = options.view_as(GoogleCloudOptions).no_auth
        client = gcsio.create_storage_client(options, use_credentials=not anonymous)
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
        self._io = gcsio.GcsIO(client, options)

    def _blob(self, path: str, generation: str = "") -> Any:
        bucket, name = gcsio.parse_gcs_path(path)
        number = int(generation) if generation.isdecimal() else None
        return self._io.client.bucket(bucket).blob(name, generation=number)

    def open(self, path: str, generation: str) -> BinaryIO:
        """Opens an object, with a single request if it is small.

        Beam's and Google's readers make one more request, for the size or for bytes after the end.
        """
        blob = self._blob(path, generation)
        first = BoundedBuffer(FIRST_REQUEST_BYTES)
        with contextlib.suppress(RequestRangeNotSatisfiable):  # the object is empty
            blob.download_to_file(
                first, end=FIRST_REQUEST_BYTES - 1, raw_download=True, checksum=None, **self._waiting
            )
        if first.tell() < FIRST_REQUEST_BYTES:
            first.seek(0)
            return first
        reader: BinaryIO = blob.open("rb", chunk_size=NEXT_REQUEST_BYTES, raw_download=True, **self._waiting)
        return reader

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

    def versions(self, prefix: str) -> Iterator[Found]:
        bucket, start = gcsio.parse_gcs_path(prefix, object_optional=True)
        fields = "items(name,generation,size),nextPageToken"
        found = self._io.client.list_blobs(bucket, prefix=start, fields=fields)
        return (Found(f"gs://{bucket}/{blob.name}", str(blob.generation), blob.size) for blob in found)

    def check_bucket(self, path: str) -> None:
        self._io.client.get_bucket(_bucket(path), **self._waiting)


class BoundedBuffer(io.BytesIO):
    """A buffer that refuses to hold more bytes than were requested."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._max_bytes:
            raise OSError(errno.EIO, "the store sent more bytes than were requested")
        return super().write(data)


class AmazonStore:
    """The store s3://. Objects are read with a client of its own, which gives up sooner than the one that writes."""

    def __init__(self, options: PipelineOptions, times: FetchTimes = FetchTimes()) -> None:
        s3_options = options.view_as(S3Options)
        make_client = functools.partial(
            boto3.session.Session().client,
            "s3",
            region_name=s3_options.s3_region_name,
            api_version=s3_options.s3_api_version,
            use_ssl=not s3_options.s3_disable_ssl,
            verify=s3_options.s3_verify,
            endpoint_url=s3_options.s3_endpoint_url,
            aws_access_key_id=s3_options.s3_access_key_id,
            aws_secret_access_key=s3_options.s3_secret_access_key,
            aws_session_token=s3_options.s3_session_token,
        )
        self._client = make_client(config=Config(max_pool_connections=_CONNECTIONS))
        self._reader = make_client(
            config=Config(
                max_pool_connections=_CONNECTIONS,
                connect_timeout=times.connect_seconds,
                read_timeout=times.read_seconds,
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            )
        )

    def open(self, path: str, generation: str) -> BinaryIO:  # noqa: ARG002
        return cast(BinaryIO, _AmazonReading(self._reader, *s3io.parse_s3_path(path)))

    def upload(self, path: str, stream: BinaryIO) -> None:
        stream.seek(0)
        self._client.upload_fileobj(stream, *s3io.parse_s3_path(path))

    def copy(self, source: str, target: str, generation: str) -> None:  # noqa: ARG002
        bucket, key = s3io.parse_s3_path(source)
        self._client.copy({"Bucket": bucket, "Key": key}, *s3io.parse_s3_path(target))

    def exists(self, path: str) -> bool:
        bucket, key = s3io.parse_s3_path(path)
        try:
            self._reader.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if status_of(error) != 404:
                raise
            return False
        return True

    def versions(self, prefix: str) -> Iterator[Found]:
        bucket, start = s3io.parse_s3_path(prefix, object_optional=True)
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start):
            for found in page.get("Contents", ()):
                written = int(found["LastModified"].timestamp())
                version = f"{written}-{found['ETag'].strip(chr(34))}"
                yield Found(f"s3://{bucket}/{found['Key']}", version, found["Size"])

    def check_bucket(self, path: str) -> None:
        self._reader.head_bucket(Bucket=_bucket(path))


class _AmazonReading(io.RawIOBase):
    """An object of s3://, read from its beginning to its end by one request; if that breaks off, by one more."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client = client
        self._object = {"Bucket": bucket, "Key": key}
        response = client.get_object(**self._object)
        self._etag = response.get("ETag", "")
        self._body = response["Body"]
        self._position = 0
        self._broke_off = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._body.read(None if size < 0 else size)
        except BotoCoreError:
            if self._broke_off:
                raise
            self._broke_off = True
            self._body.close()
            rest = {"Range": f"bytes={self._position}-", "IfMatch": self._etag}
            self._body = self._client.get_object(**self._object, **rest)["Body"]
            data = self._body.read(None if size < 0 else size)
        self._position += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()


class OtherStore:
    """Any other file system of Beam, by the methods that all of them have."""

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

    def versions(self, prefix: str) -> Iterator[Found]:
        # Beam's `match` filters the results of `_list`, and makes a list of all of them; this is an iterator.
        return (
            Found(file.path, f"{file.last_updated_in_seconds}-{file.size_in_bytes}", file.size_in_bytes)
            for file in self._system._list(prefix)
        )

    def check_bucket(self, path: str) -> None:
        """Checks nothing: Beam's file systems have no method for it."""
