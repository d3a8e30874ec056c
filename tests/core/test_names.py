"""Names in messages cannot control a terminal."""

import json

import pytest

from beam_dedup.core.names import shown, without_controls

# Each of them changes what a terminal shows: escape sequences in 7 and 8 bits, line ends, and letters that change direction.
HARMFUL = ("\x1b]0;title\x07", "\x1b[2J", "\x9b2J", "\r", "\n", "\b", "\x7f", "\u202e", "\u2066", "\u200b")


@pytest.mark.parametrize("harm", HARMFUL)
def test_harmful_name_is_shown_as_json(harm: str) -> None:
    name = f"a{harm}\udcff\u65e5.jpg"
    found = shown(name)
    assert found.isprintable()
    assert json.loads(found) == name
    assert without_controls(name.replace("\n", "")).isprintable()


def test_ordinary_names_are_shown_as_they_are() -> None:
    for name in ("a b.jpg", "\u65e5\u672c/\u00e5.jpg", "-rf", "50%.jpg", "a\\b"):
        assert shown(name) == name
    assert shown("a -> b") == '"a -> b"'


def test_lines_of_a_message_stay_lines() -> None:
    assert without_controls("a:\n  b\x1b[2J") == "a:\n  b\\u001b[2J"
