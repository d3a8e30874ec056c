"""Files are left out as git ignores them, and counted."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_dedup.core import globs
from beam_dedup.core.reading.selection import (
    DEFAULT_EXCLUDES,
    Exclusions,
    Selection,
    Selector,
    sum_exclusions,
)

# Git matches bytes, we match characters: so no character of several bytes.
NAMES = ("a", "b", "ab", "ba", "a.b", "A", "[a]", "a-b", "x y", "a*", "1", ".a")
WILD = (
    "*",
    "?",
    "[ab]",
    "[!a]",
    "[^b]",
    "[a-c]",
    "[[:alpha:]]",
    "[![:digit:]]",
    "[]a]",
    "[a-]",
    "*b",
    "a*",
    "[--b]",
)
ODD = (".", "\\*", "\\[", "-", " y", "[[:abc]", "[[:upper:]b]", "]", "a", "b", "[a", "[z-a]", "\\")
requires_git = pytest.mark.skipif(
    subprocess.run(["git", "--version"], capture_output=True, check=False).returncode != 0, reason="no git"
)


def random_part(rng: random.Random) -> str:
    made = ("".join(rng.choice(WILD + ODD) for _ in range(rng.randint(1, 3))) for _ in range(3))
    return rng.choice(["**", "*", rng.choice(NAMES), rng.choice(NAMES), *made])


def random_pattern(rng: random.Random) -> str:
    """Returns a pattern that a gitignore file may contain; some are wrong."""
    text = "/".join(random_part(rng) for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])))
    negation, anchor = rng.choice(["", "", "", "!"]), rng.choice(["", "", "", "/"])
    return negation + anchor + text + rng.choice(["", "", "/"])


def random_files(rng: random.Random) -> list[str]:
    """Returns relative paths of files, none of which is the directory of another."""
    paths = {"/".join(rng.choice(NAMES) for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(4, 14))}
    return sorted(path for path in paths if not any(other.startswith(f"{path}/") for other in paths))


def make_files(folder: Path, paths: list[str]) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def not_ignored(repository: Path, patterns: list[str]) -> list[str]:
    """Returns the files that git does not ignore, sorted."""
    (repository / ".git" / "patterns").write_text("".join(f"{pattern}\n" for pattern in patterns))
    command = ["git", "ls-files", "--others", "-z", "--exclude-from", ".git/patterns"]
    found = subprocess.run(command, cwd=repository, capture_output=True, check=True).stdout
    return sorted(os.fsdecode(path) for path in found.split(b"\0") if path)


def repositories(folder: Path, count: int, seed: int) -> Iterator[tuple[Path, list[str], random.Random]]:
    """Yields repositories with random files, the paths of the files, and the source of choices."""
    rng = random.Random(seed)
    subprocess.run(["git", "init", "--quiet", "--bare", str(folder / "git")], check=True)
    for number in range(count):
        repository = folder / str(number)
        repository.mkdir()
        (repository / ".git").symlink_to(folder / "git")
        subprocess.run(["git", "config", "core.bare", "false"], cwd=repository, check=True)
        paths = random_files(rng)
        make_files(repository, paths)
        yield repository, paths, rng


def right_patterns(rng: random.Random, most: int = 4) -> list[str]:
    """Returns some random patterns without those that are refused."""
    patterns = [random_pattern(rng) for _ in range(rng.randint(1, most))]
    return [pattern for pattern in patterns if not refusal(pattern)]


def refusal(pattern: str) -> str:
    """Returns why a pattern is refused; "" if it is not."""
    try:
        globs.parse(pattern)
    except ValueError as error:
        return str(error)
    return ""


@requires_git
def test_excluded_files_are_those_that_git_ignores(tmp_path: Path) -> None:
    differing = 0
    for repository, paths, rng in repositories(tmp_path, 60, seed=4):
        for _ in range(5):
            patterns = right_patterns(rng)
            selector = Selector(Selection(exclude=tuple(patterns)))
            kept = [path for path in paths if not selector.file_anywhere(path)]
            assert kept == not_ignored(repository, patterns), patterns
            differing += 0 < len(kept) < len(paths)
    assert differing > 50


@requires_git
def test_patterns_that_are_refused_match_nothing_for_git(tmp_path: Path) -> None:
    refused = 0
    for repository, paths, rng in repositories(tmp_path, 20, seed=5):
        # Git ignores an empty range, and the rest of its brackets may match.
        made = [random_pattern(rng) for _ in range(60)]
        patterns = [pattern for pattern in made if refusal(pattern) and "range" not in refusal(pattern)]
        refused += len(patterns)
        for pattern in patterns:
            assert not_ignored(repository, [pattern.removeprefix("!")]) == paths, pattern
    assert refused > 60


def test_endless_path_is_not_looked_at() -> None:
    selector = Selector(Selection(exclude=("a",), include=("b",)))
    assert selector.file_anywhere("a/" * (1 << 20) + "c") == ""


class TestInclude:
    @pytest.mark.parametrize(
        ("include", "taken"),
        [
            (["*.jpg"], ["a.jpg", "raw/b.jpg", "raw/tmp/c.jpg"]),
            (["raw/"], ["raw/b.jpg", "raw/b.tif", "raw/tmp/c.jpg", "raw/tmp/raw/d.tif"]),
            (["raw/", "!tmp/"], ["raw/b.jpg", "raw/b.tif", "raw/tmp/raw/d.tif"]),
            (["!raw/", "*.jpg"], ["a.jpg", "raw/b.jpg", "raw/tmp/c.jpg"]),
            (["*", "!raw/*"], ["a.jpg", "a.tif", "raw/tmp/c.jpg", "raw/tmp/raw/d.tif"]),
            (["/*.tif", "raw/b.*"], ["a.tif", "raw/b.jpg", "raw/b.tif"]),
        ],
    )
    def test_last_pattern_at_the_nearest_name_decides(self, include: list[str], taken: list[str]) -> None:
        files = ["a.jpg", "a.tif", "raw/b.jpg", "raw/b.tif", "raw/tmp/c.jpg", "raw/tmp/raw/d.tif"]
        selector = Selector(Selection(include=tuple(include)))
        assert [path for path in files if not selector.file_anywhere(path)] == taken
        assert {selector.file_anywhere(path) for path in set(files) - set(taken)} == {"--include"}

    def test_file_must_match_include_and_not_exclude(self) -> None:
        selector = Selector(Selection(exclude=("tmp/", "b.*"), include=("*.jpg",)))
        files = ["a.jpg", "a.tif", "b.jpg", "tmp/c.jpg"]
        assert [selector.file_anywhere(path) for path in files] == ["", "--include", "--exclude", "--exclude"]


class TestDefaults:
    @pytest.mark.parametrize("pattern", DEFAULT_EXCLUDES)
    def test_default_matches_directories_at_any_depth(self, pattern: str) -> None:
        assert pattern.endswith("/")
        path = pattern.removeprefix("**/").rstrip("/").replace("*", "-1000")
        selector = Selector(Selection(default_excludes=True))
        for prefix in ("", "a/b/"):
            assert selector.directory(prefix + path)
            assert selector.file_anywhere(f"{prefix}{path}/x/a.jpg") == selector.directory(prefix + path)
            assert not selector.file_anywhere(prefix + path), (
                "a file of this name is none of these directories"
            )
        assert not Selector(Selection()).directory(path)

    def test_pattern_takes_a_default_back(self) -> None:
        selector = Selector(Selection(exclude=("!.git/",), default_excludes=True))
        assert (selector.directory("a/.git"), selector.directory("a/.svn")) == ("", ".svn")

    def test_default_that_the_input_names_does_not_apply(self) -> None:
        selector = Selector(Selection(exclude=(".svn/",), default_excludes=True), ["*", ".git", ".svn"])
        assert [selector.directory(name) for name in (".git", ".svn", ".hg")] == ["", "--exclude", ".hg"]


def test_exclusions_add_up() -> None:
    parts = [Exclusions({"a": 1}, {"b": 2}), Exclusions(), Exclusions({"a": 2, "c": 1}, {"b": 1})]
    total = sum_exclusions(parts)
    assert total == Exclusions({"a": 3, "c": 1}, {"b": 3})
    assert total
    assert not sum_exclusions([])
    assert parts[0] == Exclusions({"a": 1}, {"b": 2})
