"""Runs `dedup --watch` on directories that are written to meanwhile, and checks its outputs."""

import os
import random
import time
from pathlib import Path

import pytest

from tests import stream_files
from tests.app.cli_runs import tree
from tests.app.fault_injection import EVERY
from tests.app.stream_process import running_stream
from tests.app.watched_folder import POLL_SECONDS, WatchedDirectory, check, files_in
from tests.pictures import encoded, photo
from tests.verdicts_outside import by_status


def test_each_file_is_judged_once_when_it_is_complete(tmp_path: Path) -> None:
    """Files exist before, appear complete, are written in pieces, replaced and removed. Each generation has one record,
    no record is of an incomplete file, and a restart adds no records. Ctrl-C exits with 130.
    """
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    files = stream_files.files(160)
    names = list(files)
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    for name in names[:40]:
        incoming.write(name, files[name])
    for name, data in stream_files.hostile().items():
        incoming.write(name, data)
    with running_stream(tmp_path, *arguments) as run:
        for name in names[40:100]:
            incoming.write(name, files[name])
            time.sleep(0.01)
        incoming.write_slowly({name: files[name] for name in names[100:140]})
        run.wait_for(len(incoming.expected))
        run.wait_until(lambda: len(files_in(out)) == len(by_status(run.records(), "kept")))
        replaced = names[:10] + names[100:105]
        for name, other in zip(replaced, names[140:], strict=False):
            incoming.write(name, files[other])
        incoming.write_slowly({names[50]: files[names[155]], "slow/big.png": encoded(photo(77, (900, 700)))})
        for name in names[20:30]:
            os.remove(incoming.folder / name)
        run.wait_for(len(incoming.expected))
        time.sleep(2 * POLL_SECONDS)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
    before = run.records(), tree(tmp_path / "records"), tree(out)
    with running_stream(tmp_path, *arguments) as run:
        incoming.write("last.jpg", encoded(photo(78), "JPEG"))
        run.wait_for(len(incoming.expected))
        time.sleep(2 * POLL_SECONDS)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
    assert len(run.records()) == len(before[0]) + 1
    assert before[2].items() < tree(out).items()


def test_stopped_run_records_and_copies_pending_images(tmp_path: Path) -> None:
    """The run is stopped before it writes records."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    for name, data in stream_files.files(30, seed=4).items():
        incoming.write(name, data)
    with running_stream(
        tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out, env={EVERY: "3600"}
    ) as run:
        run.wait_until(run.has_begun)
        time.sleep(2 * POLL_SECONDS)
        assert run.records() == []
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_second_run_compares_with_images_kept_by_the_first(tmp_path: Path) -> None:
    """Also through views: a new framed copy of a kept picture, and a new unframed copy of a kept framed one."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    pictures = [photo(seed, (160, 120)) for seed in range(6)]
    for number, picture in enumerate(pictures):
        framed = stream_files.framed(picture) if number >= 4 else encoded(picture)
        incoming.write(f"first/{number}.png", framed)
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(6)
        assert run.drain() == 130, run.log_tail()
    assert len(by_status(run.records(), "kept")) == 6
    incoming.write("second/equal.png", encoded(pictures[0]))
    incoming.write("second/small.jpg", encoded(pictures[1].resize((96, 72)), "JPEG"))
    incoming.write("second/framed.png", stream_files.framed(pictures[2], "white"))
    incoming.write("second/other.png", encoded(photo(99, (160, 120))))
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(10)
        incoming.write("second/unframed 4.jpg", encoded(pictures[4], "JPEG"))
        incoming.write("second/framed otherwise.png", stream_files.framed(pictures[3], "green"))
        run.wait_for(12)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
    second = {Path(record["uri"]).name: record for record in run.records() if "/second/" in record["uri"]}
    assert {name: (record["reason"], record["view"]) for name, record in second.items()} == {
        "equal.png": ("exact", "base"),
        "small.jpg": ("near", "base"),
        "framed.png": ("near", "trim"),
        "framed otherwise.png": ("near", "trim"),
        "unframed 4.jpg": ("near", "trim"),
        "other.png": (None, None),
    }


def test_protected_image_that_arrives_later_is_kept_too(tmp_path: Path) -> None:
    incoming = WatchedDirectory(tmp_path / "in")
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", tmp_path / "out", "--protect", "safe")
    with running_stream(tmp_path, *arguments) as run:
        for number, name in enumerate(("a.png", "safe/b.png", "c.png"), 1):
            incoming.write(name, encoded(photo(1)))
            run.wait_for(number)
        assert run.drain() == 130, run.log_tail()
    found = {Path(record["uri"]).name: record for record in run.records()}
    assert {name: record["status"] for name, record in found.items()} == {
        "a.png": "kept",
        "b.png": "kept",
        "c.png": "duplicate",
    }
    assert found["b.png"]["flags"] == ["protected"]
    assert Path(found["c.png"]["duplicate_of"]).name == "a.png"
    assert found["c.png"]["kept_by"] == "arrival"


@pytest.mark.slow
def test_protected_images_of_a_window_are_preferred(tmp_path: Path) -> None:
    incoming = WatchedDirectory(tmp_path / "in")
    for name in ("a.png", "safe/b.png", "c.png"):
        incoming.write(name, encoded(photo(1)))
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", tmp_path / "out", "--protect", "safe")
    with running_stream(tmp_path, *arguments, "--window", "3s") as run:
        run.wait_for(3)
        assert run.drain() == 130, run.log_tail()
    found = {Path(record["uri"]).name: record["kept_by"] for record in run.records()}
    assert found == {"a.png": "protected", "b.png": None, "c.png": "protected"}


@pytest.mark.slow
def test_restarts_lose_no_files_that_are_in_flight(tmp_path: Path) -> None:
    """Files arrive in three runs, each of which is stopped while some are in flight. None is lost or judged twice."""
    rng = random.Random(5)
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    files = list(stream_files.files(240, seed=2).items())
    for third in (files[:80], files[80:160], files[160:]):
        with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
            before = len(run.records())
            for name, data in third:
                incoming.write(name, data)
                time.sleep(rng.random() * 0.02)
            run.wait_for(before + 1)
            assert run.drain() == 130, run.log_tail()
    incoming.write("last.jpg", encoded(photo(78), "JPEG"))
    with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
        run.wait_for(len(incoming.expected))
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
