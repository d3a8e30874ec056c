"""Renders the help of the command line from the option table: the short help, and the details of one option.

All text is wrapped to the width of the terminal, at most `MAX_WIDTH` columns.
"""

import shutil
import textwrap
from collections.abc import Iterator

from beam_dedup.core.errors import UsageError
from beam_dedup.options.option import Group, Option, quoted
from beam_dedup.options.option_table import OPTIONS, find
from beam_dedup.options.suggest import nearest_option

MIN_WIDTH, MAX_WIDTH = 60, 100  # columns
REFERENCE = "docs/reference/options.md"

DESCRIPTION = (
    "Finds duplicate images. Keeps one image of each group, reports which kept image each of the others duplicates, and "
    "copies the kept images to a directory if you name one. Input files are never changed or deleted, except by dedup clean."
)
USAGE = (
    "dedup [-e | -n] -i PATH [-i PATH ...] [-d DIR] [OPTION ...]",
    "dedup [-e | -n] -l FILE [-d DIR] [OPTION ...]",
    "dedup [-e | -n] --watch -i PATH [OPTION ...]",
    "dedup [-e | -n] --subscription NAME --allow PREFIX [OPTION ...]",
    "dedup report RECORDS -o DIR          see dedup report --help",
    "dedup clean RECORDS [OPTION ...]     see dedup clean --help",
    "dedup undo JOURNAL                   see dedup undo --help",
)
EXAMPLES = (
    (
        "dedup -n -i ~/Pictures -d unique -s",
        "Find near duplicates too. Kept images go to unique/, duplicates to unique/_duplicates/<key>/ for inspection.",
    ),
    (
        "dedup -i ~/Pictures --records r.jsonl --counts c.json",
        "Find files with equal bytes only. Write one record per image, and the counts.",
    ),
    (
        "dedup -n -k 4 -i crawl -o groups.json --quiet",
        "Be stricter: the codes of two duplicates differ in at most 4 bits.",
    ),
    (
        "dedup -n --views crops --turns -i crawl -d unique",
        "Find cropped, framed, mirrored and turned copies too.",
    ),
    (
        "dedup -n --watch -i incoming -d unique",
        "Keep running and judge new images. Ctrl-C ends the run.",
    ),
    (
        "dedup -n -i new --reference collection -d add --keep largest --preview",
        "Print which images of new/ are missing in collection/, the largest copy of each, without copying them.",
    ),
)
BEAM = "Every option of Apache Beam is accepted too (--runner, --temp_location, ...). Without --runner, dedup runs on this machine."
EXIT_CODES = (
    ("0", "done; rejected images are listed and are not an error"),
    ("1", "failed, or every input was rejected"),
    ("2", "wrong usage"),
    ("3", "images leak between splits, with --leak fail"),
    ("130", "interrupted by Ctrl-C (129 by SIGHUP, 143 by SIGTERM)"),
)
DEBUGGING = "With DEDUP_DEBUG=1 in the environment, a failure shows the runner's log and a traceback."

_INDENT = "  "


def short_help(columns: int | None = None) -> str:
    """Returns what `dedup --help` prints.

    Args:
      columns: the width of the terminal; None asks the terminal.
    """
    width = _width(columns)
    lines = [*wrapped(DESCRIPTION, width), ""]
    lines += [f"{'usage:' if number == 0 else '':7}{form}" for number, form in enumerate(USAGE)]
    for group in Group:
        lines += ["", f"{group}:", *_listed(group, width)]
    lines += ["", "Examples:"]
    for command, effect in EXAMPLES:
        lines += [f"{_INDENT}{command}", *wrapped(effect, width, 3 * _INDENT)]
    lines += ["", "Apache Beam:", *wrapped(BEAM, width, _INDENT)]
    lines += ["", "Exit codes:", *(f"{_INDENT}{code:5}{meaning}" for code, meaning in EXIT_CODES)]
    lines += wrapped(DEBUGGING, width, _INDENT)
    lines += ["", "Details:"]
    lines += wrapped(
        f"dedup --help OPTION prints all about one option (example: dedup --help -k). {REFERENCE} has them all.",
        width,
        _INDENT,
    )
    return "\n".join(lines) + "\n"


def option_help(flag: str, columns: int | None = None) -> str:
    """Returns what `dedup --help OPTION` prints.

    Args:
      flag: a flag of the option, with or without its dashes.
      columns: the width of the terminal; None asks the terminal.

    Raises:
      UsageError: there is no such option.
    """
    option = find(flag)
    if option is None:
        known = [known for one in OPTIONS for known in one.flags]
        nearest = nearest_option(f"--{flag.lstrip('-')}", known)
        advice = f"; the nearest is {nearest}" if nearest else ""
        raise UsageError(
            f"--help must be followed by an option of dedup; got {quoted(flag)}{advice}. Options of Beam: dedup --beam_help"
        )
    width = _width(columns)
    lines = [heading(option), *wrapped(option.help, width, _INDENT), ""]
    lines += [f"{_INDENT}{fact}" for fact in facts(option)]
    previous = ""
    for text in option.paragraphs:
        if not (text.startswith("- ") and previous.startswith("- ")):
            lines.append("")
        lines += wrapped(text, width, _INDENT)
        previous = text
    if option.examples:
        lines += ["", f"{_INDENT}Examples:", *(f"{2 * _INDENT}{one}" for one in option.examples)]
    return "\n".join(lines).rstrip() + "\n"


def heading(option: Option) -> str:
    """Returns the flags of an option and the placeholder of its value.

    >>> heading(find("-k"))
    '-k, --bit_distance BITS'
    """
    return f"{', '.join(option.flags)} {option.metavar}".rstrip()


def facts(option: Option) -> list[str]:
    """Returns what is known of an option beyond its texts: its values, its default, what it cannot be combined with."""
    lines = []
    if option.choices:
        lines.append(f"Values: {', '.join(option.choices)}")
    if option.default:
        lines.append(f"Default: {option.default}")
    if option.is_repeatable:
        lines.append("May be given several times")
    excluded = [option.excludes, *(one.flags[0] for one in OPTIONS if one.excludes in option.flags)]
    if others := [flag for flag in excluded if flag]:
        lines.append(f"Cannot be combined with {', '.join(others)}")
    return lines


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Returns a paragraph or bullet in lines of at most `width` characters, unless a single word is longer.

    >>> wrapped("- a bullet of two lines", 14)
    ['- a bullet of', '  two lines']
    """
    hanging = indent + (_INDENT if text.startswith("- ") else "")
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _listed(group: Group, width: int) -> Iterator[str]:
    column = max(len(_flag_column(one)) for one in OPTIONS) + 2
    for option in OPTIONS:
        if option.group is group:
            first, *others = wrapped(option.help, width - column)
            yield f"{_flag_column(option):{column}}{first}"
            yield from (" " * column + line for line in others)


def _flag_column(option: Option) -> str:
    space = "" if len(option.flags) > 1 else " " * len("-x, ")
    return f"{_INDENT}{space}{heading(option)}"


def _width(columns: int | None) -> int:
    columns = shutil.get_terminal_size().columns if columns is None else columns
    return max(MIN_WIDTH, min(columns, MAX_WIDTH))
