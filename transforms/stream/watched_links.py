"""Lets each watched file arrive before its links, and recognises further hard links of a file that has arrived."""

import os
from collections.abc import Iterable, Iterator

from transforms.storage.listing import Listed

_File = tuple[int, int]  # device and inode


def links_last(files: Iterable[Listed]) -> Iterator[Listed]:
    """Yields the files of one scan, those whose path passes through a link after all others."""
    links = []
    for file in files:
        if file.is_link:
            links.append(file)
        else:
            yield file
    yield from links


class WatchedLinks:
    """Knows the files that are incomplete, and the first name of each file with several hard links."""

    def __init__(self) -> None:
        self._incomplete: set[_File] = set()
        self._names: dict[_File, str] = {}

    def start_scan(self) -> None:
        """Forgets which files were incomplete in the last scan."""
        self._incomplete.clear()

    def note_incomplete(self, path: str) -> None:
        """Notes that a file is incomplete: its links must wait for it."""
        if (status := _status(path)) is not None:
            self._incomplete.add((status.st_dev, status.st_ino))

    def must_wait(self, file: Listed) -> bool:
        """Returns whether a file is a link to an incomplete file. Its own path must arrive first."""
        status = _status(file.path) if file.is_link and self._incomplete else None
        return status is not None and (status.st_dev, status.st_ino) in self._incomplete

    def is_further_name(self, path: str) -> bool:
        """Returns whether a file has arrived under another name that still exists; notes the name if it has not."""
        status = _status(path)
        if status is None or status.st_nlink < 2:
            return False
        file = (status.st_dev, status.st_ino)
        first = self._names.setdefault(file, path)
        other = _status(first)
        if other is None or (other.st_dev, other.st_ino) != file:
            self._names[file] = path
            return False
        return first != path


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None
