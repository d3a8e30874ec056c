"""Globs over paths, against a matcher that goes through the parts of a path one by one."""

import random
import re

import pyarrow as pa
import pytest

from beam_dedup.core.blocks import to_bytes
from beam_dedup.core.path_globs import absolute_glob, check_glob, glob_paths, matches

LETTERS = "ab.é日\udcff\n$"


def found(glob: str, uri: str, name: str = "x", directory: str = "/cwd") -> bool:
    check_glob(glob)
    uris, names = (pa.array([to_bytes(text)], pa.binary()) for text in (uri, name))
    return bool(matches(glob_paths(uris, names, directory), [glob])[0])


def in_part(glob: str, part: str) -> bool:
    """Returns whether a glob without `/` matches one part of a path, letter by letter."""
    if not glob:
        return not part
    if glob[0] == "*":
        return in_part(glob[1:], part) or bool(part and in_part(glob, part[1:]))
    if not part:
        return False
    if glob[0] == "[":
        end = glob.index("]", 2)
        chosen = glob[1:end]
        hit = part[0] not in chosen[1:] if chosen[0] == "!" else part[0] in chosen
        return hit and in_part(glob[end + 1 :], part[1:])
    return glob[0] in ("?", part[0]) and in_part(glob[1:], part[1:])


def in_parts(globs: list[str], parts: list[str]) -> bool:
    """Returns whether globs match the first of these parts, and all that follows them."""
    if not globs:
        return True
    if globs[0] == "**" and len(globs) > 1:
        return in_parts(globs[1:], parts) or bool(parts and in_parts(globs, parts[1:]))
    return bool(parts) and in_part(globs[0], parts[0]) and in_parts(globs[1:], parts[1:])


def by_parts(glob: str, path: str) -> bool:
    """Returns whether a glob matches an absolute path."""
    parts = path[1:].split("/")
    if glob.endswith("/"):
        parts = parts[:-1]
    globs = glob.strip("/").split("/")
    starts = [0] if glob.startswith("/") else range(len(parts))
    return any(in_parts(globs, parts[start:]) for start in starts)


def test_globs_agree_with_a_matcher_of_single_parts() -> None:
    hits = 0
    for seed in range(4000):
        rng = random.Random(seed)

        def text(rng: random.Random = rng) -> str:
            return "".join(rng.choices(LETTERS, k=rng.randint(1, 2)))

        def part(rng: random.Random = rng) -> str:
            pieces = ["*", "?", "[ab]", "[!a]", "[é日.]", *LETTERS, *LETTERS]
            return "".join(rng.choices(pieces, k=rng.randint(1, 3))).replace("**", "*")

        path = "".join(f"/{text()}" for _ in range(rng.randint(1, 4)))
        if any(name in ("..", ".") for name in path.split("/")):
            continue
        parts = [
            part() if rng.random() < 0.6 else rng.choice(path[1:].split("/"))
            for _ in range(rng.randint(1, 3))
        ]
        if len(parts) > 1 and rng.random() < 0.4:
            parts.insert(rng.randint(0, len(parts)), "**")
        glob = rng.choice(["", "", "/"]) + "/".join(parts) + rng.choice(["", "", "/"])
        if not {".", ".."}.isdisjoint(parts):
            with pytest.raises(ValueError, match=re.escape("no '.' or '..'")):
                check_glob(glob)
            continue
        wanted = by_parts(glob, path)
        hits += wanted
        assert found(glob, path, path[1:]) == wanted, f"{seed=} {glob!r} {path!r}"
    assert hits > 400


@pytest.mark.parametrize(
    ("glob", "uri", "name", "is_match"),
    [
        ("originals", "/p/originals/a.jpg", "originals/a.jpg", True),
        ("originals", "/p/my originals/a.jpg", "x", False),
        ("*/originals/*", "/p/2019/originals/a/b.jpg", "x", True),
        ("/2019", "/p/2019/a.jpg", "2019/a.jpg", True),  # below the input
        ("/2019", "/p/x/2019/a.jpg", "x/2019/a.jpg", False),
        ("a.jpg/", "/p/a.jpg", "a.jpg", False),
        ("p/**", "/p/a.jpg", "a.jpg", True),
        ("p/**", "/p", "p", False),
        ("a/**/**/d", "/a/d", "x", True),
        ("**/**/d", "/d", "x", True),
        ("*.JPG", "/p/a.jpg", "a.jpg", False),
        ("gs://b/in", "gs://b/in/a.jpg", "a.jpg", True),
        ("gs://b/in", "gs://b/inner/a.jpg", "a.jpg", False),
        ("b/in", "gs://b/in/a.jpg", "a.jpg", True),
        ("/cwd/in", "in/a.jpg", "a.jpg", True),
        ("/up/in", "../up/in/a.jpg", "a.jpg", True),
        ("/a/b.zip/c/*", "/a/b.zip!c/d.jpg", "b.zip/c/d.jpg", True),
        ("/a/wow!/*.zip", "/a/wow%21/b.zip!c.jpg", "x", True),
        ("100%.jpg", "/a/100%.jpg", "x", True),
        (r"\[1\]*", "/a/[1] b.jpg", "x", True),
        (r"a\*b", "/a*b", "x", True),
        (r"a\*b", "/acb", "x", False),
        ("?.jpg", "/日.jpg", "x", True),
        ("[!a].jpg", "/日.jpg", "x", True),
        ("[0-9][0-9]", "/in/42/a.jpg", "x", True),
        ("[]a]", "/]", "x", True),
        ("b#2", "/in/b/a.jpg", "b#2/a.jpg", True),
        ("[é-í].jpg", "/ë.jpg", "x", True),
        ("[é-í].jpg", "/ü.jpg", "x", False),
        ("[!é].jpg", "/日.jpg", "x", True),
        ("[!é].jpg", "/é.jpg", "x", False),
        ("??.jpg", "/é.jpg", "x", False),
        ("\udcff?.jpg", "/\udcffé.jpg", "x", True),
        ("[\udcff]*", "/in/a\udcff.jpg", "x", False),
        ("[[:digit:]]*", "/in/42/a.jpg", "x", True),
        ("[--0]b", "/a/b", "x", False),
        (r"[\]a]", "/]", "x", True),
        (r"a\/b", "/a/b", "x", True),
        ("/**", "/a", "x", True),
        ("gs://b/**/c", "gs://b/c", "x", True),
        ("gs://b/**/c", "gs://b/d/e/c/f", "x", True),
        ("gs://?/c", "gs://b/c", "x", True),
    ],
)
def test_glob_and_path(glob: str, uri: str, name: str, is_match: bool) -> None:
    assert found(glob, uri, name) == is_match


@pytest.mark.parametrize(
    ("glob", "has_labels", "wanted"),
    [
        ("/raw", True, [True, True, False, False]),
        ("/raw", False, [False, False, False, False]),
        ("/b/raw", True, [True, False, False, False]),
        ("/c.jpg", True, [False, False, False, True]),
        ("raw", False, [True, True, True, False]),
    ],
)
def test_glob_begins_below_each_of_several_inputs(glob: str, has_labels: bool, wanted: list[bool]) -> None:
    uris = ["/p/b/raw/a.jpg", "/p/q/\udcff/raw/a.jpg", "/p/b/x/raw/a.jpg", "/p/c.jpg"]
    names = ["b/raw/a.jpg", "\udcff/raw/a.jpg", "b/x/raw/a.jpg", "c.jpg"]
    first, second = (pa.array(list(map(to_bytes, texts)), pa.binary()) for texts in (uris, names))
    assert matches(glob_paths(first, second, "/cwd", has_labels), [glob]).tolist() == wanted


@pytest.mark.parametrize(
    ("glob", "why"),
    [
        ("", "must name a file or a directory"),
        ("//", "must name a file or a directory"),
        ("gs://", "must name a file or a directory"),
        ("//a", "must have no empty part"),
        ("*.*://b", "must have no empty part"),
        ("/p//a", "must have no empty part"),
        ("gs://b/../a", "must have no empty part and no '.' or '..' between slashes"),
        ("!a", "must not begin with !"),
        ("[ab", "must close each [ by a ]"),
        ("[", "must close each [ by a ]"),
        ("[!", "must close each [ by a ]"),
        ("a\\", "must not end in a backslash"),
        ("[b-a]", "must not have the empty range b-a"),
        ("[í-é]", "must not have the empty range í-é"),
        ("[[:word:]]", "must have one of the classes alnum, alpha"),
        ("a\0b", "must have at most 4096 bytes, and no zero bytes"),
        ("a" * 5000, "must have at most 4096 bytes, and no zero bytes"),
    ],
)
def test_wrong_globs_are_refused(glob: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        check_glob(glob)


@pytest.mark.parametrize("seed", range(300))
def test_any_text_is_a_glob_or_is_refused(seed: int) -> None:
    """RE2 accepts the pattern of every glob that is not refused."""
    rng = random.Random(seed)
    glob = "".join(rng.choices("[]!^-\\*?/ab(){}|+.$é\n", k=rng.randint(1, 12)))
    try:
        check_glob(glob)
    except ValueError:
        return
    found(glob, "/a/b")


def test_long_paths_take_linear_time() -> None:
    assert not found("*a*a*a*a*a*a*a*a*a*b", "/" + "a" * 3000)


def test_relative_globs_begin_in_the_current_directory() -> None:
    assert absolute_glob("./raw/", "/in") == "/in/raw/"
    assert absolute_glob("../raw", "/in/a") == "/in/raw"
    assert absolute_glob(".hidden", "/in") == ".hidden"
    assert absolute_glob("./raw", "/") == "/raw"
    assert found(absolute_glob("./a", "/in [1]*"), "/in [1]*/a/b.jpg")
