"""Defines what the command line knows about one option: its flags, its value, and its two layers of help.

The short layer is `Option.help`, one imperative sentence that `dedup --help` shows. The long layer is `Option.details`, which
`dedup --help OPTION`, the reference (docs/reference/options.md) and the Dataflow template show as well.
"""

import argparse
import dataclasses
import decimal
import enum
import json
import re
from collections.abc import Callable
from typing import Any

MAX_HELP = 80  # characters of the short help of an option
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKmMgGtT][iI]?[bB]|[bB])?")
_UNIT_BYTES: dict[str, int] = {"": 1, "b": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("kmgt", 1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}


class Group(enum.StrEnum):
    """The headings under which options are listed, in order."""

    INPUT = "Input"
    MATCHING = "Matching"
    OUTPUT = "Output"
    STREAMING = "Streaming"
    LIMITS = "Limits"
    EXECUTION = "Execution"


class Action(enum.StrEnum):
    """What argparse does when it meets the option."""

    STORE = "store"
    APPEND = "append"  # the option may be given several times
    SWITCH = "store_true"  # the option takes no value


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of the command line.

    Args:
      flags: the long flag last, for example ("-k", "--bit_distance").
      group: the heading under which it is listed.
      help: what it does, one imperative sentence of at most `MAX_HELP` characters.
      details: everything else, in markdown: paragraphs, and bullets that begin with "- ". Other options are named by their flags.
      metavar: the placeholder of the value; "" for a switch.
      convert: makes the value from its text.
      choices: the values it accepts; () accepts all.
      default: the value that applies if the option is not given, for readers; "" for a switch, and where there is none.
      unset: what the parser stores if the option is not given. A switch stores False.
      action: whether it takes one value, several, or none.
      excludes: the flag of the option that cannot be combined with this one.
      examples: complete commands.
    """

    flags: tuple[str, ...]
    group: Group
    help: str
    details: str = ""
    metavar: str = ""
    convert: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()
    default: str = ""
    unset: str | None = None
    action: Action = Action.STORE
    excludes: str = ""
    examples: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The long flag without its dashes: the attribute of the parsed options, and the parameter of the Dataflow template.

        >>> Option(flags=("-k", "--bit_distance"), group=Group.MATCHING, help="Set a distance.").name
        'bit_distance'
        """
        return self.flags[-1].lstrip("-")

    @property
    def is_switch(self) -> bool:
        """Whether the option takes no value."""
        return self.action is Action.SWITCH

    @property
    def is_repeatable(self) -> bool:
        """Whether the option may be given several times."""
        return self.action is Action.APPEND

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs and bullets of the details, each on one line."""
        parts: list[str] = []
        for text in map(str.strip, self.details.splitlines()):
            if not parts or not text or text.startswith("- "):
                parts.append(text)
            else:
                parts[-1] = f"{parts[-1]} {text}".lstrip()
        return [part for part in parts if part]


def quoted(value: str | int) -> str:
    """Returns a value as a message of one line shows it: text in double quotes, with escaped line breaks.

    >>> print(quoted("r.jsonl"), quoted("new\\nline"), quoted(3))
    "r.jsonl" "new\\nline" 3
    """
    return json.dumps(value, ensure_ascii=False)


def whole_number(text: str) -> int:
    """Returns the number that an option's text holds.

    Raises:
      argparse.ArgumentTypeError: the text is not a whole number.
    """
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number; got {quoted(text)}") from None


def byte_size(text: str) -> int:
    """Returns the number of bytes that an option's text holds.

    >>> byte_size("4096"), byte_size("10MB"), byte_size("1.5 GiB"), byte_size("1kb")
    (4096, 10000000, 1610612736, 1000)

    Raises:
      argparse.ArgumentTypeError: the text is not a whole number of bytes, nor a number with a unit.
    """
    match = SIZE.fullmatch(text.strip())
    if not match or ("." in match[1] and not match[2]):
        raise argparse.ArgumentTypeError(
            f"must be a number of bytes, or a number and a unit such as 10MB or 2GiB; got {quoted(text)}"
        )
    return int(decimal.Decimal(match[1]) * _UNIT_BYTES[(match[2] or "").lower()])


def number(text: str) -> float:
    """Returns the number that an option's text holds; "nan" and "inf" pass, for the range check to refuse.

    Raises:
      argparse.ArgumentTypeError: the text is not a number.
    """
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number; got {quoted(text)}") from None
