"""Local copies of files that are not on this machine: some are on their way while another is worked on.

A store takes many times as long to answer as a picture takes to decode, and answers many at once.
"""

import contextlib
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from beam_dedup.core.archives.containers import container_of
from beam_dedup.core.errors import ImageError
from beam_dedup.core.full_reads import FullReads
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.model import ImageRef, Reason
from beam_dedup.core.reading.local_files import as_image_error
from transforms.storage.files import open_bytes, unusable

AT_ONCE = 32  # that a worker has on their way
MAX_FETCHED_BYTES = 1 << 36  # of an archive
# Of a file whose turn has not come: most pictures have less, and disks of workers are small.
_AHEAD_BYTES = 1 << 22
_CHUNK_BYTES = 1 << 20


class _Copy:
    """A local copy, of which the beginning is there. One thread may begin it and another have the rest.

    Raises:
      ImageError: as all of it does, it is gone, can't be read, or is too large.
    """

    def __init__(self, uri: str, max_bytes: int, generation: str) -> None:
        if why := unusable(uri):
            raise ImageError(Reason.UNREADABLE, why)
        with contextlib.ExitStack() as opened:
            self._file = opened.enter_context(tempfile.NamedTemporaryFile(prefix="dedup-"))
            try:
                self._remote: BinaryIO = opened.enter_context(open_bytes(uri, generation))
                head = FullReads(self._remote).read(HEAD_BYTES)
                self._file.write(head)
            except OSError as error:
                raise as_image_error(error) from error
            self._most = MAX_FETCHED_BYTES if container_of(head) else max_bytes
            self._is_whole = False
            self._go_on(min(self._most, _AHEAD_BYTES))
            self._opened = opened.pop_all()

    def whole(self) -> str:
        """Copies the rest. Returns the path."""
        self._go_on(self._most)
        if self._file.tell() > self._most:
            raise ImageError(Reason.TOO_LARGE, f"more than {self._most} bytes")
        return self._file.name

    def _go_on(self, until: int) -> None:
        """Copies more than so many bytes, or all there are."""
        try:
            while not self._is_whole and self._file.tell() <= until:
                chunk = self._remote.read(_CHUNK_BYTES)
                self._file.write(chunk)
                self._is_whole = not chunk
            self._file.flush()
        except OSError as error:
            raise as_image_error(error) from error

    def close(self) -> None:
        self._opened.close()


@contextlib.contextmanager
def fetched(uri: str, max_bytes: int, generation: str = "") -> Iterator[str]:
    """A local copy of a file in a file system of Beam's, for as long as the block lasts: its path.

    An archive is copied whole, into the folder for temporary files; of anything else no more than `max_bytes`. generation:
    what has its name later is not meant.

    Raises:
      ImageError: it is gone, can't be read, or is too large.
    """
    with contextlib.closing(_Copy(uri, max_bytes, generation)) as copy:
        yield copy.whole()


def fetched_in_turn(
    pool: ThreadPoolExecutor, references: Iterable[ImageRef], max_bytes: int
) -> Iterator[tuple[ImageRef, str | ImageError]]:
    """Yields each with the path of a local copy, which is there until the next is asked for, or why there is none; otherwise as
    `fetched`. The threads of the pool begin with those that come after it.
    """
    waiting: deque[tuple[ImageRef, Future[_Copy]]] = deque()
    left = iter(references)
    try:
        while True:
            while len(waiting) < AT_ONCE and (reference := next(left, None)):
                begun = pool.submit(_Copy, reference.uri, max_bytes, reference.generation)
                waiting.append((reference, begun))
            if not waiting:
                return
            reference, begun = waiting.popleft()
            try:
                with contextlib.closing(begun.result()) as copy:
                    yield reference, copy.whole()
            except ImageError as error:
                yield reference, error
    finally:
        for _, begun in waiting:
            if not begun.cancel():
                begun.add_done_callback(_close)


def _close(begun: Future[_Copy]) -> None:
    if not begun.cancelled() and not begun.exception():
        begun.result().close()
