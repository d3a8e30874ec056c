"""Reading objects of gs:// and s3:// from servers that are silent, unreachable, or break off."""

import contextlib
import errno
import http.server
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, ClassVar

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import ImageRef, Reason
from transforms.storage import objects, prefetch
from transforms.storage.clients import AmazonStore, FetchTimes, GoogleStore

SHORT = FetchTimes(connect_seconds=0.5, read_seconds=0.5, retry_seconds=1.0)
SECONDS = 10.0  # more than a fetch may take with these times, and less than it takes with the defaults
BODY = bytes(range(256)) * 8192

Open = Callable[[str], BinaryIO]  # given the address of a server


@pytest.fixture(params=["gs", "s3"])
def scheme(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    pytest.importorskip({"gs": "google.cloud.storage", "s3": "boto3"}[name])
    return name


def store_at(scheme: str, url: str, monkeypatch: pytest.MonkeyPatch, times: FetchTimes = SHORT) -> Any:
    """Returns a store that reads from a server, and makes `transforms.storage.objects` use it."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    options = PipelineOptions(
        [
            "--no_auth",
            f"--s3_endpoint_url={url}",
            "--s3_access_key_id=a",
            "--s3_secret_access_key=a",
            "--s3_region_name=us-east-1",
            "--s3_disable_ssl",
        ]
    )
    store = (GoogleStore if scheme == "gs" else AmazonStore)(options, times)
    monkeypatch.setattr(objects, "_store", lambda _: store)
    return store


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_silent_store_is_given_up(scheme: str, silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store_at(scheme, silent, monkeypatch)
    began = time.monotonic()
    with pytest.raises(OSError, match=r"\w") as raised:
        objects.open_object(f"{scheme}://bucket/a.jpg")
    assert time.monotonic() - began < SECONDS
    assert raised.value.errno in (errno.EIO, None)


def test_unreachable_store_is_given_up(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    store_at(scheme, url, monkeypatch)
    began = time.monotonic()
    with pytest.raises(OSError, match=r"\w"):
        objects.open_object(f"{scheme}://bucket/a.jpg")
    with pytest.raises(OSError, match=r"\w"):
        objects.check_bucket(f"{scheme}://bucket")
    assert time.monotonic() - began < 2 * SECONDS


def test_many_files_of_a_silent_store_are_waited_for_together(
    scheme: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_at(scheme, silent, monkeypatch)
    references = [ImageRef(f"{scheme}://bucket/{number}.jpg", f"{number}.jpg") for number in range(20)]
    began = time.monotonic()
    with ThreadPoolExecutor(prefetch.AT_ONCE) as pool:
        found = list(prefetch.fetched_in_turn(pool, references, 1000))
    assert time.monotonic() - began < 2 * SECONDS
    assert [reference for reference, _ in found] == references
    for _, error in found:
        assert isinstance(error, ImageError)
        assert error.reason == Reason.UNREADABLE


def test_default_times_add_up_to_less_than_a_minute() -> None:
    """A silent store of s3:// is asked three times; one of gs:// until the time for attempts is over."""
    times = FetchTimes()
    assert 3 * (times.connect_seconds + times.read_seconds) <= 60
    assert times.retry_seconds + times.connect_seconds + times.read_seconds <= 60


class BreakingHandler(http.server.BaseHTTPRequestHandler):
    """Serves BODY for each object; of answers whose numbers are in `breaking`, only the first bytes."""

    breaking: ClassVar[set[int]] = set()
    ranges: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = self.headers.get("Range") or ""
        self.ranges.append(asked)
        match = re.match(r"bytes=(\d+)-(\d*)", asked)
        start, end = (int(match[1]), int(match[2] or len(BODY) - 1)) if match else (0, len(BODY) - 1)
        data = BODY[start : end + 1]
        self.send_response(206 if match else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{len(BODY)}")
        self.send_header("ETag", '"one"')
        self.end_headers()
        is_breaking = len(self.ranges) in self.breaking
        with contextlib.suppress(OSError):
            self.wfile.write(data[: len(data) // 3] if is_breaking else data)
        if is_breaking:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@pytest.fixture
def serving() -> Iterator[str]:
    BreakingHandler.breaking, BreakingHandler.ranges = set(), []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), BreakingHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_object_of_s3_is_read_by_one_request(serving: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store_at("s3", serving, monkeypatch)
    with objects.open_object("s3://bucket/a.jpg") as stream:
        assert stream.read(64) == BODY[:64]
        assert stream.read(1 << 20) == BODY[64 : 64 + (1 << 20)]
        assert stream.read() == BODY[64 + (1 << 20) :]
        assert stream.read(10) == b""
    assert BreakingHandler.ranges == [""]


def test_object_of_s3_that_breaks_off_is_read_on(serving: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store_at("s3", serving, monkeypatch)
    BreakingHandler.breaking = {1}
    read = b""
    with objects.open_object("s3://bucket/a.jpg") as stream:
        while chunk := stream.read(1 << 16):
            read += chunk
    assert read == BODY
    assert len(BreakingHandler.ranges) == 2


def test_object_of_s3_that_breaks_off_twice_is_unreadable(
    serving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_at("s3", serving, monkeypatch)
    BreakingHandler.breaking = {1, 2}
    with pytest.raises(ImageError) as raised, prefetch.fetched("s3://bucket/a.jpg", 1 << 30):
        pass
    assert raised.value.reason == Reason.UNREADABLE
