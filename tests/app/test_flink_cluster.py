"""Checks the errors of `templates/flink/local/cluster.py` when it can't start, and that it leaves no process running.

The tests in `tests/services` start a real cluster.
"""

import os
import socket
import sys
from pathlib import Path

import psutil
import pytest

from templates.flink.local import cluster
from tests.services.processes import HOST, free_port


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of jars that looks complete; the `java` on the path exits at once."""
    folder, programs = tmp_path / "jars", tmp_path / "programs"
    for made in (folder, programs):
        made.mkdir()
    (folder / ".complete").touch()
    java = programs / "java"
    java.write_text("#!/bin/sh\necho no such class\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> str:
    """Runs the program and returns the message with which it exits."""
    monkeypatch.setattr(sys, "argv", ["cluster.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cluster.main()
    return str(ended.value.code)


def ports() -> str:
    return ",".join(str(free_port()) for _ in range(4))


def test_missing_jars_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = run(monkeypatch, "start", "--jars", tmp_path / "none", "--state", tmp_path / "state")
    assert message == f"cluster: {tmp_path}/none is not complete: run {cluster.HERE}/get {tmp_path}/none"


def test_port_in_use_is_reported(jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        given = f"{port},{','.join(ports().split(',')[1:])}"
        message = run(monkeypatch, "start", "--jars", jars, "--state", tmp_path / "state", "--ports", given)
    assert message == f"cluster: port {port} is in use: name others with --ports"


def test_failed_start_shows_the_log_and_stops_the_rest(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    message = run(monkeypatch, "start", "--jars", jars, "--state", state, "--ports", ports())
    assert message.startswith(f"cluster: job-manager did not start; the end of {state}/job-manager.log:")
    assert "no such class" in message
    assert not list(state.glob("*.pid"))


def test_running_cluster_is_not_started_again(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    itself = psutil.Process()
    (state / "job-manager.pid").write_text(f"{itself.pid} {itself.create_time()}\n")
    message = run(monkeypatch, "start", "--jars", jars, "--state", state, "--ports", ports())
    assert message == f"cluster: there is a cluster in {state} (job-manager): stop it first"


def test_stop_spares_a_process_with_a_reused_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that started at another time than the recorded one is not part of the cluster."""
    itself = psutil.Process()
    (tmp_path / "workers.pid").write_text(f"{itself.pid} {itself.create_time() - 5}\n")
    assert cluster.processes(tmp_path, "workers") == []
    monkeypatch.setattr(sys, "argv", ["cluster.py", "stop", "--state", str(tmp_path)])
    cluster.main()
    assert itself.is_running()
    assert not list(tmp_path.iterdir())


def test_adding_a_task_manager_needs_a_running_cluster(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        run(monkeypatch, "add", "--jars", jars, "--state", tmp_path)
        == f"cluster: no cluster runs in {tmp_path}"
    )
