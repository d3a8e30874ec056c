"""What `templates/flink/local/cluster.py` says where it can't start, and that it leaves nothing running. Started for real it is in
`tests/services`.
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
    """A folder that looks complete, and a Java that ends at once."""
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
    """What it ends with."""
    monkeypatch.setattr(sys, "argv", ["cluster.py", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cluster.main()
    return str(ended.value.code)


def ports() -> str:
    return ",".join(str(free_port()) for _ in range(4))


def test_jars_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(monkeypatch, "start", "--jars", tmp_path / "none", "--state", tmp_path / "state")
    assert said == f"cluster: {tmp_path}/none is not complete: run {cluster.HERE}/get {tmp_path}/none"


def test_a_port_in_use(jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        told = f"{port},{','.join(ports().split(',')[1:])}"
        said = run(monkeypatch, "start", "--jars", jars, "--state", tmp_path / "state", "--ports", told)
    assert said == f"cluster: port {port} is in use: name others with --ports"


def test_a_part_that_does_not_start(jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    said = run(monkeypatch, "start", "--jars", jars, "--state", state, "--ports", ports())
    assert said.startswith(f"cluster: job-manager did not start; the end of {state}/job-manager.log:")
    assert "no such class" in said
    assert not list(state.glob("*.pid"))


def test_one_that_runs_is_not_started_again(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    itself = psutil.Process()
    (state / "job-manager.pid").write_text(f"{itself.pid} {itself.create_time()}\n")
    said = run(monkeypatch, "start", "--jars", jars, "--state", state, "--ports", ports())
    assert said == f"cluster: there is a cluster in {state} (job-manager): stop it first"


def test_the_number_of_a_process_that_is_another_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not ours, and stop does not end it."""
    itself = psutil.Process()
    (tmp_path / "workers.pid").write_text(f"{itself.pid} {itself.create_time() - 5}\n")
    assert cluster.processes(tmp_path, "workers") == []
    monkeypatch.setattr(sys, "argv", ["cluster.py", "stop", "--state", str(tmp_path)])
    cluster.main()
    assert itself.is_running()
    assert not list(tmp_path.iterdir())


def test_a_task_manager_for_a_cluster_that_is_not_there(
    jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        run(monkeypatch, "add", "--jars", jars, "--state", tmp_path)
        == f"cluster: no cluster runs in {tmp_path}"
    )
