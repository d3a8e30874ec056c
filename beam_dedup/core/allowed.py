"""Decides whether a path lies below one of the prefixes that a run may read (`--allow`).

A message or a row names any path, and is written by others. Stores, clients and proxies do not agree on what a
path with `..`, `//`, a backslash or an escape like `%2e` names: some take the text as it is, others resolve it
first. So a path in a store is allowed only if it lies below the same prefix however it is read. A local path is
allowed if its real path is: links are resolved.
"""

import os
import re
from collections.abc import Sequence
from urllib.parse import unquote

from beam_dedup.core.paths import is_remote, local_path

STORES = ("gs", "s3", "hdfs", "azfs", "abfs")

_MOST_ESCAPES = 8  # times that a path may be escaped; more is allowed nowhere
_MOST_NAMED = 3  # prefixes in a message
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


def checked_prefix(prefix: str) -> str:
    """Returns a prefix in the form that `is_allowed` takes.

    >>> checked_prefix("GS://bucket"), checked_prefix("gs://bucket/in/"), checked_prefix("file:///data/")
    ('gs://bucket', 'gs://bucket/in/', '/data')

    Raises:
      ValueError: it names no directory or bucket, or several readings of it differ.
    """
    prefix = local_path(prefix)
    if not prefix.strip():
        raise ValueError("must name a bucket or a directory")
    if _CONTROLS.search(prefix):
        raise ValueError("must not contain control characters")
    if "*" in prefix:
        raise ValueError("must be a prefix, not a pattern")
    if not is_remote(prefix):
        return os.path.abspath(os.path.expanduser(prefix))
    scheme, _, rest = prefix.partition("://")
    if scheme.lower() not in STORES:
        stores = ", ".join(f"{store}://" for store in STORES)
        raise ValueError(f"must be a directory, or in an object store ({stores})")
    bucket, *parts = rest.split("/")
    if not bucket.strip("."):
        raise ValueError("must name a bucket")
    if "" in parts[:-1] or {".", ".."} & set(parts) or "\\" in rest:
        raise ValueError("must have no empty part and no '.', '..' or backslash")
    return f"{scheme.lower()}://{rest}"


def is_allowed(path: str, prefixes: Sequence[str]) -> bool:
    """Returns whether a path lies below a prefix. A prefix ends where a part of a path ends.

    Args:
      path: of an object, or of a local file, which need not exist.
      prefixes: as `checked_prefix` returns them.

    >>> [
    ...     is_allowed(path, ["gs://b/in"])
    ...     for path in ("gs://b/in/a.jpg", "gs://b/inner.jpg", "gs://b/in/../x", "gs://b/in/%2e%2e/x")
    ... ]
    [True, False, False, False]
    """
    if is_remote(path):
        return any(_is_below(path, prefix) for prefix in prefixes if is_remote(prefix))
    return real_root(path, [prefix for prefix in prefixes if not is_remote(prefix)]) is not None


def refusal(path: str, prefixes: Sequence[str]) -> str:
    """Returns why a path is not allowed, in one line; "" if it is allowed.

    >>> refusal("gs://b/a.jpg", ["gs://b/in"]), refusal("gs://b/in/a.jpg", ["gs://b/in"])
    ('not below gs://b/in', '')
    """
    if is_allowed(path, prefixes):
        return ""
    more = " ..." if len(prefixes) > _MOST_NAMED else ""
    why = f"not below {' or '.join(prefixes[:_MOST_NAMED])}{more}"
    leads = "" if is_remote(path) else leads_to(path)
    return f"{leads}, {why}" if leads else why


def leads_to(path: str) -> str:
    """Returns where a local path leads, in one line; "" if it passes through no link."""
    try:
        real = os.path.realpath(path)
    except ValueError as error:  # no file can have such a name
        return str(error)
    return "" if real == os.path.abspath(path) else f"leads to {real}"


def real_root(path: str, directories: Sequence[str]) -> str | None:
    """Returns the real path of a directory in which a local file lies, by its real path; None if there is none.

    Each of the directories may be a file too, in which only the file itself lies.
    """
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError):  # no file can have such a name, for example one with a NUL
        return None
    for directory in directories:
        root = os.path.realpath(directory)
        if real == root or real.startswith(os.path.join(root, "")):
            return root
    return None


def _is_below(path: str, prefix: str) -> bool:
    """Returns whether a path in a store lies below a prefix, however often it is unescaped."""
    for _ in range(_MOST_ESCAPES):
        if _CONTROLS.search(path) or not _leads_below(path, prefix):
            return False
        if not _leads_below(path.replace("\\", "/"), prefix.replace("\\", "/")):
            return False
        decoded = unquote(path, errors="surrogateescape")
        if decoded == path:
            return True
        path, prefix = decoded, unquote(prefix, errors="surrogateescape")
    return False


def _leads_below(path: str, prefix: str) -> bool:
    """Returns whether a path begins with a prefix, and no `..` leads out of it, not even for a moment.

    Empty parts and `.` count as nothing, so that they cannot make up for a `..`. Some servers take `..;a` for `..`.
    """
    scheme, separator, rest = path.partition("://")
    path = f"{scheme.lower()}{separator}{rest}"
    if path == prefix:
        return True
    start = prefix if prefix.endswith("/") else f"{prefix}/"
    if not path.startswith(start):
        return False
    depth = 0
    for part in path[len(start) :].split("/"):
        name = part.partition(";")[0]
        if name == "..":
            depth -= 1
        elif name not in ("", "."):
            depth += 1
        if depth < 0:
            return False
    return True
