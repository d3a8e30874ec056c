"""`dedup --watch` is killed, as a machine dies, and started again: nothing is lost, and nothing is judged or copied twice."""

import itertools
import random
import signal
import time
from pathlib import Path

import pytest

from tests import stream_files
from tests.app.fault_injection import DIE
from tests.app.stream_process import running_stream
from tests.app.watched_folder import WatchedDirectory, check

pytestmark = pytest.mark.slow

KILLS = 10
FILES = 1200
BEFORE = 40  # files that are there when the first run begins

# Where a run dies: what it was about to write, or had just written.
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


def test_killed_ten_times(incoming: WatchedDirectory, tmp_path: Path) -> None:
    """At random times while files arrive: in the end each file has one record, each kept one its copy, and nothing else is
    in the output folder; no two kept ones are within k.
    """
    rng = random.Random(11)
    out = tmp_path / "out"
    files = iter({**stream_files.files(FILES, seed=4), **stream_files.hostile()}.items())
    recorded = []

    def feed(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name, data in itertools.islice(files, 1):
                incoming.write(name, data)
            time.sleep(rng.random() * 0.1)

    for name, data in itertools.islice(files, BEFORE):
        incoming.write(name, data)
    for number in range(KILLS):
        with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
            if number % 3 == 0:
                feed(3 * rng.random())  # while it starts, perhaps
            else:
                run.wait_until(lambda run=run: feed(0.1) or run.has_begun())
                feed(1.5 * rng.random())
            run.kill()
        recorded.append(len(run.records()))
    assert recorded == sorted(recorded)
    assert len(set(recorded)) > KILLS // 3, "some were killed in the midst of it"
    for name, data in files:
        incoming.write(name, data)
    with running_stream(tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out) as run:
        run.wait_for(len(incoming.expected))
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_killed_wherever_something_is_written(incoming: WatchedDirectory, tmp_path: Path) -> None:
    """The same, by the file that was about to get its name or had just got it: state, records, counts and copies."""
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
