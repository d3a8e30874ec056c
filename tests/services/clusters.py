"""A Flink of its own processes, as `templates/flink/local/cluster.py` starts it for users."""

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from templates.flink.local import cluster
from tests.services.processes import HOST, free_port, listening
from tests.services.servers import FLINK

SCRIPT = Path(cluster.__file__)


class Cluster(NamedTuple):
    """A running one. flags: of `dedup`, to have it do the work."""

    state: Path
    rest: int
    flags: tuple[str, ...]

    def parts(self, name: str) -> list[psutil.Process]:
        return cluster.processes(self.state, name)

    def addresses(self) -> set[str]:
        """On which anything of it listens."""
        return {address for name in cluster.PARTS for part in self.parts(name) for address in listening(part)}

    def add(self) -> None:
        """One more task manager."""
        _run("add", "--jars", FLINK, "--state", self.state)

    def restarts(self) -> int:
        """How often the running job has been begun again."""
        [job] = [
            one for one in self._asked("jobs/overview")["jobs"] if one["state"] in ("RUNNING", "RESTARTING")
        ]
        found = self._asked(f"jobs/{job['jid']}/metrics?get=numRestarts")
        return int(found[0]["value"]) if found else 0

    def _asked(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{HOST}:{self.rest}/{path}", timeout=30) as answer:
            return json.load(answer)


@contextlib.contextmanager
def flink_cluster(state: Path, python: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster whose workers have a Python of their own, and of the variables of this process only where programs are."""
    ports = [free_port() for _ in range(4)]
    bare = {"PATH": os.environ["PATH"], "HOME": str(state), **environment}
    told = ("--ports", ",".join(map(str, ports)), "--python", python)
    said = _run("start", "--jars", FLINK, "--state", state, *told, env=bare)
    try:
        yield Cluster(state, ports[0], tuple(said.splitlines()[-1].split()))
    finally:
        _run("stop", "--state", state)


def _run(*arguments: object, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
