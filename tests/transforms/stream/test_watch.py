"""Files in watched directories arrive once they are complete, and again when they have changed."""

import functools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from apache_beam.io.unbounded_source import CheckpointMark

from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.model import Fingerprint, Flag, ImageRef, Reason, Rejection
from beam_dedup.core.reading.reader import read_images
from tests.pictures import encoded, photo
from transforms.storage.listing import list_inputs
from transforms.stream import watch
from transforms.stream.watch import ScanTimes, Watch, WatchedReader, WatchedSource

LONG_AGO = 1_700_000_000

# No file is old enough to arrive at the first scan.
TIMES = ScanTimes(pause_seconds=0.01, settle_seconds=10**9)


def new_watch(
    *paths: str, exclude: tuple[str, ...] = (), settle_seconds: float = TIMES.settle_seconds
) -> Watch:
    return Watch(paths, exclude, settle_seconds)


def names(watched: Watch) -> list[str]:
    """Scans once. Returns the names of the arrivals."""
    return [arrival.name for arrival in watched.scan()]


def test_file_arrives_when_two_scans_find_it_unchanged(tmp_path: Path) -> None:
    watched = new_watch(str(tmp_path))
    assert names(watched) == []
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    assert names(watched) == []
    path.write_bytes(b"12")
    assert names(watched) == []
    assert names(watched) == ["a.png"]
    assert names(watched) == []


def test_old_file_arrives_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    assert names(new_watch(str(tmp_path), settle_seconds=-1)) == ["a.png"]


def test_changed_file_arrives_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    watched = new_watch(str(tmp_path))
    assert names(watched) == []
    [first] = watched.scan()
    path.write_bytes(b"22")
    assert names(watched) == []
    [second] = watched.scan()
    assert first.uri == second.uri
    assert first.identity != second.identity
    path.unlink()
    assert names(watched) == []


def test_replaced_file_is_not_read_as_its_earlier_generation(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    watched = new_watch(str(tmp_path))
    assert names(watched) == []
    [first] = watched.scan()
    path.write_bytes(encoded(photo(1)))
    assert names(watched) == []
    [second] = watched.scan()
    [gone] = read_images(first.reference(), str(path), None, lambda _: None)
    assert isinstance(gone, Rejection)
    assert gone.reason is Reason.NOT_FOUND
    [there] = read_images(second.reference(), str(path), None, lambda _: None)
    assert isinstance(there, Fingerprint)


def test_another_watch_reports_the_same_generations(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    os.utime(path, (LONG_AGO, LONG_AGO))
    found = []
    for _ in range(2):
        watched = new_watch(str(tmp_path))
        assert names(watched) == []
        found += list(watched.scan())
    assert found[0].identity == found[1].identity


def test_file_that_disappears_during_a_scan_is_no_new_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been judged before. A file that exists and cannot be read arrives, once."""
    for name in ("a.png", "b.png", "c/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "to_nothing.png").symlink_to(tmp_path / "nothing")
    watched = new_watch(str(tmp_path))
    assert names(watched) == ["to_nothing.png"]
    assert names(watched) == ["a.png", "b.png", "c/d.png"]
    listed = list(list_inputs([str(tmp_path)], ()))
    shutil.rmtree(tmp_path / "c")
    (tmp_path / "c").touch()
    (tmp_path / "a.png").unlink()
    monkeypatch.setattr(watch, "list_inputs", lambda *_: listed)
    assert names(watched) == []


def test_links_arrive_after_their_file(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/real.png").write_bytes(b"1")
    (tmp_path / "a.png").symlink_to("b/real.png")
    (tmp_path / "c").symlink_to("b")
    (tmp_path / "z.png").write_bytes(b"2")
    watched = new_watch(str(tmp_path))
    assert names(watched) == []
    assert names(watched) == ["z.png", "b/real.png", "a.png"]


def test_link_waits_for_its_file_to_be_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file changes between the looks at its own path and at the link."""
    (tmp_path / "real.png").write_bytes(b"1")
    (tmp_path / "a.png").symlink_to("real.png")
    state = watch._state_of

    def settled_meanwhile(path: str, settle_ns: int) -> tuple[str, bool] | None:
        return state(path, -1 if path.endswith("a.png") else settle_ns)

    monkeypatch.setattr(watch, "_state_of", settled_meanwhile)
    watched = new_watch(str(tmp_path))
    assert names(watched) == []
    assert names(watched) == ["real.png", "a.png"]


def test_further_hard_links_are_marked(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"1")
    os.link(tmp_path / "b.png", tmp_path / "c.png")
    watched = new_watch(str(tmp_path), settle_seconds=-1)
    assert {arrival.name: arrival.link for arrival in watched.scan()} == {"b.png": False, "c.png": True}
    os.link(tmp_path / "b.png", tmp_path / "a.png")
    [arrival] = watched.scan()
    assert (arrival.name, arrival.link, arrival.reference().link) == ("a.png", True, True)
    assert Arrival.unpacked(arrival.packed()) == arrival
    (tmp_path / "b.png").write_bytes(encoded(photo(1)))
    path = str(tmp_path / "a.png")
    [found] = read_images(ImageRef(path, "a.png", link=True), path, None, lambda _: None)
    assert isinstance(found, Fingerprint)
    assert found.flags == (Flag.LINK,)


def test_renamed_file_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    os.link(tmp_path / "a.png", tmp_path.parent / "elsewhere.png")
    watched = new_watch(str(tmp_path), settle_seconds=-1)
    assert names(watched) == ["a.png"]
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert [arrival.link for arrival in watched.scan()] == [False]


def test_names_start_with_the_directory_and_excluded_files_are_left_out(tmp_path: Path) -> None:
    for folder in ("one", "two", "one/out"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"1")
    watched = new_watch(f"{tmp_path}/one", f"{tmp_path}/two", exclude=(f"{tmp_path}/one/out",))
    assert names(watched) == []
    assert names(watched) == ["one/a.png", "two/a.png"]


def test_reader_returns_what_the_scanner_finds(tmp_path: Path) -> None:
    reader = WatchedSource((str(tmp_path),), times=TIMES).create_reader(None, None)
    assert not reader.start()
    (tmp_path / "a.png").write_bytes(b"1")
    until(reader)
    arrival = Arrival.unpacked(reader.get_current())
    assert arrival.name == "a.png"
    assert abs(float(reader.get_current_timestamp()) - time.time()) < 60
    assert not reader.advance()
    scanner = reader.scanner
    reader.close()
    assert scanner.stopped.is_set()


def test_new_reader_continues_where_the_previous_one_stopped(tmp_path: Path) -> None:
    """It also continues while the first reader is still open; after a rollback it starts again."""
    source = WatchedSource((str(tmp_path),), times=TIMES)
    (tmp_path / "a.png").write_bytes(b"1")
    first = source.create_reader(None, None)
    before = passed_on(source, first)
    until(first)
    after = passed_on(source, first)
    second = source.create_reader(None, after)
    first.close()
    assert not second.start(), "found again"
    (tmp_path / "b.png").write_bytes(b"2")
    until(second)
    assert Arrival.unpacked(second.get_current()).name == "b.png"
    rolled_back = source.create_reader(None, before)
    until(rolled_back)
    assert Arrival.unpacked(rolled_back.get_current()).name == "a.png", (
        "after a rollback the file is found again"
    )
    second.close()
    rolled_back.close()


def passed_on(source: WatchedSource, reader: WatchedReader) -> CheckpointMark:
    """Returns the position of a reader, encoded and decoded as a runner does it."""
    coder = source.get_checkpoint_mark_coder()
    mark: CheckpointMark = coder.decode(coder.encode(reader.get_checkpoint_mark()))
    return mark


def test_time_until_arrivals_are_taken_does_not_delay_the_next_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a manual clock, a scan takes 2 seconds, and hours pass until its arrivals are taken."""
    now = 0.0
    waited: list[float] = []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    class SlowWatch(Watch):
        def scan(self) -> Iterator[Arrival]:
            nonlocal now
            for number in range(4):
                now += 0.5
                yield Arrival(f"{number}")

    class BlockedScanner(watch.Scanner):
        def _give(self, found: Arrival | Exception) -> None:
            nonlocal now
            assert isinstance(found, Arrival), found
            now += 3600

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0)
            self.set()
            return True

    monkeypatch.setattr(watch, "time", Clock)
    monkeypatch.setattr(watch, "Watch", SlowWatch)
    monkeypatch.setattr(watch, "threading", SimpleNamespace(Event=Stop, Thread=_AtOnce))
    BlockedScanner((str(tmp_path),), (), ScanTimes())
    assert waited == [6.0]


class _AtOnce:
    """A thread that does its work within `start`."""

    def __init__(self, target: Callable[..., None], args: tuple[object, ...], **_: object) -> None:
        self.start = functools.partial(target, *args)


def test_error_of_a_scan_is_raised_by_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the bucket is gone")

    monkeypatch.setattr(watch, "list_inputs", fail)
    reader = WatchedSource((str(tmp_path),), times=TIMES).create_reader(None, None)
    with pytest.raises(OSError, match="the bucket is gone"):
        until(reader)


def until(reader: WatchedReader) -> None:
    """Reads until there is an arrival."""
    found = reader.start()
    for _ in range(500):
        if found:
            return
        time.sleep(0.01)
        found = reader.advance()
    pytest.fail("nothing was found")
