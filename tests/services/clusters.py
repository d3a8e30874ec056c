"""A Flink of its own processes, as `templates/flink/local/cluster.py` starts it for users."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from templates.flink.local import cluster
from tests.services.processes import free_port, listening
from tests.services.servers import FLINK

SCRIPT = Path(cluster.__file__)


class Cluster(NamedTuple):
    """A running one. flags: of `dedup`, to have it do the work."""

    state: Path
    flags: tuple[str, ...]

    def parts(self, name: str) -> list[psutil.Process]:
        return cluster.processes(self.state, name)

    def addresses(self) -> set[str]:
        """On which anything of it listens."""
        return {address for name in cluster.PARTS for part in self.parts(name) for address in listening(part)}

    def add(self) -> None:
        """One more task manager."""
        _run("add", "--jars", FLINK, "--state", self.state)


@contextlib.contextmanager
def flink_cluster(state: Path, python: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster whose workers have a Python of their own, and of the variables of this process only where programs are."""
    ports = [free_port() for _ in range(4)]
    bare = {"PATH": os.environ["PATH"], "HOME": str(state), **environment}
    told = ("--ports", ",".join(map(str, ports)), "--python", python)
    said = _run("start", "--jars", FLINK, "--state", state, *told, env=bare)
    try:
        yield Cluster(state, tuple(said.splitlines()[-1].split()))
    finally:
        _run("stop", "--state", state)


def _run(*arguments: object, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
