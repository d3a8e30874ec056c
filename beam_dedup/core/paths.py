"""What a copy is called: a pure function of the image's name, so that placing it twice is harmless.

A name is the path of the image relative to its input. Sources are strangers, so no name may lead out of the output
folder, and no two names may become one: what can't be kept is escaped as `%XX`, and so is a `%` that would read as
such an escape.
"""

import hashlib
import os
import re

DUPLICATES_FOLDER = "_duplicates"
PARTIAL_PREFIX = ".dedup-"  # of a file that is being written; it has its final name only once it is whole
PARTIAL_SUFFIX = ".part"

_MOST_BYTES = 255  # of one name, on the file systems in use
_LOOKS_ESCAPED = re.compile(r"%(?=[0-9A-Fa-f]{2}|~[0-9a-f]{32})")


def is_remote(path: str) -> bool:
    """Whether a path names a file system of Beam's, as in gs://bucket/name."""
    return "://" in path


def partial_prefix(process: int) -> str:
    """How the names of files begin that a process, given by its number, has not finished."""
    return f"{PARTIAL_PREFIX}{process}-"


_PARTIAL = re.compile(rf"{re.escape(PARTIAL_PREFIX)}\d+-\w+{re.escape(PARTIAL_SUFFIX)}")


def is_partial(name: str) -> bool:
    """Whether a file of this name was begun by a run of ours and not finished."""
    return _PARTIAL.fullmatch(name) is not None


def copy_name(name: str) -> str:
    """The path of a kept image's copy, relative to the output folder.

    >>> copy_name("a/b.jpg"), copy_name("/etc/x"), copy_name("../x"), copy_name("a//b"), copy_name("50%.jpg")
    ('a/b.jpg', '%2Fetc/x', '%2E%2E/x', 'a/%2Fb', '50%.jpg')
    """
    escaped = _LOOKS_ESCAPED.sub("%25", name).replace("\0", "%00").replace("\\", "%5C")
    parts: list[str] = []
    pending = ""
    for part in escaped.split("/"):
        if part == "":
            pending += "%2F"
        else:
            parts.append(pending + (part.replace(".", "%2E") if part in (".", "..") else part))
            pending = ""
    if pending or not parts:
        parts.append(pending or "%")
    for at, clash in ((0, parts[0] == DUPLICATES_FOLDER), (-1, is_partial(parts[-1]))):
        if clash:
            parts[at] = f"%{ord(parts[at][0]):02X}{parts[at][1:]}"
    return "/".join(_shortened(part) for part in parts)


def _shortened(part: str) -> str:
    """A name that file systems take: one of more than 255 bytes ends in a hash of itself, and its extension."""
    data = part.encode("utf-8", "surrogateescape")
    if len(data) <= _MOST_BYTES:
        return part
    stem, extension = os.path.splitext(part)
    tail = (
        "%~"
        + hashlib.sha256(data).hexdigest()[:32]
        + (extension if len(extension.encode("utf-8", "replace")) <= 16 else "")
    )
    room = _MOST_BYTES - len(tail.encode("utf-8", "surrogateescape"))
    return stem.encode("utf-8", "surrogateescape")[:room].decode("utf-8", "ignore") + tail


def duplicate_name(group: str, name: str) -> str:
    """The path of a duplicate's copy, relative to the output folder; `group` is the digest of the kept image.

    >>> duplicate_name("ab12", "holiday/b.jpg")
    '_duplicates/ab12/holiday/b.jpg'
    """
    return f"{DUPLICATES_FOLDER}/{group}/{copy_name(name)}"
