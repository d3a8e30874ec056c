"""Tests the access to object stores: all stores raise the same errors, and clients and connections are reused."""

import gzip
import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import ImageRef, Reason
from beam_dedup.core.reading.selection import Exclusions, Selection
from tests.services.buckets import Bucket
from transforms.storage import clients, objects, prefetch
from transforms.storage.listing import list_inputs
from transforms.storage.placing import PlaceMode, PlacingError, place_file

pytestmark = pytest.mark.service

only_google = pytest.mark.parametrize("bucket", ["gs"], indirect=True)


@pytest.fixture(autouse=True)
def _options(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sets Beam's options and the environment, as on a worker."""
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    FileSystems.set_options(PipelineOptions(list(bucket.service.flags)))
    yield
    FileSystems.set_options(PipelineOptions([]))


def test_missing_object_raises_the_error_of_a_missing_file(bucket: Bucket) -> None:
    with pytest.raises(ImageError) as raised, prefetch.fetched(f"{bucket.uri}/gone", 1 << 30):
        pass
    assert (raised.value.reason, raised.value.detail) == (Reason.NOT_FOUND, os.strerror(2))


@pytest.mark.parametrize("target", ["{b}/to", "{tmp}/to"])
def test_vanished_source_is_not_placed(bucket: Bucket, tmp_path: Path, target: str) -> None:
    path = target.replace("{b}", bucket.uri).replace("{tmp}", str(tmp_path))
    with pytest.raises(PlacingError, match="vanished after it was read"):
        place_file(f"{bucket.uri}/gone", path, hashlib.sha256(b"").digest(), PlaceMode.COPY)
    assert not bucket.files()


def test_missing_bucket_raises_file_not_found(bucket: Bucket) -> None:
    missing = f"{bucket.uri}-nosuch"
    for call in (
        lambda: list(objects.list_objects(f"{missing}/")),
        lambda: objects.upload(f"{missing}/a", io.BytesIO(b"data")),
        lambda: objects.open_object(f"{missing}/a"),
        lambda: objects.check_bucket(f"{missing}/a"),
    ):
        with pytest.raises(FileNotFoundError):
            call()


def test_invalid_name_raises_oserror(bucket: Bucket) -> None:
    with pytest.raises(OSError, match="must be in the form"):
        objects.open_object(f"{bucket.uri}/a\nb")
    assert not objects.exists(bucket.uri)
    assert not objects.exists(f"{bucket.uri}/")


def test_objects_of_all_sizes_are_read_and_written(bucket: Bucket) -> None:
    sizes = [
        0,
        1,
        *(clients.FIRST_REQUEST_BYTES + difference for difference in (-1, 0, 1)),
        18 << 20,  # several parts
    ]
    for name, data in ((str(size), os.urandom(size)) for size in sizes):
        objects.upload(f"{bucket.uri}/{name}", io.BytesIO(data))
        assert bucket.client.get(name) == data
        with prefetch.fetched(f"{bucket.uri}/{name}", 1 << 30) as path:
            assert Path(path).read_bytes() == data


def test_objects_are_read_concurrently(bucket: Bucket) -> None:
    """Also alternately in one thread: Beam's client of s3:// buffers one object only."""
    files = {f"{number}": bytes([number]) * 300_000 for number in range(40)}
    bucket.fill(files)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: read(f"{bucket.uri}/{name}"), files)) == list(files.values())
    with objects.open_object(f"{bucket.uri}/1") as one, objects.open_object(f"{bucket.uri}/2") as other:
        for _ in range(3):
            assert (one.read(100_000), other.read(100_000)) == (bytes([1]) * 100_000, bytes([2]) * 100_000)


def test_connection_pool_is_as_large_as_the_thread_pool(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    """With fewer connections, nearly every request would open one, and each would log a warning."""
    files = {f"{number}": bytes([number]) for number in range(200)}
    bucket.fill(files)
    with ThreadPoolExecutor(prefetch.AT_ONCE) as pool:
        references = [ImageRef(f"{bucket.uri}/{name}", name) for name in files]
        for reference, path in prefetch.fetched_in_turn(pool, references, 10):
            assert Path(str(path)).read_bytes() == files[reference.name]
    assert not [message for message in caplog.messages if "pool is full" in message]


@only_google
def test_small_object_takes_one_request(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.fill({"picture": bytes(100_000)})
    store = objects._store(bucket.uri)
    assert isinstance(store, clients.GoogleStore)
    session = store._io.client._http
    urls = []

    def request(method: str, url: str, *rest: Any, **more: Any) -> Any:
        urls.append(url)  # includes the one request for the bucket that each client makes
        return type(session).request(session, method, url, *rest, **more)

    monkeypatch.setattr(session, "request", request)
    assert read(f"{bucket.uri}/picture") == bytes(100_000)
    assert len([url for url in urls if "/o/picture" in url]) == 1, urls


@only_google
def test_content_encoding_is_not_decoded(bucket: Bucket) -> None:
    """The bytes, and so the digest, are those in the store: a copy within the store has the same."""
    data = gzip.compress(b"a picture")
    url = {"api_endpoint": bucket.service.url}
    client = Client("test", AnonymousCredentials(), client_options=url)
    blob = client.bucket(bucket.uri.removeprefix("gs://")).blob("a")
    blob.content_encoding = "gzip"
    blob.upload_from_string(data, "image/jpeg")
    for generation in ("", str(blob.generation)):
        with objects.open_object(f"{bucket.uri}/a", generation) as stream:
            assert stream.read() == data


@only_google
def test_response_longer_than_the_request_raises_oserror(bucket: Bucket) -> None:
    bounded = clients.BoundedBuffer(4)
    bounded.write(b"123")
    with pytest.raises(OSError, match="sent more bytes than were requested"):
        bounded.write(b"45")


def test_threads_share_one_client_per_options(bucket: Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda number: id(objects._store(f"{bucket.uri}/{number}")), range(50)))
    assert len(made) == 1
    FileSystems.set_options(PipelineOptions(list(bucket.service.flags)))
    assert id(objects._store(bucket.uri)) not in made, "a client of the old options is used"


def test_listing_returns_more_than_one_page(bucket: Bucket) -> None:
    names = {f"in/{number:04}" for number in range(1100)}
    bucket.fill(dict.fromkeys(names, b""))
    assert {file.name for file in list_inputs([f"{bucket.uri}/in"])} == {
        name.removeprefix("in/") for name in names
    }


def test_listing_knows_sizes(bucket: Bucket) -> None:
    """The options that leave objects out look at names and sizes only; nothing is downloaded."""
    bucket.fill({"in/a": b"1", "in/b": b"12", "in/x/c": b"123", "in/@eaDir/d": b"1234"})
    selection, exclusions = Selection(exclude=("/x/",), default_excludes=True, min_bytes=2), Exclusions()
    found = list_inputs([f"{bucket.uri}/in"], selection=selection, exclusions=exclusions)
    assert [file.name for file in found] == ["b"]
    assert exclusions == Exclusions({}, {"@eaDir": 1, "--exclude": 1, "--min_size": 1})
    assert {
        one.path.rpartition("/")[2]: one.size_bytes for one in objects.list_versions(f"{bucket.uri}/in/")
    } == {
        "a": 1,
        "b": 2,
        "c": 3,
        "d": 4,
    }


def read(path: str) -> bytes:
    with objects.open_object(path) as stream:
        return stream.read()
