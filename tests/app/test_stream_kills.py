"""Kills `dedup --watch`, as a failing machine would, and starts it again.

No image may be lost, judged twice or copied twice.
"""

import functools
import itertools
import random
import signal
import time
from pathlib import Path

import pytest

from tests import stream_files
from tests.app.fault_injection import DIE
from tests.app.stream_process import StreamProcess, running_stream
from tests.app.watched_folder import WatchedDirectory, check

pytestmark = pytest.mark.slow

KILLS = 10
FILES = 1200
BEFORE = 40  # files that exist when the first run starts

# When a run is killed: before or after the n-th file with a prefix gets its final name.
DEATHS = (
    "before:1:undelivered-",
    "after:1:records-",
    "before:1:counts-",
    "after:2:counts-",
    "after:7:0",  # copies
    "before:2:records-",
    "before:3:0",
    "before:1:codes-0",
    "after:1:codes-0",
)


@pytest.fixture
def incoming(tmp_path: Path) -> WatchedDirectory:
    return WatchedDirectory(tmp_path / "in")


def test_run_killed_ten_times_at_random_loses_nothing(incoming: WatchedDirectory, tmp_path: Path) -> None:
    """Files arrive meanwhile. In the end each file has one record and each kept image one copy, the output directory has
    no other files, and no two kept images are within k.
    """
    rng = random.Random(11)
    out = tmp_path / "out"
    files = iter({**stream_files.files(FILES, seed=4), **stream_files.hostile()}.items())
    recorded = []

    def feed(seconds: float) -> None:
        """Writes files for some seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name, data in itertools.islice(files, 1):
                incoming.write(name, data)
            time.sleep(rng.random() * 0.1)

    def has_begun_after_feeding(run: StreamProcess) -> bool:
        feed(0.1)
        return run.has_begun()

    def has_more_records(run: StreamProcess, count: int) -> bool:
        feed(0.1)
        return len(run.records()) > count

    for name, data in itertools.islice(files, BEFORE):
        incoming.write(name, data)
    for number in range(KILLS):
        with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
            if number % 3 == 0:
                feed(3 * rng.random())  # perhaps while it starts
            else:
                run.wait_until(functools.partial(has_begun_after_feeding, run))
                if number % 3 == 1:
                    run.wait_until(functools.partial(has_more_records, run, len(run.records())))
                feed(1.5 * rng.random())
            run.kill()
        recorded.append(len(run.records()))
    assert recorded == sorted(recorded)
    assert len(set(recorded)) > KILLS // 3, "too few runs were killed after they had written records"
    for name, data in files:
        incoming.write(name, data)
    with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
        run.wait_for(len(incoming.expected))
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_run_killed_at_each_kind_of_write_loses_nothing(incoming: WatchedDirectory, tmp_path: Path) -> None:
    """The kill comes just before or after a file of state, records or counts, or a copy, gets its final name."""
    out = tmp_path / "out"
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out)
    files = iter(stream_files.files(24 * (len(DEATHS) + 1), seed=6).items())
    late = iter({f"late/{name}": data for name, data in stream_files.files(1000, seed=7).items()}.items())
    for death in (*DEATHS, ""):
        for name, data in itertools.islice(files, 24):
            incoming.write(name, data)
        with running_stream(tmp_path, *arguments, env={DIE: death}) as run:
            if death:
                while run.process.poll() is None:
                    incoming.write(*next(late))
                    time.sleep(0.2)
                assert run.process.returncode == -signal.SIGKILL, run.log_tail()
            else:
                run.wait_for(len(incoming.expected))
                assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
