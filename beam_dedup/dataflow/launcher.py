"""Runs `dedup` from a Dataflow flex template: turns the template's parameters into command line flags.

A flex template passes each parameter once, as `--name=value`, also if the option takes no value or several. Here
`--near_duplicates=true` becomes `--near_duplicates`, and `--dump_dir` holds several inputs, separated by line breaks or commas. A
parameter that is no option of dedup or of Beam is refused.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from beam_dedup import cli
from beam_dedup.core.errors import UsageError
from beam_dedup.options import checks, parser
from beam_dedup.options.option import Option, quoted
from beam_dedup.options.option_table import OPTIONS
from beam_dedup.output import log

# The options that a template does not have, by name, and why: they concern one machine, or a person in front of it.
EXCLUDED_OPTIONS = {
    "help": "it prints text for a reader",
    "beam_help": "it prints text for a reader",
    "version": "it prints text for a reader",
    "verbose": "it prints text for a reader",
    "num_jobs": "it sets the processes of one machine; Dataflow has its own options for workers",
    "preview": "it prints what one machine would place",
    "report": "it is written on the machine of the command; run dedup report over the records",
    "quiet_time": "it is for files of one machine; objects of stores are complete",
    "place": "it makes links on one machine; objects are copied",
    "decisions": "it names a file of one machine; start the job from there with dedup --runner=DataflowRunner",
}
RUNNER, IMAGE = "runner", "sdk_container_image"

_PARAMETER = re.compile(r"--([A-Za-z]\w*)(?:=(.*))?", re.DOTALL)
_BOOLEANS = {"true": True, "false": False}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `dedup` with the parameters of a template and returns its exit code.

    Args:
      arguments: the parameters, each as --name=value; None takes those of this process.
    """
    try:
        flags = command_line(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        log(str(error))
        return cli.WRONG_USAGE
    sys.argv[1:] = flags  # Beam reads its options from there too when it opens files
    return cli.main(flags)


def entry() -> NoReturn:
    """Runs the program. Ends the process without waiting for the threads that a runner leaves behind."""
    os._exit(main())


def parameters() -> dict[str, Option]:
    """Returns the options that a template has, by name."""
    return {option.name: option for option in OPTIONS if option.name not in EXCLUDED_OPTIONS}


def command_line(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of `dedup` for the parameters of a template.

    Args:
      arguments: the parameters, each as --name=value. An empty value counts as not given.

    Raises:
      UsageError: an argument is not a parameter, a value does not fit, or the image of the workers is missing.
    """
    ours = parameters()
    flags: list[str] = []
    values: dict[str, str] = {}
    for argument in arguments:
        match = _PARAMETER.fullmatch(argument)
        if not match:
            raise UsageError(f"a parameter must have the form --name=value; got {quoted(argument)}")
        name, value = match.groups()
        values[name] = value
        if name in EXCLUDED_OPTIONS:
            raise UsageError(
                f"{name} is not available in a template ({EXCLUDED_OPTIONS[name]}). Remove {name}"
            )
        flags += _flags_of_option(ours[name], value) if name in ours else _flags_of_beam(name, value)
    return flags + _added_flags(flags, values)


def items(value: str) -> list[str]:
    """Returns the values in the text of a repeatable option. Values that contain commas must be separated by line breaks.

    >>> items("gs://a/b,gs://c"), items("gs://a,b\\n")
    (['gs://a/b', 'gs://c'], ['gs://a,b'])
    """
    parts = value.splitlines() if "\n" in value else value.split(",")
    return [part.strip() for part in parts if part.strip()]


def _flags_of_option(option: Option, value: str | None) -> list[str]:
    flag = f"--{option.name}"
    if option.is_switch:
        return [flag] if _is_true(option.name, value) else []
    if value is None:
        raise UsageError(f"{option.name} requires a value. Write {flag}=...")
    values = items(value) if option.is_repeatable else [value]
    return [f"{flag}={one}" for one in values if one]


def _flags_of_beam(name: str, value: str | None) -> list[str]:
    """The flags for an option of Beam or Dataflow. An unknown option is passed on, for `dedup` to refuse."""
    from beam_dedup.runners import select

    switches = select.beam_flags()
    if value is None or f"--{name}" not in switches:
        return [f"--{name}" if value is None else f"--{name}={value}"]
    if _is_true(name, value):
        return [f"--{name}"]
    opposite = f"--no_{name}"
    return [opposite] if opposite in switches else []


def _is_true(name: str, value: str | None) -> bool:
    if value is None:
        return True
    is_true = _BOOLEANS.get(value.strip().lower())
    if is_true is None:
        raise UsageError(f"{name} must be true or false; got {quoted(value)}")
    return is_true


def _added_flags(flags: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The flags that a job needs besides: the runner, and no output file in the launcher's current directory.

    Raises:
      UsageError: the job runs on Dataflow, and the image of the workers is missing.
    """
    runner = values.get(RUNNER) or "DataflowRunner"
    if runner == "DataflowRunner" and not values.get(IMAGE):
        raise UsageError(
            f"{IMAGE} is required, since workers need an image that contains this program. Name the image of this template"
        )
    added = [] if values.get(RUNNER) else [f"--{RUNNER}={runner}"]
    given, _ = parser.parse(flags)
    if given.output_json is None:
        added.append("--output_json=")
    if given.records is None and checks.is_stream(given):
        added.append("--records=")
    return added
