"""What a run starts, it ends: the job servers that Beam starts for it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.job_server import JobServer
from apache_beam.runners.portability.portable_runner import PortableRunner

from beam_dedup.runners import select
from beam_dedup.runners.job_server import stopping_job_server

ROOT = Path(__file__).parents[2]


class _Server(JobServer):
    stopped = 0

    def start(self) -> Any:
        return None

    def stop(self) -> None:
        self.stopped += 1


class _Runner(PortableRunner):
    """Starts a server, like Prism's runner."""

    def __init__(self) -> None:
        super().__init__()
        self.server = _Server()

    def default_job_server(self, options: object) -> JobServer:  # noqa: ARG002
        return self.server


def submit(runner: PortableRunner, *flags: str) -> None:
    runner.create_job_service(select.beam_options(flags))


def fail(runner: PortableRunner) -> None:
    with stopping_job_server(runner):
        submit(runner)
        raise RuntimeError("the job failed")


def test_job_server_is_stopped_once_when_the_job_has_ended() -> None:
    runner = _Runner()
    with stopping_job_server(runner):
        submit(runner)
        assert runner.server.stopped == 0
    assert runner.server.stopped == 1


def test_job_server_is_stopped_when_the_job_fails() -> None:
    runner = _Runner()
    with pytest.raises(RuntimeError, match="the job failed"):
        fail(runner)
    assert runner.server.stopped == 1


def test_server_that_was_there_before_is_not_stopped() -> None:
    runner = _Runner()
    with stopping_job_server(runner):
        submit(runner, "--job_endpoint=embed")
    assert runner.server.stopped == 0
    with stopping_job_server(FnApiRunner()):
        pass


# Waits in the block, with a child, for a signal. Prints the child's number.
WAITING = """
import signal, subprocess, sys
from apache_beam.runners.portability.portable_runner import PortableRunner
from beam_dedup.runners.job_server import stopping_job_server

child = subprocess.Popen(["sleep", "600"])
with stopping_job_server(PortableRunner()):
    print(child.pid, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_that_ends_the_process_ends_its_children_first(number: signal.Signals) -> None:
    command = [sys.executable, "-c", WAITING]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert psutil.pid_exists(child)
        process.send_signal(number)
        assert process.wait(30) == -number, "it ended as it would have without the block"
    assert not psutil.pid_exists(child)
