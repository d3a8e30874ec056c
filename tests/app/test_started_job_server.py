"""Checks that the job servers which Beam starts for a run end with it, however it ends."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from apache_beam.runners.portability.job_server import JobServer, StopOnExitJobServer
from apache_beam.runners.portability.portable_runner import PortableRunner

from beam_dedup.core.errors import DEBUG_VARIABLE
from beam_dedup.runners import select
from beam_dedup.runners.job_server import stopping_job_server
from tests.app.cli_runs import ROOT
from tests.waiting import SECONDS, soon


class Server(JobServer):
    stopped = 0

    def start(self) -> Any:
        return None

    def stop(self) -> None:
        self.stopped += 1


class Runner(PortableRunner):
    """Starts a server, as Prism's runner does."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()

    def default_job_server(self, options: object) -> JobServer:  # noqa: ARG002
        return StopOnExitJobServer(self.server)


def submit(runner: PortableRunner, *flags: str) -> None:
    runner.create_job_service(select.beam_options(flags))


def fail(runner: PortableRunner) -> None:
    with stopping_job_server():
        submit(runner)
        raise RuntimeError("the job failed")


def test_job_server_is_stopped_once_when_the_job_has_ended() -> None:
    runner = Runner()
    with stopping_job_server():
        submit(runner)
        assert runner.server.stopped == 0
    assert runner.server.stopped == 1


def test_job_server_is_stopped_when_the_job_fails() -> None:
    runner = Runner()
    with pytest.raises(RuntimeError, match="the job failed"):
        fail(runner)
    assert runner.server.stopped == 1


def test_server_that_was_there_before_is_not_stopped() -> None:
    runner = Runner()
    with stopping_job_server():
        submit(runner, "--job_endpoint=embed")
    submit(runner)
    assert runner.server.stopped == 0


def test_job_server_does_not_replace_the_handler_of_ctrl_c() -> None:
    """Beam's handler would wait for itself without end at a second Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    with stopping_job_server():
        submit(Runner())
        assert signal.getsignal(signal.SIGINT) == before


def test_other_processes_that_are_started_in_the_block_are_killed() -> None:
    """A process from before the block goes on."""
    with subprocess.Popen(["sleep", "600"]) as earlier:
        try:
            with stopping_job_server():
                later = subprocess.Popen(["sleep", "600"])
            assert not psutil.pid_exists(later.pid)
            assert earlier.poll() is None
        finally:
            earlier.kill()


@pytest.mark.parametrize("debug", ["", "1"])
def test_only_debug_shows_tracebacks_of_threads_that_lose_the_connection(
    debug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: shown.append(failure.exc_type))
    monkeypatch.setenv(DEBUG_VARIABLE, debug)

    def of_grpc() -> None:
        exec("raise ValueError('Channel closed!')", {"__name__": "grpc._channel"})

    def of_ours() -> None:
        raise KeyError

    with stopping_job_server():
        for target in (of_grpc, of_ours):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert shown == ([ValueError] if debug else []) + [KeyError]


# Waits in a run, with a child process, for a signal. Prints the id of the child.
WAITING = """
import signal, subprocess
from beam_dedup.options.config import DedupConfig
from beam_dedup.runners.job_server import stopping_job_server
from beam_dedup.shutdown import scratch_directory

with scratch_directory(DedupConfig(inputs=("in",))), stopping_job_server():
    child = subprocess.Popen(["sleep", "600"])
    print(child.pid, flush=True)
    child.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_that_ends_the_process_ends_its_children(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WAITING]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        cwd=tmp_path,
        preexec_fn=_reset_signals,
    ) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.send_signal(number)
        code = process.wait(SECONDS)
    assert code == (-number if number == signal.SIGINT else 128 + number)
    assert soon(lambda: not child.is_running())
    assert list(tmp_path.iterdir()) == []


def _reset_signals() -> None:
    # A shell ignores Ctrl-C for a test run in the background, and its child processes inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
