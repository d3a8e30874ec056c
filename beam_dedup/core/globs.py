"""Translates patterns of the form that gitignore files have into regular expressions.

All options with patterns use this module, so that a character means the same in each of them:

    *       any characters but /          ?       one character but /
    [a-z]   one of these characters       [!a-z]  one character but these and /
    **      as a whole part: any number of directories
    \\x      the character x itself        x/      only directories

Differences from git: `#` begins no comment and spaces at the end count, since a pattern is not a line of a file; `?` and
`[...]` match a character, not a byte; and a pattern that git would ignore silently raises ValueError.

Paths are text in which a byte that is not UTF-8 is a surrogate, as Python has them. A regular expression is for Python's
`re`, and avoids backtracking by atomic groups. `for_re2` makes the same expression for RE2, which needs none.
A pattern decides about one file or directory; where it is anchored, and what it means for the files below a directory that
it matches, is decided by `beam_dedup.core.reading.selection` (a walk) and `beam_dedup.core.path_globs` (tables of images).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_CLASSES = {  # of characters, as in `[[:digit:]]`; none has `/`
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r"\ \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-.0-~",
    "lower": "a-z",
    "print": r"\ -.0-~",
    "punct": r"!-.:-@\[-`{-~",
    "space": r"\ \t\n\r\f\v",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
_CLASS = re.compile(r"\[:([^\]]*):\]")
_ATOMIC = "(?>"  # a literal one is escaped, so that this occurs as the beginning of a group only
_MOST_BYTES = 4096  # of a pattern; Linux has no longer paths


class Glob(NamedTuple):
    """One pattern.

    Attributes:
      regex: matches the whole name, or the whole path if `has_path`.
      has_path: whether the pattern has a `/` that is not at its end, so that it is matched with the path.
      only_directories: whether the pattern ends in `/`.
      is_negated: whether it begins with `!`: what it matches is no match after all.
    """

    regex: re.Pattern[str]
    has_path: bool = False
    only_directories: bool = False
    is_negated: bool = False

    def matches(self, path: str, name: str, is_directory: bool) -> bool:
        """Returns whether the pattern matches a file or directory itself, not something above it.

        Args:
          path: relative to the directory that the pattern is for, with `/` between directories.
          name: the last part of the path.
          is_directory: whether it is a directory.
        """
        if self.only_directories and not is_directory:
            return False
        return self.regex.fullmatch(path if self.has_path else name) is not None


def parse(pattern: str) -> Glob:
    """Returns the pattern with a text.

    >>> glob = parse("/raw/**/*.nef")
    >>> [glob.matches(path, "a.nef", False) for path in ("raw/a.nef", "raw/b/c/a.nef", "x/raw/a.nef")]
    [True, True, False]

    Raises:
      ValueError: the pattern can match nothing; the message is a rule, for example "must not end in a backslash".
    """
    if "\0" in pattern or len(pattern.encode("utf-8", "surrogateescape")) > _MOST_BYTES:
        raise ValueError(f"must have at most {_MOST_BYTES} bytes, and no zero bytes")
    is_negated = pattern.startswith("!")
    text = pattern.removeprefix("!")
    only_directories = text.endswith("/")
    text = text.removesuffix("/")
    has_path = "/" in text
    # An escaped slash is a slash: one after an odd number of backslashes.
    parts = re.sub(r"(?<!\\)((?:\\\\)*)\\/", r"\1/", text.removeprefix("/")).split("/")
    if parts == [""]:
        raise ValueError("must name a file or a directory")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError("must have no empty part and no '.' or '..' between slashes")
    regex = _path_regex(parts) if has_path else _part_regex(text)
    return Glob(re.compile(regex, re.DOTALL), has_path, only_directories, is_negated)


def for_re2(regex: str) -> bytes:
    r"""Returns a regular expression of this module in the syntax of RE2, with which `.` matches every character.

    It is for columns of text in which a byte that is not UTF-8 is an encoded surrogate (`surrogatepass`).

    >>> for_re2(parse("a*b*c").regex.pattern)
    b'(?s)a(?:[^/]*?b)[^/]*c'
    """
    return f"(?s){regex.replace(_ATOMIC, '(?:')}".encode("utf-8", "surrogatepass")


def last_match(globs: Sequence[Glob], path: str, name: str, is_directory: bool) -> int | None:
    """Returns the number of the last pattern that matches a file or directory; None if none does. Later ones win."""
    for number in range(len(globs) - 1, -1, -1):
        if globs[number].matches(path, name, is_directory):
            return number
    return None


def _path_regex(parts: Sequence[str]) -> str:
    """Returns the regular expression of a pattern of several parts.

    A part of asterisks alone, at least two, matches any number of directories. What lies between two of them is matched
    as early as possible and never again, so that no path takes long.
    """
    blocks: list[list[str]] = [[]]
    for part in parts:
        if len(part) > 1 and not part.strip("*"):
            blocks.append([])
        else:
            blocks[-1].append(_part_regex(part))
    first, *others = ("/".join(block) for block in blocks)
    if not others:
        return first
    regex = f"{first}/" if first else ""
    for block in others[:-1]:
        regex += f"{_ATOMIC}(?:[^/]*/)*?{block}/)" if block else ""
    return regex + (f"(?:.*/)?{others[-1]}" if others[-1] else ".+")


def _part_regex(part: str) -> str:
    """Returns the regular expression of a pattern without `/`. Each piece between asterisks is matched as early as possible."""
    pieces = [""]
    position = 0
    while position < len(part):
        letter = part[position]
        position += 1
        if letter == "*":
            pieces.append("")
        elif letter == "?":
            pieces[-1] += "[^/]"
        elif letter == "[":
            bracket, position = _bracket_regex(part, position)
            pieces[-1] += bracket
        elif letter == "\\":
            if position == len(part):
                raise ValueError("must not end in a backslash")
            pieces[-1] += re.escape(part[position])
            position += 1
        else:
            pieces[-1] += re.escape(letter)
    first, *others = pieces
    if not others:
        return first
    middle = "".join(f"{_ATOMIC}[^/]*?{piece})" for piece in others[:-1] if piece)
    return f"{first}{middle}[^/]*{others[-1]}"


def _bracket_regex(part: str, position: int) -> tuple[str, int]:
    """Returns the regular expression of a bracket expression, and the position after it.

    Args:
      part: contains it.
      position: after the `[`.
    """
    is_negated = part[position : position + 1] in ("!", "^") and position < len(part)
    position += is_negated
    members: list[str] = []
    first = position
    while part[position : position + 1] != "]" or position == first:
        if found := _CLASS.match(part, position):
            if found[1] not in _CLASSES:
                raise ValueError(f"must have one of the classes {', '.join(_CLASSES)}, not {found[1]}")
            members.append(_CLASSES[found[1]])
            position = found.end()
            continue
        start, position = _bracket_letter(part, position)
        if part[position : position + 1] == "-" and part[position + 1 : position + 2] not in ("", "]"):
            end_letter, position = _bracket_letter(part, position + 1)
            if end_letter < start:
                raise ValueError(f"must not have the empty range {start}-{end_letter}")
            members += _ranges(start, end_letter)
        else:
            members.append(re.escape(start))
    inside = "".join(members)
    return (f"[^/{inside}]" if is_negated else f"[{inside}]"), position + 1


def _ranges(start: str, end: str) -> list[str]:
    """Returns the ranges of a bracket expression for the characters from one to another, without `/`.

    >>> _ranges("a", "z"), _ranges("-", "9")
    (['a-z'], ['\\\\--\\\\.', '0-9'])
    """
    if start < "/" < end:
        return [f"{re.escape(start)}-\\.", f"0-{re.escape(end)}"]
    return [f"{re.escape(start)}-{re.escape(end)}"]


def _bracket_letter(part: str, position: int) -> tuple[str, int]:
    """Returns the letter at a position, which may be escaped, and the position after it."""
    position += part[position : position + 1] == "\\"
    if position >= len(part):
        raise ValueError("must close each [ by a ], or escape it by a backslash")
    return part[position], position + 1
