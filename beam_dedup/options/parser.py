"""Builds the parser of the command line from the option table, and parses arguments with it."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from beam_dedup.core.errors import UsageError
from beam_dedup.options.option import Option
from beam_dedup.options.option_table import OPTIONS

HELP_FLAGS = ("-h", "--help")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def build_parser() -> argparse.ArgumentParser:
    """Returns a parser of all options of `OPTIONS`; it raises UsageError where argparse would end the process."""
    built = _Parser(prog="dedup", allow_abbrev=False, add_help=False)
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
    return build_parser().parse_known_args(arguments)


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
