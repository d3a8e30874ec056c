"""Makes the local paths of a run absolute, for workers that have another current directory."""

import dataclasses
import glob
import os

from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading import input_paths
from beam_dedup.options.config import DedupConfig


def with_absolute_paths(config: DedupConfig) -> DedupConfig:
    """Returns the same configuration with all local inputs and outputs as absolute paths.

    That includes the paths in the rows of `-l`, which a worker makes absolute (`DedupConfig.directory`). The names of
    copies do not change.
    """
    return dataclasses.replace(
        config,
        inputs=tuple(map(absolute, config.inputs)),
        json_metadata=absolute(config.json_metadata),
        reference=absolute(config.reference),
        decisions_file=absolute(config.decisions_file),
        output_json=absolute(config.output_json),
        output_dir=absolute(config.output_dir),
        records=absolute(config.records),
        counts=absolute(config.counts),
        drop_list=absolute(config.drop_list),
        pairs=absolute(config.pairs),
        directory=(absolute(config.directory) or os.getcwd()) if config.json_metadata else "",
    )


def absolute(path: str) -> str:
    """Returns a path from the root directory; "" and remote paths as they are. A / at the end is kept.

    Wildcards in the name of the current directory are escaped where the path is a pattern.
    """
    if not path or is_remote(path) or os.path.isabs(path):
        return path
    directory = os.getcwd()
    start = glob.escape(directory) if input_paths.is_pattern(path) else directory
    made = os.path.normpath(os.path.join(start, path))
    return os.path.join(made, "") if path.endswith("/") else made
