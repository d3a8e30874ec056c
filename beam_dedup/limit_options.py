"""The options that say what a file may ask for: how they are added, checked, and what they come to."""

import argparse
from collections.abc import Callable
from typing import TypeVar

from beam_dedup.core.errors import UsageError
from beam_dedup.core.limits import MAX_PIXELS_SCALED, Limits

_MOST_BYTES = 1 << 40
_LEAST_SECONDS, _MOST_SECONDS = 0.1, 86400.0

_Number = TypeVar("_Number", int, float)


def add(limit: argparse._ArgumentGroup, whole_number: Callable[[str], int]) -> None:
    """Adds the options to their group."""
    usual = Limits()
    limit.add_argument(
        "--max_bytes",
        metavar="BYTES",
        type=whole_number,
        help=f"an image of more bytes is rejected, unread (default {usual.max_bytes}); a member of an archive may have "
        f"{usual.max_member_bytes} at most",
    )
    limit.add_argument(
        "--max_pixels",
        metavar="PIXELS",
        type=whole_number,
        help=f"with -n: a picture of more pixels is not decoded, and compared by its bytes alone (default {usual.max_pixels}, "
        "which is also the most; of other pictures than JPEG fewer, by what they take of memory)",
    )
    limit.add_argument(
        "--decode_timeout",
        metavar="SECONDS",
        type=number,
        help="an image that takes longer to read or to decode is rejected, and so is the rest of an archive that can't be "
        f"read on for so long (default {usual.decode_seconds:g})",
    )


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number is needed, got {text!r}") from None


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
            "--decode_timeout", options.decode_timeout, usual.decode_seconds, _LEAST_SECONDS, _MOST_SECONDS
        ),
    )


def _in_range(flag: str, value: _Number | None, usual: _Number, least: _Number, most: _Number) -> _Number:
    if value is None:
        return usual
    if not least <= value <= most:  # what is no number is in no range
        raise UsageError(f"{flag} must be between {least} and {most}, got {value}")
    return value
