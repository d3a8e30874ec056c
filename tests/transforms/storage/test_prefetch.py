"""Tests local copies of remote files, in an object store in memory."""

import contextlib
import errno
import io
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from beam_dedup.core.errors import ImageError
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.model import ImageRef, Reason
from tests.core.archives.made_archives import tar, zipped
from tests.transforms.object_store import Store, uri
from tests.waiting import SECONDS
from transforms.storage import prefetch


def test_an_object_is_not_decompressed(store: dict[str, bytes]) -> None:
    store[uri("a.gz")] = b"\x1f\x8b not decompressed"
    with prefetch.fetched(uri("a.gz"), 1000) as path:
        assert Path(path).read_bytes() == store[uri("a.gz")]
    assert not os.path.exists(path)


def test_an_object_larger_than_the_limit_is_rejected(store: dict[str, bytes]) -> None:
    store[uri("a")] = b"0123456789"
    with pytest.raises(ImageError, match="more than 3 bytes") as raised, prefetch.fetched(uri("a"), 3):
        pass
    assert raised.value.reason == Reason.TOO_LARGE
    store[uri("b")] = b"012"
    with prefetch.fetched(uri("b"), 3) as path:
        assert Path(path).read_bytes() == b"012"


def test_an_archive_may_be_larger_than_an_image(store: dict[str, bytes]) -> None:
    store[uri("a.zip")] = zipped({"a": b"0123456789"})
    with prefetch.fetched(uri("a.zip"), 3) as path:
        assert Path(path).read_bytes() == store[uri("a.zip")]
    most = len(store[uri("a.zip")]) - 1
    with (
        pytest.raises(ImageError, match=f"more than {most} bytes"),
        prefetch.fetched(uri("a.zip"), 3, max_archive_bytes=most),
    ):
        pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [(FileNotFoundError("x"), Reason.NOT_FOUND), (beam.io.filesystem.BeamIOError("503"), Reason.UNREADABLE)],
)
def test_an_object_that_the_store_refuses_is_rejected(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, error: OSError, reason: Reason
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(Store, "open", refuse)
    with pytest.raises(ImageError) as raised, prefetch.fetched(uri("a"), 3):
        pass
    assert raised.value.reason == reason
    assert raised.value.detail


class _Trickle(io.BytesIO):
    """A connection that delivers at most 50 bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(50 if size is None or size < 0 else min(size, 50))


def test_short_reads_of_a_store_are_not_the_end(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive is recognised by its first bytes, and may have more bytes than an image."""
    data = store[uri("a.tar")] = tar({"a": b"0123456789"})
    monkeypatch.setattr(Store, "open", lambda *_, **__: _Trickle(data))
    with prefetch.fetched(uri("a.tar"), 3) as path:
        assert Path(path).read_bytes() == data


def test_connection_that_breaks_in_the_middle_makes_the_object_unreadable(
    store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(_Trickle):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 5000:
                raise OSError(errno.EIO, "connection reset")
            return super().read(size)

    store[uri("a")] = bytes(10_000)
    monkeypatch.setattr(Store, "open", lambda *_, **__: Broken(bytes(10_000)))
    with pytest.raises(ImageError) as raised, prefetch.fetched(uri("a"), 1 << 20):
        pass
    assert raised.value.reason == Reason.UNREADABLE


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(prefetch.AT_ONCE) as made:
        yield made


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the directory of the local copies."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def references(*names: str) -> list[ImageRef]:
    return [ImageRef(uri(name), name) for name in names]


def test_each_copy_exists_until_the_next_is_asked_for(
    store: dict[str, bytes], pool: ThreadPoolExecutor, copies: Path
) -> None:
    for number in range(100):
        if number % 7:
            store[uri(f"{number}")] = bytes([number]) * number
    names = [f"{number}" for number in range(100)]
    found: dict[str, bytes | Reason] = {}
    before = ""
    for reference, path in prefetch.fetched_in_turn(pool, references(*names), 90):
        assert not os.path.exists(before)
        if isinstance(path, ImageError):
            found[reference.name] = path.reason
        else:
            found[reference.name] = Path(path).read_bytes()
            before = path
    assert list(found) == names, "in order"
    for number, content in enumerate(found.values()):
        missing = Reason.TOO_LARGE if number > 90 else None
        assert content == (missing or bytes([number]) * number if number % 7 else Reason.NOT_FOUND)
    assert not list(copies.iterdir())


def test_many_objects_are_fetched_at_once(
    store: dict[str, bytes], pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store answers no request before it has received all of them."""
    names = [f"{number}" for number in range(prefetch.AT_ONCE)]
    for name in names:
        store[uri(name)] = name.encode()
    asked = threading.Barrier(len(names))
    opening = Store.open

    def wait(self: Store, path: str, *rest: Any, **more: Any) -> Any:
        asked.wait(SECONDS)
        return opening(self, path, *rest, **more)

    monkeypatch.setattr(Store, "open", wait)
    found = prefetch.fetched_in_turn(pool, references(*names), 100)
    assert [Path(str(path)).read_bytes() for _, path in found] == [name.encode() for name in names]


def test_only_the_beginning_of_later_objects_is_fetched(
    store: dict[str, bytes], pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one of ten archives is on the disk at a time."""
    data = zipped({"a": os.urandom(1 << 16)})
    names = [f"{number}" for number in range(10)]
    for name in names:
        store[uri(name)] = data
    read: Counter[str] = Counter()

    class Counted(io.BytesIO):
        def __init__(self, name: str) -> None:
            super().__init__(data)
            self.name = name

        def read(self, size: int | None = -1) -> bytes:
            chunk = super().read(size)
            read[self.name] += len(chunk)
            return chunk

    most = HEAD_BYTES + 2000
    assert most < len(data)
    monkeypatch.setattr(Store, "open", lambda _, path, *__, **___: Counted(path))
    found = prefetch.fetched_in_turn(pool, references(*names), 10, ahead_bytes=1000, chunk_bytes=1000)
    for number, (reference, path) in enumerate(found):
        assert Path(str(path)).read_bytes() == data
        assert read.pop(reference.uri) == len(data)
        assert all(count < most for count in read.values()), f"after {number}"


def test_copies_are_removed_when_no_more_are_asked_for(
    store: dict[str, bytes], pool: ThreadPoolExecutor, copies: Path
) -> None:
    names = [f"{number}" for number in range(100)]
    for name in names:
        store[uri(name)] = b"data"
    found = prefetch.fetched_in_turn(pool, references(*names), 100)
    next(found)
    assert list(copies.iterdir())
    with contextlib.closing(found):  # as an error in the calling code does
        pass
    pool.shutdown()
    assert not list(copies.iterdir())


def test_only_the_object_that_breaks_off_is_rejected(
    store: dict[str, bytes], pool: ThreadPoolExecutor, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        store[uri(name)] = b"data"
    opening = Store.open

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            chunk = super().read(size)
            if not chunk:
                raise beam.io.filesystem.BeamIOError("reset by peer")
            return chunk

    def broken(self: Store, path: str, *rest: Any, **more: Any) -> Any:
        return Broken(b"data") if path == uri("b") else opening(self, path, *rest, **more)

    monkeypatch.setattr(Store, "open", broken)
    found = [path for _, path in prefetch.fetched_in_turn(pool, references("a", "b", "c"), 100)]
    assert [isinstance(path, ImageError) for path in found] == [False, True, False]
    assert not list(copies.iterdir())
