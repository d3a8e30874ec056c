"""The clients of gs:// and s3://, and of whatever else Beam has a file system for; each with what `transforms.storage.objects` needs."""

import contextlib
import copy
import errno
import io
import shutil
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from apache_beam.io.aws import s3io
from apache_beam.io.aws.clients.s3 import boto3_client
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import CompressionTypes, FileSystem
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, S3Options

_CHUNK_BYTES = 1 << 20
_WHOLE_BYTES = 1 << 22  # of gs://: what comes with one request, and so nearly every picture whole
_PIECE_BYTES = 1 << 23  # of what is larger
_CONNECTIONS = 64  # kept open: more than we have threads, or each of the others' requests would make one

# What clients raise on purpose. ValueError and NotImplementedError: they do not accept a name, or an encoding.
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


class Store(Protocol):
    """What a file system does for us. Errors may be of any class; `transforms.storage.objects` converts them."""

    def open(self, path: str, generation: str) -> BinaryIO: ...

    def upload(self, path: str, stream: BinaryIO) -> None: ...

    def copy(self, source: str, target: str, generation: str) -> None: ...

    def exists(self, path: str) -> bool: ...

    def versions(self, prefix: str) -> Iterator[tuple[str, str]]: ...

    def check_place(self, path: str) -> None: ...


def status_of(error: Exception) -> int:
    """That of the answer which an error came from, or 0."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # Amazon's own errors
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else 0


def _bucket(path: str) -> str:
    return path.split("/")[2]


class GoogleStore:
    """gs://, also without credentials (`--no_auth`), which Beam would look for half a minute."""

    def __init__(self, options: PipelineOptions) -> None:
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
        """By one request where all comes with it; Beam's and Google's readers ask for the size first, or after the end."""
        blob = self._blob(path, generation)
        first = _Bounded(_WHOLE_BYTES)
        with contextlib.suppress(RequestRangeNotSatisfiable):  # it is empty
            blob.download_to_file(first, end=_WHOLE_BYTES - 1, raw_download=True, checksum=None)
        if first.tell() < _WHOLE_BYTES:
            first.seek(0)
            return first
        reader: BinaryIO = blob.open("rb", chunk_size=_PIECE_BYTES, raw_download=True)
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

    def versions(self, prefix: str) -> Iterator[tuple[str, str]]:
        bucket, start = gcsio.parse_gcs_path(prefix, object_optional=True)
        fields = "items(name,generation),nextPageToken"
        found = self._io.client.list_blobs(bucket, prefix=start, fields=fields)
        return ((f"gs://{bucket}/{blob.name}", str(blob.generation)) for blob in found)

    def check_place(self, path: str) -> None:
        self._io.client.get_bucket(_bucket(path))


class _Bounded(io.BytesIO):
    """Takes no more bytes than were asked for, whatever is sent."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._most:
            raise OSError(errno.EIO, "the store sends more than it was asked for")
        return super().write(data)


class AmazonStore:
    """s3://"""

    def __init__(self, options: PipelineOptions) -> None:
        told = options.view_as(S3Options)
        self._client = boto3.session.Session().client(
            "s3",
            region_name=told.s3_region_name,
            api_version=told.s3_api_version,
            use_ssl=not told.s3_disable_ssl,
            verify=told.s3_verify,
            endpoint_url=told.s3_endpoint_url,
            aws_access_key_id=told.s3_access_key_id,
            aws_secret_access_key=told.s3_secret_access_key,
            aws_session_token=told.s3_session_token,
            config=Config(max_pool_connections=_CONNECTIONS),
        )
        self._beams = boto3_client.Client(options=options)
        self._beams.client = self._client  # which has as many connections as we have threads

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
            if status_of(error) != 404:
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


class OtherStore:
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
