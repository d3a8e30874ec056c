"""Caches the state of keys in a worker, so that it is not read again for each message.

A runner that keeps state outside the worker sends it anew for each bundle: megabytes for a key with 100,000
codes, although a message adds only some bytes. So each change of a key's bags also writes a random number,
the version, to its state, and the worker that made the change caches the new contents under that version. A
worker that reads a version and has it in its cache knows the contents, whichever key, bundle or run it
belongs to. If a bundle fails, its version disappears from the state with all its other changes, and nobody
asks for it again.
"""

import functools
import os
import random
import struct
import threading
from typing import NamedTuple, Self

from beam_dedup.core.stream.retention import SLOTS, PeriodSlots
from beam_dedup.core.stream.state_cells import Cells

Version = bytes
UNKNOWN: Version = bytes(16)  # of an empty slot, or of one written by a worker without a cache

_FORMAT = struct.Struct(f"{len(UNKNOWN)}s" * SLOTS)
_random = random.SystemRandom()


class StateHeader(NamedTuple):
    """The state of a key beside its bags: the period in each slot, and the version of its contents."""

    slots: PeriodSlots = PeriodSlots()
    versions: tuple[Version, ...] = (UNKNOWN,) * SLOTS

    def packed(self) -> bytes:
        return _FORMAT.pack(*self.versions) + self.slots.packed()

    @classmethod
    def unpacked(cls, data: bytes | None) -> Self:
        if not data:
            return cls()
        return cls(PeriodSlots.unpacked(data[_FORMAT.size :]), _FORMAT.unpack_from(data))

    def with_version(self, slot: int, version: Version) -> Self:
        versions = list(self.versions)
        versions[slot] = version
        return self._replace(versions=tuple(versions))


def new_version() -> Version:
    """Returns a new random version."""
    return os.urandom(len(UNKNOWN))


class CellCache:
    """The contents of bags by version, for all threads of a process.

    If there are more than `max_bytes`, random entries are removed. The oldest would be the wrong choice: a
    stream reads all its keys in turn, so it would find no entry at all as soon as one of them has no room.
    """

    def __init__(self, max_bytes: int) -> None:
        self._most_bytes = max_bytes
        self._cells: dict[Version, Cells] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Size of all contents."""
        return self._bytes

    def get(self, version: Version) -> Cells | None:
        with self._lock:
            return self._cells.get(version)

    def put(self, version: Version, cells: Cells, instead_of: Version = UNKNOWN) -> None:
        """Stores contents, and removes those of the version that they replace."""
        with self._lock:
            self._remove(instead_of)
            self._remove(version)
            self._cells[version] = cells
            self._bytes += cells.size
            while self._bytes > self._most_bytes:
                self._remove(_random.choice(list(self._cells)))

    def forget(self, version: Version) -> None:
        with self._lock:
            self._remove(version)

    def _remove(self, version: Version) -> None:
        gone = self._cells.pop(version, None)
        if gone:
            self._bytes -= gone.size


@functools.cache
def process_cache(max_bytes: int) -> CellCache:
    """Returns the cache of this process."""
    return CellCache(max_bytes)
