"""Interprets the paths of inputs: directories, files, glob patterns, and their equivalents in object stores."""

import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

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


def local_roots(inputs: Sequence[str]) -> tuple[str, ...]:
    """Returns the local directories and files that inputs name, as absolute paths: what lies outside is not theirs.

    Of a pattern it is the directory before its first wildcard, of a file the file itself.
    """
    local = [path for path in inputs if not is_remote(path)]
    return tuple(os.path.abspath((root(path) or ".") if is_pattern(path) else path) for path in local)


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
    *folders, name = path.split("/")
    parsed = PathPattern.parse(pattern.rstrip("/"))
    states = parsed.start
    for folder in folders:
        states = parsed.enter(states, folder)
    return takes(parsed.file_patterns(states), name)


EVERY_FILE = ""  # as a pattern of file names; no other pattern is empty
_ANY_DEPTH = "**"

States = frozenset[int]  # positions in a pattern that a path of directories may have reached
FilePatterns = frozenset[
    str
]  # patterns of file names, `EVERY_FILE`, and `**` for every file that is not hidden


class PathPattern(NamedTuple):
    """A pattern that is matched directory by directory, so that nothing is listed twice and nothing in vain.

    Attributes:
      parts: the parts of the pattern between slashes.
    """

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, pattern: str) -> "PathPattern":
        """Returns the pattern with this text. That of "" matches everything below a directory."""
        return cls(tuple(pattern.split("/")) if pattern else ())

    @property
    def start(self) -> States:
        """The positions before the first part."""
        return self._closure(frozenset([0]))

    def enter(self, states: States, name: str) -> States:
        """Returns the positions after a directory; none if nothing below it can match."""
        return self._closure(frozenset(self._steps(states, name)))

    def file_patterns(self, states: States) -> FilePatterns:
        """Returns the names that the files of a directory must have to match."""
        end = len(self.parts)
        if end in states:
            return frozenset([EVERY_FILE])
        return frozenset(self.parts[-1:]) if end - 1 in states else frozenset()

    def only_names(self, states: States) -> frozenset[str] | None:
        """Returns the names that can match in a directory, if they are known without listing it; else None."""
        if len(self.parts) in states or any(glob.has_magic(self.parts[state]) for state in states):
            return None
        return frozenset(self.parts[state] for state in states)

    def _steps(self, states: States, name: str) -> Iterator[int]:
        end = len(self.parts)
        is_searched = not any(_ANY_DEPTH in part for part in self.parts)
        for state in states:
            if state == end or (self.parts[state] == _ANY_DEPTH and not name.startswith(".")):
                yield state
            # A directory that matches the whole pattern is searched, unless the pattern has a `**`.
            elif (state + 1 < end or is_searched) and _takes(self.parts[state], name):
                yield state + 1

    def _closure(self, states: States) -> States:
        """Returns the positions, and those that follow a `**` that matches no directory."""
        more = {state + 1 for state in states if self.parts[state : state + 1] == (_ANY_DEPTH,)}
        more.discard(len(self.parts))
        return states if more <= states else self._closure(states | more)


def takes(patterns: FilePatterns, name: str) -> bool:
    """Returns whether a file name matches one of some patterns."""
    return EVERY_FILE in patterns or any(_takes(pattern, name) for pattern in patterns)


def _takes(part: str, name: str) -> bool:
    if name.startswith(".") and not part.startswith("."):
        return False
    return part == _ANY_DEPTH or fnmatch.fnmatchcase(name, part)


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
    # Local paths without wildcards, which may be many, are looked up; the others are compared one by one.
    reals: dict[str, int] = {}  # number of the first input that is this real path
    below: dict[str, int] = {}  # number of the first input that is, or lies below, this real path
    others: list[int] = []
    for number, path in enumerate(inputs):
        is_plain = not is_remote(path) and not is_pattern(path)
        found = [
            other
            for other in (others if is_plain else range(number))
            if holds(inputs[other], path) or holds(path, inputs[other])
        ]
        if is_plain:
            real = os.path.realpath(path)
            parents = [real, *map(str, PurePath(real).parents)]
            found += [reals[parent] for parent in parents if parent in reals]
            found += [below[real]] if real in below else []
            reals.setdefault(real, number)
            for parent in parents:
                below.setdefault(parent, number)
        else:
            others.append(number)
        if found:
            return inputs[min(found)], path
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
