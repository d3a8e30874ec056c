"""Reports the result of a batch whose workers run elsewhere: from the file of counts, or from the metrics of the job."""

import json
import os
from collections.abc import Mapping
from typing import Any

from apache_beam.runners.runner import PipelineResult

from beam_dedup.batch import leakage, summary
from beam_dedup.batch.rejected import nothing_judged_elsewhere, nothing_read
from beam_dedup.core.errors import DedupError
from beam_dedup.core.names import shown
from beam_dedup.core.paths import is_remote
from beam_dedup.options.config import DedupConfig
from beam_dedup.output import write
from beam_dedup.runners import job_metrics
from beam_dedup.texts import counted, excluded_text
from transforms import metrics
from transforms.count import as_counts
from transforms.storage import files as storage

_UNKNOWN = (
    "the job is done. Its counts are not known here, because the runner reports no metrics: see its dashboard, or add "
    "--counts with a path that this machine can read"
)
_FileState = tuple[int, int, int] | None


class CountsFile:
    """The file that `--counts` names, which this machine may be able to read.

    The state of a local file is noted when this is made: workers with other disks leave a file of an earlier run as it is.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._before = self._state()

    def read(self) -> dict[str, Any] | None:
        """Returns the counts of this run; None if there is no file of this run, or it can't be read."""
        if not self._path or (not is_remote(self._path) and self._state() == self._before):
            return None
        try:
            with storage.open_bytes(self._path) as file:
                counts = json.load(file)
        except (OSError, ValueError):
            return None
        return counts if isinstance(counts, dict) and metrics.INITIAL in counts else None

    def _state(self) -> _FileState:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def report(config: DedupConfig, file: CountsFile, result: PipelineResult, seconds: float) -> None:
    """Prints the summary, or that the counts can't be known.

    The file is computed from the verdicts. The metrics are Beam's counters, in which some runners count a retried
    bundle twice; they are taken if the file can't be read.

    Args:
      config: the options of the run.
      file: where the workers wrote the counts.
      result: the finished job.
      seconds: duration of the run.

    Raises:
      DedupError: no image was read, all were rejected, or copies could not be made.
      LeakError: images leak between splits, and the run shall fail then.
    """
    counters = job_metrics.counters(result)
    counts = file.read() or (None if counters is None else as_counts(counters, None, None))
    if not config.quiet:
        text = (
            f"dedup: {_UNKNOWN}"
            if counts is None
            else summary.text(config, counts, None, seconds, local=False)
        )
        write(f"{text}\n")
    problems = [] if counts is None else list(_problems(config, counts))
    if unplaced := counters[metrics.UNPLACED] if counters else 0:
        problems.append(
            f"{counted(unplaced, 'image')} could not be placed in {shown(config.output_dir)}; the workers know which, "
            "this machine does not"
        )
    if problems:
        raise DedupError("\n".join(problems))
    leakage.check(config, counts)


def _problems(config: DedupConfig, counts: Mapping[str, Any]) -> list[str]:
    if not counts[metrics.INITIAL]:
        excluded = excluded_text(summary.excluded_causes(counts))
        return [nothing_read(config, elsewhere=True, excluded=excluded)]
    if counts[metrics.INITIAL] == counts[metrics.REJECTED]:
        return [nothing_judged_elsewhere(config, counts["Rejected"])]
    return []
