"""Matches files with the patterns of `--protect`."""

import fnmatch
import glob
import os
from collections.abc import Iterable


def patterns_of(protect: Iterable[str], directory: str) -> list[str]:
    """Returns the patterns of `--protect`, such that they match absolute paths, and all that is in a directory that they match."""
    top = glob.escape(os.path.abspath(directory or os.curdir))
    patterns = []
    for given in protect:
        pattern = os.path.expanduser(given.rstrip("/")) or "/"
        pattern = pattern if pattern.startswith("*") else os.path.normpath(os.path.join(top, pattern))
        patterns += [pattern, f"{pattern.rstrip('/')}/*"]
    return patterns


def is_protected(names: Iterable[str], patterns: Iterable[str]) -> bool:
    """Returns whether one of the names of a file matches one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)
