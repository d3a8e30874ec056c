"""The options of runs that do not end: how they are added, checked, and what they ask for."""

import argparse
import dataclasses
import re
from collections.abc import Callable

from beam_dedup.core.errors import UsageError
from beam_dedup.core.paths import is_remote

DEFAULT_REMEMBER = "24h"
DEFAULT_EXPECTED = 1_000_000

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


@dataclasses.dataclass(frozen=True, slots=True)
class StreamConfig:
    """What a run that stays does.

    subscription: of Pub/Sub, whose notifications say what to read; "" watches the inputs. verdict_topic: where records are
    published. remember_seconds: how long an image is remembered. window_seconds: each such stretch is judged by itself; 0
    judges each image against all that is remembered. expected_images: that arrive within `remember_seconds`.
    """

    subscription: str = ""
    verdict_topic: str = ""
    remember_seconds: float = 86400.0
    window_seconds: float = 0.0
    expected_images: int = DEFAULT_EXPECTED


def add(group: argparse._ArgumentGroup, whole_number: Callable[[str], int]) -> None:
    """Adds the options to their group."""
    group.add_argument(
        "--watch",
        action="store_true",
        help="with -i: judge what is there, then stay and judge what arrives; Ctrl-C finishes what was read, and ends. "
        "The same command goes on where it left off",
    )
    group.add_argument(
        "--subscription",
        metavar="NAME",
        default="",
        help="instead of -i: judge what notifications of Pub/Sub tell of, projects/P/subscriptions/S: those of Cloud Storage, "
        'or JSON like {"uri": "gs://bucket/a.jpg"}',
    )
    group.add_argument(
        "--verdict_topic",
        metavar="NAME",
        default="",
        help="publish each record there as JSON, projects/P/topics/T",
    )
    group.add_argument(
        "--remember",
        metavar="DURATION",
        help="how long images are remembered to compare others with: 90m, 24h, 7d; time is cut into such stretches, and "
        f"at the end of each its images are forgotten (default {DEFAULT_REMEMBER})",
    )
    group.add_argument(
        "--window",
        metavar="DURATION",
        help="judge what arrives in each such stretch of time as a batch by itself, with files and counts of its own",
    )
    group.add_argument(
        "--expected_images",
        metavar="N",
        type=whole_number,
        help=f"how many may arrive within --remember, which the search is laid out for (default {DEFAULT_EXPECTED})",
    )


def is_stream(options: argparse.Namespace) -> bool:
    return bool(options.watch or options.subscription)


def stream(options: argparse.Namespace) -> StreamConfig | None:
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
