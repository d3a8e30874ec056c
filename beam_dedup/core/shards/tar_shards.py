"""Writes images and what belongs to them into tars, as WebDataset reads them: files of one key are adjacent.

The tar depends on its contents alone: owners and modes are fixed, and so are the times of files whose source records
none. No name leads out of the directory in which the tar is unpacked (`beam_dedup.core.paths.copy_name`).
"""

import json
import tarfile
from typing import BinaryIO

from beam_dedup.core.archives.tar import BLOCK
from beam_dedup.core.archives.webdataset import split_key
from beam_dedup.core.paths import beside, copy_name, name_hash
from beam_dedup.core.shards.contents import Sample, TarFile

_METADATA = "json"  # the extension of the file with the metadata of an image


class TarShard:
    """Writes a tar.

    Args:
      file: the file to write.
      portable: whether names are chosen that are different on every file system.
    """

    def __init__(self, file: BinaryIO, portable: bool) -> None:
        self._portable = portable
        self._taken: set[int] = set()  # hashes of the names of files
        self._file = file
        self.size_bytes = 0  # of the contents

    def add(self, content: Sample | list[TarFile]) -> None:
        """Adds an image with its metadata and companions, or files of one key as they are."""
        for one in self._files_of(content) if isinstance(content, Sample) else content:
            self._write(safe_name(one.name, self._portable), one)

    def close(self) -> None:
        """Writes the end of the tar."""
        self._file.write(bytes(2 * BLOCK))

    def _files_of(self, sample: Sample) -> list[TarFile]:
        name, metadata = sample.name, []
        if sample.metadata:
            name = self._with_own_key(name)
            key, _ = split_key(name)
            metadata = [TarFile(f"{key}.{_METADATA}", json.dumps(dict(sample.metadata)).encode("ascii"))]
        companions = [TarFile(beside(sample.name, other), data) for other, data in sample.companions]
        # Several images may share a companion.
        new = [one for one in companions if not self._is_taken(one.name)]
        return [TarFile(name, sample.data), *metadata, *new]

    def _with_own_key(self, name: str) -> str:
        """Returns the name of an image, changed if another one has metadata under its key."""
        key, extension = split_key(name)
        if extension.lower() == _METADATA:
            extension = f"image.{extension}"
        number, own = 1, key
        while self._is_taken(f"{own}.{_METADATA}"):
            number += 1
            own = f"{key}#{number}"
        return f"{own}.{extension}" if extension else own

    def _is_taken(self, name: str) -> bool:
        return name_hash(safe_name(name, self._portable)) in self._taken

    def _write(self, name: str, file: TarFile) -> None:
        self._taken.add(name_hash(name))
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = len(file.data), 0o644, file.modified_ms // 1000
        # Not by an object of `tarfile`, which keeps the headers of all files in memory.
        self._file.write(header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        self._file.write(file.data)
        self._file.write(bytes(-len(file.data) % BLOCK))
        self.size_bytes += len(file.data)


def safe_name(name: str, portable: bool = False) -> str:
    """Returns the name of a file in a tar: key and extension without anything that leads elsewhere.

    Files of one key have one key again.

    >>> safe_name("a/b.seg.png"), safe_name("../b.png"), safe_name("/b.json")
    ('a/b.seg.png', '%2E%2E/b.png', '%2Fb.json')
    """
    key, extension = split_key(name)
    if not extension or not key or key.endswith("/"):
        return copy_name(name, portable)
    return f"{copy_name(key, portable)}.{copy_name(extension, portable)}"
