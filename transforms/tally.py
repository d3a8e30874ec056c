"""Reports progress from the workers of one machine to the command line, while the runner itself reports nothing.

Each thread of each worker process writes its counts to its own files in one directory; the command line adds them up. The
counts are for display only: a retried bundle counts twice.
"""

import collections
import dataclasses
import itertools
import math
import os
import threading
from collections.abc import Iterable

from transforms.storage.files import named_if_full

LISTED = "listed"
READ = "read"  # files
IMAGES = "images"  # in the files that are read: an archive has one for each member
FOUND = "found"  # images that the references which were read have led to
JUDGED_BEFORE = "judged_before"  # of these, images that an earlier run has judged
PLACED = "placed"
LATENCY = "latency"
_STEPS_PER_DOUBLING = 4  # of a histogram

_threads = itertools.count()
_counts = threading.local()  # the counts of this thread, by file; never part of a result


@dataclasses.dataclass(frozen=True)
class Tally:
    """Counts finished work in files.

    Args:
      folder: the directory of the files. It must exist on the machine of every worker.
    """

    folder: str

    def add(self, name: str, count: int) -> None:
        """Adds to a count. Threads and processes may call this at the same time."""
        # The system gives the id of a thread that has ended to another thread; this number is given once.
        thread = _counts.__dict__.setdefault("thread", next(_threads))
        path = os.path.join(self.folder, f"{name}.{os.getpid()}.{thread}")
        counts: dict[str, int] = _counts.__dict__.setdefault("by_path", {})
        counts[path] = counts.get(path, 0) + count
        # Not truncated: file systems flush a file that is truncated and written again. A count never gets shorter, so
        # it overwrites the one before it.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            with named_if_full(path):
                os.write(descriptor, str(counts[path]).encode("ascii"))
        finally:
            os.close(descriptor)

    def add_times(self, name: str, milliseconds: Iterable[int]) -> None:
        """Adds times to a histogram whose steps are 19 % wide."""
        steps = collections.Counter(
            math.ceil(_STEPS_PER_DOUBLING * math.log2(max(1, time))) for time in milliseconds
        )
        for step, count in steps.items():
            self.add(f"{name}-{step}", count)

    def quantiles(self, name: str, *shares: float) -> list[float]:
        """Returns the times in milliseconds below which these shares of all times lie; an empty list without times."""
        with os.scandir(self.folder) as entries:
            found = {entry.name.split(".")[0] for entry in entries if entry.name.startswith(f"{name}-")}
        steps = sorted((int(step.rpartition("-")[2]), self.total(step)) for step in found)
        below = list(itertools.accumulate(count for _, count in steps))
        return [
            next(
                2 ** (step / _STEPS_PER_DOUBLING)
                for (step, _), count in zip(steps, below, strict=True)
                if count >= share * below[-1]
            )
            for share in (shares if below else ())
        ]

    def total(self, name: str) -> int:
        """Returns the sum of a count over all threads and processes so far."""
        total = 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(name + "."):
                    with open(entry.path, encoding="ascii") as file:
                        total += int(file.read() or 0)
        return total
