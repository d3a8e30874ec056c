"""The options that say which pictures are alike: how they are added, checked, and what they ask for."""

import argparse
from collections.abc import Callable

from beam_dedup.core.algorithms import ALGORITHMS, DCT, DEFAULT_VIEWS, SIMHASH, Recipe, Views, missing_library
from beam_dedup.core.errors import UsageError
from beam_dedup.core.within import DEFAULT_VERIFY, LONG_BITS, Within


def add(match: argparse._ArgumentGroup, whole_number: Callable[[str], int]) -> None:
    """Adds the options to their group."""
    dct = ALGORITHMS[DCT]
    match.add_argument(
        "-k",
        "--bit_distance",
        metavar="BITS",
        type=whole_number,
        help=f"with -n: how many bits of two pictures' codes may differ, 0 to {dct.max_k} of the {dct.bits} of their "
        f"short codes (default {dct.default_k}); for the codes of another --algorithm see there",
    )
    match.add_argument(
        "--verify",
        metavar="BITS",
        type=whole_number,
        help=f"with -n: how many of the {LONG_BITS} bits of their long codes may differ as well; {LONG_BITS} asks "
        f"for no such proof (default {DEFAULT_VERIFY})",
    )
    match.add_argument(
        "--algorithm",
        metavar="NAME",
        choices=list(ALGORITHMS),
        help=f"with -n: what makes the codes: {DCT} (default), or one of other libraries, for those who have such "
        f"codes already, or {SIMHASH}, of metadata (in brackets -k, default and largest): {_others()}",
    )
    match.add_argument(
        "--views",
        metavar="NAME",
        choices=list(Views),
        help="with -n: find pictures that were cut or framed, too: none, trim (without a border of one colour), centre "
        f"(trim, and crops of all sides), crops (centre, and crops of one or two sides; default {DEFAULT_VIEWS})",
    )
    match.add_argument(
        "--turns",
        action="store_true",
        help="with -n: find pictures that were mirrored or turned by 90 degrees, too",
    )


def _others() -> str:
    others = [algorithm for algorithm in ALGORITHMS.values() if algorithm.name != DCT]
    return ", ".join(f"{other.name} ({other.default_k}, {other.max_k})" for other in others)


def check_mode(options: argparse.Namespace) -> None:
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


def within(options: argparse.Namespace) -> Within:
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
    return Within(k, verify, algorithm.bits)
