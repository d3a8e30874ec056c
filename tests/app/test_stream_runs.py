"""`dedup --watch`, seen from the outside, on folders that are written to while it runs."""

import os
import random
import time
from pathlib import Path

import pytest

from tests import stream_files
from tests.app.cli_runs import tree
from tests.app.stream_process import running_stream
from tests.app.watched_folder import POLL_SECONDS, WatchedDirectory, check, files_in
from tests.pictures import encoded, photo
from tests.verdicts_outside import by_status


def test_each_file_is_judged_when_it_is_whole_and_once(tmp_path: Path) -> None:
    """Files that are there before, arrive at once, are written in pieces, replaced and removed: each generation has one
    record, none of a part of it, and a restart adds none. Ctrl-C exits 130.
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


def test_what_waits_for_its_file_when_a_run_is_told_to_end_is_copied(tmp_path: Path) -> None:
    """Ten seconds it would have to wait, and it is told to end before."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    for name, data in stream_files.files(30, seed=4).items():
        incoming.write(name, data)
    with running_stream(
        tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out, frequent_records=False
    ) as run:
        run.wait_until(run.has_begun)
        time.sleep(2 * POLL_SECONDS)
        assert run.records() == []
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_a_second_run_knows_what_the_first_has_kept(tmp_path: Path) -> None:
    """Also where only a view tells: a new picture in a frame, of one that was kept; and a new one of which a framed one was."""
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
    told = {Path(record["uri"]).name: record for record in run.records() if "/second/" in record["uri"]}
    assert {name: (told[name]["reason"], told[name]["view"]) for name in told} == {
        "equal.png": ("exact", "base"),
        "small.jpg": ("near", "base"),
        "framed.png": ("near", "trim"),
        "framed otherwise.png": ("near", "trim"),
        "unframed 4.jpg": ("near", "trim"),
        "other.png": (None, None),
    }


@pytest.mark.slow
def test_in_random_order_with_restarts(tmp_path: Path) -> None:
    """Files arrive in any order over three runs, each ended while some are on their way: none is lost, or judged twice."""
    rng = random.Random(5)
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    files = list(stream_files.files(240, seed=2).items())
    for third in (files[:80], files[80:160], files[160:]):
        with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
            before = len(run.records())
            for name, data in third:
                incoming.write(name, data)
                time.sleep(rng.random() * 0.02)
            run.wait_until(lambda before=before: len(run.records()) > before)
            assert run.drain() == 130, run.log_tail()
    incoming.write("last.jpg", encoded(photo(78), "JPEG"))
    with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
        run.wait_for(len(incoming.expected))
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
