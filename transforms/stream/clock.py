"""The time as the steps of a stream tell it: that of the system, but for one thing, it never goes back.

When somebody sets the system's back, by an hour say, this one goes on as if nothing had happened. Else what arrives would for
an hour belong to windows that are closed and to memories that are gone, and be lost.
"""

import threading
import time

from apache_beam.utils.timestamp import Timestamp


class Clock:
    """Microseconds since the epoch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = 0
        self._at = 0  # of a watch that nobody sets

    def micros(self) -> int:
        with self._lock:
            at = time.monotonic_ns() // 1000
            self._told = max(time.time_ns() // 1000, self._told + at - self._at if self._told else 0)
            self._at = at
            return self._told


_clock = Clock()  # one, or what two steps of a process say would not fit


def now_micros() -> int:
    return _clock.micros()


def now() -> Timestamp:
    return Timestamp(micros=now_micros())
