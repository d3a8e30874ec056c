"""Checks the options that choose which images are preferred, and which are protected."""

import argparse
import dataclasses
import os
from collections.abc import Sequence

from beam_dedup.core.errors import UsageError
from beam_dedup.core.path_globs import absolute_glob, check_glob
from beam_dedup.core.preference import KeepPolicy, Preference, Rule, RuleKind, parse_rules
from beam_dedup.options.option import quoted


def preference(options: argparse.Namespace) -> Preference:
    """Returns which images the options prefer and protect.

    Raises:
      UsageError: a glob is written wrongly.
    """
    directory = os.getcwd()
    protect = tuple(checked_glob("--protect", glob, directory) for glob in options.protect or [])
    has_labels = len(options.dump_dir or ()) > 1
    return Preference(_rules(options.keep, directory), protect, directory, has_labels)


def is_first(given: Sequence[str] | None) -> bool:
    """Returns whether the values of `--keep` prefer the first image, as a stream does."""
    return not given or list(given) == [KeepPolicy.FIRST]


def checked_glob(flag: str, given: str, directory: str) -> str:
    """Returns a glob over paths as `beam_dedup.core.path_globs.matches` takes it.

    Args:
      flag: which has it.
      given: the glob.
      directory: to which `./` at its beginning is relative.

    Raises:
      UsageError: it is written wrongly.
    """
    glob = absolute_glob(given, directory)
    try:
        check_glob(glob)
    except ValueError as error:
        raise UsageError(f"{flag} {error}; got {quoted(given)}") from None
    return glob


def _rules(given: Sequence[str] | None, directory: str) -> tuple[Rule, ...]:
    try:
        rules = parse_rules(given or [KeepPolicy.FIRST])
    except ValueError as error:
        raise UsageError(f"--keep {error}") from None
    return tuple(
        dataclasses.replace(rule, glob=checked_glob(f"--keep {rule.kind}:", rule.glob, directory))
        if rule.kind in (RuleKind.PATH, RuleKind.NOT)
        else rule
        for rule in rules
    )
