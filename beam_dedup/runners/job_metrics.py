"""Reads our counters from a job on another runner."""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

from apache_beam.runners.runner import PipelineResult

from transforms import metrics

_LOGGER = logging.getLogger(__name__)


def counters(result: PipelineResult) -> Counter[str] | None:
    """Returns our counters of a finished job by their names, each the sum over all steps.

    None if they can't be known: the runner reports none, or not all (a batch sets `metrics.INITIAL` even if it has no
    images), or does not answer.
    """
    try:
        found = _queried(result)["counters"]
    except Exception as error:  # noqa: BLE001  whatever a runner raises; the job itself has succeeded
        _LOGGER.info("the runner reports no metrics: %r", error)
        return None
    sums = _sums(found)
    return sums if metrics.INITIAL in sums else None


def current(result: PipelineResult) -> tuple[Counter[str], dict[str, float]]:
    """Returns our counters of a running job by their names, each the sum over all steps, and our gauges, the largest values.

    Raises:
      LookupError: the job server reports no metrics.
      Exception: of any class, if it does not answer.
    """
    vars(result)["_metrics"] = None  # Beam keeps its first answer
    found = _queried(result)
    if not found["counters"]:
        raise LookupError("the job server reports no metrics")
    gauges: dict[str, float] = {}
    for gauge in found["gauges"]:
        if gauge.key.metric.namespace == metrics.NAMESPACE:
            name = gauge.key.metric.name
            gauges[name] = max(gauges.get(name, 0.0), float(gauge.result.value))
    return _sums(found["counters"]), gauges


def job_name(result: PipelineResult) -> str:
    """Returns the name of a job that a job server has given it: the job's id, without the number at its end."""
    return str(getattr(result, "_job_id", "")).rpartition("_")[0]


def _queried(result: PipelineResult) -> dict[str, Any]:
    """Returns all metrics of a job by their kind, such as "counters"."""
    untyped: Any = result
    found: dict[str, Any] = untyped.metrics().query()
    return found


def _sums(found: Iterable[Any]) -> Counter[str]:
    """Returns our counters by their names, each the sum over all steps."""
    sums: Counter[str] = Counter()
    for counter in found:
        if counter.key.metric.namespace == metrics.NAMESPACE:
            sums[counter.key.metric.name] += _value(counter)
    return sums


def _value(counter: Any) -> int:
    """Returns what was committed; what was attempted, if the runner does not tell the two apart."""
    return int((counter.attempted if counter.committed is None else counter.committed) or 0)
