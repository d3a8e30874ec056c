"""How a run on this machine tells how far it is, while the engine itself is silent until the end.

Each thread of each worker process writes its counts to files of its own in one folder; the command line adds them up.
They are for showing only: a retried bundle counts twice here.
"""

import dataclasses
import itertools
import os
import threading

LISTED = "listed"
READ = "read"
PLACED = "placed"

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

    def total(self, name: str) -> int:
        """The sum over all threads and processes so far."""
        total = 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(name + "."):
                    with open(entry.path, encoding="ascii") as file:
                        total += int(file.read() or 0)
        return total
