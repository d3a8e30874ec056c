"""Matches files with the globs of `--protect`."""

import os
from collections.abc import Sequence

import numpy as np

from beam_dedup.cleaning import files
from beam_dedup.core import path_globs


def are_protected(paths: Sequence[str], protect: Sequence[str]) -> list[bool]:
    """Returns which files match a glob, by their paths or by their paths without links in the directories.

    Args:
      paths: absolute.
      protect: globs, as `beam_dedup.options.preference_checks.checked_glob` returns them.
    """
    found = np.zeros(len(paths), bool)
    if protect:
        for names in (map(os.path.normpath, paths), map(files.real, paths)):
            found |= path_globs.matches([path_globs.as_texts(names)], protect)
    checked: list[bool] = found.tolist()
    return checked
