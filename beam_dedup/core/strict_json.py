"""JSON that strangers wrote, read such that whoever is given it can write it again."""

import json
import math
from typing import Any, NoReturn

DEEPEST = 64  # objects and lists in each other: writing, like reading, is a recursion


def parse(text: str, replace_unbounded: bool = False) -> Any:
    """What a text says, as JSON types.

    replace_unbounded: numbers that JSON can't write, NaN or beyond all bounds, become null.

    Raises:
      ValueError: it is no JSON, is nested too deep, or has numbers that JSON can't write.

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
    """Raises ValueError if objects and lists are nested too deep in a value."""
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
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value
