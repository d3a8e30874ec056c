"""Patterns match names and paths, the same with `re` and with RE2, and bad ones are refused."""

import random
import re
import time
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from beam_dedup.core import globs

LETTERS = "aabb.c-]é日\udcff\udc80\n$ \U0001f600"
PIECES = (
    *(
        "*",
        "*",
        "**",
        "?",
        "/",
        "/**/",
        "[ab]",
        "[!a]",
        "[^/-]",
        "[é-日]",
        "[!é]",
        "[!\udc80-\udcff]",
        "[]-é]",
        "[+-0]",
    ),
    *("[[:punct:]]", "[![:alnum:]]", "[[:space:]$]", "[ -~]", "\\*", "\\]", "[a", "(?>", "[(?>]", *LETTERS),
)


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        ("", "must name a file or a directory"),
        ("/", "must name a file or a directory"),
        ("!", "must name a file or a directory"),
        ("a//b", "must have no empty part"),
        ("./a", "no '.' or '..'"),
        ("a/../b", "no '.' or '..'"),
        ("a[", "must close each ["),
        ("[]", "must close each ["),
        ("[!]", "must close each ["),
        ("[a-", "must close each ["),
        ("[\\", "must close each ["),
        ("[[:word:]]", "must have one of the classes alnum, alpha"),
        ("[z-a]", "must not have the empty range z-a"),
        ("a\\", "must not end in a backslash"),
    ],
)
def test_bad_pattern_is_refused(pattern: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule.replace("[", r"\[").replace(".", r"\.")):
        globs.parse(pattern)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("#recycle", "#recycle"),  # on a command line, no line is a comment
        ("a ", "a "),
        ("?.jpg", "é.jpg"),  # git would need two
        ("[é-ü].jpg", "ö.jpg"),
        ("a\udcff*.jpg", "a\udcff.jpg"),
        ("?", "\udcff"),
        ("a\nb", "a\nb"),
        ("*b", "a\nb"),
        ("[a&&b]", "&"),
        ("[a||b~~c]", "~"),
        ("(a|b)+.$", "(a|b)+.$"),
    ],
)
def test_pattern_matches_name(pattern: str, path: str) -> None:
    assert globs.parse(pattern).matches(path, path, False)
    assert not globs.parse(pattern).matches(f"{path}x", f"{path}x", False)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("/a", ["a"], ["x/a", "a/a"]),
        ("a/b", ["a/b"], ["x/a/b", "a/x/b", "a/b/c"]),
        ("**/a/b", ["a/b", "x/a/b", "x/y/a/b"], ["xa/b", "a/x/b"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab", "x/a/b"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb", "xa/b"]),
        ("**/a/**/b", ["a/b", "x/a/y/b", "a/a/b/b"], ["xa/b", "a/xb", "xa/y/b"]),
        ("**/a?/**/*b/c", ["a1/b/c", "x/a1/a2/y/bb/c"], ["xa1/b/c", "a1/b/cc", "a/b/c"]),
        ("/**", ["a", "a/b"], []),
        ("***/a", ["a", "x/a"], ["xa"]),
    ],
)
def test_pattern_matches_path(pattern: str, matching: list[str], others: list[str]) -> None:
    glob = globs.parse(pattern)
    for path in [*matching, *others]:
        assert glob.matches(path, path.rpartition("/")[2], False) == (path in matching), path


@pytest.mark.parametrize(
    "pattern", ["*a" * 30 + "*b", "**/" * 30 + "b", "**/a*a*a*/" * 10 + "b", "*[a]*?" * 20 + "b/**"]
)
def test_no_path_takes_long(pattern: str) -> None:
    """A row of another's list may have any path."""
    glob = globs.parse(pattern)
    began = time.process_time()
    for path in ("a" * 4000, "a/" * 2000 + "a", "aaaaaaaaa/" * 400):
        assert not glob.matches(path, path.rpartition("/")[2], False)
    assert time.process_time() - began < 5


def found_by_re2(regex: str, paths: Sequence[str]) -> list[bool]:
    """Returns which paths RE2 matches as a whole."""
    column = pa.array([path.encode("utf-8", "surrogatepass") for path in paths], pa.binary()).view(
        pa.string()
    )
    found: list[bool] = pc.match_substring_regex(column, globs.for_re2(f"^(?:{regex})$")).to_pylist()
    return found


def test_re2_matches_what_re_matches() -> None:
    hits = differing = 0
    for seed in range(3000):
        rng = random.Random(seed)
        pattern = "".join(rng.choices(PIECES, k=rng.randint(1, 5)))
        try:
            regex = globs.parse(pattern).regex
        except ValueError:
            continue
        literal = re.sub(r"\[.*?\]|[*?]", lambda _: rng.choice(LETTERS), pattern).strip("/")  # noqa: B023
        paths = [literal, *("".join(rng.choices(LETTERS + "/", k=rng.randint(1, 4))) for _ in range(20))]
        wanted = [regex.fullmatch(path) is not None for path in paths]
        assert found_by_re2(regex.pattern, paths) == wanted, f"{seed=} {pattern!r}"
        hits += sum(wanted)
        differing += 0 < sum(wanted) < len(paths)
    assert hits > 3000
    assert differing > 1000


@pytest.mark.parametrize("byte", range(1, 128))
def test_ascii_character_is_itself_for_both_engines(byte: int) -> None:
    letter = chr(byte)
    paths = [chr(number) for number in range(1, 128) if number != ord("/")]
    wanted = [path == letter for path in paths]
    for pattern in (f"\\{letter}", f"[\\{letter}]", f"[\\{letter}-\\{letter}]"):
        if letter == "/":
            continue
        regex = globs.parse(pattern).regex
        assert [regex.fullmatch(path) is not None for path in paths] == wanted
        assert found_by_re2(regex.pattern, paths) == wanted


@pytest.mark.parametrize(
    "pattern", ["[+-0]", "[![:alpha:]]", "[[:punct:]]", "[[:graph:]]", "[[:print:]]", "[!a]", "?", "*"]
)
def test_no_character_class_matches_a_slash(pattern: str) -> None:
    regex = globs.parse(pattern).regex
    assert regex.fullmatch(".")
    assert not regex.fullmatch("/")
    assert found_by_re2(regex.pattern, [".", "/"]) == [True, False]
