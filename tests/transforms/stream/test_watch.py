"""What appears in folders: each file once, not before it is complete, and anew when it has changed."""

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
from beam_dedup.core.model import Fingerprint, Reason, Rejection
from beam_dedup.core.reading.reader import read_images
from tests.pictures import encoded, photo
from transforms.stream import watch
from transforms.stream.watch import Watch, WatchedReader, WatchedSource

LONG_AGO = 1_700_000_000


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of change can't be set: no file counts as old."""
    monkeypatch.setattr(watch, "_STILL_NS", 10**18)


def names(found: Watch) -> list[str]:
    return [arrival.name for arrival in found.look()]


def test_a_file_arrives_when_two_looks_have_found_the_same(tmp_path: Path) -> None:
    seen = Watch((str(tmp_path),), ())
    assert names(seen) == []
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    assert names(seen) == []
    path.write_bytes(b"12")
    assert names(seen) == []
    assert names(seen) == ["a.png"]
    assert names(seen) == []


def test_an_old_file_arrives_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    monkeypatch.setattr(watch, "_STILL_NS", -1)
    assert names(Watch((str(tmp_path),), ())) == ["a.png"]


def test_a_file_that_has_changed_arrives_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    seen = Watch((str(tmp_path),), ())
    assert names(seen) == []
    [first] = seen.look()
    path.write_bytes(b"22")
    assert names(seen) == []
    [second] = seen.look()
    assert first.uri == second.uri
    assert first.identity != second.identity
    path.unlink()
    assert names(seen) == []


def test_what_was_replaced_before_it_is_read_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    seen = Watch((str(tmp_path),), ())
    assert names(seen) == []
    [first] = seen.look()
    path.write_bytes(encoded(photo(1)))
    assert names(seen) == []
    [second] = seen.look()
    [gone] = read_images(first.reference(), str(path), None, lambda _: None)
    assert isinstance(gone, Rejection)
    assert gone.reason is Reason.NOT_FOUND
    [there] = read_images(second.reference(), str(path), None, lambda _: None)
    assert isinstance(there, Fingerprint)


def test_generations_are_the_same_for_another_watch(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    os.utime(path, (LONG_AGO, LONG_AGO))
    found = []
    for _ in range(2):
        seen = Watch((str(tmp_path),), ())
        assert names(seen) == []
        found += list(seen.look())
    assert found[0].identity == found[1].identity


def test_what_goes_while_it_is_looked_for_is_no_new_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been judged before. Of what is there and can't be read it is told, once."""
    for name in ("a.png", "b.png", "c/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "to_nothing.png").symlink_to(tmp_path / "nothing")
    seen = Watch((str(tmp_path),), ())
    assert names(seen) == ["to_nothing.png"]
    assert names(seen) == ["a.png", "b.png", "c/d.png"]
    listed = list(watch.list_inputs([str(tmp_path)], ()))
    shutil.rmtree(tmp_path / "c")
    (tmp_path / "c").touch()
    (tmp_path / "a.png").unlink()
    monkeypatch.setattr(watch, "list_inputs", lambda *_: listed)
    assert names(seen) == []


def test_names_and_what_is_left_out(tmp_path: Path) -> None:
    for folder in ("one", "two", "one/out"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"1")
    seen = Watch((f"{tmp_path}/one", f"{tmp_path}/two"), (f"{tmp_path}/one/out",))
    assert names(seen) == []
    assert names(seen) == ["one/a.png", "two/a.png"]


def test_a_reader_gives_what_a_thread_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.01)
    reader = WatchedSource((str(tmp_path),)).create_reader(None, None)
    assert not reader.start()
    (tmp_path / "a.png").write_bytes(b"1")
    until(reader)
    arrival = Arrival.unpacked(reader.get_current())
    assert arrival.name == "a.png"
    assert abs(float(reader.get_current_timestamp()) - time.time()) < 60
    assert not reader.advance()
    finder = reader._finder
    reader.close()
    assert finder._stop.is_set()


def test_a_reader_goes_on_where_the_one_before_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while that one is kept open; but from the beginning if the engine has gone back."""
    monkeypatch.setattr(watch, "_LOOK_SECONDS", 0.01)
    source = WatchedSource((str(tmp_path),))
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
    gone_back = source.create_reader(None, before)
    until(gone_back)
    assert Arrival.unpacked(gone_back.get_current()).name == "a.png", "what was rolled back is found again"
    second.close()
    gone_back.close()


def passed_on(source: WatchedSource, reader: WatchedReader) -> CheckpointMark:
    """A position, as an engine keeps it."""
    coder = source.get_checkpoint_mark_coder()
    mark: CheckpointMark = coder.decode(coder.encode(reader.get_checkpoint_mark()))
    return mark


def test_the_next_look_does_not_wait_for_what_is_done_with_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes 2 seconds, by a clock that is set by hand, and hours pass until its arrivals are taken."""
    now = 0.0
    waited: list[float] = []

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    class Looks(Watch):
        def look(self) -> Iterator[Arrival]:
            nonlocal now
            for number in range(4):
                now += 0.5
                yield Arrival(f"{number}")

    class Finder(watch._Finder):
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
    monkeypatch.setattr(watch, "Watch", Looks)
    monkeypatch.setattr(watch, "threading", SimpleNamespace(Event=Stop, Thread=_AtOnce))
    Finder((str(tmp_path),), ())
    assert waited == [6.0]


class _AtOnce:
    """A thread that does its work when it is started."""

    def __init__(self, target: Callable[..., None], args: tuple[object, ...], **_: object) -> None:
        self.start = functools.partial(target, *args)


def test_a_look_that_fails_is_told_where_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the bucket is gone")

    monkeypatch.setattr(watch, "list_inputs", fail)
    reader = WatchedSource((str(tmp_path),)).create_reader(None, None)
    with pytest.raises(OSError, match="the bucket is gone"):
        until(reader)


def until(reader: WatchedReader) -> None:
    found = reader.start()
    for _ in range(500):
        if found:
            return
        time.sleep(0.01)
        found = reader.advance()
    pytest.fail("nothing was found")
