"""What a copy is called: a pure function of the image's name, so that placing it twice is harmless.

A name is the path of the image relative to its input. Sources are strangers, so no name may lead out of the output
folder, and no two names may become one: what can't be kept is escaped as `%XX`, and so is a `%` that would read as
such an escape.
"""

import re

DUPLICATES_FOLDER = "_duplicates"
PARTIAL_PREFIX = ".dedup-"  # of a file that is being written; it has its final name only once it is whole
PARTIAL_SUFFIX = ".part"

_LOOKS_ESCAPED = re.compile(r"%(?=[0-9A-Fa-f]{2})")


def partial_prefix(process: int) -> str:
    """How the names of files begin that a process, given by its number, has not finished."""
    return f"{PARTIAL_PREFIX}{process}-"


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
    if parts[0] == DUPLICATES_FOLDER or parts[0].startswith(PARTIAL_PREFIX):
        parts[0] = f"%{ord(parts[0][0]):02X}{parts[0][1:]}"
    return "/".join(parts)


def duplicate_name(group: str, name: str) -> str:
    """The path of a duplicate's copy, relative to the output folder; `group` is the digest of the kept image.

    >>> duplicate_name("ab12", "holiday/b.jpg")
    '_duplicates/ab12/holiday/b.jpg'
    """
    return f"{DUPLICATES_FOLDER}/{group}/{copy_name(name)}"
