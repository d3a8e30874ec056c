"""The benchmarks of the recipe and of the algorithms on a few pictures: their results, not their speed."""

import importlib.util
import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image, ImageOps

from beam_dedup.core.algorithms import ALGORITHMS, Recipe
from tests.pictures import photo

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reencoded_graphics_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = script("recipe")
    monkeypatch.setattr(recipe.decode, "DRAFT_SIDE", 128)  # put back after it was set
    drawn = [recipe.encoded_again(image) for image in recipe.graphics().values()]
    codes = recipe.codes_of(itertools.chain(*drawn), recipe.Variant())
    copies = np.array([number for number in range(48) if number % 6])
    assert recipe.within(codes, copies // 6 * 6, codes, copies, 8, 48).sum() == 40


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[list[Path], list[dict[str, str]]]:
    files, truth = [], []
    for group in range(3):
        image = photo(group, (400, 300))
        edits = {
            "original": image,
            "half": image.resize((200, 150), Image.Resampling.LANCZOS),
            "crop": image.crop((20, 15, 380, 285)),
            "mirror": ImageOps.mirror(image),
        }
        for edit, picture in edits.items():
            files.append(tmp_path / f"{group}_{edit}.jpg")
            picture.save(files[-1], quality=90)
            role = "original" if edit == "original" else "variant"
            level = {"half": "near", "crop": "hard", "mirror": "geo"}.get(edit, "")
            truth.append({"group": str(group), "role": role, "level": level, "transform": edit})
    return files, truth


@pytest.mark.parametrize(
    ("recipe", "hard", "geo"),
    [
        (Recipe(views="none"), 0, 0),
        (Recipe(views="centre"), 1, 0),
        (Recipe(views="crops", turns=True), 1, 1),
        *((Recipe(name, "none"), 0, 0) for name in ("phash", "dhash", "pdq")),
    ],
    ids=str,
)
def test_recall_by_level(
    corpus: tuple[list[Path], list[dict[str, str]]], recipe: Recipe, hard: float, geo: float
) -> None:
    algorithms = script("algorithms")
    files, truth = corpus
    codes, _ = algorithms.codes_of(files, recipe)
    near = algorithms.distances(codes) <= ALGORITHMS[recipe.algorithm].default_k
    assert algorithms.recalls(near, truth) == {"pixel": 0, "near": 1, "hard": hard, "geo": geo}
    assert algorithms.precision(near, truth) == 1
