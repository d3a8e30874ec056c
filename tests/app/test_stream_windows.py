"""Runs `dedup --watch --window`: each window is a batch of its own, with one file of records."""

import functools
import hashlib
import itertools
import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from beam_dedup.core.archives.members import split_uri
from tests import stream_files, waiting
from tests.app.cli_runs import dedup, tree
from tests.app.fault_injection import DIE
from tests.app.stream_process import StreamProcess, check_counts, running_stream
from tests.app.watched_folder import POLL_SECONDS, WatchedDirectory
from tests.core.archives.made_archives import zipped
from tests.pictures import encoded, photo
from tests.verdicts_outside import Outside, Record, by_status, check_copies, check_each_once

SECONDS = 3
WINDOW = ("--window", f"{SECONDS}s")

# When a run is killed: before or after the n-th file with a prefix gets its final name.
DEATHS = (
    "before:1:undelivered-",
    "before:1:records-",
    "after:1:records-",
    "before:2:counts-",
    "after:2:counts-",
    "after:5:0",  # copies
)


def windows_of(run: StreamProcess) -> dict[str, list[Record]]:
    """Returns the records of each file, and so of each window, by the name of the file."""
    return {
        path.name: [json.loads(line) for line in path.read_bytes().splitlines()]
        for path in sorted((run.folder / "records").glob("records-*"))
    }


def check(run: StreamProcess, incoming: WatchedDirectory, out: Path) -> None:
    """Checks records, verdicts, copies and counts of all runs with the directory of this one."""
    records = run.records()
    check_each_once(records, incoming.expected)
    codes = Outside(incoming.expected.values())
    for name, of_window in windows_of(run).items():
        assert "-window-" in name
        codes.check(of_window)
    check_counts(run.folder)
    # An image that is kept in two windows has two copies.
    kept = Counter(record["digest"] for record in by_status(records, "kept"))
    assert Counter(hashlib.sha256(data).hexdigest() for data in tree(out).values()) == kept
    assert not list(run.folder.rglob(".dedup-*")), "partial files were left"


@pytest.mark.slow
def test_each_window_is_judged_like_a_batch(tmp_path: Path) -> None:
    """Its records equal those of a batch run on the same files, except for the metadata (generation and time), and for the size of
    a group, which a stream does not know.
    """
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    files = list(stream_files.files(90, seed=8).items())
    with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out, *WINDOW) as run:
        for some in (files[:30], list(stream_files.hostile().items()), files[30:60]):
            for name, data in some:
                incoming.write(name, data)
            run.wait_for(len(incoming.expected))
        for name, data in files[:5]:
            incoming.write(f"again/{name}", data)
        for name, data in files[60:]:
            incoming.write(name, data)
        run.wait_for(len(incoming.expected) - 10)
        time.sleep(2 * POLL_SECONDS)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
    found = windows_of(run)
    assert len(found) >= 4
    for number, of_window in enumerate(found.values()):
        batch = tmp_path / f"{number}.jsonl"
        paths = sorted({split_uri(record["uri"])[0] for record in of_window})
        assert dedup("-n", "--quiet", "--records", batch, *(f"-i{path}" for path in paths)) == 0
        unknown = {"metadata": None, "group_size": None}
        wanted = map(json.loads, batch.read_text("utf-8").splitlines())
        assert {record["uri"]: {**record, "metadata": None} for record in of_window} == {
            record["uri"]: {**record, **unknown} for record in wanted
        }


def _has_records(run: StreamProcess, count: int) -> bool:
    return len(run.records()) >= count


@pytest.mark.slow
def test_file_overwritten_within_a_window_is_another_image(tmp_path: Path) -> None:
    """Every second file is replaced by another picture; the others are rewritten with the same bytes."""
    for seconds in (7, 21, 63):  # a slow machine needs longer windows
        folder = tmp_path / f"{seconds}"
        folder.mkdir()
        incoming, out = WatchedDirectory(folder / "in"), folder / "out"
        window = ("--window", f"{seconds}s")
        incoming.write("first.jpg", encoded(photo(99), "JPEG"))
        with running_stream(folder, "-n", "--watch", "-i", incoming.folder, "-d", out, *window) as run:
            run.wait_for(1)
            time.sleep(seconds - time.time() % seconds)
            for again in range(2):
                for number in range(12):
                    seed = number + 100 * again * (number % 2)
                    incoming.write(f"{number}.jpg", encoded(photo(seed), "JPEG"))
                time.sleep(seconds * 2.5 / 7 * POLL_SECONDS)  # both are seen in the window
            waiting.soon(functools.partial(_has_records, run, 25), 2 * seconds + 30)
            assert run.drain() == 130, run.log_tail()
        *_, last = windows_of(run).values()
        if len(run.records()) == 25 and len(last) == 24:
            break
    check_each_once(run.records(), incoming.expected)
    assert len(last) == 24, "the machine is too slow for this test: the files are not in one window"
    Outside(incoming.expected.values()).check(last)
    assert len(by_status(last, "kept")) == 18
    assert len(by_status(last, "duplicate")) == 6
    changed = [f"{incoming.folder}/{number}.jpg" for number in range(1, 12, 2)]
    check_copies(run.records(), tree(out), changed)


@pytest.mark.slow
def test_images_judged_before_a_restart_are_not_in_a_window(tmp_path: Path) -> None:
    """An archive is opened again, to see whether all members were judged. These members don't make new images duplicates."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    members = {f"{seed}.jpg": encoded(photo(seed), "JPEG") for seed in range(3)}
    incoming.write("a.zip", zipped(members))
    incoming.expected = {
        key._replace(uri=f"{incoming.folder}/a.zip!{name}"): data
        for key in incoming.expected
        for name, data in members.items()
    }
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out, *WINDOW)
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(3)
        assert run.drain() == 130, run.log_tail()
    incoming.write("b.jpg", members["1.jpg"])
    with running_stream(tmp_path, *arguments) as run:
        run.wait_for(4)
        time.sleep(SECONDS)
        assert run.drain() == 130, run.log_tail()
    check_each_once(run.records(), incoming.expected)
    assert {record["status"] for record in run.records()} == {"kept"}


@pytest.mark.slow
def test_runs_killed_during_windows_lose_nothing(tmp_path: Path) -> None:
    """Killed at random times and at each kind of write: in the end each file has one record."""
    rng = random.Random(3)
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out, *WINDOW)
    files = iter({**stream_files.files(400, seed=9), **stream_files.hostile()}.items())
    for death in (*DEATHS, "", "", "", "end"):
        for name, data in itertools.islice(files, None if death == "end" else 24):
            incoming.write(name, data)
        with running_stream(tmp_path, *arguments, env={DIE: death if ":" in death else ""}) as run:
            if death == "end":
                run.wait_for(len(incoming.expected))
                assert run.drain() == 130, run.log_tail()
            elif death:
                run.process.wait(waiting.SECONDS)
                assert run.process.returncode == -signal.SIGKILL, run.log_tail()
            else:
                time.sleep(3 + 2 * SECONDS * rng.random())
                run.kill()
    check(run, incoming, out)
