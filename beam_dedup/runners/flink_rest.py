"""Reads our metrics of a running job from Flink's REST interface."""

import contextlib
import json
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions
from apache_beam.runners.portability.flink_runner import MAGIC_HOST_NAMES

from transforms import metrics

_SECONDS = 3.0  # that Flink may take to answer a request
_PREFIX = f".{metrics.NAMESPACE}_"  # precedes the name of a metric
_METRICS_AT_ONCE = 50  # in one request, so that its URL is not too long


class JobMetrics(NamedTuple):
    """Our metrics of a running job, by name.

    Attributes:
      sums: over all tasks.
      largest: the largest value of a task, for gauges.
    """

    sums: Counter[str]
    largest: dict[str, float]


def address(options: PipelineOptions) -> str:
    """Returns the URL of Flink's REST interface that `--flink_master` names; "" if it names none."""
    master = (options.view_as(FlinkRunnerOptions).flink_master or "").strip().rstrip("/")
    if not master or master in MAGIC_HOST_NAMES:
        return ""
    return master if master.startswith(("http://", "https://")) else f"http://{master}"


def job_metrics(url: str, job_name: str) -> JobMetrics:
    """Returns our metrics of the job that has this name; of several, of the one that started last.

    Nothing is in the result if there is no such job, or it has no metrics yet: Flink collects them every 10 seconds.

    Raises:
      OSError: Flink does not answer, or refuses.
      ValueError: the answer is not that of Flink.
    """
    sums: Counter[str] = Counter()
    largest: dict[str, float] = {}
    with _only_expected_answers():
        jobs = [job for job in _get(url, "/jobs/overview")["jobs"] if job["name"] == job_name]
        if not jobs:
            return JobMetrics(sums, largest)
        job = f"/jobs/{max(jobs, key=lambda job: int(job['start-time']))['jid']}"
        for vertex in _get(url, job)["vertices"]:
            path = f"{job}/vertices/{vertex['id']}/subtasks/metrics"
            names = [metric["id"] for metric in _get(url, path) if _PREFIX in metric["id"]]
            for start in range(0, len(names), _METRICS_AT_ONCE):
                wanted = urllib.parse.quote(",".join(names[start : start + _METRICS_AT_ONCE]), safe="")
                for metric in _get(url, f"{path}?get={wanted}&agg=sum,max"):
                    name = metric["id"].rpartition(_PREFIX)[2]
                    sums[name] += int(metric["sum"])
                    largest[name] = max(largest.get(name, 0.0), float(metric["max"]))
    return JobMetrics(sums, largest)


def _get(url: str, path: str) -> Any:
    with urllib.request.urlopen(url + path, timeout=_SECONDS) as answer:
        return json.load(answer)


@contextlib.contextmanager
def _only_expected_answers() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is not the answer of Flink: {error!r}") from error
