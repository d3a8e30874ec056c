"""What the readers of one process share, for as long as there is one of them.

Beam's unbounded sources keep their reader from bundle to bundle with the instance of the DoFn that reads. While a bundle waits
for its checkpoint its instance waits too, and another one goes on: with a reader of its own, which would begin from nothing.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Things by key, made when they are first asked for and closed when nobody has them any more."""

    def __init__(self, close: Callable[[T], None]) -> None:
        self._close = close
        self._lock = threading.Lock()
        self._things: dict[str, T] = {}
        self._holders: dict[str, int] = {}

    def take(self, key: str, make: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._things:
                self._things[key] = make()
            self._holders[key] = self._holders.get(key, 0) + 1
            return self._things[key]

    def find(self, key: str) -> T | None:
        """What there is already; to be kept it has to be taken."""
        return self._things.get(key)

    def give_back(self, key: str) -> None:
        with self._lock:
            self._holders[key] -= 1
            if self._holders[key]:
                return
            del self._holders[key]
            thing = self._things.pop(key)
        self._close(thing)
