"""Opens archives again, local or remote, to copy members of them."""

import contextlib
from collections.abc import Iterator
from typing import BinaryIO

from beam_dedup.core.archives.containers import Container, container_of
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.limits import Limits
from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading.local_files import open_local
from transforms.storage.prefetch import fetched


@contextlib.contextmanager
def opened_archive(archive: str, image_column: str) -> Iterator[tuple[BinaryIO, Container | None]]:
    """Yields the stream of an archive, at its beginning, and its kind; None if it is no archive any more.

    Args:
      archive: its path.
      image_column: the column with the images of a table.
    Raises:
      ImageError: the archive is gone, or the system refuses to read it.
    """
    local = (
        fetched(archive, Limits().max_bytes, image_column=image_column)
        if is_remote(archive)
        else contextlib.nullcontext(archive)
    )
    with local as path, open_local(path) as (stream, _, _):
        container = container_of(stream.read(HEAD_BYTES), image_column)
        stream.seek(0)
        yield stream, container
