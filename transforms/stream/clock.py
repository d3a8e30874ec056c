"""Returns the time for the steps of a stream: that of the system, except that it never goes back.

If the system clock is set back, by an hour say, this clock continues at normal speed. Otherwise new images
would belong to closed windows and cleared periods for an hour, and be lost.
"""

import threading
import time

from apache_beam.utils.timestamp import Timestamp


class Clock:
    """Returns microseconds since the epoch, never fewer than before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0  # the last time returned
        self._last_monotonic = 0

    def micros(self) -> int:
        with self._lock:
            monotonic = time.monotonic_ns() // 1000
            elapsed = monotonic - self._last_monotonic
            self._last = max(time.time_ns() // 1000, self._last + elapsed if self._last else 0)
            self._last_monotonic = monotonic
            return self._last


_clock = Clock()  # shared by all steps of the process, so that their times are consistent


def now_micros() -> int:
    return _clock.micros()


def now() -> Timestamp:
    return Timestamp(micros=now_micros())
