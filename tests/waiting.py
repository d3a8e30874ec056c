"""Waits for conditions, so that no test depends on how fast the machine is."""

import time
from collections.abc import Callable

SECONDS = 120.0  # a test that waits this long has failed, however loaded the machine is


def soon(condition: Callable[[], object], seconds: float = SECONDS, pause: float = 0.01) -> bool:
    """Returns whether a condition becomes true within some seconds; it is checked at the end of them once more."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if condition():
            return True
        time.sleep(pause)
    return bool(condition())
