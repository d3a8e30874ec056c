"""Checks the options for pairs and components."""

import argparse

from beam_dedup.core.errors import UsageError
from beam_dedup.core.thresholds import MAX_PAIRS

MOST_PAIRS = 10**9  # that --max_pairs allows


def max_pairs(options: argparse.Namespace) -> int:
    """Returns how many pairs are listed at most.

    Raises:
      UsageError: `--max_pairs` is out of range, or given without `--pairs`.
    """
    if options.max_pairs is None:
        return MAX_PAIRS
    if not options.pairs:
        raise UsageError(
            f"--max_pairs applies only with --pairs, the file of pairs; got --max_pairs {options.max_pairs} without "
            "it. Add --pairs FILE or remove --max_pairs"
        )
    if not 1 <= options.max_pairs <= MOST_PAIRS:
        raise UsageError(f"--max_pairs must be between 1 and {MOST_PAIRS}; got {options.max_pairs}")
    return int(options.max_pairs)


def components(options: argparse.Namespace) -> bool:
    """Returns whether records get components.

    Raises:
      UsageError: `--components` is given without `--records`.
    """
    if options.components and not options.records:
        raise UsageError(
            "--components requires --records, whose records it extends. Add --records FILE or remove --components"
        )
    return bool(options.components)
