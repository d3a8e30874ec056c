"""Patterns match the same paths in object stores as in local directories."""

import glob
import os
import random
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
