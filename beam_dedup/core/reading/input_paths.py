"""Interprets the paths of inputs: directories, files, glob patterns, and their equivalents in object stores."""

import fnmatch
import glob
import os
from collections.abc import Sequence

from beam_dedup.core.archives.members import numbered
from beam_dedup.core.paths import is_remote

_MAGIC = "*?["


def is_pattern(path: str) -> bool:
    """Returns whether an input is a glob pattern. A file or directory of exactly that name takes precedence."""
    return glob.has_magic(path) and (is_remote(path) or not os.path.lexists(path))


def root(path: str) -> str:
    """Returns the directory to which the names of an input's images are relative.

    That is a directory itself, the directory of a file, and the part of a pattern before its first wildcard.

    >>> root("/a/b*/c.jpg"), root("gs://bucket/a/*.jpg"), root("*.jpg"), root("gs://bucket/a/")
    ('/a', 'gs://bucket/a', '', 'gs://bucket/a')
    """
    if is_pattern(path):
        first = min(path.index(letter) for letter in _MAGIC if letter in path)
        directory = path[:first].rpartition("/")[0]
        return directory or ("/" if path.startswith("/") else "")
    if is_remote(path):
        return path.rstrip("/")
    return path if os.path.isdir(path) else os.path.dirname(path)


def matches(path: str, pattern: str) -> bool:
    """Returns whether the path of an object matches a pattern, by the rules of `glob` for local files.

    A pattern without `**` also matches everything below a directory that it matches.

    >>> [
    ...     matches(path, "gs://b/*/**/*.jpg")
    ...     for path in ("gs://b/x/a.jpg", "gs://b/x/y/a.jpg", "gs://b/a.jpg")
    ... ]
    [True, True, False]
    >>> matches("gs://b/x1/y/a.jpg", "gs://b/x?"), matches("gs://b/.x/a.jpg", "gs://b/*")
    (True, False)
    """
    return _matches(path.split("/"), pattern.rstrip("/").split("/"), below="**" not in pattern)


def _matches(names: list[str], parts: list[str], below: bool) -> bool:
    """Matches the parts of a path with the parts of a pattern. below: whether paths below a match also match."""
    if not parts:
        return below or not names
    if not names:
        return False
    is_hidden = names[0].startswith(".")
    if parts[0] == "**":  # any number of directories; as the last part, also the files in them
        if not is_hidden and _matches(names[1:], parts if len(names) > 1 else parts[1:], below):
            return True
        return _matches(names, parts[1:], below)
    if is_hidden and not parts[0].startswith("."):
        return False
    return fnmatch.fnmatchcase(names[0], parts[0]) and _matches(names[1:], parts[1:], below)


def labels(inputs: Sequence[str]) -> tuple[str, ...]:
    """Returns the label of each input, with which the names of its images begin.

    It is "" for a single input, else the last part of the input's path.

    So names depend on the inputs alone, not on their content. If an input is a file, its name is the label
    itself.

    >>> labels(["/a/b"]), labels(["/a/b", "/c/b", "x/*.jpg", "y.zip", "z/y.zip"])
    (('',), ('b', 'b#2', 'x', 'y.zip', 'y#2.zip'))
    """
    if len(inputs) == 1:
        return ("",)
    given: list[str] = []
    for path in inputs:
        base = os.path.basename(_root_or_file(path))
        label, number = base, 2
        while label in given:
            label, number = numbered(base, number), number + 1
        given.append(label)
    return tuple(given)


def _root_or_file(path: str) -> str:
    path = root(path) if is_pattern(path) else path
    return path.rstrip("/") if is_remote(path) else os.path.abspath(path or ".")


def overlapping(inputs: Sequence[str]) -> tuple[str, str] | None:
    """Returns two inputs of which one contains the other; None if there are none.

    Patterns are not expanded here: a file that two patterns match is found when they are listed.
    """
    for number, path in enumerate(inputs):
        for other in inputs[:number]:
            if holds(other, path) or holds(path, other):
                return other, path
    return None


def holds(folder: str, path: str) -> bool:
    """Returns whether everything an input names is inside another input, a directory. Links are resolved."""
    if is_pattern(folder):
        return folder == path
    if is_remote(folder) or is_remote(path):
        inner = root(path) if is_pattern(path) else path.rstrip("/")
        return is_remote(folder) == is_remote(path) and f"{inner}/".startswith(f"{folder.rstrip('/')}/")
    return is_inside(root(path) if is_pattern(path) else path, folder)


def is_inside(path: str, folder: str) -> bool:
    """Returns whether a local path is a directory or inside it. Links are resolved."""
    real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([real, real_folder]) == real_folder
