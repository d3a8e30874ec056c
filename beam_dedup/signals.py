"""Handles signals, and makes their handlers run soon, also while the main thread waits for another thread.

Python runs handlers in the main thread, between two of its steps. A signal that arrives just before the main thread begins
to wait for a lock, or that the system delivers to another thread, is noticed only when that wait ends. In a
run that is when the runner has finished: so Ctrl-C would do nothing.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

_WAKE_SECONDS = (0.1, 1, 5)  # after a signal; more than once, since the main thread may not wait yet
_READ_BYTES = 64


@contextlib.contextmanager
def handling(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """Handles some signals while the block runs, and gives them their earlier handlers back."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def wake_main_thread_on_signals() -> None:
    """Lets a thread interrupt what the main thread waits for, shortly after each signal that has a handler.

    Call it once, in the main thread. It uses SIGURG, which has no effect otherwise.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGURG, _nothing)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    main = threading.get_ident()
    threading.Thread(target=_wake, args=(reading, main), name="signals", daemon=True).start()


def _wake(signals: int, main: int) -> None:
    """Reads the numbers of signals from a pipe, without end."""
    while numbers := os.read(signals, _READ_BYTES):
        if set(numbers) <= {signal.SIGURG}:
            continue
        for seconds in _WAKE_SECONDS:
            time.sleep(seconds)
            signal.pthread_kill(main, signal.SIGURG)


def _nothing(_number: int, _frame: object) -> None:
    """A signal without a handler would not interrupt anything."""
