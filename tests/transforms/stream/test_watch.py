"""Files in watched directories arrive once they are complete, and again when they have changed."""

import errno
import fcntl
import functools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from apache_beam.io.unbounded_source import CheckpointMark

from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.completeness import is_open_for_writing
from beam_dedup.core.model import Fingerprint, Flag, ImageRef, Reason, Rejection
from beam_dedup.core.reading.reader import read_images
from tests.core.archives.made_archives import zipped
from tests.pictures import encoded, photo
from transforms.storage.listing import list_inputs
from transforms.stream import watch
from transforms.stream.watch import ScanTimes, Watch, WatchedReader, WatchedSource

PNG, JPEG, GIF, WEBP = (encoded(photo(), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP"))
AVIF, BMP = (encoded(photo(), kind) for kind in ("AVIF", "BMP"))
TIFF = (
    b"II*\0" + (150).to_bytes(4, "little") + bytes(192)
)  # as many programs write it: the directory comes last
# With a thumbnail, which is a whole JPEG in a segment.
CAMERA = JPEG[:2] + b"\xff\xe1" + (len(JPEG) + 2).to_bytes(2, "big") + JPEG + JPEG[2:]
LONG_AGO = 1_700_000_000

# Files of this age are complete for a reader.
TIMES = ScanTimes(pause_seconds=0.01, quiet_seconds=0.05)
QUIET_SECONDS = 10.0


class WatchByHand(Watch):
    """A watch by a manual clock. More than the quiet time passes between two scans, unless `step` is changed."""

    def __init__(
        self, *paths: str, exclude: tuple[str, ...] = (), quiet_seconds: float = QUIET_SECONDS
    ) -> None:
        self.now, self.step = 0.0, QUIET_SECONDS + 1
        super().__init__(paths, exclude, ScanTimes(quiet_seconds=quiet_seconds), lambda: self.now)

    def scan(self) -> Iterator[Arrival]:
        yield from super().scan()
        self.now += self.step


def names(watched: Watch) -> list[str]:
    """Scans once. Returns the names of the arrivals."""
    return [arrival.name for arrival in watched.scan()]


def test_file_arrives_when_it_was_unchanged_for_the_quiet_time(tmp_path: Path) -> None:
    watched = WatchByHand(str(tmp_path))
    assert names(watched) == []
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    assert names(watched) == []
    path.write_bytes(b"12")
    assert names(watched) == []
    assert names(watched) == ["a.png"]
    assert names(watched) == []


def test_file_that_is_written_with_pauses_arrives_once(tmp_path: Path) -> None:
    """Many scans find it unchanged while its writer pauses for less than the quiet time."""
    path = tmp_path / "a.txt"
    watched = WatchByHand(str(tmp_path))
    watched.step = 1.0
    for size in range(1, 5):
        path.write_bytes(b"1" * size)
        for _ in range(int(QUIET_SECONDS)):
            assert names(watched) == []
    assert [names(watched) for _ in range(3)] == [[], ["a.txt"], []]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *((name, PNG) for name in ("a.png.part", ".a.png.Xy12Ab", "a.crdownload", "a.png.filepart", "x.TMP")),
        *((name, PNG) for name in ("a.partial", ".~tmp~/a.png", ".dedup-1-a.part", "a.png.download/a.png")),
        ("empty.jpg", b""),
        ("cut.png", PNG[:-8]),
        ("cut.jpg", JPEG[: len(JPEG) * 97 // 100]),
        ("camera.jpg", CAMERA[: len(CAMERA) // 2]),
        ("head.jpg", CAMERA[:9000]),
        ("cut.avif", AVIF[:-1]),
        ("cut.bmp", BMP[:-1]),
        ("cut.tif", TIFF[: len(TIFF) // 2]),
        ("cut.gif", GIF[:-1]),
        ("cut.webp", WEBP[:-1]),
        ("cut.zip", zipped({"a": b"a"})[:-22]),
    ],
)
def test_file_that_looks_incomplete_waits_longer(name: str, data: bytes, tmp_path: Path) -> None:
    """It arrives in the end: nothing is left out for good."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    watched = WatchByHand(str(tmp_path))
    found = [names(watched) for _ in range(60)]
    assert found[int(watch.PATIENCE * QUIET_SECONDS / watched.step) + 1] == [name]
    assert sum(map(len, found)) == 1
    old = WatchByHand(str(tmp_path), quiet_seconds=-1)
    assert names(old) == [name]


@pytest.mark.parametrize(
    "data",
    [
        PNG,
        JPEG,
        GIF,
        WEBP,
        CAMERA,
        AVIF,
        BMP,
        TIFF,
        zipped({"a": b"a"}),
        b"text",
        JPEG + bytes(1000),
        AVIF[:4] + b"ftyp" + bytes(100),
        b"\xff\xd8\xff\xe0\x00\x02 no segment \xff\xd9",
    ],
)
def test_whole_file_waits_for_the_quiet_time_only(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(data)
    watched = WatchByHand(str(tmp_path))
    assert [names(watched) for _ in range(3)] == [[], ["a"], []]


def test_file_that_is_open_for_writing_waits_until_it_is_closed(tmp_path: Path) -> None:
    """Or longer than others, if it is never closed. Readers do not matter."""
    if not hasattr(fcntl, "F_SETLEASE"):
        pytest.skip("needs Linux")
    (tmp_path / "open.txt").write_bytes(b"1")
    (tmp_path / "read.txt").write_bytes(b"1")
    watched = WatchByHand(str(tmp_path))
    with (tmp_path / "a.txt").open("wb") as file, (tmp_path / "open.txt").open("ab"):
        file.write(b"1")
        file.flush()
        with (tmp_path / "read.txt").open("rb"):
            assert [names(watched) for _ in range(3)] == [[], ["read.txt"], []]
        file.close()
        assert names(watched) == ["a.txt"]
        assert [name for _ in range(60) for name in names(watched)] == ["open.txt"]


@pytest.mark.parametrize("error", [PermissionError(), OSError(errno.EINVAL, "no leases")])
def test_open_writers_are_ignored_where_the_system_cannot_tell(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise error

    monkeypatch.setattr(fcntl, "fcntl", refused)
    watched = WatchByHand(str(tmp_path))
    with (tmp_path / "a.txt").open("wb") as file:
        file.write(b"1")
        file.flush()
        assert [names(watched) for _ in range(2)] == [[], ["a.txt"]]


def test_program_that_opens_a_file_while_it_is_asked_for_writers_is_not_disturbed(tmp_path: Path) -> None:
    """Neither side gets an error or a signal that ends it."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"1")
    code = f"for _ in range(20000): open({str(path)!r}, 'ab').close()"
    with subprocess.Popen([sys.executable, "-c", code]) as writer, path.open("rb") as stream:
        found = set()
        while writer.poll() is None:
            found.add(is_open_for_writing(stream))
    assert writer.returncode == 0
    assert False in found


def test_file_that_gets_its_final_name_arrives_under_that_name_only(tmp_path: Path) -> None:
    partial = tmp_path / ".a.png.Xy12Ab"
    partial.write_bytes(PNG)
    watched = WatchByHand(str(tmp_path))
    assert [names(watched) for _ in range(3)] == [[], [], []]
    partial.rename(tmp_path / "a.png")
    assert [names(watched) for _ in range(3)] == [[], ["a.png"], []]


def test_other_file_of_the_same_size_and_time_starts_the_quiet_time_again(tmp_path: Path) -> None:
    path, other = tmp_path / "a.txt", tmp_path.parent / "other"
    path.write_bytes(b"1")
    watched = WatchByHand(str(tmp_path))
    assert names(watched) == []
    other.write_bytes(b"2")
    shutil.copystat(path, other)
    other.rename(path)
    assert [names(watched) for _ in range(2)] == [[], ["a.txt"]]


def test_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    watched = WatchByHand(str(tmp_path))
    assert [names(watched) for _ in range(2)] == [[], ["a.jpg"]]


def test_old_file_arrives_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    assert names(WatchByHand(str(tmp_path), quiet_seconds=-1)) == ["a.png"]


def test_changed_file_arrives_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    watched = WatchByHand(str(tmp_path))
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
    watched = WatchByHand(str(tmp_path))
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
        watched = WatchByHand(str(tmp_path))
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
    watched = WatchByHand(str(tmp_path))
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
    watched = WatchByHand(str(tmp_path))
    assert names(watched) == []
    assert names(watched) == ["z.png", "b/real.png", "a.png"]


def test_link_waits_for_its_file_to_be_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file changes between the looks at its own path and at the link."""
    (tmp_path / "real.png").write_bytes(b"1")
    (tmp_path / "a.png").symlink_to("real.png")
    state_of = watch._state_of

    def settled_meanwhile(path: str) -> watch._State | None:
        state = state_of(path)
        return state._replace(changed_ns=1) if state and path.endswith("a.png") else state

    monkeypatch.setattr(watch, "_state_of", settled_meanwhile)
    watched = WatchByHand(str(tmp_path))
    assert names(watched) == []
    assert names(watched) == ["real.png", "a.png"]


def test_further_hard_links_are_marked(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"1")
    os.link(tmp_path / "b.png", tmp_path / "c.png")
    watched = WatchByHand(str(tmp_path), quiet_seconds=-1)
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
    watched = WatchByHand(str(tmp_path), quiet_seconds=-1)
    assert names(watched) == ["a.png"]
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert [arrival.link for arrival in watched.scan()] == [False]


def test_names_start_with_the_directory_and_excluded_files_are_left_out(tmp_path: Path) -> None:
    for folder in ("one", "two", "one/out"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"1")
    watched = WatchByHand(f"{tmp_path}/one", f"{tmp_path}/two", exclude=(f"{tmp_path}/one/out",))
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
