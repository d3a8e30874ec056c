"""What appears in folders and buckets, by looking again and again.

A file of this machine has arrived when it has stopped to change: two looks have found the same size and times, or its
time is some seconds old. An object of a store is whole as soon as it can be seen. What is there at the start comes first.
"""

import dataclasses
import functools
import os
import queue
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam import coders
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.utils.timestamp import Timestamp

from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading.local_files import version_of
from transforms.storage.listing import list_inputs
from transforms.stream import clock
from transforms.stream.shared_readers import Shared

_LOOK_SECONDS = 1.0  # between the end of a look and the next at least
_SHARE = 4  # looking takes one part in so many of the time at most, however large the folder
_STILL_NS = 3 * 10**9  # what has not changed for so long is not being written
_UNREADABLE = ("unreadable", True)  # a state; told when it is opened
_MOST_WAITING = 10_000  # arrivals: then looking waits


@dataclasses.dataclass(frozen=True)
class Position(CheckpointMark):
    """How many arrivals a finder has given. There is nothing to be acknowledged."""

    finder: str
    given: int


class _PositionCoder(coders.Coder):
    def encode(self, value: Position) -> bytes:
        return f"{value.finder} {value.given}".encode()

    def decode(self, encoded: bytes) -> Position:
        finder, given = encoded.decode().split()
        return Position(finder, int(given))

    def is_deterministic(self) -> bool:
        return True


class Watch:
    """What was seen of some paths. Takes some 200 bytes of memory a file."""

    def __init__(self, paths: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self._paths = paths
        self._exclude = exclude
        self._arrived: dict[str, str] = {}  # generations
        self._changing: dict[str, str] = {}

    def look(self) -> Iterator[Arrival]:
        """Yields what has arrived since the last look."""
        changing: dict[str, str] = {}
        for file in list_inputs(self._paths, self._exclude):
            state = (file.version, True) if is_remote(file.path) else _state_of(file.path)
            if state is None and file.path not in self._paths:
                continue  # it may have been judged, and is no new image; of what was named itself it is told
            generation, is_still = state or _UNREADABLE
            if self._arrived.get(file.path) == generation:
                continue
            if is_still or self._changing.get(file.path) == generation:
                self._arrived[file.path] = generation
                yield Arrival(file.path, generation, clock.now_micros() // 1000, file.metadata, file.name)
            else:
                changing[file.path] = generation
        self._changing = changing


def _state_of(path: str) -> tuple[str, bool] | None:
    """What tells a local file from what has its name later, and whether it has not changed for a while. None: nothing is there."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _UNREADABLE if os.path.islink(path) else None  # a link to nothing is there
    except (OSError, ValueError):
        return _UNREADABLE
    changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
    return version_of(status), time.time_ns() - changed_ns > _STILL_NS


class _Finder:
    """A thread that looks, and what it has found."""

    def __init__(self, paths: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self.given = 0
        self._found: queue.Queue[Arrival | Exception] = queue.Queue(_MOST_WAITING)
        self._stop = threading.Event()
        threading.Thread(target=self._look, args=(Watch(paths, exclude),), name="watch", daemon=True).start()

    def next(self) -> Arrival | None:
        try:
            found = self._found.get_nowait()
        except queue.Empty:
            return None
        if isinstance(found, Exception):
            raise found
        self.given += 1
        return found

    def has_more(self) -> bool:
        return not self._found.empty()

    def stop(self) -> None:
        self._stop.set()

    def _look(self, watch: Watch) -> None:
        try:
            while not self._stop.is_set():
                looking, begun = 0.0, time.monotonic()
                for arrival in watch.look():
                    looking += time.monotonic() - begun
                    # To wait for others, who have too much to do, is no reason to look less often.
                    self._give(arrival)
                    begun = time.monotonic()
                looking += time.monotonic() - begun
                self._stop.wait(max(_LOOK_SECONDS, (_SHARE - 1) * looking))
        except Exception as error:  # noqa: BLE001  told by the thread that reads
            self._give(error)

    def _give(self, found: Arrival | Exception) -> None:
        while not self._stop.is_set():
            try:
                self._found.put(found, timeout=0.2)
            except queue.Full:
                continue
            return


_finders: Shared[_Finder] = Shared(_Finder.stop)


class WatchedReader(UnboundedReader):
    """Gives away what a finder has found: one that has given as much as a position says, if there still is one, or a new one."""

    def __init__(self, paths: tuple[str, ...], exclude: tuple[str, ...], position: Position | None) -> None:
        known = _finders.find(position.finder) if position else None
        goes_on = position is not None and known is not None and known.given == position.given
        self._name = position.finder if position and goes_on else secrets.token_hex(8)
        self._finder = _finders.take(self._name, functools.partial(_Finder, paths, exclude))
        self._current = Arrival("")

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        found = self._finder.next()
        if found is not None:
            self._current = found
        return found is not None

    def get_current(self) -> bytes:
        return self._current.packed()

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp(micros=(self._current.event_ms or 0) * 1000)

    def get_watermark(self) -> Timestamp:
        return self.get_current_timestamp() if self._finder.has_more() else clock.now()

    def get_checkpoint_mark(self) -> Position:
        return Position(self._name, self._finder.given)

    def close(self) -> None:
        _finders.give_back(self._name)


@dataclasses.dataclass(frozen=True)
class WatchedSource(UnboundedSource):
    """Arrivals, packed, of files that appear below some paths; each at the time it is found.

    A file that changes after it has arrived arrives anew: it is another generation.

    exclude: files and folders that are not input, though they lie in it.
    """

    paths: tuple[str, ...]
    exclude: tuple[str, ...] = ()

    def split(self, desired_num_splits: int, options: Any = None) -> Iterable[UnboundedSource]:  # noqa: ARG002
        return [self]

    def create_reader(self, options: Any, checkpoint_mark: CheckpointMark | None) -> WatchedReader:  # noqa: ARG002
        """A reader that can't go on finds again what was found: it is delivered again, and known by its generation."""
        position = checkpoint_mark if isinstance(checkpoint_mark, Position) else None
        return WatchedReader(self.paths, self.exclude, position)

    def get_checkpoint_mark_coder(self) -> coders.Coder:
        return _PositionCoder()

    def default_output_coder(self) -> coders.Coder:
        return coders.BytesCoder()
