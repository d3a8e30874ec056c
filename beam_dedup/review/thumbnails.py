"""Makes the thumbnails of a page in decoder processes, in parallel and in order."""

import contextlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np

from beam_dedup.core import blocks, tables
from beam_dedup.core.archives.members import file_uri, split_uri
from beam_dedup.core.imaging import thumbnail
from beam_dedup.core.imaging.thumbnail import Thumbnail
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import ImageRef
from beam_dedup.core.paths import SEPARATOR, is_remote
from beam_dedup.core.reading import thumbnail_process
from beam_dedup.core.reading.isolated_decoder import DecodeResult, IsolatedDecoder

AT_ONCE = 32  # files that one request names
_REQUESTS_PER_PROCESS = 3  # that are under way, or whose results wait for their turn


class ThumbnailMaker:
    """Makes thumbnails with several decoder processes. Use it in a `with` block.

    Args:
      directory: to which relative paths are relative.
      processes: number of decoder processes.
      limits: of each image and archive.
    """

    def __init__(self, directory: str, processes: int, limits: Limits) -> None:
        self._directory = directory
        self._decoders = [IsolatedDecoder(None, limits, thumbnail_process.__name__) for _ in range(processes)]
        self._idle: SimpleQueue[IsolatedDecoder] = SimpleQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)
        self._pool = ThreadPoolExecutor(processes)
        self._members = _Spool()

    def __enter__(self) -> "ThumbnailMaker":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for decoder in self._decoders:
            decoder.close()
        self._members.close()

    def thumbnails(
        self, uris: Sequence[str], on_done: Callable[[int], None] = lambda _: None
    ) -> Iterator[Thumbnail | None]:
        """Yields the thumbnail of each image, in order; None for images that can't be read, and objects in stores.

        Archives are read first; the thumbnails of their members wait on the disk.

        Args:
          uris: of the images.
          on_done: called with the number of images that were done since it was last called.
        """
        for archive, members in _by_archive(uris).items():
            self._read(archive, members, lambda uri, found: self._members.add(uri, found))
        waiting: deque[Future[list[Thumbnail | None]]] = deque()
        for start in range(0, len(uris), AT_ONCE):
            waiting.append(self._pool.submit(self._batch, uris[start : start + AT_ONCE]))
            if len(waiting) > _REQUESTS_PER_PROCESS * len(self._decoders):
                yield from _counted(waiting.popleft().result(), on_done)
        while waiting:
            yield from _counted(waiting.popleft().result(), on_done)

    def _batch(self, uris: Sequence[str]) -> list[Thumbnail | None]:
        """Returns the thumbnails of a few images."""
        found: dict[str, Thumbnail] = {}
        paths = {path: uri for uri in uris for path, member in _local(uri) if not member}
        self._read(list(paths), set(paths.values()), found.__setitem__)
        return [found.get(uri) or self._members.get(uri) for uri in uris]

    def _read(
        self, paths: str | Sequence[str], wanted: set[str], add: Callable[[str, Thumbnail], None]
    ) -> None:
        """Reads files, and adds the thumbnails of those images in them that are wanted, by their URIs."""
        given = [paths] if isinstance(paths, str) else paths
        # A relative path is read from the directory of the run; its URI is the one of the records.
        uris = {file_uri(os.path.join(self._directory, path)): file_uri(path) for path in given}
        references = [ImageRef(os.path.join(self._directory, path), "") for path in given]

        def on_reply(result: DecodeResult) -> None:
            for found in tables.fingerprints_of(blocks.load(result.fingerprints, blocks.FINGERPRINTS)):
                file, separator, member = found.ref.uri.partition(SEPARATOR)
                uri = f"{uris.get(file, '')}{separator}{member}"
                # A harmful file may have taken over the process that replies.
                with contextlib.suppress(ValueError):
                    if uri in wanted:
                        add(uri, thumbnail.of(found))

        if not references:
            return
        decoder = self._idle.get()
        try:
            decoder.read(references, on_reply=on_reply)
        finally:
            self._idle.put(decoder)


def _by_archive(uris: Sequence[str]) -> dict[str, set[str]]:
    """Returns the members among some images, by the path of their archive."""
    found: dict[str, set[str]] = {}
    for uri in uris:
        for path, member in _local(uri):
            if member:
                found.setdefault(path, set()).add(uri)
    return found


def _local(uri: str) -> Iterator[tuple[str, str]]:
    """Yields the path of a local file, and the name of the member in it; nothing if no file can have such a name."""
    if not is_remote(uri):
        with contextlib.suppress(UnicodeEncodeError):
            os.fsencode(uri)
            yield split_uri(uri)


def _counted(
    thumbnails: list[Thumbnail | None], on_done: Callable[[int], None]
) -> Iterator[Thumbnail | None]:
    on_done(len(thumbnails))
    yield from thumbnails


class _Spool:
    """Thumbnails on the disk, by URI."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed by `close`
        self._places: dict[str, tuple[Thumbnail, int, tuple[int, ...]]] = {}

    def add(self, uri: str, found: Thumbnail) -> None:
        at = self._file.seek(0, os.SEEK_END)
        shape: tuple[int, ...] = ()
        if found.pixels is not None:
            shape = found.pixels.shape
            self._file.write(found.pixels.tobytes())
            self._file.flush()
        self._places[uri] = found._replace(pixels=None), at, shape

    def get(self, uri: str) -> Thumbnail | None:
        if uri not in self._places:
            return None
        found, at, shape = self._places[uri]
        if not shape:
            return found
        data = os.pread(self._file.fileno(), int(np.prod(shape)), at)
        return found._replace(pixels=np.frombuffer(data, np.uint8).reshape(shape))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
