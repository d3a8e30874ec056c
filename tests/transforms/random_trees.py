"""Random trees of files that change: links, hard links, slow writers, temporary names, renames and bad sectors."""

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beam_dedup.core.reading import local_files
from tests.core.archives.made_archives import zipped
from tests.core.short_reads import BadDisk
from tests.pictures import encoded, photo

_SIZE = (96, 64)
_DIRECTORIES = ("", "a/", "a/b/", "c/")
_ENDINGS = (".jpg", ".png", "")
_WORDS = ("x", "y", "z", "img", "1!")


def _pictures() -> list[bytes]:
    """Returns files of a few pictures. Some are near duplicates of others."""
    pictures = [photo(seed, _SIZE) for seed in range(6)]
    return [
        *(encoded(picture, "JPEG", quality=quality) for picture in pictures for quality in (95, 80)),
        *(encoded(picture) for picture in pictures[:3]),
    ]


PICTURES = _pictures()


class RandomTree:
    """A directory in which other programs write, link, rename and delete files.

    Attributes:
      folder: its path.
      rng: source of all random choices.
      writers: files that are being written, and what is still to be written to each.
    """

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self.rng = folder.resolve(), rng
        self._used: set[Path] = set()
        self.writers: dict[Path, bytes] = {}
        for name in _DIRECTORIES:
            (folder / name).mkdir(parents=True, exist_ok=True)

    def change(self) -> None:
        """Does one random thing that programs do."""
        changes: list[Callable[[], None]] = [
            *[self.write, self.write_slowly, self.continue_writing, self.rename] * 3,
            *[self.write_elsewhere, self.write_anew, self.hard_link, self.link, self.pack] * 2,
            *(self.delete, self.link_directory, self.link_to_nothing),
        ]
        self.rng.choice(changes)()

    def files(self) -> list[Path]:
        """Returns the paths of all files, without links, in a fixed order."""
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_file() and not path.is_symlink())
        return [path for path in found if path.resolve() == path]

    def finish_writing(self) -> None:
        for path, rest in self.writers.items():
            with path.open("ab") as file:
                file.write(rest)
        self.writers.clear()

    def write(self) -> None:
        if path := self._new():
            path.write_bytes(self._data())

    def write_slowly(self) -> None:
        if path := self._new():
            data = self._data()
            at = self.rng.choice([0, 1, len(data) // 2, len(data) * 97 // 100])
            path.write_bytes(data[:at])
            self.writers[path] = data[at:]

    def continue_writing(self) -> None:
        for path in list(self.writers)[:2]:
            rest = self.writers.pop(path)
            at = self.rng.randint(0, len(rest))
            with path.open("ab") as file:
                file.write(rest[:at])
            if at < len(rest) and self.rng.random() < 0.7:
                self.writers[path] = rest[at:]

    def write_elsewhere(self) -> None:
        """Writes a file under a temporary name; `rename` may give it another one."""
        if path := self._new():
            suffix = self.rng.choice([".part", ".Xy12Ab", ".tmp"])
            path.with_name(f".{path.name}{suffix}").write_bytes(self._data())

    def write_anew(self) -> None:
        """Replaces a file, or writes other data to it."""
        if path := self._old():
            if self.rng.random() < 0.5:
                path.unlink()
            path.write_bytes(self._data())

    def rename(self) -> None:
        """Renames a file, seldom to the name of another one."""
        if path := self._old():
            target = self._old() if self.rng.random() < 0.1 else self._new()
            if target:
                path.rename(target)

    def delete(self) -> None:
        if path := self._old():
            path.unlink()

    def hard_link(self) -> None:
        path, target = self._old(), self._new()
        if path and target:
            os.link(path, target)

    def link(self) -> None:
        path, target = self._old(), self._new()
        if path and target:
            target.symlink_to(path if self.rng.random() < 0.5 else os.path.relpath(path, target.parent))

    def link_directory(self) -> None:
        """Links to a directory, perhaps to one above."""
        if target := self._new():
            target.symlink_to(self.folder / self.rng.choice(_DIRECTORIES))

    def link_to_nothing(self) -> None:
        if target := self._new():
            target.symlink_to("nothing")

    def pack(self) -> None:
        """Writes an archive of some pictures, perhaps of one that is elsewhere too."""
        if path := self._new():
            path.with_suffix(".zip").write_bytes(zipped({f"{n}.jpg": self._data() for n in range(2)}))

    def _data(self) -> bytes:
        return self.rng.choice(PICTURES)

    def _old(self) -> Path | None:
        """Returns a file that no program is writing."""
        found = [path for path in self.files() if path not in self.writers]
        return self.rng.choice(found) if found else None

    def _new(self) -> Path | None:
        name = self.rng.choice(_DIRECTORIES) + self.rng.choice(_WORDS) + str(self.rng.randrange(9))
        path = self.folder / (name + self.rng.choice(_ENDINGS))
        if path in self._used or os.path.lexists(path):
            return None
        self._used.add(path)
        return path


class BadSectors:
    """Makes this process open input files on a disk with bad sectors, and short reads.

    Attributes:
      bad: returns the first byte of a file that can't be read. It gets the path.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int, bad: Callable[[str], int]) -> None:
        self.bad = bad

        def opened(file: int, *_: object, **__: object) -> BadDisk:
            disk = BadDisk(file)
            disk.most = most
            disk.bad = self.bad(os.readlink(f"/proc/self/fd/{file}"))
            return disk

        monkeypatch.setattr(local_files, "open", opened, raising=False)


def bytes_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yields every regular file below a directory, and its bytes; follows no links."""
    for path, _, names in os.walk(folder):
        for name in names:
            file = Path(path, name)
            try:
                descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                continue
            with open(descriptor, "rb") as stream:
                yield file, stream.read()
