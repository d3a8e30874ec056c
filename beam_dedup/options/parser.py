"""Builds the parser of the command line from the option table, and parses arguments with it."""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from beam_dedup.core.errors import UsageError
from beam_dedup.options.option import Option, quoted
from beam_dedup.options.option_table import OPTIONS

HELP_FLAGS = ("-h", "--help")
# Other tools call a preview so. Beam has an option of the second name, which copies all the same: it is never passed on.
_PREVIEW_NAMES = ("--dry-run", "--dry_run")
_NO = ("false", "no", "0", "")  # values of such an option that ask for no preview


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print a message and end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raises ArgumentError, with plain choices where argparse would print those of an enumeration as code."""
        if action.choices is not None and value not in action.choices:
            choices = ", ".join(map(str, action.choices))
            raise argparse.ArgumentError(action, f"must be one of {choices}; got {quoted(value)}")


def build_parser() -> argparse.ArgumentParser:
    """Returns a parser of all options of `OPTIONS`; it raises UsageError where argparse would end the process."""
    built = Parser(prog="dedup", allow_abbrev=False, add_help=False)
    exclusive: dict[str, argparse._MutuallyExclusiveGroup] = {}
    for option in OPTIONS:
        container: argparse._ActionsContainer = built
        if option.excludes:
            container = exclusive[option.excludes] = built.add_mutually_exclusive_group()
        for flag in option.flags:
            container = exclusive.get(flag, container)
        container.add_argument(*option.flags, **_arguments(option))
    return built


def _arguments(option: Option) -> dict[str, Any]:
    """The keyword arguments of `add_argument`."""
    if option.is_switch:
        return {"action": option.action.value}
    return {
        "action": option.action.value,
        "metavar": option.metavar,
        "type": option.convert,
        "choices": option.choices or None,
        "default": option.unset,
    }


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the parsed options of dedup, and the remaining arguments, which are for Beam.

    Raises:
      UsageError: a value is of the wrong form, or two options exclude each other.
    """
    return build_parser().parse_known_args(list(_with_preview(arguments)))


def _with_preview(arguments: Sequence[str]) -> Iterator[str]:
    """Yields the arguments with other names of --preview replaced by it.

    >>> list(_with_preview(["-n", "--dry-run", "--dry_run=True", "--dry_run=false"]))
    ['-n', '--preview', '--preview']
    """
    for argument in arguments:
        name, has_value, value = argument.partition("=")
        if name not in _PREVIEW_NAMES:
            yield argument
        elif not has_value or value.lower() not in _NO:
            yield "--preview"


def help_topic(arguments: Sequence[str]) -> str | None:
    """Returns the option whose details are asked for; None if the command line is not such a question.

    >>> help_topic(["--help", "-k"]), help_topic(["--help=views"]), help_topic(["--help"]), help_topic(["-n"])
    ('-k', 'views', None, None)
    """
    match list(arguments):
        case [flag, topic] if flag in HELP_FLAGS:
            return topic
        case [text] if text.startswith("--help="):
            return text.removeprefix("--help=")
    return None
