"""Checks options for what can be said without touching any file, and makes the configuration of a run."""

import argparse
import glob
import os
import re
from typing import TypeVar

from beam_dedup.core.algorithms import ALGORITHMS, DCT, DEFAULT_VIEWS, Recipe, Views, missing_library
from beam_dedup.core.errors import UsageError
from beam_dedup.core.limits import MAX_PIXELS_SCALED, Limits
from beam_dedup.core.paths import is_remote
from beam_dedup.core.rank import KeepPolicy
from beam_dedup.core.reading import input_paths
from beam_dedup.core.thresholds import DEFAULT_VERIFY, LONG_BITS, Thresholds
from beam_dedup.options.config import (
    DEFAULT_EXPECTED,
    DEFAULT_OUTPUT_JSON,
    DEFAULT_RECORDS,
    DEFAULT_REMEMBER,
    DedupConfig,
    StreamConfig,
)

_MOST_BYTES = 1 << 40
_LEAST_TIMEOUT, _MOST_TIMEOUT = 0.1, 86400.0

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_LEAST_SECONDS, _MOST_SECONDS = 60.0, 3650 * 86400.0
SUBSCRIPTION = re.compile(r"projects/[^/\s]+/subscriptions/[^/\s]+")
TOPIC = re.compile(r"projects/[^/\s]+/topics/[^/\s]+")

# What looks at all images at once, or looks ahead, has no meaning without an end.
_OF_BATCH = {
    "json_metadata": ("-l", "reads one file to its end"),
    "output_json": ("-o", "lists all groups at the end of a run; the records tell the same"),
    "reference": ("--reference", "is for runs with an end; begin with a run over both"),
    "preview": ("--preview", "tells at the end of a run what would be placed"),
}

_Number = TypeVar("_Number", int, float)


def configure(options: argparse.Namespace) -> DedupConfig:
    """Checks options for what can be said without touching any file.

    Raises:
      UsageError: flag, rule and value in one sentence.
    """
    stream = stream_config(options)
    named = options.json_metadata or options.subscription
    if not named and not (options.dump_dir and all(options.dump_dir)):
        raise UsageError(
            "-i is missing (or -l): name the folder with the images, as in: dedup -n -i ~/Pictures"
        )
    _check_mode(options)
    if options.show_duplicates and not options.output_dir:
        raise UsageError("-s copies duplicates below the output folder: it needs -d DIR")
    of_folder = ("place", "preview", "portable_names")
    for flag, given in ((f"--{name}", getattr(options, name)) for name in of_folder):
        if given and not options.output_dir:
            raise UsageError(f"{flag} is about the output folder: it needs -d DIR")
    jobs = os.cpu_count() or 1 if options.num_jobs is None else options.num_jobs
    _check_range("-j", jobs, 1, 1024)
    output_json = options.output_json
    if output_json is None:
        output_json = "" if options.preview or stream else DEFAULT_OUTPUT_JSON
    records = options.records
    if records is None:
        records = DEFAULT_RECORDS if stream else ""
    counts = options.counts
    if stream:
        records, counts = (path and os.path.join(path, "") for path in (records, counts))
    config = DedupConfig(
        inputs=tuple(_normal(path) for path in options.dump_dir or ()),
        json_metadata=options.json_metadata,
        near=options.near_duplicates,
        thresholds=thresholds(options),
        recipe=recipe(options),
        limits=limits(options),
        keep=KeepPolicy(options.keep),
        reference=options.reference and _normal(options.reference),
        output_json=output_json,
        output_dir=options.output_dir,
        show_duplicates=options.show_duplicates,
        place=options.place or "copy",
        preview=options.preview,
        portable_names=options.portable_names,
        records=records,
        counts=counts,
        jobs=jobs,
        force_plan=options.force_plan,
        quiet=options.quiet,
        stream=stream,
    )
    _check_distinct(config)
    return config


def _normal(path: str) -> str:
    """A path as the user named it, but ./a/ is a; what is no path of this machine is not touched."""
    return path if is_remote(path) else os.path.normpath(path)


def _check_range(flag: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{flag} must be between {least} and {most}, got {value}")


def _check_distinct(config: DedupConfig) -> None:
    named: dict[str, str] = {}
    for flag, path in config.output_files.items():
        other = named.setdefault(os.path.realpath(path), flag)
        if other != flag:
            raise UsageError(f"{other} and {flag} name the same file, {path}: give each its own")


def _check_mode(options: argparse.Namespace) -> None:
    """Raises UsageError if any of them is given in exact mode."""
    if options.near_duplicates:
        return
    for flag, value in (("-k", options.bit_distance), ("--verify", options.verify)):
        if value is not None:
            raise UsageError(
                f"{flag} says how near pictures must be: it needs -n (got {flag} {value} without it)"
            )
    for flag, given in (
        ("--algorithm", options.algorithm),
        ("--views", options.views),
        ("--turns", options.turns),
    ):
        if given:
            raise UsageError(f"{flag} says how pictures are compared: it needs -n")


def recipe(options: argparse.Namespace) -> Recipe:
    """The recipe asked for, in a wording of flags if it can't be."""
    name = options.algorithm or DCT
    if missing := missing_library(ALGORITHMS[name]):
        raise UsageError(f"--algorithm {name}: {missing}")
    if name == DCT:
        return Recipe(name, options.views or DEFAULT_VIEWS.value, options.turns)
    if options.turns or options.views not in (None, Views.NONE):
        flag = "--turns" if options.turns else "--views"
        raise UsageError(
            f"{flag} can't be used with --algorithm {name}: only {DCT} has codes of parts and turns"
        )
    return Recipe(name, Views.NONE.value)


def thresholds(options: argparse.Namespace) -> Thresholds:
    """The thresholds asked for, or the algorithm's own."""
    algorithm = ALGORITHMS[options.algorithm or DCT]
    if options.verify is not None and algorithm.name != DCT:
        raise UsageError(
            f"--verify can't be used with --algorithm {algorithm.name}: only {DCT} has long codes "
            f"(got --verify {options.verify})"
        )
    k = algorithm.default_k if options.bit_distance is None else options.bit_distance
    verify = DEFAULT_VERIFY if options.verify is None else options.verify
    if not 0 <= k <= algorithm.max_k:
        raise UsageError(f"-k must be between 0 and {algorithm.max_k} with {algorithm.name}, got {k}")
    if not 0 <= verify <= LONG_BITS:
        raise UsageError(f"--verify must be between 0 and {LONG_BITS}, got {verify}")
    return Thresholds(k, verify, algorithm.bits)


def limits(options: argparse.Namespace) -> Limits:
    """The limits asked for.

    Raises:
      UsageError: flag, rule and value in one sentence.
    """
    if options.max_pixels is not None and not options.near_duplicates:
        raise UsageError(
            f"--max_pixels says which pictures are decoded: it needs -n (got --max_pixels {options.max_pixels} without it)"
        )
    usual = Limits()
    return Limits(
        max_bytes=_in_range("--max_bytes", options.max_bytes, usual.max_bytes, 1, _MOST_BYTES),
        max_pixels=_in_range("--max_pixels", options.max_pixels, usual.max_pixels, 1, MAX_PIXELS_SCALED),
        decode_seconds=_in_range(
            "--decode_timeout", options.decode_timeout, usual.decode_seconds, _LEAST_TIMEOUT, _MOST_TIMEOUT
        ),
    )


def _in_range(flag: str, value: _Number | None, usual: _Number, least: _Number, most: _Number) -> _Number:
    if value is None:
        return usual
    if not least <= value <= most:  # what is no number is in no range
        raise UsageError(f"{flag} must be between {least} and {most}, got {value}")
    return value


def is_stream(options: argparse.Namespace) -> bool:
    return bool(options.watch or options.subscription)


def stream_config(options: argparse.Namespace) -> StreamConfig | None:
    """What was asked for; None for a run with an end.

    Raises:
      UsageError: flag, rule and value in one sentence.
    """
    if not is_stream(options):
        for name in ("verdict_topic", "remember", "window", "expected_images"):
            value = getattr(options, name)
            if value not in (None, ""):
                raise UsageError(
                    f"--{name} is for runs that stay: it needs --watch or --subscription (got --{name} {value})"
                )
        return None
    if options.subscription and (options.watch or options.dump_dir):
        raise UsageError("--subscription says what to read: it can't be used with -i or --watch")
    _check_batch_options(options)
    if options.watch and not options.dump_dir:
        raise UsageError(
            "--watch needs -i: name the folder that is watched, as in: dedup -n --watch -i incoming -d unique"
        )
    for flag, value, pattern, example in (
        ("--subscription", options.subscription, SUBSCRIPTION, "projects/P/subscriptions/S"),
        ("--verdict_topic", options.verdict_topic, TOPIC, "projects/P/topics/T"),
    ):
        if value and not pattern.fullmatch(value):
            raise UsageError(f"{flag} is named as {example}, got {value}")
    if options.remember and options.window:
        raise UsageError(
            "--window judges each stretch by itself: with it nothing is remembered; leave out --remember"
        )
    expected = DEFAULT_EXPECTED if options.expected_images is None else options.expected_images
    if not 1 <= expected <= 10**10:
        raise UsageError(f"--expected_images must be between 1 and 10000000000, got {expected}")
    return StreamConfig(
        subscription=options.subscription,
        verdict_topic=options.verdict_topic,
        remember_seconds=_seconds("--remember", options.remember or DEFAULT_REMEMBER),
        window_seconds=_seconds("--window", options.window) if options.window else 0.0,
        expected_images=expected,
    )


def _check_batch_options(options: argparse.Namespace) -> None:
    for name, (flag, why) in _OF_BATCH.items():
        if getattr(options, name):
            raise UsageError(f"{flag} {why}: it can't be used with --watch or --subscription")
    if options.force_plan and not options.window:
        raise UsageError(
            "--force_plan is for runs with an end, and for windows: with --watch or --subscription it needs --window"
        )
    if options.keep != "first":
        raise UsageError(
            f"--keep {options.keep} would take back verdicts: with --watch or --subscription the first to arrive is kept"
        )
    for flag, path in (("--records", options.records), ("--counts", options.counts)):
        if path and not is_remote(path) and path.endswith((".json", ".jsonl", ".avro")):
            raise UsageError(f"{flag} names a folder in runs that stay, for a file now and then; got {path}")


def _seconds(flag: str, text: str) -> float:
    """
    >>> _seconds("--remember", "90m"), _seconds("--remember", "1.5h")
    (5400.0, 5400.0)
    """
    match = DURATION.fullmatch(text)
    if not match:
        raise UsageError(f"{flag} is a number and a unit, as in 90m, 24h or 7d, got {text}")
    seconds = float(match[1]) * _UNITS[match[2]]
    if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        raise UsageError(f"{flag} must be between 1m and 3650d, got {text}")
    return seconds


def check_input(config: DedupConfig) -> None:
    """Raises UsageError if there is nothing to read, or the same would be read twice. What is not of this machine is not
    looked at.
    """
    if config.json_metadata and not is_remote(config.json_metadata):
        if not os.path.isfile(config.json_metadata):
            raise UsageError(f"-l: there is no file {config.json_metadata}")
        _check_readable("-l", config.json_metadata)
    for path in config.inputs:
        _check_readable("-i", path)
    if overlap := input_paths.overlapping(config.inputs):
        raise UsageError(f"-i: {overlap[0]} and {overlap[1]} hold the same files: leave out one of them")
    if config.reference:
        if input_paths.is_pattern(config.reference):
            raise UsageError(f"--reference takes a folder or a file, not a pattern, got {config.reference}")
        _check_readable("--reference", config.reference)
        for path in config.inputs:
            if input_paths.holds(config.reference, path):
                raise UsageError(f"-i: {path} lies in that of --reference, {config.reference}: all is known")


def _check_readable(flag: str, path: str) -> None:
    if is_remote(path):
        return
    if input_paths.is_pattern(path):
        if next(glob.iglob(path, recursive=True), None) is None:
            raise UsageError(f"{flag}: there is no folder or file that matches {path}")
        return
    if not os.path.exists(path):
        raise UsageError(f"{flag}: there is no folder {path}, nor a file or pattern of that name")
    try:
        if os.path.isdir(path):
            os.scandir(path).close()
        elif not os.path.isfile(path):
            raise UsageError(f"{flag} needs a folder or a file, but {path} is neither")
        else:
            open(path, "rb").close()
    except OSError as error:
        what = "folder {} can't be listed" if os.path.isdir(path) else "file {} can't be read"
        raise UsageError(f"{flag}: the {what.format(path)}: {error.strerror}") from error
