"""Checks the options about splits: `--split`, `--leak`, `--assign` and `--seed`."""

import argparse
import re

from beam_dedup.core.assignment import Assignment
from beam_dedup.core.errors import UsageError
from beam_dedup.core.reading import input_paths
from beam_dedup.options.defaults import DROP_FROM, LEAK_FAIL, LEAK_REPORT, MAX_SPLITS
from beam_dedup.options.option import quoted

_PLAIN_NAMES = {2: ("train", "test"), 3: ("train", "val", "test")}  # of shares without names, by their number
_SHARE = re.compile(r"\d{1,9}(\.\d{1,6})?", re.ASCII)
_ASSIGN_FORM = "two or three shares such as 80/10/10, or names with shares such as train=80,val=10,test=10"
_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)


def with_split_inputs(options: argparse.Namespace) -> tuple[argparse.Namespace, tuple[str, ...]]:
    """Returns the options with the inputs of `--split` as those of `-i`, and the split of each; () without `--split`.

    Raises:
      UsageError: a value is not NAME=INPUT, there are fewer than two splits, or `-l` or `--across` is given.
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
    if options.across:
        raise UsageError(
            "--split must not be combined with --across: leaks are found between splits, and duplicates in all of them. Remove one of them"
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


def assignment(options: argparse.Namespace) -> Assignment | None:
    """Returns the splits that images are assigned to; None without `--assign`.

    Raises:
      UsageError: the shares are of a wrong form, or an option is missing or does not go with another one.
    """
    if not options.assign:
        if options.seed is not None:
            raise UsageError(
                f"--seed applies only with --assign; got --seed {options.seed} without it. Add --assign or remove --seed"
            )
        return None
    if options.split:
        raise UsageError(
            "--assign must not be combined with --split, which names the splits of images. Remove one of them"
        )
    if not options.records:
        raise UsageError(
            "--assign requires --records, which have the splits. Add --records FILE or remove --assign"
        )
    names, texts = _names_and_shares(options.assign)
    shares = [float(text) if "." in text else int(text) for text in texts if _SHARE.fullmatch(text)]
    is_wrong = (
        len(shares) != len(names) or len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names))
    )
    if is_wrong or not 2 <= len(names) <= MAX_SPLITS or not all(shares):
        raise UsageError(f"--assign must be {_ASSIGN_FORM}; got {quoted(options.assign)}")
    seed = 0 if options.seed is None else options.seed
    if not 0 <= seed < 1 << 63:
        raise UsageError(f"--seed must be between 0 and {(1 << 63) - 1}; got {seed}")
    return Assignment(names, tuple(shares), seed)


def _names_and_shares(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the names of splits and the texts of their shares; no names if there are none for so many shares."""
    if "=" not in text:
        shares = tuple(text.split("/"))
        return _PLAIN_NAMES.get(len(shares), ()), shares
    pairs = [part.partition("=") for part in text.split(",")]
    return tuple(name for name, _, _ in pairs), tuple(share for _, _, share in pairs)
