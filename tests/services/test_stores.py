"""The gate to object stores: what they refuse is told in one way, and what is dear is made once."""

import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Reason
from tests.services.buckets import Bucket
from transforms import storage, stores
from transforms.listing import list_inputs
from transforms.placing import How, PlacingError, place_file

pytestmark = pytest.mark.service


@pytest.fixture(autouse=True)
def _options(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a worker has them."""
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    FileSystems.set_options(PipelineOptions(list(bucket.service.flags)))
    yield
    FileSystems.set_options(PipelineOptions([]))


def test_what_is_gone_is_rejected_as_a_file_would_be(bucket: Bucket) -> None:
    with pytest.raises(ImageError) as raised, storage.fetched(f"{bucket.uri}/gone", 1 << 30):
        pass
    assert (raised.value.reason, raised.value.detail) == (Reason.NOT_FOUND, os.strerror(2))


@pytest.mark.parametrize("target", ["{b}/to", "{tmp}/to"])
def test_a_source_that_vanished_can_not_be_placed(bucket: Bucket, tmp_path: Path, target: str) -> None:
    path = target.replace("{b}", bucket.uri).replace("{tmp}", str(tmp_path))
    with pytest.raises(PlacingError, match="vanished after it was read"):
        place_file(f"{bucket.uri}/gone", path, hashlib.sha256(b"").digest(), How.COPY)
    assert not bucket.files()


def test_a_bucket_that_is_not_there(bucket: Bucket) -> None:
    nowhere = f"{bucket.uri}-nosuch"
    for call in (
        lambda: list(stores.list_objects(f"{nowhere}/")),
        lambda: stores.upload(f"{nowhere}/a", io.BytesIO(b"data")),
        lambda: stores.open_object(f"{nowhere}/a"),
        lambda: stores.check_place(f"{nowhere}/a"),
    ):
        with pytest.raises(FileNotFoundError):
            call()


def test_what_no_name_can_be_is_an_error_of_the_system(bucket: Bucket) -> None:
    with pytest.raises(OSError, match="must be in the form"):
        stores.open_object(f"{bucket.uri}/a\nb")
    assert not stores.exists(bucket.uri)
    assert not stores.exists(f"{bucket.uri}/")


def test_empty_and_large_objects(bucket: Bucket) -> None:
    large = os.urandom(1 << 20) * 18
    for name, data in (("empty", b""), ("large", large)):
        stores.upload(f"{bucket.uri}/{name}", io.BytesIO(data))
        assert bucket.client.get(name) == data
        with storage.fetched(f"{bucket.uri}/{name}", 1 << 30) as path:
            assert Path(path).read_bytes() == data


def test_several_are_read_at_a_time(bucket: Bucket) -> None:
    """Also by turns in one thread: Beam's client of s3:// has room for one."""
    files = {f"{number}": bytes([number]) * 300_000 for number in range(40)}
    bucket.fill(files)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: read(f"{bucket.uri}/{name}"), files)) == list(files.values())
    with stores.open_object(f"{bucket.uri}/1") as one, stores.open_object(f"{bucket.uri}/2") as other:
        for _ in range(3):
            assert (one.read(100_000), other.read(100_000)) == (bytes([1]) * 100_000, bytes([2]) * 100_000)


def test_a_process_has_one_client(bucket: Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda number: id(stores._store(f"{bucket.uri}/{number}")), range(50)))
    assert len(made) == 1
    FileSystems.set_options(PipelineOptions(list(bucket.service.flags)))
    assert id(stores._store(bucket.uri)) not in made, "other options are another client"


def test_more_than_a_page_is_listed(bucket: Bucket) -> None:
    names = {f"in/{number:04}" for number in range(1100)}
    bucket.fill(dict.fromkeys(names, b""))
    assert {file.name for file in list_inputs([f"{bucket.uri}/in"])} == {
        name.removeprefix("in/") for name in names
    }


def read(path: str) -> bytes:
    with stores.open_object(path) as stream:
        return stream.read()
