"""Checks the parsed options without writing any file, and returns the configuration of a run.

`configure` looks at the options alone. `check_input` also looks at local input files; paths in object stores are checked when the
run starts, which needs Beam.
"""

import argparse
import glob
import os
import re
from typing import TypeVar

from beam_dedup.core.algorithms import ALGORITHMS, DCT, DEFAULT_VIEWS, Recipe, Views, missing_library
from beam_dedup.core.errors import UsageError
from beam_dedup.core.limits import MAX_PIXELS_SCALED, Limits
from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading import input_paths
from beam_dedup.core.threads import cores
from beam_dedup.core.thresholds import DEFAULT_VERIFY, LONG_BITS, Thresholds
from beam_dedup.options import output_checks, pair_checks, selection_checks, split_checks, table_checks
from beam_dedup.options.access_checks import allowed_prefixes, links_inside
from beam_dedup.options.config import DedupConfig, StreamConfig
from beam_dedup.options.defaults import (
    COMPANIONS_NONE,
    DEFAULT_EXPECTED,
    DEFAULT_OUTPUT_JSON,
    DEFAULT_QUIET_TIME,
    DEFAULT_RECORDS,
    DEFAULT_REMEMBER,
)
from beam_dedup.options.option import quoted
from beam_dedup.options.preference_checks import is_first, preference
from beam_dedup.options.shard_checks import shard_format
from beam_dedup.options.suggest import nearest_path, pasteable

MAX_JOBS = 1024
MAX_BYTES = 1 << 40
MIN_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS = 0.1, 86400.0
MAX_EXPECTED_IMAGES = 10**10
MIN_DURATION_SECONDS, MAX_DURATION_SECONDS = 60.0, 3650 * 86400.0  # of --remember and --window
MIN_QUIET_SECONDS, MAX_QUIET_SECONDS = 1.0, 86400.0

DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
SUBSCRIPTION = re.compile(r"projects/[^/\s]+/subscriptions/[^/\s]+")
TOPIC = re.compile(r"projects/[^/\s]+/topics/[^/\s]+")

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# The options, by name, that need all images at once or the end of the input: their flags, and why a stream does not have them.
_BATCH_ONLY = {
    "json_metadata": ("-l", "it reads one file to its end"),
    "output_json": (
        "-o",
        "groups are complete only at the end of a batch run; the records hold the same facts",
    ),
    "reference": ("--reference", "known images need a batch run; start with one run over both collections"),
    "preview": ("--preview", "it prints at the end of a batch run"),
    "as": ("--as", "a shard is complete only at the end of a batch run; run dedup again over the copies"),
    "report": (
        "--report",
        "it shows a complete run; for a stream, run dedup report RECORDS -o DIR over its records directory",
    ),
    "drop_list": (
        "--drop_list",
        "it is complete only at the end of a batch run; the records hold the same facts",
    ),
    "assign": ("--assign", "a later image may join two components"),
    "split": ("--split", "the splits of a data set are compared when all of them are complete"),
    "decisions": ("--decisions", "decisions are about the images of an earlier run; batch runs honour them"),
    "across": (
        "--across",
        "images arrive without their inputs; batch runs compare the images of several inputs",
    ),
    "union": ("--union", "the record of a kept image is written before its duplicates arrive"),
    "pairs": ("--pairs", "pairs are complete only at the end of a batch run"),
    "components": ("--components", "a later image may join two components"),
    "companions": (
        "--companions",
        "companions may arrive later than their image, so each file is judged by itself",
    ),
}

_Number = TypeVar("_Number", int, float)


def configure(options: argparse.Namespace) -> DedupConfig:
    """Returns the configuration that the options ask for. Touches no file.

    Raises:
      UsageError: an option is missing, out of range, or does not go with another one.
    """
    stream = stream_config(options)
    options, splits = split_checks.with_split_inputs(options)
    has_input = options.json_metadata or options.subscription or (options.dump_dir and all(options.dump_dir))
    if not has_input:
        raise UsageError(
            "-i or -l is required. Name the directory with the images, for example: dedup -n -i ~/Pictures"
        )
    _check_mode(options)
    _check_output_options(options)
    output_json = options.output_json
    if output_json is None:
        output_json = "" if options.preview or stream else DEFAULT_OUTPUT_JSON
    records = options.records
    if records is None:
        records = DEFAULT_RECORDS if stream else ""
    counts = options.counts
    if stream:
        records, counts = (path and os.path.join(path, "") for path in (records, counts))
    path_field = table_checks.path_field(options)
    config = DedupConfig(
        inputs=tuple(_normal(path) for path in options.dump_dir or ()),
        json_metadata=_expanded(options.json_metadata),
        allow=allowed_prefixes(options),
        links_inside=links_inside(options),
        selection=selection_checks.selection(options, MAX_BYTES),
        near=options.near_duplicates,
        across=selection_checks.across(options),
        thresholds=thresholds(options),
        recipe=recipe(options),
        limits=limits(options),
        keep=preference(options),
        reference=options.reference and _normal(options.reference),
        decisions_file=_expanded(options.decisions),
        output_json=_expanded(output_json),
        output_dir=_expanded(options.output_dir),
        show_duplicates=options.show_duplicates,
        place=options.place or "copy",
        shards=shard_format(options),
        preview=options.preview,
        portable_names=options.portable_names,
        records=_expanded(records),
        counts=_expanded(counts),
        report=_expanded(options.report),
        drop_list=_expanded(options.drop_list),
        path_field=path_field,
        directory=table_checks.list_directory(_expanded(options.json_metadata), path_field),
        jobs=_in_range("-j", options.num_jobs, min(cores(), MAX_JOBS), 1, MAX_JOBS),
        force_plan=options.force_plan,
        quiet=options.quiet,
        verbose=options.verbose,
        union=options.union,
        companions=companions(options),
        pairs=_expanded(options.pairs),
        max_pairs=pair_checks.max_pairs(options),
        components=pair_checks.components(options),
        splits=splits,
        leak=split_checks.leak(options, splits),
        assignment=split_checks.assignment(options),
        stream=stream,
    )
    split_checks.check_roots(config.inputs, config.splits)
    output_checks.check_endings(config)
    output_checks.check_distinct(config)
    return config


def _normal(path: str) -> str:
    """Normalises a local path (./a/ becomes a, ~/a the path in the home directory); returns a remote one as it is."""
    return path if is_remote(path) else os.path.normpath(_expanded(path))


def _expanded(path: str) -> str:
    """Replaces a leading ~ of a local path by the home directory. A shell does not do so after the = of an option."""
    return path if is_remote(path) else os.path.expanduser(path)


def _in_range(flag: str, value: _Number | None, default: _Number, least: _Number, most: _Number) -> _Number:
    """Returns the value, or the default for None.

    Raises:
      UsageError: the value is not between `least` and `most`, or is not a number.
    """
    if value is None:
        return default
    if not least <= value <= most:  # true for nan as well
        raise UsageError(f"{flag} must be between {least} and {most}; got {value}")
    return value


def _check_mode(options: argparse.Namespace) -> None:
    """Raises UsageError if an option of near matching is given in exact mode."""
    if options.near_duplicates:
        return
    for flag, value in (
        ("-k", options.bit_distance),
        ("--verify", options.verify),
        ("--max_pixels", options.max_pixels),
    ):
        if value is not None:
            raise UsageError(
                f"{flag} applies only with -n; got {flag} {value} without it. Add -n or remove {flag}"
            )
    for flag, is_given in (
        ("--algorithm", options.algorithm),
        ("--views", options.views),
        ("--turns", options.turns),
    ):
        if is_given:
            raise UsageError(f"{flag} applies only with -n, which compares pictures. Add -n or remove {flag}")


def _check_output_options(options: argparse.Namespace) -> None:
    """Raises UsageError if an option about records or the output directory is given without them."""
    if options.union and not options.records:
        raise UsageError(
            "--union requires --records, whose records it extends. Add --records FILE or remove --union"
        )
    if options.output_dir:
        return
    for flag, is_given in (
        ("-s", options.show_duplicates),
        ("--place", options.place),
        ("--preview", options.preview),
        ("--portable_names", options.portable_names),
    ):
        if is_given:
            raise UsageError(f"{flag} requires -d, the directory for copies. Add -d DIR or remove {flag}")


def recipe(options: argparse.Namespace) -> Recipe:
    """Returns the recipe that the options ask for.

    Raises:
      UsageError: the algorithm has no views or turns, or its library is not installed.
    """
    name = options.algorithm or DCT
    if missing := missing_library(ALGORITHMS[name]):
        raise UsageError(f"--algorithm {name}: {missing}")
    if name == DCT:
        return Recipe(name, options.views or DEFAULT_VIEWS.value, options.turns)
    if options.turns or options.views not in (None, Views.NONE):
        flag = "--turns" if options.turns else "--views"
        raise UsageError(
            f"{flag} applies only with --algorithm {DCT}; got --algorithm {name}. Remove one of them"
        )
    return Recipe(name, Views.NONE.value)


def thresholds(options: argparse.Namespace) -> Thresholds:
    """Returns the thresholds that the options ask for; those not given are the algorithm's defaults.

    Raises:
      UsageError: a threshold is out of range, or the algorithm does not have it.
    """
    algorithm = ALGORITHMS[options.algorithm or DCT]
    if options.verify is not None and algorithm.name != DCT:
        raise UsageError(
            f"--verify applies only with --algorithm {DCT}, which has long codes; got --verify {options.verify} with "
            f"--algorithm {algorithm.name}. Remove one of them"
        )
    k = algorithm.default_k if options.bit_distance is None else options.bit_distance
    if not 0 <= k <= algorithm.max_k:
        raise UsageError(
            f"-k must be between 0 and {algorithm.max_k} with --algorithm {algorithm.name}; got {k}"
        )
    verify = _in_range("--verify", options.verify, DEFAULT_VERIFY, 0, LONG_BITS)
    return Thresholds(k, verify, algorithm.bits)


def limits(options: argparse.Namespace) -> Limits:
    """Returns the limits that the options ask for.

    Raises:
      UsageError: a limit is out of range.
    """
    defaults = Limits()
    return Limits(
        max_bytes=_in_range("--max_bytes", options.max_bytes, defaults.max_bytes, 1, MAX_BYTES),
        max_pixels=_in_range("--max_pixels", options.max_pixels, defaults.max_pixels, 1, MAX_PIXELS_SCALED),
        decode_seconds=_in_range(
            "--decode_timeout",
            options.decode_timeout,
            defaults.decode_seconds,
            MIN_TIMEOUT_SECONDS,
            MAX_TIMEOUT_SECONDS,
        ),
        image_column=options.image_column,
    )


def companions(options: argparse.Namespace) -> bool:
    """Returns whether companions go with their images.

    Raises:
      UsageError: `--companions` is given without `-i`.
    """
    if options.companions and not options.dump_dir:
        raise UsageError(
            "--companions applies only with -i, where it looks for companions. Remove --companions"
        )
    return bool(options.dump_dir) and not is_stream(options) and options.companions != COMPANIONS_NONE


def is_stream(options: argparse.Namespace) -> bool:
    """Returns whether the options ask for a streaming run."""
    return bool(options.watch or options.subscription)


def stream_config(options: argparse.Namespace) -> StreamConfig | None:
    """Returns the streaming settings that the options ask for; None for a batch run.

    Raises:
      UsageError: an option is missing, out of range, or does not go with another one.
    """
    if not is_stream(options):
        _check_no_stream_options(options)
        return None
    if options.subscription and (options.watch or options.dump_dir):
        raise UsageError(
            "--subscription must not be combined with -i or --watch; its messages name the images. Remove one of them"
        )
    _check_batch_options(options)
    if options.watch and not options.dump_dir:
        raise UsageError(
            "--watch requires -i. Name the directory to watch, for example: dedup -n --watch -i incoming -d unique"
        )
    for flag, value, pattern, form in (
        ("--subscription", options.subscription, SUBSCRIPTION, "projects/P/subscriptions/S"),
        ("--verdict_topic", options.verdict_topic, TOPIC, "projects/P/topics/T"),
    ):
        if value and not pattern.fullmatch(value):
            raise UsageError(f"{flag} must have the form {form}; got {quoted(value)}")
    if options.quiet_time and not options.watch:
        raise UsageError(
            "--quiet_time applies only to --watch; the messages of --subscription name complete objects. Remove it"
        )
    if options.remember and options.window:
        raise UsageError(
            "--window judges each window separately; --remember does not apply. Remove one of them"
        )
    return StreamConfig(
        subscription=options.subscription,
        verdict_topic=options.verdict_topic,
        remember_seconds=_seconds("--remember", options.remember or DEFAULT_REMEMBER),
        window_seconds=_seconds("--window", options.window) if options.window else 0.0,
        expected_images=_in_range(
            "--expected_images", options.expected_images, DEFAULT_EXPECTED, 1, MAX_EXPECTED_IMAGES
        ),
        quiet_seconds=_seconds(
            "--quiet_time",
            options.quiet_time or DEFAULT_QUIET_TIME,
            MIN_QUIET_SECONDS,
            MAX_QUIET_SECONDS,
            "1s and 1d",
        ),
    )


def _check_no_stream_options(options: argparse.Namespace) -> None:
    """Raises UsageError if an option of streaming is given in a batch run."""
    for name in ("verdict_topic", "remember", "window", "expected_images", "quiet_time"):
        value = getattr(options, name)
        if value not in (None, ""):
            raise UsageError(
                f"--{name} applies only to streaming; got --{name} {quoted(value)} without --watch or --subscription. "
                f"Add one of them or remove --{name}"
            )


def _check_batch_options(options: argparse.Namespace) -> None:
    """Raises UsageError if an option that needs a batch run is given in a streaming run."""
    for name, (flag, why) in _BATCH_ONLY.items():
        if getattr(options, name):
            raise UsageError(f"{flag} is not available with --watch or --subscription ({why}). Remove {flag}")
    if options.force_plan and not options.window:
        raise UsageError(
            "--force_plan requires --window with --watch or --subscription; no other plan of a stream is refused. "
            "Add --window or remove --force_plan"
        )
    if not is_first(options.keep):
        raise UsageError(
            "--keep must be first with --watch or --subscription, where the first image to arrive is kept; "
            f"got {','.join(options.keep)}. Remove --keep"
        )
    for flag, path in (("--records", options.records), ("--counts", options.counts)):
        if path and not is_remote(path) and path.endswith(output_checks.FILE_ENDINGS):
            raise UsageError(
                f"{flag} must be a directory with --watch or --subscription (it receives one file per interval); "
                f"got {quoted(path)}. Try {flag} {flag.lstrip('-')}/"
            )


def _seconds(
    flag: str, text: str, least: float | None = None, most: float | None = None, span: str = "1m and 3650d"
) -> float:
    """Returns the seconds of a duration.

    >>> _seconds("--remember", "90m"), _seconds("--remember", "1.5h")
    (5400.0, 5400.0)

    Raises:
      UsageError: it is not a number with a unit, or out of range.
    """
    match = DURATION.fullmatch(text)
    if not match:
        raise UsageError(f"{flag} must be a number and a unit, such as 90m, 24h or 7d; got {quoted(text)}")
    seconds = float(match[1]) * _UNIT_SECONDS[match[2]]
    least = MIN_DURATION_SECONDS if least is None else least
    most = MAX_DURATION_SECONDS if most is None else most
    if not least <= seconds <= most:
        raise UsageError(f"{flag} must be between {span}; got {text}")
    return seconds


def check_input(config: DedupConfig) -> None:
    """Checks that local inputs exist and can be read, and that no file is named twice. Remote paths are not looked at.

    Raises:
      UsageError: an input is missing, cannot be read, or overlaps another one.
    """
    if config.json_metadata and not is_remote(config.json_metadata):
        if not os.path.isfile(config.json_metadata):
            raise UsageError(
                f"-l must name an existing file; got {quoted(config.json_metadata)}"
                f"{_did_you_mean('-l', config.json_metadata)}"
            )
        _check_readable("-l", config.json_metadata)
    for prefix in config.allow:
        if not is_remote(prefix) and not os.path.exists(prefix):
            raise UsageError(
                f"--allow must name an existing directory or file; got {quoted(prefix)}{_did_you_mean('--allow', prefix)}"
            )
    for path in config.inputs:
        _check_readable(config.input_flag, path)
    if overlap := input_paths.overlapping(config.inputs):
        first, second = map(quoted, overlap)
        raise UsageError(
            f"{config.input_flag} must not name a file twice; {first} and {second} overlap. Remove one of them"
        )
    if config.reference:
        if input_paths.is_pattern(config.reference):
            raise UsageError(
                f"--reference must be a directory or a file, not a pattern; got {quoted(config.reference)}"
            )
        _check_readable("--reference", config.reference)
        for path in config.inputs:
            if input_paths.holds(config.reference, path):
                raise UsageError(
                    f"{config.input_flag} must not lie inside --reference, whose images are all known; got {config.input_flag} "
                    f"{quoted(path)} and "
                    f"--reference {quoted(config.reference)}. Name another input"
                )


def _check_readable(flag: str, path: str) -> None:
    """Raises UsageError unless a local path is a directory that can be listed, a file that can be read, or matches one."""
    if is_remote(path):
        return
    if input_paths.is_pattern(path):
        if next(glob.iglob(path, recursive=True), None) is None:
            raise UsageError(
                f"{flag} must match a directory or file; nothing matches {quoted(path)}{_did_you_mean(flag, path)}"
            )
        return
    if not os.path.exists(path):
        raise UsageError(
            f"{flag} must name an existing directory, file or pattern; got {quoted(path)}{_did_you_mean(flag, path)}"
        )
    try:
        if os.path.isdir(path):
            os.scandir(path).close()
        elif not os.path.isfile(path):
            raise UsageError(f"{flag} must be a directory or a regular file; got {quoted(path)}")
        else:
            open(path, "rb").close()
    except OSError as error:
        action = "list the directory" if os.path.isdir(path) else "read the file"
        raise UsageError(f"{flag}: cannot {action} {quoted(path)}: {error.strerror}") from error


def _did_you_mean(flag: str, path: str) -> str:
    """Returns a question that names the existing path nearest to a missing one; "" if none is near."""
    start = input_paths.root(path) if input_paths.is_pattern(path) else path
    if not start or os.path.exists(start):
        return ""
    found = nearest_path(start)
    suggestion = pasteable(found + path.removeprefix(start)) if found else ""
    return f". Did you mean {flag} {suggestion}?" if suggestion else ""
