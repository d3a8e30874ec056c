"""Defines which of several duplicates is preferred, and which images are protected.

A preference is a list of rules. Of two duplicates, the first rule that distinguishes them decides; then files are
preferred to links; then the URI decides.
"""

import dataclasses
import difflib
import enum
import json
import re
from collections.abc import Iterable

from beam_dedup.core.imaging import formats


class KeepPolicy(enum.StrEnum):
    """Which of several duplicates is preferred, as one word for a list of rules."""

    FIRST = "first"  # the first by URI
    LARGEST = "largest"  # the most pixels, then the most bytes
    OLDEST = "oldest"  # the earliest time of modification; images without a time come last
    NEWEST = "newest"  # the latest time of modification


class RuleKind(enum.StrEnum):
    """How a rule distinguishes two images. The first three take a value: `path:GLOB`, `format:NAME`."""

    PATH = "path"  # images whose path matches the glob are preferred
    NOT = "not"  # images whose path does not match the glob are preferred
    FORMAT = "format"  # images of the formats are preferred, in their order
    PIXELS = "pixels"  # more pixels are preferred
    BYTES = "bytes"  # more bytes
    OLDEST = "oldest"  # an earlier time of modification; images without a time come last
    NEWEST = "newest"  # a later time of modification
    TAKEN = "taken"  # an earlier time in the EXIF; images without one come last
    METADATA = "metadata"  # more kinds of metadata


WITH_VALUE = (RuleKind.PATH, RuleKind.NOT, RuleKind.FORMAT)
_POLICY_RULES = {
    KeepPolicy.FIRST: (),
    KeepPolicy.LARGEST: (RuleKind.PIXELS, RuleKind.BYTES),
    KeepPolicy.OLDEST: (RuleKind.OLDEST,),
    KeepPolicy.NEWEST: (RuleKind.NEWEST,),
}
WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        [*(policy.value for policy in KeepPolicy), *(k.value for k in RuleKind if k not in WITH_VALUE)]
    )
)
_BYTES_OF_NUMBER = 8  # in a rank
MAX_VALUE_BYTES = 250  # of all rules in a rank

RAW = "raw"  # in `format:`: every format in RAW_FORMATS
RAW_FORMATS = ("ARW", "CR2", "CR3", "DNG", "NEF", "ORF", "PEF", "RAF", "RAW", "RW2", "SRW")
_FORMATS = {name.lower(): (name,) for name in formats.NAMES} | {
    RAW: RAW_FORMATS,
    "jpg": ("JPEG",),
    "tif": ("TIFF",),
    "heic": (formats.HEIF,),
    "jp2": ("JPEG2000",),
}
_COMMA = re.compile(r"(?<!\\),")  # one after a backslash belongs to a glob


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Args:
      kind: how it distinguishes images.
      text: as the record names it.
      glob: of `path` and `not`, for `beam_dedup.core.path_globs`.
      formats: of `format`: the formats, each a tuple of names that are preferred alike.
    """

    kind: RuleKind
    text: str
    glob: str = ""
    formats: tuple[tuple[str, ...], ...] = ()

    @property
    def size(self) -> int:
        """The number of bytes of its value in a rank."""
        return 1 if self.kind in (*WITH_VALUE, RuleKind.METADATA) else _BYTES_OF_NUMBER


@dataclasses.dataclass(frozen=True, slots=True)
class Preference:
    """Which images are kept.

    Args:
      rules: which of several duplicates is preferred; the first rule that distinguishes two images decides.
      protect: globs (`beam_dedup.core.path_globs`) of protected images. They are kept, however near they are to
        other kept images.
      directory: to which relative paths of images are relative when they are matched with globs.
      has_labels: whether the names of images begin with the label of their input, since there are several inputs.
    """

    rules: tuple[Rule, ...] = ()
    protect: tuple[str, ...] = ()
    directory: str = ""
    has_labels: bool = False

    @classmethod
    def of(cls, keep: "KeepPolicy | Preference") -> "Preference":
        """Returns a policy as a preference, and a preference as it is."""
        return keep if isinstance(keep, Preference) else cls(_of_word(keep))

    @property
    def needs_facts(self) -> bool:
        """Whether a rule needs what only the picture itself says (`Recipe.facts`)."""
        return any(rule.kind in (RuleKind.TAKEN, RuleKind.METADATA) for rule in self.rules)


def _of_word(word: str) -> tuple[Rule, ...]:
    kinds = _POLICY_RULES[KeepPolicy(word)] if word in list(KeepPolicy) else (RuleKind(word),)
    return tuple(Rule(kind, kind.value) for kind in kinds)


def parse_rules(texts: Iterable[str]) -> tuple[Rule, ...]:
    r"""Returns the rules in some texts, each a list of rules with commas between them.

    A comma within a glob is written `\,`. Names after `format:` are further formats until the next rule.

    >>> [rule.text for rule in parse_rules(["path:a\\,b,format:raw,png,largest"])]
    ['path:a\\,b', 'format:raw,png', 'pixels', 'bytes']

    Raises:
      ValueError: a part is no rule; the message continues a sentence that begins with the flag.
    """
    rules: list[Rule] = []
    given = list(texts)
    parts = [part.strip() for part in _COMMA.split(",".join(given))] if given else []
    for number, part in enumerate(parts):
        kind, colon, value = part.partition(":")
        if colon and kind in list(WITH_VALUE):
            rules.append(_with_value(RuleKind(kind), value, part))
        elif part in WORDS:
            if part == KeepPolicy.FIRST and number + 1 < len(parts):
                raise ValueError(
                    f"must end with first, which leaves no ties; got {_quoted(parts[number + 1])} after it"
                )
            rules += _of_word(part)
        elif rules and rules[-1].kind is RuleKind.FORMAT and part.lower() in _FORMATS:
            last = rules[-1]
            rules[-1] = _format(f"{last.text},{part}", (*last.formats, _FORMATS[part.lower()]))
        else:
            raise ValueError(_no_rule(part, rules))
    if (size := sum(rule.size for rule in rules)) > MAX_VALUE_BYTES:
        raise ValueError(
            f"must have fewer rules: the values of these take {size} bytes per image, at most {MAX_VALUE_BYTES} are "
            "possible (numbers and times take 8, other rules 1)"
        )
    return tuple(rules)


def _with_value(kind: RuleKind, value: str, text: str) -> Rule:
    if kind is not RuleKind.FORMAT:
        return Rule(kind, text, glob=value)
    if value.lower() not in _FORMATS:
        raise ValueError(
            f"must name formats after format: ({', '.join(sorted(_FORMATS))}); got {_quoted(value)}"
        )
    return _format(text, (_FORMATS[value.lower()],))


def _format(text: str, names: tuple[tuple[str, ...], ...]) -> Rule:
    return Rule(RuleKind.FORMAT, text, formats=names)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _no_rule(part: str, rules: list[Rule]) -> str:
    words = ", ".join(WORDS)
    or_format = ", or a format" if rules and rules[-1].kind is RuleKind.FORMAT else ""
    hint = ""
    if rules and rules[-1].kind in (RuleKind.PATH, RuleKind.NOT):
        hint = f" (a comma within {rules[-1].kind}:GLOB is written \\,)"
    elif similar := difflib.get_close_matches(part, (*WORDS, *(f"{kind.value}:" for kind in WITH_VALUE)), 1):
        hint = f". Did you mean {similar[0]}?"
    return f"must be rules, each path:GLOB, not:GLOB, format:NAME or one of {words}{or_format}; got {_quoted(part)}{hint}"
