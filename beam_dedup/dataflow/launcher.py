"""The program that a Dataflow flex template starts: its parameters as the flags of `dedup`, which does the rest.

A template gets every parameter as `--name=value`, also what is a flag without a value, and each name once. So here
`--near_duplicates=true` is `--near_duplicates`, and `--dump_dir` names several inputs, one a line or separated by commas. What neither
we nor Beam know is refused.
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from beam_dedup import cli
from beam_dedup.core.errors import UsageError
from beam_dedup.options import checks, parser

# Of this machine, or of a person in front of it: they have no meaning for a job.
NOT_OF_JOBS = {
    "help": "tells a reader what there is",
    "beam_help": "tells a reader what there is",
    "version": "tells a reader what there is",
    "num_jobs": "is for the cores of one machine; Dataflow has its own options for workers",
    "preview": "says what one machine would place",
    "place": "makes links on one machine; objects are copied",
}
RUNNER, IMAGE = "runner", "sdk_container_image"

_PARAMETER = re.compile(r"--([A-Za-z]\w*)(?:=(.*))?", re.DOTALL)
_TRUTH = {"true": True, "false": False}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `dedup` with the parameters of a template; returns its exit code."""
    try:
        given = flags(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        print(f"dedup: {error}", file=sys.stderr)
        return cli.WRONG_USAGE
    sys.argv[1:] = given  # Beam looks there, too, when it opens files
    return cli.main(given)


def entry() -> NoReturn:
    """The program. Ends the process without waiting for the threads that an engine leaves behind."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def parameters() -> dict[str, argparse.Action]:
    """The options that a template takes, by name."""
    return {action.dest: action for action in parser.parser()._actions if action.dest not in NOT_OF_JOBS}


def flags(arguments: Sequence[str]) -> list[str]:
    """What `dedup` is called with.

    Raises:
      UsageError: an argument is no parameter, or its value is none for it, or workers would not have what they need.
    """
    ours = parameters()
    made: list[str] = []
    named: dict[str, str] = {}
    for argument in arguments:
        match = _PARAMETER.fullmatch(argument)
        if not match:
            raise UsageError(f"{argument!r} is no parameter of a template: each is --name=value")
        name, value = match.groups()
        named[name] = value
        if name in NOT_OF_JOBS:
            raise UsageError(f"{name} can't be used in a template: it {NOT_OF_JOBS[name]}")
        made += _ours(ours[name], value) if name in ours else _beams(name, value)
    return made + _added(made, named)


def _ours(action: argparse.Action, value: str | None) -> list[str]:
    flag = f"--{action.dest}"
    if action.nargs == 0:
        return [flag] if _is_true(action.dest, value) else []
    if value is None:
        raise UsageError(f"{action.dest} needs a value, as in {flag}=...")
    values = items(value) if is_repeated(action) else [value]
    return [f"{flag}={one}" for one in values if one]  # an empty one is one that was not given


def is_repeated(action: argparse.Action) -> bool:
    return isinstance(action, argparse._AppendAction)


def items(value: str) -> list[str]:
    """The values of an option that can be given several times; names with commas in them need lines.

    >>> items("gs://a/b,gs://c"), items("gs://a,b\\n")
    (['gs://a/b', 'gs://c'], ['gs://a,b'])
    """
    parts = value.splitlines() if "\n" in value else value.split(",")
    return [part.strip() for part in parts if part.strip()]


def _beams(name: str, value: str | None) -> list[str]:
    """An option of Beam, or of Dataflow, as it is, but for flags without a value. What is none is refused by `dedup`."""
    from beam_dedup.runners import select

    without_value = select.beam_flags()
    if value is None or f"--{name}" not in without_value:
        return [f"--{name}" if value is None else f"--{name}={value}"]
    if _is_true(name, value):
        return [f"--{name}"]
    opposite = f"--no_{name}"
    return [opposite] if opposite in without_value else []


def _is_true(name: str, value: str | None) -> bool:
    if value is None:
        return True
    truth = _TRUTH.get(value.strip().lower())
    if truth is None:
        raise UsageError(f"{name} is true or false, got {value!r}")
    return truth


def _added(made: Sequence[str], named: Mapping[str, str]) -> list[str]:
    """What a job on Dataflow is given: a runner, and no file in the folder that the launcher happens to run in."""
    runner = named.get(RUNNER) or "DataflowRunner"
    if runner == "DataflowRunner" and not named.get(IMAGE):
        raise UsageError(
            f"workers need an image that holds this program: {IMAGE} is missing, name that of this template"
        )
    added = [] if named.get(RUNNER) else [f"--{RUNNER}={runner}"]
    given, _ = parser.parse(made)
    if given.output_json is None:
        added.append("--output_json=")
    if given.records is None and checks.is_stream(given):
        added.append("--records=")
    return added
