"""Checks the options about splits: `--split` and `--leak`."""

import argparse
import re

from beam_dedup.core.errors import UsageError
from beam_dedup.core.reading import input_paths
from beam_dedup.options.defaults import DROP_FROM, LEAK_FAIL, LEAK_REPORT, MAX_SPLITS
from beam_dedup.options.option import quoted

_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)


def with_split_inputs(options: argparse.Namespace) -> tuple[argparse.Namespace, tuple[str, ...]]:
    """Returns the options with the inputs of `--split` as those of `-i`, and the split of each; () without `--split`.

    Raises:
      UsageError: a value is not NAME=INPUT, there are fewer than two splits, or `-l` is given.
    """
    if not options.split:
        if options.leak:
            raise UsageError(
                f"--leak requires --split; got --leak {quoted(options.leak)}. Add --split or remove --leak"
            )
        return options, ()
    if options.dump_dir:
        raise UsageError(
            "--split must not be combined with -i; it names inputs itself. Replace -i by --split NAME=INPUT"
        )
    if options.json_metadata:
        raise UsageError(
            "--split must not be combined with -l, whose images are in no split. Remove one of them"
        )
    names, inputs = [], []
    for value in options.split:
        name, equals, path = value.partition("=")
        if not equals or not path or not _NAME.fullmatch(name):
            raise UsageError(
                "--split must have the form NAME=INPUT, where NAME has letters, digits, _, - and .; "
                f"got {quoted(value)}"
            )
        names.append(name)
        inputs.append(path)
    if not 2 <= len(set(names)) <= MAX_SPLITS:
        got = f"only {quoted(names[0])}" if len(set(names)) == 1 else f"{len(set(names))} names"
        raise UsageError(
            f"--split needs between 2 and {MAX_SPLITS} splits to compare; got {got}. "
            "Name each, for example: --split train=data/train --split test=data/test"
        )
    merged = argparse.Namespace(**vars(options))
    merged.dump_dir = inputs
    return merged, tuple(names)


def check_roots(inputs: tuple[str, ...], splits: tuple[str, ...]) -> None:
    """Raises UsageError if the names of an input's images would not say that they are of this input."""
    for path, label in zip(inputs, input_paths.labels(inputs), strict=True):
        if splits and not label:
            raise UsageError(
                f"--split must name a directory, file or pattern below the root; got {quoted(path)}"
            )


def leak(options: argparse.Namespace, splits: tuple[str, ...]) -> str:
    """Returns what follows from a leak: `report`, `fail`, or `drop_from=NAME`.

    Raises:
      UsageError: it is something else, or there is no such split.
    """
    value = str(options.leak or LEAK_REPORT)
    name = value.removeprefix(DROP_FROM)
    if value in (LEAK_REPORT, LEAK_FAIL) or (value.startswith(DROP_FROM) and name in splits):
        return value
    if value.startswith(DROP_FROM):
        known = ", ".join(dict.fromkeys(splits))
        raise UsageError(
            f"--leak {DROP_FROM}NAME must name a split of --split; got {quoted(name)}. The splits are {known}"
        )
    raise UsageError(f"--leak must be {LEAK_REPORT}, {LEAK_FAIL} or {DROP_FROM}NAME; got {quoted(value)}")
