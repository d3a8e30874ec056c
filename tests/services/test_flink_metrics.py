"""Checks the names of metrics in rules, dashboard and runbook against what Flink's Prometheus reporter shows for a stream."""

import contextlib
import re
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import stream_files
from tests.app import monitoring
from tests.app.cli_runs import ROOT
from tests.app.stream_process import running_stream
from tests.app.watched_folder import WatchedDirectory
from tests.services.clusters import Cluster, flink_cluster
from tests.services.processes import HOST, free_port
from tests.services.require_service import required
from tests.services.servers import flink_jars
from transforms import metrics

pytestmark = [pytest.mark.service, pytest.mark.slow]

PATIENCE = 180.0
RUNBOOK = (ROOT / "docs/guides/runbook.md").read_text("utf-8")
# Not counted in a stream in which nothing goes wrong.
RARE = {
    metrics.REDELIVERED,
    metrics.LATE,
    metrics.EXPIRED,
    metrics.UNPLACED,
    "Rejected_unreadable_Count",
    "Rejected_.+_Count",
}


@pytest.fixture(scope="module")
def ports() -> range:
    """Of the reporter: the job manager takes the first, the task manager the second."""
    first = free_port()
    return range(first, first + 2)


@pytest.fixture(scope="module")
def cluster(ports: range, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = (
        "metrics.reporters=prometheus",
        "metrics.reporter.prometheus.factory.class=org.apache.flink.metrics.prometheus.PrometheusReporterFactory",
        f"metrics.reporter.prometheus.port={ports[0]}-{ports[-1]}",
    )
    state = tmp_path_factory.mktemp("cluster")
    with required(flink_jars()), flink_cluster(state, Path(sys.executable), {}, *settings) as made:
        yield made


def shown(ports: range) -> dict[str, list[float]]:
    """Returns the metrics that the reporters show, each with its values for all tasks."""
    found: dict[str, list[float]] = defaultdict(list)
    for port in ports:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=30) as answer,
        ):
            for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", answer.read().decode(), re.MULTILINE):
                found[name].append(float(value))
    return found


def ours(name: str, found: dict[str, list[float]]) -> list[float]:
    """Returns all values of one of our metrics, whatever the step."""
    return [value for one in found if one.endswith(f"_beam_dedup_{name}") for value in found[one]]


def test_metrics_of_a_stream_are_numbers_under_the_documented_names(
    cluster: Cluster, ports: range, tmp_path: Path
) -> None:
    incoming = WatchedDirectory(tmp_path / "in")
    for name, data in stream_files.files(60, seed=3).items():
        incoming.write(name, data)
    for name, data in stream_files.hostile().items():
        incoming.write(name, data)
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", tmp_path / "out", *cluster.flags)
    wanted = monitoring.our_names() - RARE

    with running_stream(tmp_path, *arguments, "--checkpointing_interval=1000") as run:
        run.wait_for(len(incoming.expected), PATIENCE)
        run.wait_until(lambda: all(ours(name, shown(ports)) for name in wanted), what=f"the metrics {wanted}")
        judged = len(incoming.expected)
        run.wait_until(lambda: sum(ours(metrics.INITIAL, shown(ports))) == judged, what="all counts")
        found = shown(ports)
        assert run.drain() == 130, run.log_tail()
    cluster.cancel_jobs()

    assert monitoring.flink_names() <= found.keys()
    assert sum(ours(metrics.ADMITTED, found)) == sum(ours(metrics.REFERENCES_READ, found)) <= judged
    assert sum(ours(metrics.IMAGES_FOUND, found)) == sum(ours(metrics.INITIAL, found)) == judged
    for gauge in (metrics.LATENCY_P50, metrics.LATENCY_P95, metrics.LAG, metrics.CACHED_STATE):
        assert max(ours(gauge, found)) > 0, gauge
    assert set(ours(metrics.LATENCY, found)) == {0.0}, "a distribution, which the reporter shows as 0"
    documented = re.findall(r"^\| `\w+` \| `(flink_\w+)` \|$", RUNBOOK, re.MULTILINE)
    assert len(documented) == 3
    assert [name for name in documented if name not in found] == [], sorted(
        name for name in found if "beam_dedup" in name
    )
