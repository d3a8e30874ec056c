"""Runs on a Prism that the run itself starts: nothing of it remains, however the run ends."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.app import full_disk
from tests.app.cli_runs import COMMAND, ROOT
from tests.services.processes import HOST, answers, free_port
from tests.services.require_service import required
from tests.services.servers import prism_program
from tests.transforms.files import encoded, write
from tests.waiting import SECONDS, soon

pytestmark = [pytest.mark.service, pytest.mark.slow]

# In the environment of every process that a run starts, also of those whose parent has ended.
MARK = "DEDUP_TEST_OF_STARTED_PRISM"


class Run:
    """A run of the command, as a terminal starts it: in a process group of its own."""

    def __init__(self, folder: Path, runner: str, *arguments: object, **environment: str) -> None:
        self.port = free_port()
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        with required(prism_program()) as program:
            flags = [f"--runner={runner}", f"--prism_location={program}", f"--job_port={self.port}"]
        self.process = subprocess.Popen(
            [*COMMAND, *flags, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self.temporary), MARK: str(folder), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=_reset_signals,
        )
        self.mark = str(folder)

    def started(self) -> list[psutil.Process]:
        """Returns all processes that the run has started, and that run."""
        return [
            process
            for process in psutil.process_iter()
            if process.pid != self.process.pid and self._has_mark(process)
        ]

    def _has_mark(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition is true, while the run goes on."""
        assert soon(lambda: condition() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()

    def assert_nothing_remains(self) -> None:
        assert soon(lambda: not self.started()), self.started()
        with socket.socket() as client:
            assert client.connect_ex((HOST, self.port)) != 0, "Prism still takes pipelines"
        assert os.listdir(self.temporary) == []


def _reset_signals() -> None:
    # A shell ignores Ctrl-C for a test run in the background, and its child processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Returns a function that starts a run in `tmp_path`. All that is left of the runs is killed after the test."""
    runs: list[Run] = []

    def started(*arguments: object, runner: str = "PrismRunner", **environment: str) -> Run:
        runs.append(Run(tmp_path, runner, *arguments, **environment))
        return runs[-1]

    yield started
    for run in runs:
        for process in run.started():
            process.kill()
        run.process.kill()
        run.process.communicate()


def pictures(folder: Path, count: int) -> Path:
    for number in range(count):
        write(folder / f"{number}.png", encoded(number))
    return folder


@pytest.mark.parametrize("runner", ["PrismRunner", "DirectRunner"])
def test_nothing_remains_of_a_batch_that_ends_well(
    runner: str, start: Callable[..., Run], tmp_path: Path
) -> None:
    """Beam's DirectRunner starts Prism as well."""
    records = tmp_path / "r.jsonl"
    run = start("-n", "-i", pictures(tmp_path / "in", 3), "-o", "", "--records", records, runner=runner)
    output, _ = run.process.communicate(timeout=SECONDS)
    assert run.process.returncode == 0, output
    assert "Traceback" not in output
    assert len(records.read_text().splitlines()) == 3
    run.assert_nothing_remains()


def test_nothing_remains_of_a_batch_that_fails(start: Callable[..., Run], tmp_path: Path) -> None:
    """The disk is full when the records are written."""
    run = start(
        *("-n", "-i", pictures(tmp_path / "in", 3), "-o", "", "--records", tmp_path / "gone" / "r.jsonl"),
        PYTHONPATH=full_disk.python_path(tmp_path / "site"),
    )
    output, _ = run.process.communicate(timeout=SECONDS)
    assert run.process.returncode == 1, output
    assert "dedup: failed: " in output
    assert "No space left on device" in output
    run.assert_nothing_remains()


def test_nothing_remains_of_a_prism_that_does_not_start(start: Callable[..., Run], tmp_path: Path) -> None:
    flags = ("-o", "", "--prism_location=/bin/false")
    run = start("-n", "-i", pictures(tmp_path / "in", 3), *flags)
    output, _ = run.process.communicate(timeout=SECONDS)
    assert run.process.returncode == 1, output
    assert "Traceback" not in output
    run.assert_nothing_remains()


@pytest.mark.parametrize("to_group", [True, False], ids=["terminal", "kill"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("mode", ["batch", "stream"])
def test_nothing_remains_of_a_run_that_a_signal_ends(
    mode: str, number: signal.Signals, to_group: bool, start: Callable[..., Run], tmp_path: Path
) -> None:
    """A terminal sends signals to all processes of the run, `kill` to one."""
    folder = pictures(tmp_path / "in", 300)
    outputs = (
        ("--watch", "--records", tmp_path / "records/")
        if mode == "stream"
        else ("-o", "", "--records", tmp_path / "r")
    )
    run = start("-n", "-i", folder, *outputs)
    run.wait_for(lambda: answers(run.port))
    (os.killpg if to_group else os.kill)(run.process.pid, number)
    output, _ = run.process.communicate(timeout=SECONDS)
    assert run.process.returncode == 128 + number, output
    assert "interrupted" in output
    assert "Traceback" not in output
    run.assert_nothing_remains()


def test_nothing_remains_of_a_stream_that_is_interrupted_again_and_again(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    run = start("-n", "-i", pictures(tmp_path / "in", 300), "--watch", "--records", tmp_path / "records/")
    run.wait_for(lambda: answers(run.port))

    def interrupt() -> bool:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGINT)
        return run.process.poll() is not None

    assert soon(interrupt, pause=0.3)
    output, _ = run.process.communicate(timeout=SECONDS)
    assert run.process.returncode == 130, output
    assert "Traceback" not in output
    run.assert_nothing_remains()
