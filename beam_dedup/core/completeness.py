"""Recognises files that are probably not complete yet: by the name, or because the end of the content is missing.

Programs that copy or download a file often write it under a temporary name, and rename it at the end. Others write it
in place, and may pause for long. Both are only hints: a file may have such a name or such an end for good. So a caller
should wait longer for such a file, not leave it out.
"""

import re
from typing import BinaryIO

_TAIL_BYTES = 1 << 16

# Suffixes of browsers, download managers, FTP clients, editors and office programs; compared without regard to case.
_SUFFIXES = (
    ".part",
    ".partial",
    ".tmp",
    ".temp",
    ".crdownload",
    ".opdownload",
    ".download",
    ".filepart",
    ".!ut",
    ".!qb",
    ".aria2",
    ".swp",
    "~",
)
_PREFIXES = (
    ".~",
    "~$",
    ".goutputstream-",
    ".nfs",
    ".syncthing.",
    "~syncthing~",
    ".fuse_hidden",
    ".com.google.chrome.",
)
_RSYNC = re.compile(r"\..+\.[A-Za-z0-9]{6}")  # .NAME.XXXXXX
_DIRECTORIES = (".rsync-partial", ".~tmp~")
_DIRECTORY_SUFFIX = ".download"  # Safari's, with the file in it


def is_temporary_name(path: str) -> bool:
    """Returns whether programs give a file this path until it is complete. `path` has `/` between its parts.

    >>> [is_temporary_name(path) for path in ("a/b.jpg.part", "a/.b.jpg.Xy12Ab", "b.jpg.crdownload")]
    [True, True, True]
    >>> [is_temporary_name(path) for path in ("a.part/b.jpg", ".b.jpg", "part.jpg")]
    [False, False, False]
    """
    *directories, name = path.split("/")
    if any(part in _DIRECTORIES or part.lower().endswith(_DIRECTORY_SUFFIX) for part in directories):
        return True
    lower = name.lower()
    return lower.endswith(_SUFFIXES) or lower.startswith(_PREFIXES) or _RSYNC.fullmatch(name) is not None


def lacks_its_end(stream: BinaryIO, size_bytes: int) -> bool:
    """Returns whether a file is empty, or of a format that marks its end, and the mark is missing.

    Args:
      stream: the file, seekable.
      size_bytes: its size.
    """
    if not size_bytes:
        return True
    head = stream.read(12)
    stream.seek(max(0, size_bytes - _TAIL_BYTES))
    tail = stream.read(_TAIL_BYTES)
    if head.startswith(b"\xff\xd8\xff"):  # JPEG
        return b"\xff\xd9" not in tail
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in tail
    if head.startswith((b"GIF87a", b"GIF89a")):
        return not tail.rstrip(b"\0").endswith(b";")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return size_bytes < 8 + int.from_bytes(head[4:8], "little")
    if head.startswith(b"PK\x03\x04"):  # zip
        return b"PK\x05\x06" not in tail
    return False
