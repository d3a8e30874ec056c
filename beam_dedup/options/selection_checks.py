"""Checks the options that choose which files of the inputs are read."""

import argparse
import os
from collections.abc import Sequence

from beam_dedup.core import globs
from beam_dedup.core.errors import UsageError
from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading import input_paths
from beam_dedup.core.reading.selection import EXCLUDE, INCLUDE, MIN_SIZE, ONE_FILE_SYSTEM, Selection
from beam_dedup.options.option import quoted

NO_DEFAULT_EXCLUDES = "--no_default_excludes"


def selection(options: argparse.Namespace, max_bytes: int) -> Selection:
    """Returns the selection that the options ask for.

    Args:
      options: the parsed options.
      max_bytes: the largest accepted value of `--min_size`.

    Raises:
      UsageError: a pattern can match nothing, the size is out of range, or an option does not apply.
    """
    _check_applies(options)
    for flag, patterns in ((EXCLUDE, options.exclude), (INCLUDE, options.include)):
        for pattern in patterns or ():
            _check_pattern(flag, pattern, options.dump_dir or ())
    if options.include and all(pattern.startswith("!") for pattern in options.include):
        raise UsageError(
            f"{INCLUDE} must not begin with ! alone: no file would be read; got {quoted(options.include[0])}. "
            f"Use {EXCLUDE} without !"
        )
    min_bytes = options.min_size or 0
    if not 0 <= min_bytes <= max_bytes:
        raise UsageError(f"{MIN_SIZE} must be between 0 and {max_bytes}; got {min_bytes}")
    return Selection(
        exclude=tuple(options.exclude or ()),
        include=tuple(options.include or ()),
        default_excludes=not options.no_default_excludes,
        min_bytes=min_bytes,
        one_file_system=options.one_file_system,
    )


def across(options: argparse.Namespace) -> bool:
    """Returns whether only images of different inputs are duplicates of each other.

    Raises:
      UsageError: there are no two inputs, or one has no name.
    """
    if not options.across:
        return False
    inputs = options.dump_dir or ()
    if len(inputs) + bool(options.reference) < 2 or not inputs:
        raise UsageError(
            "--across requires two inputs, which it compares; give -i twice, or -i and --reference. Try --across -i old -i new"
        )
    labels = input_paths.labels([path if is_remote(path) else os.path.expanduser(path) for path in inputs])
    if len(labels) > 1 and "" in labels:
        raise UsageError(
            f"--across requires inputs with a name; got -i {quoted(inputs[labels.index('')])}. Name another input"
        )
    return True


def _check_applies(options: argparse.Namespace) -> None:
    """Raises UsageError if an option has no effect with an input of this kind."""
    if options.dump_dir:
        return
    for flag, is_given, why in (
        (MIN_SIZE, options.min_size, "sizes are known only of files that are listed"),
        (ONE_FILE_SYSTEM, options.one_file_system, "it is about directories that are walked"),
        (
            NO_DEFAULT_EXCLUDES,
            options.no_default_excludes and not options.subscription,
            "without it the rows of -l are all read too",
        ),
    ):
        if is_given:
            raise UsageError(f"{flag} applies only with -i ({why}). Remove {flag}")


def _check_pattern(flag: str, pattern: str, inputs: Sequence[str]) -> None:
    """Raises UsageError if a pattern can match nothing."""
    if is_remote(pattern):
        raise UsageError(
            f"{flag} must be relative to the input, without store and bucket; got {quoted(pattern)}"
        )
    try:
        globs.parse(pattern)
    except ValueError as error:
        raise UsageError(f"{flag} {error}; got {quoted(pattern)}") from None
    negation = "!" if pattern.startswith("!") else ""
    path = os.path.expanduser(pattern.removeprefix("!"))
    for given in inputs:
        if not path.startswith("/") or is_remote(given):
            continue
        root = os.path.abspath(input_paths.root(os.path.expanduser(given)) or ".")
        if root != "/" and path.startswith(f"{root}/"):
            relative = quoted(f"{negation}{path.removeprefix(root)}")
            raise UsageError(f"{flag} must be relative to -i; got {quoted(pattern)}. Try {flag} {relative}")
