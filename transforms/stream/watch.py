"""Finds new images in directories and buckets, by scanning them again and again.

A local file arrives when it is complete: when it has not changed for a quiet time. A file that looks incomplete
(`beam_dedup.core.completeness`) has to be quiet for much longer: its writer may only pause, or rename it at the end. An
object of a store is complete as soon as it is visible. Images that exist at the start arrive first.
"""

import collections
import contextlib
import dataclasses
import functools
import os
import queue
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from apache_beam import coders
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.utils.timestamp import Timestamp

from beam_dedup.core.allowed import leads_to
from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.completeness import is_open_for_writing, is_temporary_name, lacks_its_end
from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Reason
from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading.input_paths import local_roots
from beam_dedup.core.reading.local_files import open_local, version_of
from beam_dedup.core.reading.selection import EVERYTHING, Exclusions, Selection
from transforms import metrics
from transforms.storage.files import open_regular
from transforms.storage.listing import Listed, list_inputs
from transforms.stream import clock
from transforms.stream.shared_readers import Shared
from transforms.stream.watched_links import WatchedLinks, links_last
from transforms.tally import Tally

PATIENCE = 60.0  # how many times as long a file must be quiet that looks incomplete
_SCAN_SHARE = 4  # scanning takes at most 1/4 of the time, however large the directory is
_MAX_WAITING = 10_000  # arrivals; while there are as many, scanning waits


@dataclasses.dataclass(frozen=True)
class ScanTimes:
    """When paths are scanned, and when a file counts as complete.

    Attributes:
      pause_seconds: time between the end of a scan and the start of the next, at least.
      quiet_seconds: a local file that has not changed for longer is complete.
    """

    pause_seconds: float = 1.0
    quiet_seconds: float = 10.0


@dataclasses.dataclass(frozen=True)
class Position(CheckpointMark):
    """The number of arrivals that a scanner has given out. There is nothing to acknowledge."""

    scanner: str
    given: int


class _PositionCoder(coders.Coder):
    def encode(self, value: Position) -> bytes:
        return f"{value.scanner} {value.given}".encode()

    def decode(self, encoded: bytes) -> Position:
        scanner, given = encoded.decode().split()
        return Position(scanner, int(given))

    def is_deterministic(self) -> bool:
        return True


class _State(NamedTuple):
    """What is known of a local file without reading it. It changes whenever the file does."""

    generation: str
    changed_ns: int = 0  # since the epoch; 0: long ago
    inode: int = 0
    size_bytes: int = -1  # -1: not a regular file that can be read


_UNREADABLE = _State("unreadable")  # the file is rejected when it is opened


class Watch:
    """Finds new images below some paths by scanning them. Uses about 200 bytes of memory per file."""

    def __init__(
        self,
        paths: tuple[str, ...],
        exclude: tuple[str, ...],
        times: ScanTimes,
        monotonic: Callable[[], float] = time.monotonic,
        links_inside: bool = False,
        selection: Selection = EVERYTHING,
    ) -> None:
        self.exclusions = Exclusions()  # of the last scan that has ended
        self._selection = selection
        self._paths = paths
        self._exclude = exclude
        self._times = times
        self._links_inside = links_inside
        self._roots = local_roots(paths) if links_inside else ()
        self._monotonic = monotonic
        self._arrived: dict[str, str] = {}  # generations, by path
        self._changing: dict[str, tuple[_State, float]] = {}  # states, and since when they were seen
        self._links = WatchedLinks()

    def scan(self) -> Iterator[Arrival]:
        """Scans once; yields the images that have arrived since the last scan, links after all others."""
        changing: dict[str, tuple[_State, float]] = {}
        self._links.start_scan()
        exclusions = Exclusions()
        found = list_inputs(self._paths, self._exclude, self._links_inside, self._selection, exclusions)
        for file in links_last(found):
            if file.leads_outside:
                yield from self._refused(file)
                continue
            state = _State(file.version) if is_remote(file.path) else _state_of(file.path)
            if state is None and file.path not in self._paths:
                continue  # gone: it may have been judged already. A path named on the command line is rejected instead.
            state = state or _UNREADABLE
            if self._arrived.get(file.path) == state.generation:
                continue
            before, since = self._changing.get(file.path, (state, self._monotonic()))
            if before != state:
                since = self._monotonic()
            is_complete = self._is_complete(file, state, self._monotonic() - since)
            if is_complete and not self._links.must_wait(file):
                self._arrived[file.path] = state.generation
                now_ms = clock.now_micros() // 1000
                is_link = not is_remote(file.path) and self._links.is_further_name(file.path)
                yield Arrival(file.path, state.generation, now_ms, file.metadata, file.name, link=is_link)
            else:
                changing[file.path] = state, since
                self._links.note_incomplete(file.path)
        self._changing = changing
        self.exclusions = exclusions

    def _refused(self, link: Listed) -> Iterator[Arrival]:
        """Yields the arrival of a link out of the input, if it is new. Its generation is that of the link itself."""
        try:
            generation = version_of(os.lstat(link.path))
        except OSError:  # gone
            return
        if self._arrived.get(link.path) != generation:
            self._arrived[link.path] = generation
            yield Arrival(
                link.path,
                generation,
                clock.now_micros() // 1000,
                link.metadata,
                link.name,
                refused=leads_to(link.path) or "leads out of the input",
                reason=Reason.LINK_OUTSIDE.value,
            )

    def _is_complete(self, file: Listed, state: _State, seen_seconds: float) -> bool:
        """Returns whether a file has been quiet for long enough, by its own times or for as long as it was seen."""
        if not state.changed_ns:
            return True
        quiet_seconds = max(seen_seconds, (time.time_ns() - state.changed_ns) / 1e9)
        if quiet_seconds <= self._times.quiet_seconds:
            return False
        return quiet_seconds > PATIENCE * self._times.quiet_seconds or not _looks_unfinished(
            file, state, self._roots
        )


def _state_of(path: str) -> _State | None:
    """Returns the state of a local file; None if there is no file."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _UNREADABLE if os.path.islink(path) else None  # a broken link is an image that cannot be read
    except (OSError, ValueError):
        return _UNREADABLE
    changed_ns = max(status.st_mtime_ns, status.st_ctime_ns, 1)
    size_bytes = status.st_size if stat.S_ISREG(status.st_mode) else -1
    return _State(version_of(status), changed_ns, status.st_ino, size_bytes)


def _looks_unfinished(file: Listed, state: _State, roots: tuple[str, ...]) -> bool:
    if state.size_bytes < 0:
        return False
    if is_temporary_name(file.name):
        return True
    try:
        with _opened(file.path, roots) as stream:
            return is_open_for_writing(stream) or lacks_its_end(stream, state.size_bytes)
    except (OSError, ImageError):
        return False  # it will be rejected when it is opened


@contextlib.contextmanager
def _opened(path: str, roots: tuple[str, ...]) -> Iterator[BinaryIO]:
    """Opens a file, if there are roots only if it lies in one of them."""
    if roots:
        with open_local(path, roots=roots) as (stream, _, _):
            yield stream
    else:
        with open_regular(path) as stream:
            yield stream


class Scanner:
    """A thread that scans again and again, and the arrivals it has found."""

    def __init__(
        self,
        paths: tuple[str, ...],
        exclude: tuple[str, ...],
        times: ScanTimes,
        links_inside: bool = False,
        selection: Selection = EVERYTHING,
    ) -> None:
        self.given = 0
        self._excluded = collections.Counter[str]()  # the largest numbers of all scans, by counter
        self._counted = collections.Counter[str]()  # of these, the numbers that were returned
        self._pause_seconds = times.pause_seconds
        self._found: queue.Queue[Arrival | Exception] = queue.Queue(_MAX_WAITING)
        self.stopped = threading.Event()
        watch = Watch(paths, exclude, times, links_inside=links_inside, selection=selection)
        threading.Thread(target=self._scan, args=(watch,), name="watch", daemon=True).start()

    def next(self) -> Arrival | None:
        """Returns the next arrival, or None if none is waiting.

        Raises the error that has ended the thread.
        """
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

    def newly_excluded(self) -> dict[str, int]:
        """Returns by how much the most that a scan left out has grown since the last call, by counter."""
        excluded = self._excluded
        grown = excluded - self._counted
        self._counted = excluded
        return dict(grown)

    def stop(self) -> None:
        self.stopped.set()

    def _scan(self, watch: Watch) -> None:
        try:
            while not self.stopped.is_set():
                scanning, begun = 0.0, time.monotonic()
                for arrival in watch.scan():
                    scanning += time.monotonic() - begun
                    # The time for which the queue is full does not count as scanning.
                    self._give(arrival)
                    begun = time.monotonic()
                scanning += time.monotonic() - begun
                latest = collections.Counter(metrics.excluded_counts(watch.exclusions))
                self._excluded = self._excluded | latest  # another one, since another thread reads it
                self.stopped.wait(max(self._pause_seconds, (_SCAN_SHARE - 1) * scanning))
        except Exception as error:  # noqa: BLE001  raised again by `next`, in the thread that reads
            self._give(error)

    def _give(self, found: Arrival | Exception) -> None:
        while not self.stopped.is_set():
            try:
                self._found.put(found, timeout=0.2)
            except queue.Full:
                continue
            return


_scanners: Shared[Scanner] = Shared(Scanner.stop)


class WatchedReader(UnboundedReader):
    """Reads the arrivals that a scanner has found.

    It uses the scanner of its position if that scanner still exists and has given out exactly the arrivals
    before the position; otherwise a new one.
    """

    def __init__(
        self,
        paths: tuple[str, ...],
        exclude: tuple[str, ...],
        position: Position | None,
        times: ScanTimes,
        links_inside: bool = False,
        selection: Selection = EVERYTHING,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally
        known = _scanners.find(position.scanner) if position else None
        continues = position is not None and known is not None and known.given == position.given
        self._name = position.scanner if position and continues else secrets.token_hex(8)
        make_scanner = functools.partial(Scanner, paths, exclude, times, links_inside, selection)
        self.scanner = _scanners.acquire(self._name, make_scanner)
        self._current = Arrival("")

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        found = self.scanner.next()
        excluded = self.scanner.newly_excluded()
        metrics.add(excluded)
        if self._tally:
            for name, count in excluded.items():
                self._tally.add(name, count)
        if found is not None:
            self._current = found
        return found is not None

    def get_current(self) -> bytes:
        return self._current.packed()

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp(micros=(self._current.event_ms or 0) * 1000)

    def get_watermark(self) -> Timestamp:
        return self.get_current_timestamp() if self.scanner.has_more() else clock.now()

    def get_checkpoint_mark(self) -> Position:
        return Position(self._name, self.scanner.given)

    def close(self) -> None:
        _scanners.release(self._name)


@dataclasses.dataclass(frozen=True)
class WatchedSource(UnboundedSource):
    """An unbounded source of packed arrivals: new files below some paths, each at the time it is found.

    A file that changes after it has arrived arrives again, with another generation.

    Attributes:
      paths: directories, files and prefixes of object stores to watch.
      exclude: files and directories below `paths` that are not input.
      times: when to scan.
      links_inside: whether links that lead out of `paths` are rejected instead of followed. Files that are read
        need the same limit (`Limits.roots`).
      selection: which of the files are wanted; by default all of them.
      tally: where the reader counts what is left out, on one machine; None counts with Beam's counters only.
    """

    paths: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    times: ScanTimes = ScanTimes()
    links_inside: bool = False
    selection: Selection = EVERYTHING
    tally: Tally | None = None

    def split(self, desired_num_splits: int, options: Any = None) -> Iterable[UnboundedSource]:  # noqa: ARG002
        return [self]

    def create_reader(self, options: Any, checkpoint_mark: CheckpointMark | None) -> WatchedReader:  # noqa: ARG002
        """Returns a reader.

        If it cannot continue, it finds all files again: they are redelivered, and not judged twice.
        """
        position = checkpoint_mark if isinstance(checkpoint_mark, Position) else None
        return WatchedReader(
            self.paths, self.exclude, position, self.times, self.links_inside, self.selection, self.tally
        )

    def get_checkpoint_mark_coder(self) -> coders.Coder:
        return _PositionCoder()

    def default_output_coder(self) -> coders.Coder:
        return coders.BytesCoder()
