"""A Flink of its own processes, as `templates/flink/local/cluster.py` starts it for users."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from templates.flink.local import cluster
from tests.services.processes import HOST, free_port, listening
from tests.services.servers import FLINK
from transforms import metrics

SCRIPT = Path(cluster.__file__)
_PATIENCE_SECONDS = 60
_GOING_ON = ("CREATED", "RUNNING", "RESTARTING", "FAILING", "CANCELLING")
_SHOWN = f".{metrics.NAMESPACE}_"  # before the name of a counter


class Cluster(NamedTuple):
    """A running one. flags: of `dedup`, to have it do the work."""

    state: Path
    flags: tuple[str, ...]
    rest: str  # where Flink answers

    def parts(self, name: str) -> list[psutil.Process]:
        return cluster.processes(self.state, name)

    def addresses(self) -> set[str]:
        """On which anything of it listens."""
        return {address for name in cluster.PARTS for part in self.parts(name) for address in listening(part)}

    def add(self) -> None:
        """One more task manager."""
        _run("add", "--jars", FLINK, "--state", self.state)

    def counters(self) -> Counter[str]:
        """What Flink's pages show of ours for the one job that runs, of all tasks together; of a distribution, of how many."""
        found: Counter[str] = Counter()
        job = self._running()
        for vertex in self._asked(f"/jobs/{job}")["vertices"]:
            path = f"/jobs/{job}/vertices/{vertex['id']}/metrics"
            for name in (one["id"] for one in self._asked(path)):
                if _SHOWN in name:
                    [shown] = self._asked(f"{path}?get={urllib.parse.quote(name)}")
                    counted = re.search(r"count=(\d+)", shown["value"])
                    found[name.rpartition(_SHOWN)[2]] += int(counted[1] if counted else shown["value"])
        return found

    def task_managers_that_worked(self) -> int:
        """For the last job that has ended."""
        job = max(self._asked("/jobs/overview")["jobs"], key=lambda one: one["end-time"])["jid"]
        vertices = [one["id"] for one in self._asked(f"/jobs/{job}")["vertices"]]
        worked = [
            self._asked(f"/jobs/{job}/vertices/{vertex}/taskmanagers")["taskmanagers"] for vertex in vertices
        ]
        return len({manager["taskmanager-id"] for managers in worked for manager in managers})

    def _running(self) -> str:
        [job] = [one["id"] for one in self._asked("/jobs")["jobs"] if one["status"] == "RUNNING"]
        return str(job)

    def cancel_jobs(self) -> None:
        """Ends what runs: Beam's job server leaves that to the user of a Flink that is not its own."""
        while running := [one["id"] for one in self._asked("/jobs")["jobs"] if one["status"] in _GOING_ON]:
            for job in running:
                request = urllib.request.Request(f"{self.rest}/jobs/{job}", method="PATCH")
                with contextlib.suppress(urllib.error.HTTPError):  # it is being ended
                    urllib.request.urlopen(request, timeout=30).close()
            time.sleep(0.2)

    def stop_job(self) -> str:
        """Stops the one job that runs. Returns the path of its savepoint."""
        job = self._running()
        trigger = self._asked(f"/jobs/{job}/stop", {"targetDirectory": (self.state / "savepoints").as_uri()})
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until:
            said = self._asked(f"/jobs/{job}/savepoints/{trigger['request-id']}")
            if said["status"]["id"] == "COMPLETED":
                return str(said["operation"]["location"])
            time.sleep(0.2)
        raise TimeoutError("no savepoint")

    def _asked(self, path: str, said: Any = None) -> Any:
        data = None if said is None else json.dumps(said).encode()
        request = urllib.request.Request(self.rest + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextlib.contextmanager
def flink_cluster(state: Path, python: Path, environment: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster whose workers have a Python of their own, and of the variables of this process only where programs are."""
    ports = [free_port() for _ in range(4)]
    bare = {"PATH": os.environ["PATH"], "HOME": str(state), **environment}
    told = ("--ports", ",".join(map(str, ports)), "--python", python)
    said = _run("start", "--jars", FLINK, "--state", state, *told, env=bare)
    try:
        flags = tuple(said.splitlines()[-1].split())
        yield Cluster(state, flags, f"http://{HOST}:{ports[0]}")
    finally:
        _run("stop", "--state", state)


def _run(*arguments: object, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
