"""Recognises files that are probably not complete yet: by the name, by an open writer, or by a missing end.

Programs that copy or download a file often write it under a temporary name, and rename it at the end. Others write it
in place, and may pause for long. All three are only hints: a file may have such a name or such an end for good, or be open
for ever. So a caller should wait longer for such a file, not leave it out.
"""

import contextlib
import re
import signal
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_TAIL_BYTES = 1 << 16
_MOST_PARTS = 1000  # segments or boxes that are passed over

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


def is_open_for_writing(stream: BinaryIO) -> bool:
    """Returns whether a program on this machine has a local file open for writing; False if the system can't tell.

    Linux can, on most file systems and for files of the same user: it grants no read lease on such a file. A program that
    opens the file meanwhile waits for the microseconds until the lease is given back.

    stream: the file, open for reading only.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        # The system announces that another program waits, by a signal that ends a process. This one does not.
        fcntl.fcntl(stream, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    with contextlib.suppress(OSError):
        fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def lacks_its_end(stream: BinaryIO, size_bytes: int) -> bool:
    """Returns whether a file is empty, or of a format that marks its end, and the mark is missing.

    Args:
      stream: the file, seekable.
      size_bytes: its size.
    """
    if not size_bytes:
        return True
    head = stream.read(12)
    if head.startswith(b"\xff\xd8\xff"):  # JPEG
        start = _scan_start(stream, size_bytes)
        return start < 0 or b"\xff\xd9" not in _tail(stream, max(start, size_bytes - _TAIL_BYTES))
    if head[4:8] == b"ftyp" or head[4:8] in (b"JXL ", b"jP  "):  # HEIF, AVIF, films; JPEG XL, JPEG 2000
        return _lacks_boxes(stream, size_bytes)
    if head.startswith(b"BM"):
        return size_bytes < int.from_bytes(head[2:6], "little")
    if head.startswith((b"II*\0", b"MM\0*")):  # TIFF: the first directory often follows the pixels
        return size_bytes < int.from_bytes(head[4:8], "little" if head.startswith(b"II") else "big")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return size_bytes < 8 + int.from_bytes(head[4:8], "little")
    tail = _tail(stream, max(0, size_bytes - _TAIL_BYTES))
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in tail
    if head.startswith((b"GIF87a", b"GIF89a")):
        return not tail.rstrip(b"\0").endswith(b";")
    if head.startswith(b"PK\x03\x04"):  # zip
        return b"PK\x05\x06" not in tail
    return False


def _tail(stream: BinaryIO, start: int) -> bytes:
    stream.seek(start)
    return stream.read(_TAIL_BYTES)


def _scan_start(stream: BinaryIO, size_bytes: int) -> int:
    """Returns where the compressed data of a JPEG start; -1 if the file ends before. Thumbnails have ends of their own.

    A file with segments that are no JPEG's counts as started.
    """
    at = 2
    for _ in range(_MOST_PARTS):
        stream.seek(at)
        segment = stream.read(4)
        if len(segment) < 4 or at >= size_bytes:
            return -1
        if segment[0] != 0xFF or segment[1] == 0xDA:
            return at
        at += 1 if segment[1] == 0xFF else 2 + max(2, int.from_bytes(segment[2:], "big"))
    return at


def _lacks_boxes(stream: BinaryIO, size_bytes: int) -> bool:
    """Returns whether a file of boxes, each with its size before it, ends within one."""
    at = 0
    for _ in range(_MOST_PARTS):
        stream.seek(at)
        head = stream.read(16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8:  # 0: up to the end of the file
            return False
        at += size
        if at >= size_bytes:
            return at > size_bytes
    return False
