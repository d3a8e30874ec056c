"""Checks the options that choose which images are preferred, and which are protected."""

import argparse
import os

from beam_dedup.core.errors import UsageError
from beam_dedup.core.path_globs import absolute_glob, check_glob
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.options.option import quoted


def preference(options: argparse.Namespace) -> Preference:
    """Returns which images the options prefer and protect.

    Raises:
      UsageError: a glob is written wrongly.
    """
    directory = os.getcwd()
    protect = tuple(_checked_glob("--protect", glob, directory) for glob in options.protect or [])
    return Preference(KeepPolicy(options.keep), protect, directory)


def _checked_glob(flag: str, given: str, directory: str) -> str:
    glob = absolute_glob(given, directory)
    try:
        check_glob(glob)
    except ValueError as error:
        raise UsageError(f"{flag} {error}; got {quoted(given)}") from None
    return glob
