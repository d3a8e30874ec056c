"""What a worker knows already of the state of keys, so that it need not be read again for each message.

An engine that keeps state elsewhere sends it anew for each bundle: of a key that remembers 100,000 codes megabytes, though a
message adds some bytes to them. So with each change of a key's bags a random number is written to its state, and the worker that
made the change keeps the contents under that number. Who reads the number in the state knows its contents if he has them,
whichever key, bundle or run it was. If a bundle fails, the number that it wrote is gone from the state with all else, and
nobody asks for it again.
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
UNKNOWN: Version = bytes(16)  # of what is empty, or was written by a worker that keeps nothing

_FORMAT = struct.Struct(f"{len(UNKNOWN)}s" * SLOTS)
_random = random.SystemRandom()


class Stamped(NamedTuple):
    """What is in the state of a key beside its bags: whose they are, and the versions of their contents."""

    held: PeriodSlots = PeriodSlots()
    versions: tuple[Version, ...] = (UNKNOWN,) * SLOTS

    def packed(self) -> bytes:
        return _FORMAT.pack(*self.versions) + self.held.packed()

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
    """One that was never there before."""
    return os.urandom(len(UNKNOWN))


class CellCache:
    """Contents of bags by their versions; for all threads of a process.

    most_bytes: when there is more, any of them go. Not the oldest: a stream asks for all of its keys by turns, and would find
    nothing any more as soon as one of them has no room.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._cells: dict[Version, Cells] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, version: Version) -> Cells | None:
        with self._lock:
            return self._cells.get(version)

    def put(self, version: Version, cells: Cells, instead_of: Version = UNKNOWN) -> None:
        """Keeps contents, in place of those which they come from."""
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
def shared(most_bytes: int) -> CellCache:
    """That of this process."""
    return CellCache(most_bytes)
