"""Shows the status of a stream on another runner: what has arrived, was judged and is in flight, and the latency.

The numbers come from Flink's REST interface if `--flink_master` names it; else from the workers, if they run in this
process; else from the job server. That of Flink reports nothing before the end of a job.
"""

import contextlib
import functools
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineResult
from rich.console import Console

from beam_dedup.execution import in_background
from beam_dedup.output import log
from beam_dedup.runners import flink, flink_rest, job_metrics, select
from beam_dedup.stream import progress
from transforms import metrics
from transforms.tally import FOUND, LATENCY, Tally

LIVE_SECONDS = 5.0
LOG_SECONDS = 30.0
_END_SECONDS = 1.0  # that the end of a run waits for a request

_LOGGER = logging.getLogger(__name__)


class Status(NamedTuple):
    """How far a stream is.

    Attributes:
      arrived: new images, and archives, of which each is one.
      judged: images with a verdict.
      kept, rejected: how many of these.
      in_flight: what has arrived and is not judged.
      times_ms: the latency, median and 95th percentile; () if it is not known.
    """

    arrived: int
    judged: int
    kept: int
    rejected: int
    in_flight: int
    times_ms: tuple[float, ...] = ()

    def text(self) -> str:
        """Returns the status as one line.

        >>> Status(20, 17, 4, 1, 3, (1718.0, 1827.0)).text()
        '20 arrived, 17 judged (4 kept, 12 duplicates, 1 rejected), 3 in flight, latency 1.7 s (95% within 1.8 s)'
        """
        duplicates = self.judged - self.kept - self.rejected
        parts = [
            f"{self.arrived:,} arrived",
            f"{self.judged:,} judged ({self.kept:,} kept, {duplicates:,} duplicates, {self.rejected:,} rejected)",
            f"{self.in_flight:,} in flight",
        ]
        if self.times_ms:
            median, most = (time / 1000 for time in self.times_ms)
            parts.append(f"latency {median:.1f} s (95% within {most:.1f} s)")
        return ", ".join(parts)


def from_metrics(sums: Mapping[str, int], gauges: Mapping[str, float]) -> Status:
    """Returns the status that the metrics of a job show.

    A job that a runner has restarted counts from 0; what was in flight then is judged without arriving again.
    """
    arrived, read, found, judged = (
        sums.get(name, 0)
        for name in (metrics.ADMITTED, metrics.REFERENCES_READ, metrics.IMAGES_FOUND, metrics.INITIAL)
    )
    names = (metrics.LATENCY_P50, metrics.LATENCY_P95)
    return Status(
        arrived,
        judged,
        sums.get(metrics.FINAL, 0),
        sums.get(metrics.REJECTED, 0),
        max(0, arrived - read + found - judged),
        tuple(gauges[name] for name in names) if all(name in gauges for name in names) else (),
    )


def from_tally(tally: Tally) -> Status:
    """Returns the status that the workers of this process have reported. A step that is repeated counts twice."""
    found, judged, kept, rejected = (
        tally.total(name) for name in (FOUND, metrics.INITIAL, metrics.FINAL, metrics.REJECTED)
    )
    times = tuple(tally.quantiles(LATENCY, 0.5, 0.95))
    return Status(found, judged, kept, rejected, max(0, found - judged), times)


def source(options: PipelineOptions, result: PipelineResult, tally: Tally | None) -> Callable[[], Status]:
    """Returns a function that reads the status of a job, or raises any exception if it can't."""
    if url := flink_rest.address(options) if flink.is_flink(options) else "":
        name = options.view_as(GoogleCloudOptions).job_name or job_metrics.job_name(result)
        return lambda: from_metrics(*flink_rest.job_metrics(url, name))
    if tally:
        return lambda: from_tally(tally)
    return lambda: from_metrics(*job_metrics.current(result))


def hint(options: PipelineOptions) -> str:
    """Returns what to do if the status can't be read."""
    if url := flink_rest.address(options):
        return f"no status is shown: {url} (--flink_master) does not answer as Flink's REST interface does"
    return "no status is shown: the job server reports no metrics. Name Flink's REST address with --flink_master=HOST:8081"


@contextlib.contextmanager
def showing_status(
    options: PipelineOptions,
    result: PipelineResult,
    tally: Tally | None,
    *,
    live_seconds: float = LIVE_SECONDS,
    log_seconds: float = LOG_SECONDS,
) -> Iterator[None]:
    """Shows the status on stderr while the block lasts. The block does not notice whether that works.

    Does nothing on runners without a job server, such as Dataflow, which have a dashboard.

    Args:
      options: the options of Beam.
      result: the job.
      tally: what the workers have counted, if they run in this process.
      live_seconds: time between two updates of the live line of a terminal.
      log_seconds: time between two log lines.
    """
    if not select.has_job_server(options) or sys.stderr is None:
        yield
        return
    line = StatusLine(source(options, result, tally), hint(options))
    show = functools.partial(progress.show, line.text, live_seconds=live_seconds, log_seconds=log_seconds)
    with in_background(show, Console(file=sys.stderr), "status", _END_SECONDS):
        yield


class StatusLine:
    """The line of status.

    Args:
      read: reads the status, or raises any exception.
      hint_text: logged when the status can't be read for the first time.
    """

    def __init__(self, read: Callable[[], Status], hint_text: str) -> None:
        self._read = read
        self._hint = hint_text
        self._started = time.monotonic()

    def text(self) -> str:
        """Returns the line; "" if the status can't be read."""
        try:
            status = self._read()
        except Exception as error:  # noqa: BLE001  the stream runs on, whatever its metrics are
            _LOGGER.info("the status can't be read: %r", error)
            if self._hint:
                log(self._hint)
                self._hint = ""
            return ""
        return f"{status.text()}, {progress.clock(time.monotonic() - self._started)} elapsed"
