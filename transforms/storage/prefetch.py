"""Makes local copies of remote files, and fetches the next files while one is worked on.

A store takes many times as long to answer as a picture takes to decode, but answers many requests at once.
"""

import contextlib
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

from beam_dedup.core.archives.containers import container_of
from beam_dedup.core.errors import ImageError
from beam_dedup.core.full_reads import FullReads
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.model import ImageRef, Reason
from beam_dedup.core.reading.local_files import as_image_error
from transforms.storage.files import open_bytes, unusable

AT_ONCE = 32  # files that a worker fetches at the same time
MAX_ARCHIVE_BYTES = 1 << 36  # 64 GiB
# Of each file whose turn has not come. Most pictures are smaller, and the disks of workers are small.
AHEAD_BYTES = 1 << 22
CHUNK_BYTES = 1 << 20


class _LocalCopy:
    """A temporary local copy of a remote file, of which at first only the beginning is fetched.

    One thread may fetch the beginning and another the rest.

    Args:
      uri: the remote file.
      max_bytes: the most bytes that a file may have, unless it is an archive.
      generation: if given, the only generation that may be fetched.
      ahead_bytes: bytes to fetch before `whole` is called.
      chunk_bytes: bytes per read.
      max_archive_bytes: the most bytes that an archive may have.
      image_column: if given, a Parquet file is an archive.

    Raises:
      ImageError: the file is gone, cannot be read, or is too large. The methods raise the same.
    """

    def __init__(
        self,
        uri: str,
        max_bytes: int,
        generation: str,
        ahead_bytes: int = AHEAD_BYTES,
        chunk_bytes: int = CHUNK_BYTES,
        max_archive_bytes: int = MAX_ARCHIVE_BYTES,
        image_column: str = "",
    ) -> None:
        if why := unusable(uri):
            raise ImageError(Reason.UNREADABLE, why)
        self._chunk_bytes = chunk_bytes
        with contextlib.ExitStack() as opened:
            self._file = opened.enter_context(tempfile.NamedTemporaryFile(prefix="dedup-"))
            try:
                self._remote: BinaryIO = opened.enter_context(open_bytes(uri, generation))
                head = FullReads(self._remote).read(HEAD_BYTES)
                self._file.write(head)
            except OSError as error:
                raise as_image_error(error) from error
            self._max_bytes = max_archive_bytes if container_of(head, image_column) else max_bytes
            self._is_whole = False
            self._fetch(min(self._max_bytes, ahead_bytes))
            self._opened = opened.pop_all()

    def whole(self) -> str:
        """Fetches the rest. Returns the path of the copy."""
        self._fetch(self._max_bytes)
        if self._file.tell() > self._max_bytes:
            raise ImageError(Reason.TOO_LARGE, f"more than {self._max_bytes} bytes")
        return self._file.name

    def _fetch(self, until: int) -> None:
        """Fetches chunks until the copy has more than this many bytes, or is whole."""
        try:
            while not self._is_whole and self._file.tell() <= until:
                chunk = self._remote.read(self._chunk_bytes)
                self._file.write(chunk)
                self._is_whole = not chunk
            self._file.flush()
        except OSError as error:
            raise as_image_error(error) from error

    def close(self) -> None:
        """Removes the copy."""
        self._opened.close()


@contextlib.contextmanager
def fetched(
    uri: str,
    max_bytes: int,
    generation: str = "",
    max_archive_bytes: int = MAX_ARCHIVE_BYTES,
    image_column: str = "",
) -> Iterator[str]:
    """Yields the path of a local copy of a remote file, in the directory for temporary files. It is removed at the end.

    Args:
      uri: the remote file.
      max_bytes: the most bytes that a file may have, unless it is an archive.
      generation: if given, the only generation that may be fetched.
      max_archive_bytes: the most bytes that an archive may have.
      image_column: if given, a Parquet file is an archive.

    Raises:
      ImageError: the file is gone, cannot be read, or is too large.
    """
    copy = _LocalCopy(
        uri, max_bytes, generation, max_archive_bytes=max_archive_bytes, image_column=image_column
    )
    with contextlib.closing(copy):
        yield copy.whole()


def fetched_in_turn(
    pool: ThreadPoolExecutor,
    references: Iterable[ImageRef],
    max_bytes: int,
    ahead_bytes: int = AHEAD_BYTES,
    chunk_bytes: int = CHUNK_BYTES,
    image_column: str = "",
) -> Generator[tuple[ImageRef, str | ImageError], None, None]:
    """Yields each reference with the path of a local copy, or with the reason why there is none, in order.

    A copy is removed when the next one is asked for. Meanwhile the threads of the pool fetch the beginnings of the files
    that follow.

    Args:
      pool: as many threads as files are fetched at the same time.
      references: remote files; see `fetched`.
      max_bytes: the most bytes that a file may have, unless it is an archive.
      ahead_bytes: bytes to fetch of each file whose turn has not come.
      chunk_bytes: bytes per read.
      image_column: if given, a Parquet file is an archive.
    """
    waiting: deque[tuple[ImageRef, Future[_LocalCopy]]] = deque()
    remaining = iter(references)
    try:
        while True:
            while len(waiting) < AT_ONCE and (reference := next(remaining, None)):
                started = pool.submit(
                    _LocalCopy,
                    reference.uri,
                    max_bytes,
                    reference.generation,
                    ahead_bytes,
                    chunk_bytes,
                    image_column=image_column,
                )
                waiting.append((reference, started))
            if not waiting:
                return
            reference, started = waiting.popleft()
            try:
                with contextlib.closing(started.result()) as copy:
                    yield reference, copy.whole()
            except ImageError as error:
                yield reference, error
    finally:
        for _, started in waiting:
            if not started.cancel():
                started.add_done_callback(_close)


def _close(started: Future[_LocalCopy]) -> None:
    if not started.cancelled() and not started.exception():
        started.result().close()
