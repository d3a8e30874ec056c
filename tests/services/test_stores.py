"""The gate to object stores: what they refuse is told in one way, and what is dear is made once."""

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
from google.cloud import storage

from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import ImageRef, Reason
from tests.services.buckets import Bucket
from transforms.storage import clients, objects, prefetch
from transforms.storage.listing import list_inputs
from transforms.storage.placing import PlaceMode, PlacingError, place_file

pytestmark = pytest.mark.service

only_google = pytest.mark.parametrize("bucket", ["gs"], indirect=True)


@pytest.fixture(autouse=True)
def _options(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a worker has them."""
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    FileSystems.set_options(PipelineOptions(list(bucket.service.flags)))
    yield
    FileSystems.set_options(PipelineOptions([]))


def test_what_is_gone_is_rejected_as_a_file_would_be(bucket: Bucket) -> None:
    with pytest.raises(ImageError) as raised, prefetch.fetched(f"{bucket.uri}/gone", 1 << 30):
        pass
    assert (raised.value.reason, raised.value.detail) == (Reason.NOT_FOUND, os.strerror(2))


@pytest.mark.parametrize("target", ["{b}/to", "{tmp}/to"])
def test_a_source_that_vanished_can_not_be_placed(bucket: Bucket, tmp_path: Path, target: str) -> None:
    path = target.replace("{b}", bucket.uri).replace("{tmp}", str(tmp_path))
    with pytest.raises(PlacingError, match="vanished after it was read"):
        place_file(f"{bucket.uri}/gone", path, hashlib.sha256(b"").digest(), PlaceMode.COPY)
    assert not bucket.files()


def test_a_bucket_that_is_not_there(bucket: Bucket) -> None:
    nowhere = f"{bucket.uri}-nosuch"
    for call in (
        lambda: list(objects.list_objects(f"{nowhere}/")),
        lambda: objects.upload(f"{nowhere}/a", io.BytesIO(b"data")),
        lambda: objects.open_object(f"{nowhere}/a"),
        lambda: objects.check_bucket(f"{nowhere}/a"),
    ):
        with pytest.raises(FileNotFoundError):
            call()


def test_what_no_name_can_be_is_an_error_of_the_system(bucket: Bucket) -> None:
    with pytest.raises(OSError, match="must be in the form"):
        objects.open_object(f"{bucket.uri}/a\nb")
    assert not objects.exists(bucket.uri)
    assert not objects.exists(f"{bucket.uri}/")


def test_objects_of_all_sizes(bucket: Bucket) -> None:
    sizes = [
        0,
        1,
        *(clients.FIRST_REQUEST_BYTES + difference for difference in (-1, 0, 1)),
        18 << 20,
    ]  # several pieces
    for name, data in ((str(size), os.urandom(size)) for size in sizes):
        objects.upload(f"{bucket.uri}/{name}", io.BytesIO(data))
        assert bucket.client.get(name) == data
        with prefetch.fetched(f"{bucket.uri}/{name}", 1 << 30) as path:
            assert Path(path).read_bytes() == data


def test_several_are_read_at_a_time(bucket: Bucket) -> None:
    """Also by turns in one thread: Beam's client of s3:// has room for one."""
    files = {f"{number}": bytes([number]) * 300_000 for number in range(40)}
    bucket.fill(files)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: read(f"{bucket.uri}/{name}"), files)) == list(files.values())
    with objects.open_object(f"{bucket.uri}/1") as one, objects.open_object(f"{bucket.uri}/2") as other:
        for _ in range(3):
            assert (one.read(100_000), other.read(100_000)) == (bytes([1]) * 100_000, bytes([2]) * 100_000)


def test_as_many_connections_stay_open_as_there_are_threads(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    """Or nearly each request would begin with making one, and each would be warned of."""
    files = {f"{number}": bytes([number]) for number in range(200)}
    bucket.fill(files)
    with ThreadPoolExecutor(prefetch.AT_ONCE) as pool:
        references = [ImageRef(f"{bucket.uri}/{name}", name) for name in files]
        for reference, path in prefetch.fetched_in_turn(pool, references, 10):
            assert Path(str(path)).read_bytes() == files[reference.name]
    assert not [said for said in caplog.messages if "pool is full" in said]


@only_google
def test_a_picture_takes_one_request(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.fill({"picture": bytes(100_000)})
    store = objects._store(bucket.uri)
    assert isinstance(store, clients.GoogleStore)
    session = store._io.client._http
    asked = []

    def request(method: str, url: str, *rest: Any, **more: Any) -> Any:
        asked.append(url)  # the client asks for the bucket as well, once, beside this
        return type(session).request(session, method, url, *rest, **more)

    monkeypatch.setattr(session, "request", request)
    assert read(f"{bucket.uri}/picture") == bytes(100_000)
    assert len([url for url in asked if "/o/picture" in url]) == 1, asked


@only_google
def test_an_object_with_an_encoding_is_read_as_it_is(bucket: Bucket) -> None:
    """Its bytes are those of the store, and their digest is that of a copy in the store."""
    data = gzip.compress(b"a picture")
    url = {"api_endpoint": bucket.service.url}
    client = storage.Client("test", AnonymousCredentials(), client_options=url)
    blob = client.bucket(bucket.uri.removeprefix("gs://")).blob("a")
    blob.content_encoding = "gzip"
    blob.upload_from_string(data, "image/jpeg")
    for generation in ("", str(blob.generation)):
        with objects.open_object(f"{bucket.uri}/a", generation) as stream:
            assert stream.read() == data


@only_google
def test_a_store_that_sends_more_than_it_was_asked_for(bucket: Bucket) -> None:
    taking = clients.BoundedBuffer(4)
    taking.write(b"123")
    with pytest.raises(OSError, match="sent more bytes than were requested"):
        taking.write(b"45")


def test_a_process_has_one_client(bucket: Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda number: id(objects._store(f"{bucket.uri}/{number}")), range(50)))
    assert len(made) == 1
    FileSystems.set_options(PipelineOptions(list(bucket.service.flags)))
    assert id(objects._store(bucket.uri)) not in made, "other options are another client"


def test_more_than_a_page_is_listed(bucket: Bucket) -> None:
    names = {f"in/{number:04}" for number in range(1100)}
    bucket.fill(dict.fromkeys(names, b""))
    assert {file.name for file in list_inputs([f"{bucket.uri}/in"])} == {
        name.removeprefix("in/") for name in names
    }


def read(path: str) -> bytes:
    with objects.open_object(path) as stream:
        return stream.read()
