"""Parses JSON from strangers, and rejects values that could not be written as JSON again."""

import json
import math
from typing import Any, NoReturn

DEEPEST = 64  # levels of nested objects and lists: json reads and writes recursively


def parse(text: str, replace_unbounded: bool = False) -> Any:
    """Returns the value of a JSON text.

    Args:
      text: the JSON text.
      replace_unbounded: NaN and infinite numbers, which JSON can't represent, become null.

    Raises:
      ValueError: the text is not JSON, is nested too deeply, or has a number that JSON can't represent (NaN
        or infinite).

    >>> parse('{"a": [1, null]}'), parse('{"a": NaN}', replace_unbounded=True)
    ({'a': [1, None]}, {'a': None})
    """
    try:
        if replace_unbounded:
            value = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
        else:
            value = json.loads(text, parse_constant=_no_number, parse_float=_number)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raises ValueError if objects and lists in a value are nested more than `DEEPEST` deep."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list | tuple)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


_TOO_DEEP = f"nested more than {DEEPEST} deep"


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value
