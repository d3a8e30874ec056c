"""Checks the option for shards."""

import argparse

from beam_dedup.core.errors import UsageError


def shard_format(options: argparse.Namespace) -> str:
    """Returns the format of shards; "" if each kept image is a copy of its own.

    Raises:
      UsageError: an option is missing, or does not go with shards.
    """
    form = getattr(options, "as")
    if not form:
        return ""
    if not options.output_dir:
        raise UsageError("--as requires -d, the directory for shards. Add -d DIR or remove --as")
    for flag, is_given, why in (
        ("-s", options.show_duplicates, "shards hold kept images only"),
        ("--place", options.place, "shards are always written"),
        ("--preview", options.preview, "it lists single copies"),
    ):
        if is_given:
            raise UsageError(f"{flag} must not be combined with --as ({why}). Remove one of them")
    return str(form)
