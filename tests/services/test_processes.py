"""The helpers themselves: what is started ends, what is missing is told."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.app.cli_runs import ROOT
from tests.conftest import CI_VARIABLE
from tests.services.processes import NotReadyError, answers, free_port, running

# Starts another that does not care to be asked to end, and listens.
FAMILY = """
import os, signal, socket, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(600)
"""


def test_a_service_ends_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setattr("tests.services.processes.PATIENCE_SECONDS", 0.5)
    with running([sys.executable, "-c", FAMILY, str(port)], lambda: answers(port)) as log:
        ours = [int(number) for number in log.read_text().split()]
        assert all(psutil.pid_exists(number) for number in ours)
    assert not answers(port)
    deadline = time.monotonic() + 10
    while any(_is_running(number) for number in ours):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not log.exists()


def _is_running(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE  # of which someone else is the parent
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit('no licence')", r"ended with 1:\nno licence"),
        ("print('hm', flush=True); import time; time.sleep(600)", r"was not ready after 3 s:\nhm"),
    ],
)
def test_one_that_does_not_start_is_told_with_its_log(code: str, said: str) -> None:
    with (
        pytest.raises(NotReadyError, match=said),
        running([sys.executable, "-c", code], lambda: False, seconds=3),
    ):
        pass


@pytest.mark.parametrize("in_ci", [False, True])
def test_a_missing_service_is_skipped_but_not_in_ci(tmp_path: Path, in_ci: bool) -> None:
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
