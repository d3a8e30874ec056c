"""Patterns match the same paths in object stores as in local directories."""

import glob
import os
import random
import time
from pathlib import Path

import pytest

from beam_dedup.core.reading import input_paths

DIRECTORIES = ["a", "b", "ab", ".h", "[q]"]
FILES = ["c.x", "ab.x", ".h.x", "[q].x"]
PARTS = ["*", "**", "a*", "?", "*.x", "[ab]", "[!a]*", "a", "b", "**", ".*", "[[]q]", "a**"]


@pytest.mark.parametrize("seed", range(20))
def test_matches_agrees_with_glob_and_searches_matching_directories(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    files = {
        "/".join([*chance.choices(DIRECTORIES, k=chance.randrange(4)), chance.choice(FILES)])
        for _ in range(15)
    }
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for _ in range(30):
        pattern = "/".join(chance.choices(PARTS, k=chance.randrange(1, 5)))
        found = {os.path.normpath(name) for name in glob.glob(pattern, root_dir=tmp_path, recursive=True)}
        directories = [name for name in found if "**" not in pattern and (tmp_path / name).is_dir()]
        expected = {
            name
            for name in files
            if name in found or name.startswith(tuple(f"{one}/" for one in directories))
        }
        assert {
            name for name in files if input_paths.matches(f"gs://b/{name}", f"gs://b/{pattern}")
        } == expected, pattern


def overlap_by_pairs(inputs: list[str]) -> tuple[str, str] | None:
    """Returns the first input that overlaps an earlier one, and the first of those."""
    for number, path in enumerate(inputs):
        for other in inputs[:number]:
            if input_paths.holds(other, path) or input_paths.holds(path, other):
                return other, path
    return None


def test_overlapping_inputs_are_those_of_a_comparison_of_all_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("a/b")
    names = [
        "a",
        "a/b",
        "a/b/c",
        "a/b/c/x.jpg",
        "a/y.jpg",
        "a/yy.jpg",
        "a/*.jpg",
        "a/b/*",
        "d",
        "d/z.jpg",
        "link",
    ]
    names += [
        "link/c",
        "gs://b/a",
        "gs://b/a/c",
        "gs://b/ab",
        "gs://b/a/*.png",
        str(tmp_path / "d"),
        "e",
        "f.jpg",
    ]
    chosen = random.Random(1)
    results = set()
    for _ in range(300):
        inputs = chosen.sample(names, chosen.randint(1, 6))
        expected = overlap_by_pairs(inputs)
        assert input_paths.overlapping(inputs) == expected, inputs
        results.add(expected)
    assert None in results
    assert len(results) > 20


def test_thousands_of_files_are_compared_quickly(tmp_path: Path) -> None:
    inputs = [str(tmp_path / f"{number}.jpg") for number in range(2000)]
    started = time.monotonic()
    assert input_paths.overlapping(inputs) is None
    assert time.monotonic() - started < 30  # comparing all pairs takes minutes
