"""Shares resources between the readers of a process, for as long as one of them uses them.

Beam's unbounded sources keep their reader from bundle to bundle, in the instance of the DoFn that reads.
While a bundle waits for its checkpoint, its instance waits too, and another instance continues, with a new
reader. Without a shared resource the new reader would start from nothing.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Resources by key, each made when it is first acquired and closed when its last holder releases it."""

    def __init__(self, close: Callable[[T], None]) -> None:
        self._close = close
        self._lock = threading.Lock()
        self._resources: dict[str, T] = {}
        self._holders: dict[str, int] = {}

    def acquire(self, key: str, make: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._resources:
                self._resources[key] = make()
            self._holders[key] = self._holders.get(key, 0) + 1
            return self._resources[key]

    def find(self, key: str) -> T | None:
        """Returns the resource of a key, if there is one, without acquiring it."""
        return self._resources.get(key)

    def release(self, key: str) -> None:
        with self._lock:
            self._holders[key] -= 1
            if self._holders[key]:
                return
            del self._holders[key]
            resource = self._resources.pop(key)
        self._close(resource)
