"""What befalls `dedup --watch` in the hands of its users: nothing is lost, nothing is judged twice, and it says what is wrong."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from beam_dedup.core.model import Reason
from beam_dedup.options import checks, parser
from beam_dedup.stream import run as stream_run
from tests.app.cli_runs import COMMAND, ROOT, dedup_apart, tree
from tests.app.fault_injection import BACK, DIE, MOST
from tests.app.stream_process import records_below, running_stream
from tests.app.watched_folder import POLL_SECONDS, WatchedDirectory, check
from tests.core.archives.made_archives import zipped
from tests.pictures import encoded, photo
from tests.verdicts_outside import by_status, key_of
from transforms.storage.listing import list_inputs

pytestmark = pytest.mark.slow


def test_copies_that_found_no_room_are_made_when_there_is_some(tmp_path: Path) -> None:
    """The run ends, and says where there was none."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    for seed in range(3):
        incoming.write(f"{seed}.png", encoded(photo(seed, (500, 400))))
    with running_stream(tmp_path, *arguments, env={MOST: "20000"}) as run:
        assert run.process.wait(60) == 1, run.log_tail()
    assert run.records()
    told = run.log_tail().strip()
    assert told.count("\n") == 0
    assert told.startswith("dedup: failed: ")
    assert "File too large: " in told
    assert str(out) in told
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(3)
        run.wait_until(lambda: len(tree(out)) == 3)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_records_that_found_no_room_are_written_when_there_is_some(tmp_path: Path) -> None:
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    for seed in range(12):
        incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
    with running_stream(tmp_path, *arguments, env={MOST: "3000"}) as run:
        assert run.process.wait(60) == 1, run.log_tail()
    assert run.records() == []
    assert "File too large: " in run.log_tail()
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(12)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_two_runs_on_one_folder_of_records(tmp_path: Path) -> None:
    """The second is refused, with one sentence; when the first was killed it begins."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    incoming.write("a.jpg", encoded(photo(1), "JPEG"))
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(1)
        second = dedup_apart(*arguments, "--records", tmp_path / "records")
        assert second.returncode == 2
        assert (
            second.stdout,
            second.stderr.count("another run writes to"),
            "Traceback" in second.stderr,
        ) == (
            "",
            1,
            False,
        )
        assert run.process.poll() is None
        run.kill()
    with running_stream(tmp_path, *arguments) as run:
        incoming.write("b.jpg", encoded(photo(2), "JPEG"))
        run.wait_for(2)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_a_folder_that_is_removed_and_comes_back(tmp_path: Path) -> None:
    """It is told that it was gone, once; what is in it later is judged."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    incoming.write("a.jpg", encoded(photo(1), "JPEG"))
    with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
        run.wait_for(1)
        for seed in (2, 3):
            run.wait_until(lambda seed=seed: len(tree(out)) == seed - 1, what="copies")
            shutil.rmtree(incoming.folder)
            time.sleep(2.5 * POLL_SECONDS)
            incoming.folder.mkdir()
            incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
            run.wait_for(1 + seed)
        run.wait_until(lambda: len(tree(out)) == 3, what="copies")
        assert run.drain() == 130, run.log_tail()
    (gone,) = by_status(run.records(), "rejected")
    assert (gone["uri"], gone["reason"]) == (str(incoming.folder), Reason.NOT_FOUND)
    assert {key_of(record) for record in by_status(run.records(), "kept")} == set(incoming.expected)
    assert sorted(tree(out)) == ["2.jpg", "3.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("deleted", "a.jpg vanished after it was read"),
        ("replaced", "a.jpg changed after it was read"),
        ("touched", ""),
    ],
)
def test_what_changed_before_it_was_copied(change: str, told: str, tmp_path: Path) -> None:
    """It is told at the end; what replaced it is another image."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    incoming.write("a.jpg", encoded(photo(1), "JPEG"))
    with running_stream(tmp_path, *arguments, env={DIE: "after:1:records-"}) as run:
        run.process.wait(60)
    assert len(run.records()) == 1
    if change == "deleted":
        (incoming.folder / "a.jpg").unlink()
    elif change == "replaced":
        incoming.write("a.jpg", encoded(photo(2), "JPEG"))
    else:
        os.utime(incoming.folder / "a.jpg")
        incoming.expect("a.jpg")
    incoming.write("b.jpg", encoded(photo(3), "JPEG"))
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(len(incoming.expected))
        assert run.drain() == 130, run.log_tail()
    assert ("1 image could not be placed" in run.log_tail()) == bool(told)
    assert told in run.log_tail()
    assert {key_of(record) for record in run.records()} == set(incoming.expected)
    assert tree(out) == {path.name: path.read_bytes() for path in incoming.folder.iterdir()}


def test_times_of_files_have_no_say(tmp_path: Path) -> None:
    """Of the future, of before there were any, and of one that has just been written."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    now = time.time()
    for seed, when in enumerate((now + 1e8, 0, -1e8, now - 10)):
        incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
        os.utime(incoming.folder / f"{seed}.jpg", (when, when))
        incoming.expected.popitem()
        incoming.expect(f"{seed}.jpg")
    for _ in range(2):
        with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
            run.wait_until((run.folder / "records/.state/processes").exists)
            run.wait_for(4)
            time.sleep(3 * POLL_SECONDS)
            assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


@pytest.mark.parametrize("arguments", [(), ("--window", "3s")])
def test_the_clock_is_set_back(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """By an hour: what arrives then is judged as soon as ever."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    back = tmp_path / "back"
    for seed in range(2):
        incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
    told = ("-n", "--watch", "-i", incoming.folder, "-d", out, *arguments)
    with running_stream(tmp_path, *told, env={BACK: str(back)}) as run:
        run.wait_for(2)
        back.touch()
        for seed in (2, 3):
            incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
            run.wait_for(seed + 1, 20)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_an_archive_that_is_replaced(tmp_path: Path) -> None:
    """Of two members of one name the second is copied under another, as it is with files."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    first, second, both = (encoded(photo(seed), "JPEG") for seed in range(3))
    archive = incoming.folder / "a.zip"
    with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
        for members in ({"x.jpg": first, "y.jpg": both}, {"x.jpg": second, "y.jpg": both}):
            partial = tmp_path / "partial"
            partial.write_bytes(zipped(members))
            partial.rename(archive)
            before = len(run.records())
            run.wait_for(before + 2)
            run.wait_until(lambda: len(tree(out)) == len(by_status(run.records(), "kept")))
        assert run.drain() == 130, run.log_tail()
    assert "could not be placed" not in run.log_tail()
    (name,) = set(tree(out)) - {"a.zip/x.jpg", "a.zip/y.jpg"}
    assert name.startswith("a.zip/x~")
    assert tree(out) == {"a.zip/x.jpg": first, "a.zip/y.jpg": both, name: second}


def test_state_within_the_watched_folder_is_no_input(tmp_path: Path) -> None:
    """All that is written lies in it; else each file that tells of another would have to be told of."""
    incoming = WatchedDirectory(tmp_path / "in")
    for seed in range(3):
        incoming.write(f"{seed}.jpg", encoded(photo(seed), "JPEG"))
    with running_stream(
        incoming.folder, "-n", "--watch", "-i", incoming.folder, "-d", incoming.folder / "out"
    ) as run:
        run.wait_for(3)
        time.sleep(4 * POLL_SECONDS)
        assert run.drain() == 130
    uris = {Path(record["uri"]).name for record in records_below(incoming.folder)}
    assert uris - {"log"} == {"0.jpg", "1.jpg", "2.jpg"}


def test_state_of_records_elsewhere_is_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies in the current folder, which may be the one that is watched."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--watch", "-i", ".", "--records", "gs://bucket/records"]
    config = checks.configure(parser.parse(arguments)[0])
    source = stream_run._source(config, stream_run._state_folder(config))
    Path("a.jpg").write_bytes(b"")
    Path("image_records.state/codes-1.blocks").write_bytes(b"")
    assert [file.path for file in list_inputs(source.paths, source.exclude)] == ["./a.jpg"]


def test_without_standard_streams(tmp_path: Path) -> None:
    """As some who start services do: what is opened instead must not be taken for them."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    incoming.write("a.jpg", encoded(photo(1), "JPEG"))
    arguments = [
        "-n",
        "--watch",
        "-i",
        str(incoming.folder),
        "-d",
        str(out),
        "--records",
        str(tmp_path / "records"),
    ]
    script = 'exec "$@" <&- >&- 2>&-'
    process = subprocess.Popen(["sh", "-c", script, "sh", *COMMAND, *arguments], cwd=ROOT)
    try:
        until = time.monotonic() + 60
        while not tree(out):
            assert process.poll() is None, process.returncode
            assert time.monotonic() < until
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 143
    finally:
        process.kill()
        process.wait()
    assert len(records_below(tmp_path)) == 1
