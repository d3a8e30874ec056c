"""Paths of copies stay inside the output directory, can be reversed, and never collide."""

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_dedup.core.paths import DUPLICATES_FOLDER, collision_key, copy_name, is_partial, name_of_copy

# POSIX names, which may be any bytes. Names with a special meaning are frequent.
_SPECIAL = [
    "",
    ".",
    "..",
    "...",
    "C:",
    "c:\\",
    "http:",
    "a.",
    "b ",
    "-rf",
    "~",
    "a|b",
    '<>?*"',
    "%",
    "%2F",
    "%41",
]
_RESERVED = [
    "con",
    "NUL.txt",
    "COM1",
    "lpt9.tar.gz",
    "_duplicates",
    "_Duplicates",
    ".dedup-1-x.part",
    ".DEDUP-1-X.PART",
]
_LETTERS = ["É", "é", "e\u0301", "ß", "\u017f", "\u0131", "İ", "Å", "\u212b", "각", "ﬁ", "日本", "\udcff"]
_CONTROLS = ["a\nb", "\x1b[2J", "\x7f", "a\0b"]
_LONG = ["x" * 300, "日" * 100, "A" * 130, "%~" + "0" * 32]
_PARTS = st.sampled_from([*_SPECIAL, *_RESERVED, *_LETTERS, *_CONTROLS, *_LONG])
_RAW = st.binary(max_size=12).map(os.fsdecode)
NAMES = st.lists(_PARTS | _RAW, max_size=5).map("/".join).map(os.fsencode).map(os.fsdecode)
both = pytest.mark.parametrize("portable", [False, True])


def inside(path: str) -> bool:
    """Returns whether this path, opened below a directory, leads to a file inside it on every system."""
    parts = path.split("/")
    return all(part not in ("", ".", "..") and not set(part) & set("\\\0") for part in parts) and not (
        path[1:2] == ":" and path[0].isalpha() and path[0].isascii()
    )


@both
@given(NAMES)
@settings(max_examples=1500, deadline=None)
@example("")
@example("/")
@example("//")
@example("a/")
@example("a//")
@example("/a//")
@example("%2F/")
@example("x" * 300)
@example("a/" * 3000)
@example("C:/Windows")
def test_path_stays_inside_and_can_be_reversed(portable: bool, name: str) -> None:
    path = copy_name(name, portable)
    assert inside(path)
    assert all(0 < len(os.fsencode(part)) <= 255 for part in path.split("/"))
    assert len(os.fsencode(path)) <= 3300
    assert not any(ord(letter) < 32 or ord(letter) == 127 for letter in path)
    assert path.split("/")[0].lower() != DUPLICATES_FOLDER
    assert not is_partial(path.split("/")[-1].lower())
    back = name_of_copy(path)
    if back is None:
        assert len(os.fsencode(name)) > 80
    else:
        assert back == name


@both
@given(NAMES, NAMES)
@settings(max_examples=500, deadline=None)
def test_two_names_never_get_the_same_path(portable: bool, one: str, other: str) -> None:
    assert (copy_name(one, portable) == copy_name(other, portable)) == (one == other)


@given(NAMES, NAMES)
@settings(max_examples=1000, deadline=None)
@example("A", "a")
@example("É", "é")
@example("é", "e\u0301")
@example("%4A", "%4a")
@example("\u017f", "s")
@example("\u212a", "k")
@example("ﬁ", "fi")
@example("①", "1")
def test_portable_names_never_collide_on_any_file_system(one: str, other: str) -> None:
    ones, others = (collision_key(copy_name(name, portable=True)) for name in (one, other))
    assert (ones == others) == (one == other)


def test_portable_forms_of_all_short_names_are_distinct() -> None:
    names = ["".join(letters) for letters in itertools.product("aA%4é.\u0301 :", repeat=4)]
    assert len({collision_key(copy_name(name, portable=True)) for name in names}) == len(names)


@given(NAMES)
@settings(max_examples=500, deadline=None)
def test_portable_names_are_valid_on_windows(name: str) -> None:
    for part in copy_name(name, portable=True).split("/"):
        assert not set(part) & set('<>:"\\|?*')
        assert part[-1] not in ". "
        assert part.split(".")[0].upper() not in {
            "CON",
            "PRN",
            "AUX",
            "NUL",
            *(f"COM{n}" for n in range(10)),
            *(f"LPT{n}" for n in range(10)),
        }


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("日本/ñ é.JPG", "日本/ñ é.JPG"),
        ("NUL", "NUL"),
        ("x.", "x."),
        ("a:b/c:d", "a%3Ab/c:d"),
        ("12:30.jpg", "12:30.jpg"),
        ("C:\\Windows\\x", "C%3A%5CWindows%5Cx"),
        ("C:/x", "C%3A/x"),
        ("new\nline", "new%0Aline"),
        ("\x1b[31mred", "%1B[31mred"),
        ("nul\0", "nul%00"),
        ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd"),
        ("_DUPLICATES/x", "%5FDUPLICATES/x"),
    ],
)
def test_plain_form(name: str, wanted: str) -> None:
    assert copy_name(name) == wanted


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a/b-1_(2) c.jpg", "a/b-1_(2) c.jpg"),
        ("日本", "日本"),
        ("IMG.JPG", "%49%4D%47.%4A%50%47"),
        ("nul", "%6Eul"),
        ("nul.txt", "%6Eul.txt"),
        ("null", "null"),
        ("x.", "x%2E"),
        ("x ", "x%20"),
        ("12:30?.jpg", "12%3A30%3F.jpg"),
        ("é", "%C3%A9"),
        ("e\u0301", "e%CC%81"),
        ("\udcff", "%FF"),
    ],
)
def test_portable_form(name: str, wanted: str) -> None:
    assert copy_name(name, portable=True) == wanted


def test_file_can_be_created_for_every_name(tmp_path: Path) -> None:
    for name in (
        "x" * 300,
        "日" * 100 + ".jpg",
        "a/" * 1000 + "b",
        "a/" * 190 + "b",
        "\udcff" * 200,
        "new\nline",
        "nul\0",
        "/abs",
        "..",
        "C:\\x",
    ):
        for portable in (False, True):
            path = tmp_path / copy_name(name, portable)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
            assert tmp_path in path.resolve().parents


def test_collision_key_ignores_case_and_unicode_form() -> None:
    assert len({collision_key(name) for name in ("A/É", "a/é", "a/e\u0301", "A/E\u0301")}) == 1
    assert collision_key("a") != collision_key("b")
