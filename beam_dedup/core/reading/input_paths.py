"""What an input is, by how it is named: a folder or a file, a pattern, or something in another file system."""

import fnmatch
import glob
import os
from collections.abc import Sequence

from beam_dedup.core.archives.members import numbered
from beam_dedup.core.paths import is_remote

_MAGIC = "*?["


def is_pattern(path: str) -> bool:
    """Whether an input names what matches it. A file or folder whose very name looks like a pattern comes first."""
    return glob.has_magic(path) and (is_remote(path) or not os.path.lexists(path))


def root(path: str) -> str:
    """What names are relative to: the folder itself, of a file its folder, of a pattern the part before what varies.

    >>> root("/a/b*/c.jpg"), root("gs://bucket/a/*.jpg"), root("*.jpg"), root("gs://bucket/a/")
    ('/a', 'gs://bucket/a', '', 'gs://bucket/a')
    """
    if is_pattern(path):
        first = min(path.index(letter) for letter in _MAGIC if letter in path)
        folder = path[:first].rpartition("/")[0]
        return folder or ("/" if path.startswith("/") else "")
    if is_remote(path):
        return path.rstrip("/")
    return path if os.path.isdir(path) else os.path.dirname(path)


def matches(path: str, pattern: str) -> bool:
    """Whether the path of a file elsewhere is what a pattern names, by the same rules as on this machine.

    >>> [
    ...     matches(path, "gs://b/*/**/*.jpg")
    ...     for path in ("gs://b/x/a.jpg", "gs://b/x/y/a.jpg", "gs://b/a.jpg")
    ... ]
    [True, True, False]
    >>> matches("gs://b/x1/y/a.jpg", "gs://b/x?"), matches("gs://b/.x/a.jpg", "gs://b/*")
    (True, False)
    """
    return _matches(path.split("/"), pattern.rstrip("/").split("/"), in_folders="**" not in pattern)


def _matches(names: list[str], parts: list[str], in_folders: bool) -> bool:
    if not parts:
        return in_folders or not names
    if not names:
        return False
    is_hidden = names[0].startswith(".")
    if parts[0] == "**":  # any number of folders, or what is in them
        if not is_hidden and _matches(names[1:], parts if len(names) > 1 else parts[1:], in_folders):
            return True
        return _matches(names, parts[1:], in_folders)
    if is_hidden and not parts[0].startswith("."):
        return False
    return fnmatch.fnmatchcase(names[0], parts[0]) and _matches(names[1:], parts[1:], in_folders)


def labels(inputs: Sequence[str]) -> tuple[str, ...]:
    """What the names of each input begin with: nothing if it is the only one, else the last part of where it is.

    So names depend on the inputs alone, not on what is in them. The name of an input that is a file is the label itself.

    >>> labels(["/a/b"]), labels(["/a/b", "/c/b", "x/*.jpg", "y.zip", "z/y.zip"])
    (('',), ('b', 'b#2', 'x', 'y.zip', 'y#2.zip'))
    """
    if len(inputs) == 1:
        return ("",)
    given: list[str] = []
    for path in inputs:
        base = os.path.basename(_shown(path))
        label, number = base, 2
        while label in given:
            label, number = numbered(base, number), number + 1
        given.append(label)
    return tuple(given)


def _shown(path: str) -> str:
    path = root(path) if is_pattern(path) else path
    return path.rstrip("/") if is_remote(path) else os.path.abspath(path or ".")


def overlapping(inputs: Sequence[str]) -> tuple[str, str] | None:
    """Two inputs of which one holds the other, if there are such. Patterns are not opened: what two of them match alike
    is found where they are listed.
    """
    for number, path in enumerate(inputs):
        for other in inputs[:number]:
            if holds(other, path) or holds(path, other):
                return other, path
    return None


def holds(folder: str, path: str) -> bool:
    """Whether all that an input names lies in a folder that another is; links resolved."""
    if is_pattern(folder):
        return folder == path
    if is_remote(folder) or is_remote(path):
        inner = root(path) if is_pattern(path) else path.rstrip("/")
        return is_remote(folder) == is_remote(path) and f"{inner}/".startswith(f"{folder.rstrip('/')}/")
    return is_inside(root(path) if is_pattern(path) else path, folder)


def is_inside(path: str, folder: str) -> bool:
    """Whether a path of this machine is a folder or lies in it, links resolved."""
    real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([real, real_folder]) == real_folder
