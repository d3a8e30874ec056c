"""Checks the options that limit what a run may read: `--allow` and `--links`."""

import argparse

from beam_dedup.core.allowed import checked_prefix
from beam_dedup.core.errors import UsageError
from beam_dedup.core.paths import is_remote
from beam_dedup.options.defaults import LINKS_INSIDE
from beam_dedup.options.option import quoted


def allowed_prefixes(options: argparse.Namespace) -> tuple[str, ...]:
    """Returns the prefixes of `--allow`, each once.

    Raises:
      UsageError: a prefix is of the wrong form, or `--allow` is missing with `--subscription`, or does not apply.
    """
    given = options.allow or []
    if options.subscription and not given:
        raise UsageError(
            "--subscription requires --allow, the buckets that messages may name: whoever may publish chooses the "
            "object. Name the bucket that sends notifications, for example: --allow gs://crawl-in"
        )
    if given and not options.subscription and not options.json_metadata:
        raise UsageError(
            "--allow applies only with --subscription or -l, which name single images; -i names the input itself. "
            "Remove --allow"
        )
    prefixes: dict[str, None] = {}
    for prefix in given:
        try:
            checked = checked_prefix(prefix)
        except ValueError as error:
            raise UsageError(f"--allow {error}; got {quoted(prefix)}") from None
        if options.subscription and not is_remote(checked):
            raise UsageError(
                f"--allow must be in an object store with --subscription; got {quoted(prefix)}. "
                "Try --allow gs://BUCKET"
            )
        prefixes[checked] = None
    return tuple(prefixes)


def links_inside(options: argparse.Namespace) -> bool:
    """Returns whether links that lead out of the input are rejected.

    Raises:
      UsageError: `--links` is given without `-i`.
    """
    if options.links and not options.dump_dir:
        other = "; with -l, --allow limits where links lead" if options.json_metadata else ""
        raise UsageError(f"--links applies only with -i{other}. Remove --links")
    return bool(options.links == LINKS_INSIDE)
