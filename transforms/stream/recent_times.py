"""Holds the latest times that a process has measured, for gauges of their quantiles.

Monitoring systems take numbers only. Beam's distributions are none: Flink shows them as text, and its Prometheus
reporter leaves them out.
"""

import collections
import math
import threading
import time
from collections.abc import Callable, Iterable

SECONDS = 60.0  # for which a time counts
MOST = 10_000  # times that are held


class RecentTimes:
    """The times of the last seconds, for all threads of a process.

    Args:
      seconds: for which a time counts.
      most: number of times that are held; with more, the older ones do not count.
      clock: returns seconds.
    """

    def __init__(
        self, seconds: float = SECONDS, most: int = MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._times: collections.deque[tuple[float, int]] = collections.deque(maxlen=most)
        self._lock = threading.Lock()

    def add(self, milliseconds: Iterable[int]) -> None:
        now = self._clock()
        with self._lock:
            self._times.extend((now, one) for one in milliseconds)

    def quantiles(self, *shares: float) -> list[int]:
        """Returns the smallest times that these shares of all, each above 0, do not exceed; an empty list without times.

        >>> times = RecentTimes()
        >>> times.add([40, 10, 30, 20])
        >>> times.quantiles(0.5, 0.95)
        [20, 40]
        """
        since = self._clock() - self._seconds
        with self._lock:
            while self._times and self._times[0][0] < since:
                self._times.popleft()
            ordered = sorted(one for _, one in self._times)
        return [ordered[math.ceil(share * len(ordered)) - 1] for share in (shares if ordered else ())]


verdict_times = RecentTimes()  # of this process, which may run several instances of a step
