"""`strict_json` accepts only values that can be written as JSON again."""

import json
from typing import Any

import pytest

from beam_dedup.core import strict_json
from beam_dedup.core.strict_json import DEEPEST, parse


def nested(depth: int, *, objects: bool = False) -> str:
    return '{"a":' * depth + "1" + "}" * depth if objects else "[" * depth + "1" + "]" * depth


@pytest.mark.parametrize(
    "text", ["null", "0", "-1.5e300", '"\\ud800"', "[]", "{}", '{"a": [{"b": [1, 2]}, []]}', nested(DEEPEST)]
)
def test_valid_json_is_parsed(text: str) -> None:
    assert parse(text) == json.loads(text)
    json.dumps(parse(text), allow_nan=False)


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("depth", [DEEPEST + 1, 500, 980, 995, 100_000])
def test_deeply_nested_json_is_refused(depth: int, objects: bool) -> None:
    with pytest.raises(ValueError, match="nested more than 64 deep"):
        parse(nested(depth, objects=objects))


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "-1e999", "", "{", "9" * 5000]
)
def test_values_that_json_cannot_represent_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)


@pytest.mark.parametrize("value", [1, "text", None, [], {}, {"a": (1, [2])}])
def test_depth_of_python_values_is_checked(value: Any) -> None:
    strict_json.check_depth(value)
    for _ in range(DEEPEST + 1):
        value = {"a": value}
    with pytest.raises(ValueError, match="deep"):
        strict_json.check_depth(value)
