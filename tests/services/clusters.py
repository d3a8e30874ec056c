"""Starts a Flink cluster with `templates/flink/local/cluster.py`, as users do, and reads its state through REST."""

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
_PATIENCE_SECONDS = 180
_UNFINISHED = ("CREATED", "RUNNING", "RESTARTING", "FAILING", "CANCELLING")
_COUNTER_PREFIX = f".{metrics.NAMESPACE}_"  # precedes the name of a counter


class Cluster(NamedTuple):
    """A running cluster."""

    state: Path  # the directory of the cluster's files
    flags: tuple[str, ...]  # of `dedup`, to run on this cluster
    rest: str  # URL of Flink's REST interface

    def parts(self, name: str) -> list[psutil.Process]:
        """Returns the running processes of one part, such as "task-manager"."""
        return cluster.processes(self.state, name)

    def addresses(self) -> set[str]:
        """Returns the addresses on which any part of the cluster listens."""
        return {address for name in cluster.PARTS for part in self.parts(name) for address in listening(part)}

    def add_task_manager(self) -> None:
        _run("add", "--jars", FLINK, "--state", self.state)

    def counters(self) -> Counter[str]:
        """Returns our counters of the one running job, summed over its tasks; for a distribution, its count."""
        found: Counter[str] = Counter()
        job = self.running_job()
        for vertex in self._request(f"/jobs/{job}")["vertices"]:
            path = f"/jobs/{job}/vertices/{vertex['id']}/metrics"
            for name in (metric["id"] for metric in self._request(path)):
                if _COUNTER_PREFIX in name:
                    [metric] = self._request(f"{path}?get={urllib.parse.quote(name)}")
                    count = re.search(r"count=(\d+)", metric["value"])
                    found[name.rpartition(_COUNTER_PREFIX)[2]] += int(count[1] if count else metric["value"])
        return found

    def task_managers_of_last_job(self) -> int:
        """Returns how many task managers executed tasks of the job that ended last."""
        job = max(self._request("/jobs/overview")["jobs"], key=lambda job: job["end-time"])["jid"]
        vertices = [vertex["id"] for vertex in self._request(f"/jobs/{job}")["vertices"]]
        managers = [
            self._request(f"/jobs/{job}/vertices/{vertex}/taskmanagers")["taskmanagers"]
            for vertex in vertices
        ]
        return len({manager["taskmanager-id"] for of_vertex in managers for manager in of_vertex})

    def status_of(self, job: str) -> str:
        """Returns the status of a job, such as "RUNNING" or "FAILED"."""
        return str(self._request(f"/jobs/{job}")["state"])

    def running_job(self) -> str:
        """Returns the id of the one running job."""
        [job] = [job["id"] for job in self._request("/jobs")["jobs"] if job["status"] == "RUNNING"]
        return str(job)

    def cancel_jobs(self) -> None:
        """Cancels all unfinished jobs: Beam's job server does not do so on a Flink that it has not started."""
        while running := [
            job["id"] for job in self._request("/jobs")["jobs"] if job["status"] in _UNFINISHED
        ]:
            for job in running:
                request = urllib.request.Request(f"{self.rest}/jobs/{job}", method="PATCH")
                with contextlib.suppress(urllib.error.HTTPError):  # Flink is already cancelling it
                    urllib.request.urlopen(request, timeout=30).close()
            time.sleep(0.2)

    def stop_job(self) -> str:
        """Stops the one running job with a savepoint. Returns the path of the savepoint.

        Raises:
          TimeoutError: Flink has not completed the savepoint in time.
        """
        job = self.running_job()
        trigger = self._request(
            f"/jobs/{job}/stop", {"targetDirectory": (self.state / "savepoints").as_uri()}
        )
        until = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < until:
            savepoint = self._request(f"/jobs/{job}/savepoints/{trigger['request-id']}")
            if savepoint["status"]["id"] == "COMPLETED":
                return str(savepoint["operation"]["location"])
            time.sleep(0.2)
        raise TimeoutError(f"no savepoint within {_PATIENCE_SECONDS} s")

    def _request(self, path: str, body: Any = None) -> Any:
        """Returns the JSON answer to a GET, or to a POST of `body` if that is given."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.rest + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextlib.contextmanager
def flink_cluster(
    state: Path, python: Path, environment: Mapping[str, str], *settings: str
) -> Iterator[Cluster]:
    """Runs a cluster for as long as the block lasts.

    Args:
      state: the directory of the cluster's files.
      python: the Python of the workers.
      environment: the environment variables of the cluster, in addition to PATH; it inherits no others.
      settings: of Flink's configuration, each NAME=VALUE.
    """
    ports = [free_port() for _ in range(4)]
    bare = {"PATH": os.environ["PATH"], "HOME": str(state), **environment}
    options = ("--ports", ",".join(map(str, ports)), "--python", python)
    settings = tuple(f"--conf={setting}" for setting in settings)
    output = _run("start", "--jars", FLINK, "--state", state, *options, *settings, env=bare)
    try:
        flags = tuple(output.splitlines()[-1].split())
        yield Cluster(state, flags, f"http://{HOST}:{ports[0]}")
    finally:
        _run("stop", "--state", state)


def _run(*arguments: object, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
