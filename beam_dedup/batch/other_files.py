"""Counts the files in the output directory that a run has not placed there."""

import itertools
import os
from collections.abc import Iterator

from beam_dedup.core.overview import Overview
from beam_dedup.core.paths import is_partial, is_remote
from beam_dedup.options.config import DedupConfig
from transforms.storage import objects

MAX_COUNTED = 100_000  # so that a prefix with millions of other objects does not delay the summary


def count_other_files(
    config: DedupConfig, overview: Overview, unplaced: int, companions: int = 0, most: int = MAX_COUNTED
) -> int:
    """Returns how many files lie in the output directory that are neither copies nor outputs of this run, at most `most`.

    They come from runs on other inputs or with other options, or from other programs. Returns 0 if the directory can't be
    listed.

    Args:
      config: the options of the run.
      overview: says how many copies of images the run had to make.
      unplaced: how many of them it could not make.
      companions: how many copies of companions it had to make.
      most: where counting ends.
    """
    images = overview.kept + (overview.duplicates if config.show_duplicates else 0)
    placed = images + companions - unplaced
    try:
        found = sum(1 for _ in itertools.islice(_files(config), placed + most))
    except OSError:  # a store may allow to write but not to list
        return 0
    return max(0, found - placed)


def _files(config: DedupConfig) -> Iterator[str]:
    """Yields the files in the output directory that are no other output of the run."""
    outputs = [
        path for path in config.output_files.values() if is_remote(path) == is_remote(config.output_dir)
    ]
    if is_remote(config.output_dir):
        for uri in objects.list_objects(f"{config.output_dir.rstrip('/')}/"):
            if not any(uri.startswith(path) if path.endswith("/") else uri == path for path in outputs):
                yield uri
        return
    left_out = {os.path.realpath(path) for path in outputs}
    for directory, directories, names in os.walk(os.path.realpath(config.output_dir)):
        directories[:] = [name for name in directories if os.path.join(directory, name) not in left_out]
        for name in names:
            path = os.path.join(directory, name)
            if path not in left_out and not is_partial(name):
                yield path
