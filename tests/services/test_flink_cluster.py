"""Runs batches and streams on a Flink cluster of separate processes.

The Python environment of its workers contains the wheel and its pins only. The results equal those of the local runner.
"""

import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from beam_dedup.runners.last_checkpoint import last_checkpoint
from tests import stream_files
from tests.app.cli_runs import dedup_apart
from tests.app.stream_process import running_stream
from tests.app.watched_folder import WatchedDirectory, check, files_in, once
from tests.services.buckets import Bucket, files_of
from tests.services.clusters import Cluster, flink_cluster
from tests.services.processes import HOST
from tests.services.require_service import required
from tests.services.servers import Service, flink_jars
from tests.verdicts_outside import by_status
from tests.waiting import soon
from transforms import metrics

pytestmark = [pytest.mark.service, pytest.mark.slow]

PATIENCE = 180.0
OFTEN = "--checkpointing_interval=1000"
NEVER = "restart-strategy.type=none"
RETURN_SECONDS = 20.0  # until a machine that was restarted is back


@pytest.fixture(scope="module")
def cluster(
    gcs: Service, image_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with required(flink_jars()):
        state = tmp_path_factory.mktemp("cluster")
        with flink_cluster(state, image_environment / "bin/python", gcs.environment) as made:
            yield made
        assert not any(made.parts(name) for name in ("job-manager", "task-manager", "job-server", "workers"))


@pytest.fixture(autouse=True)
def nothing_runs(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.cancel_jobs()


def test_batch_between_buckets_equals_a_local_run(cluster: Cluster, bucket: Bucket, samples: Path) -> None:
    """Records, groups, counts and copies are equal byte by byte, except for the order of the records."""
    bucket.fill({f"in/{name}": data for name, data in files_of(samples).items()})
    written = {}
    flags: tuple[str, ...]
    for name, flags in (("local", ()), ("flink", cluster.flags)):
        outputs = (
            "-o",
            f"{{b}}/{name}/groups.json",
            "--records",
            f"{{b}}/{name}/r.jsonl",
            "--counts",
            f"{{b}}/{name}/counts.json",
            "-d",
            f"{{b}}/{name}/unique",
            "-s",
        )
        done = bucket.dedup("-n", "-i", "{b}/in", *outputs, *flags)
        assert done.returncode == 0, done.stderr
        written[name] = bucket.files(name)
        written[name]["r.jsonl"] = b"".join(sorted(written[name]["r.jsonl"].splitlines(keepends=True)))
        counts = json.loads(written[name].pop("counts.json"))
        written[name]["counts"] = json.dumps(counts, sort_keys=True).encode()
    assert written["flink"] == written["local"]
    assert counts["Initial_Image_Count"] == len(files_of(samples)) > counts["Final_Image_Count"] > 0


def test_workers_use_the_given_environment_and_listen_on_loopback_only(
    cluster: Cluster, image_environment: Path
) -> None:
    [pool] = cluster.parts("workers")
    assert pool.cmdline()[0] == str(image_environment / "bin/python")
    assert "PYTHONPATH" not in pool.environ()
    assert cluster.addresses() == {HOST}


def test_stream_survives_killed_task_managers(cluster: Cluster, tmp_path: Path) -> None:
    """Twice, while files arrive, the task manager is killed and another one started; the second time after 20 seconds.

    Each file has one record and each kept image one copy; later images are compared with earlier ones.
    """
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    files = list(stream_files.files(240, seed=4).items())
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out, *cluster.flags, OFTEN)
    with running_stream(tmp_path, *arguments) as run:
        _write(incoming, files[:60])
        run.wait_for(len(incoming.expected), PATIENCE)
        assert cluster.addresses() == {HOST}
        for begin in (60, 120):
            _write(incoming, files[begin : begin + 30])
            seen = len(run.records())
            run.wait_until(functools.partial(_has_more_records, run, seen), PATIENCE)
            [manager] = cluster.parts("task-manager")
            manager.kill()
            _write(incoming, files[begin + 30 : begin + 60])
            if begin == 120:
                time.sleep(RETURN_SECONDS)
            cluster.add_task_manager()
            run.wait_for(len(incoming.expected), PATIENCE)
        _write(incoming, files[180:])
        run.wait_for(len(incoming.expected), PATIENCE)
        run.wait_until(lambda: len(files_in(out)) == len(by_status(run.records(), "kept")), PATIENCE)
        run.wait_until(run.has_all_counts, PATIENCE, "counts")
        assert soon(lambda: len(_workers(cluster)) == 1), "workers of killed task managers are left"
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_stream_resumes_from_a_savepoint(cluster: Cluster, tmp_path: Path) -> None:
    """An upgrade of a running stream does this: no file is judged again, and the images kept before are known."""
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    files = list(stream_files.files(150, seed=8).items())
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out, *cluster.flags, OFTEN)
    with running_stream(tmp_path, *arguments) as run:
        _write(incoming, files[:60])
        run.wait_for(len(incoming.expected), PATIENCE)
        run.wait_until(lambda: len(files_in(out)) == len(by_status(run.records(), "kept")), PATIENCE)
        run.wait_until(lambda: cluster.counters()[metrics.INITIAL] == 60, what="Flink shows the counters")
        counters = cluster.counters()
        kept = len(by_status(run.records(), "kept"))
        expected = (
            (metrics.ADMITTED, 60),
            (metrics.FINAL, kept),
            (metrics.LATENCY, 60),
            (metrics.COPIES, kept),
        )
        assert [(name, counters[name]) for name, _ in expected] == list(expected)
        savepoint = cluster.stop_job()
        assert run.process.wait(PATIENCE) == 0, run.log_tail()
    before = len(run.records())
    _write(incoming, [(f"again/{name}", data) for name, data in files[:30]])
    _write(incoming, files[60:])
    with running_stream(tmp_path, *arguments, f"--savepoint_path={savepoint}") as run:
        run.wait_for(len(incoming.expected), PATIENCE)
        run.wait_until(lambda: len(files_in(out)) == len(by_status(run.records(), "kept")), PATIENCE)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
    again = [record for record in run.records() if "/again/" in record["uri"]]
    assert len(again) == 30
    assert {record["status"] for record in again} == {"duplicate"}
    assert len(run.records()) == before + 30 + 90


def test_cancelled_stream_resumes_from_its_last_checkpoint(cluster: Cluster, tmp_path: Path) -> None:
    _check_resuming(cluster, tmp_path, cluster.cancel_jobs, "CANCELED")


def test_failed_stream_resumes_from_its_last_checkpoint(
    image_environment: Path, gcs: Service, tmp_path: Path
) -> None:
    """The error names the command that finds the checkpoint."""
    state, python = tmp_path / "cluster", image_environment / "bin/python"

    def fail() -> None:
        [manager] = failing.parts("task-manager")
        manager.kill()

    with required(flink_jars()), flink_cluster(state, python, gcs.environment, NEVER) as failing:
        log = _check_resuming(failing, tmp_path, fail, "FAILED", failing.add_task_manager)
    assert "python -m beam_dedup.runners.last_checkpoint CHECKPOINTS" in log


def _check_resuming(
    cluster: Cluster, folder: Path, end: Callable[[], None], status: str, repair: Callable[[], object] = int
) -> str:
    """Ends a job while it judges images, and submits its stream again: each image has one verdict.

    If the job failed, both runs may have written the records that followed its last checkpoint.

    Args:
      cluster: where the stream runs.
      folder: for its files.
      end: ends the job.
      status: of the job that has ended.
      repair: makes the cluster able to run a job again.

    Returns:
      The log of the first run.
    """
    incoming, out = WatchedDirectory(folder / "in"), folder / "out"
    files = list(stream_files.files(200, seed=9).items())
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out, *cluster.flags, OFTEN)
    _write(incoming, files[:100])
    with running_stream(folder, *arguments) as run:
        run.wait_for(60, PATIENCE)
        _write(incoming, files[100:150])
        job = cluster.running_job()
        end()
        assert run.process.wait(PATIENCE) == 1
        assert cluster.status_of(job) == status
        log = run.log_tail()
    repair()
    checkpoint = last_checkpoint((cluster.state / "checkpoints").as_uri(), job)
    _write(incoming, files[150:])
    with running_stream(folder, *arguments, f"--savepoint_path={checkpoint}") as run:
        run.wait_for(len(incoming.expected), PATIENCE)
        run.wait_until(lambda: len(files_in(out)) == len(by_status(once(run.records()), "kept")), PATIENCE)
        assert run.drain() == 130, run.log_tail()
    cluster.cancel_jobs()
    check(run, incoming, out, repeated=status == "FAILED")
    return log


def test_two_task_managers_share_a_job(cluster: Cluster, samples: Path, tmp_path: Path) -> None:
    """Both use the same pool of workers, and give their workers the same names."""
    cluster.add_task_manager()
    flags = ("-n", "--views", "centre")
    local, flink = tmp_path / "local", tmp_path / "flink"
    for folder, more in ((local, ()), (flink, (*cluster.flags, "--parallelism=4"))):
        folder.mkdir()
        assert dedup_apart("-i", samples, "-o", "", "--records", folder / "r", *flags, *more).returncode == 0
    records = [sorted((folder / "r").read_bytes().splitlines()) for folder in (local, flink)]
    assert records[0] == records[1]
    assert cluster.task_managers_of_last_job() == 2


def _workers(cluster: Cluster) -> list[psutil.Process]:
    [pool] = cluster.parts("workers")
    return [process for process in pool.children() if not _has_ended(process)]


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _has_more_records(run: Any, count: int) -> bool:
    return len(run.records()) > count


def _write(incoming: WatchedDirectory, files: list[tuple[str, bytes]]) -> None:
    for name, data in files:
        incoming.write(name, data)
