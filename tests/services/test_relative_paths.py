"""Checks relative paths, the summary and the status of a stream where workers have another current directory."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import stream_files
from tests.app.cli_runs import dedup_apart, tree
from tests.app.stream_process import running_stream
from tests.app.watched_folder import WatchedDirectory
from tests.services.clusters import Cluster, flink_cluster
from tests.services.processes import HOST, answers, free_port, running
from tests.services.require_service import required
from tests.services.servers import ROOT, Service, flink_jars

pytestmark = [pytest.mark.service, pytest.mark.slow]

PATIENCE = 180.0
STATUS = re.compile(r"^(\d+) arrived, (\d+) judged \(.*\), (\d+) in flight, latency [\d.]+ s", re.MULTILINE)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[tuple[str, ...]]:
    """Runs a pool of workers in a directory of its own. Yields the options that name it."""
    port = free_port()
    command = [sys.executable, "-m", "beam_dedup.worker_pool", f"--port={port}"]
    with running(command, lambda: answers(port), {"PYTHONPATH": str(ROOT)}):
        yield "--environment_type=EXTERNAL", f"--environment_config={HOST}:{port}"


@pytest.mark.parametrize("runner", ["flink", "prism"])
def test_workers_elsewhere_read_and_write_the_same_files(
    runner: str,
    elsewhere: tuple[str, ...],
    samples: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    service: Service = request.getfixturevalue(runner)
    (tmp_path / "in").symlink_to(samples)
    outputs = ("-d", "out", "-o", "g.json", "--records", "r.jsonl")
    flags = [flag for flag in service.flags if not flag.startswith("--environment")]
    run = ("-n", "-i", "in", *outputs)
    local = dedup_apart(*run, cwd=tmp_path, env=environment())
    written = tree(tmp_path / "out")
    for name in ("out", "g.json", "r.jsonl"):
        (tmp_path / name).rename(tmp_path / f"local-{name}")

    done = dedup_apart(*run, *flags, *elsewhere, cwd=tmp_path, env=environment())

    assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "out") == written
    found = (tmp_path / "r.jsonl").read_text("utf-8").replace(f'"{tmp_path}/in/', '"in/')
    assert sorted(found.splitlines()) == sorted((tmp_path / "local-r.jsonl").read_text("utf-8").splitlines())
    assert done.stdout.splitlines()[0] == local.stdout.splitlines()[0]
    assert counters(done.stdout) == counters(local.stdout)


@pytest.mark.parametrize("runner", ["flink", "prism"])
def test_batch_that_reads_nothing_fails(
    runner: str, elsewhere: tuple[str, ...], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    service: Service = request.getfixturevalue(runner)
    flags = [flag for flag in service.flags if not flag.startswith("--environment")]
    (tmp_path / "rows").write_text("\n\n")
    done = dedup_apart("-l", "rows", "-o", "", *flags, *elsewhere, cwd=tmp_path, env=environment())
    assert done.returncode == 1
    assert f"dedup: no image was read: nothing was found in {tmp_path}/rows" in done.stderr


@pytest.mark.parametrize("place", ["flink", "cluster"])
def test_status_of_a_stream_is_shown(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The workers are in the process of `dedup`, or on a cluster whose REST interface `--flink_master` names."""
    service: Service | Cluster = request.getfixturevalue(place)
    incoming = WatchedDirectory(tmp_path / "in")
    for name, data in stream_files.files(40, seed=9).items():
        incoming.write(name, data)
    arguments = ("-n", "--watch", "-i", incoming.folder, *service.flags, "--checkpointing_interval=1000")
    with running_stream(tmp_path, *arguments, quiet=False) as run:
        run.wait_for(40, PATIENCE)
        run.wait_until(lambda: ("40", "40", "0") in STATUS.findall(run.log_tail()), PATIENCE, "the status")
        assert run.drain() == 130, run.log_tail()
    if isinstance(service, Cluster):
        service.cancel_jobs()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with (
        required(flink_jars()),
        flink_cluster(tmp_path_factory.mktemp("state"), Path(sys.executable), {}) as made,
    ):
        yield made


def counters(summary: str) -> list[str]:
    return re.findall(r"^\w+_Count +\d+", summary, re.MULTILINE)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}
