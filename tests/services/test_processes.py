"""Tests the helpers that start services: services are stopped, and failures and missing programs are reported."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.app.cli_runs import ROOT
from tests.conftest import CI_VARIABLE
from tests.services.processes import NotReadyError, answers, free_port, running
from tests.waiting import SECONDS, soon

# Ignores SIGTERM, starts a child process, and listens at a port.
FAMILY = """
import os, signal, socket, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""


def test_stop_ends_a_service_and_its_descendants() -> None:
    port = free_port()
    command = [sys.executable, "-c", FAMILY, str(port)]
    with running(command, lambda: answers(port), stop_seconds=0.5) as log:
        ours = [int(number) for number in log.read_text().split()]
        assert all(psutil.pid_exists(number) for number in ours)
    assert not answers(port)
    assert soon(lambda: not any(map(_is_running, ours)))
    assert not log.exists()


def _is_running(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE  # its parent has not reaped it yet
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("script", "seconds", "message"),
    [
        ("echo no licence; exit 1", SECONDS, r"ended with 1:\nno licence"),
        ("echo hm; exec sleep 600", 3, r"was not ready after 3 s:\nhm"),
    ],
)
def test_service_that_does_not_start_is_reported_with_its_log(
    script: str, seconds: float, message: str
) -> None:
    with (
        pytest.raises(NotReadyError, match=message),
        running(["sh", "-c", script], lambda: False, seconds=seconds),
    ):
        pass


@pytest.mark.parametrize("in_ci", [False, True])
def test_missing_service_skips_the_test_but_fails_it_in_ci(tmp_path: Path, in_ci: bool) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), CI_VARIABLE: "1" if in_ci else ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "message_arrives"]
    ended = subprocess.run(
        [*command, "tests/services/test_pubsub.py"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ("1 error" if in_ci else "1 skipped") in ended.stdout
    assert "gcloud is missing: install the Google Cloud CLI" in ended.stdout
    assert ended.returncode == (1 if in_ci else 0)
