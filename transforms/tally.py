"""How a run on this machine tells how far it is, while the engine itself is silent until the end.

Each thread of each worker process writes its counts to files of its own in one folder; the command line adds them up.
They are for showing only: a retried bundle counts twice here.
"""

import collections
import dataclasses
import itertools
import math
import os
import threading
from collections.abc import Iterable

LISTED = "listed"
READ = "read"
PLACED = "placed"
LATENCY = "latency"
_STEPS = 4  # of a histogram, in which a number doubles

_threads = itertools.count()
_counts = threading.local()  # of this thread, by file; never part of a result


@dataclasses.dataclass(frozen=True)
class Tally:
    """Counts of work done, kept in `folder`, which must exist on the machine of every worker."""

    folder: str

    def add(self, name: str, count: int) -> None:
        """Adds to a count; safe between threads and processes."""
        # Numbers of threads are used again after a thread has ended; these are not.
        thread = _counts.__dict__.setdefault("thread", next(_threads))
        path = os.path.join(self.folder, f"{name}.{os.getpid()}.{thread}")
        counts: dict[str, int] = _counts.__dict__.setdefault("by_path", {})
        counts[path] = counts.get(path, 0) + count
        # Not truncated, since a count never gets shorter: file systems flush a file that is truncated and written again.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, str(counts[path]).encode("ascii"))
        finally:
            os.close(descriptor)

    def add_times(self, name: str, milliseconds: Iterable[int]) -> None:
        """Adds to a histogram, in steps of a fifth."""
        steps = collections.Counter(math.ceil(_STEPS * math.log2(max(1, time))) for time in milliseconds)
        for step, count in steps.items():
            self.add(f"{name}-{step}", count)

    def quantiles(self, name: str, *shares: float) -> list[float]:
        """The times, in milliseconds, below which such shares of all lie; none without any."""
        with os.scandir(self.folder) as entries:
            found = {entry.name.split(".")[0] for entry in entries if entry.name.startswith(f"{name}-")}
        steps = sorted((int(step.rpartition("-")[2]), self.total(step)) for step in found)
        below = list(itertools.accumulate(count for _, count in steps))
        return [
            next(
                2 ** (step / _STEPS)
                for (step, _), sum_ in zip(steps, below, strict=True)
                if sum_ >= share * below[-1]
            )
            for share in (shares if below else ())
        ]

    def total(self, name: str) -> int:
        """The sum over all threads and processes so far."""
        total = 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(name + "."):
                    with open(entry.path, encoding="ascii") as file:
                        total += int(file.read() or 0)
        return total
