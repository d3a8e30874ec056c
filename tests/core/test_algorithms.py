"""Codes of other libraries are reproduced bit for bit, and impossible recipes are refused."""

import dataclasses
import importlib.util
import io
import json
import pickle
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from beam_dedup.core import limits
from beam_dedup.core.algorithms import ALGORITHMS, SIMHASH, Recipe, missing_library
from beam_dedup.core.imaging.fingerprint import fingerprint
from beam_dedup.core.metadata.simhash import simhash
from beam_dedup.core.model import Code, CodeKind, Flag, ImageRef
from tests.pictures import encoded, fingerprint_of, photo

FUNCTIONS = {
    "phash": imagehash.phash,
    "dhash": imagehash.dhash,
    "ahash": imagehash.average_hash,
    "whash": imagehash.whash,
    "colorhash": imagehash.colorhash,
}
TURNED = Image.Exif()
TURNED[0x0112] = 6
FILES = {
    "PNG": encoded(photo()),
    "JPEG": encoded(photo(2, (700, 500)), "JPEG"),
    "turned by EXIF": encoded(photo(3), "JPEG", exif=TURNED.tobytes()),
    "grey": encoded(photo(4).convert("L")),
    "see-through": encoded(photo(5).convert("RGBA")),
    "palette": encoded(photo(6).quantize(64)),
    "CMYK": encoded(photo(7).convert("CMYK"), "JPEG"),
    "GIF": encoded(photo(8), "GIF"),
    "WebP": encoded(photo(9), "WEBP"),
    "small": encoded(photo(10, (12, 9))),
    "tall": encoded(photo(11, (40, 900)), "JPEG"),
    **{f"photo {seed}": encoded(photo(seed, (90 + seed, 130)), "JPEG") for seed in range(20, 40)},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_codes_equal_those_of_imagehash(name: str) -> None:
    """They equal those that imagehash computes from the opened file, digit by digit."""
    for label, data in FILES.items():
        found = fingerprint_of(data, recipe=Recipe(name, "none"))
        [code] = found.codes
        theirs = FUNCTIONS[name](Image.open(io.BytesIO(data)))
        assert (code.kind, len(code.data)) == (CodeKind.HASH, 8)
        assert found.algorithm == ALGORITHMS[name].recipe
        spare = 64 - ALGORITHMS[name].bits
        assert int.from_bytes(code.data) == int(str(theirs), 16) << spare, label
        assert theirs.hash.size == ALGORITHMS[name].bits


def test_codes_equal_those_of_pdqhash() -> None:
    pdqhash = pytest.importorskip("pdqhash")
    for data in FILES.values():
        [code] = fingerprint_of(data, recipe=Recipe("pdq", "none")).codes
        bits, _ = pdqhash.compute(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        assert (code.kind, code.data) == (CodeKind.WIDE, np.packbits(bits).tobytes())


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != SIMHASH])
def test_pictures_without_structure_are_compared_by_colour(name: str) -> None:
    """The hashes of all plain pictures are similar."""
    for colour in ("white", "red"):
        data = encoded(Image.new("RGB", (200, 150), colour), "PNG")
        found = fingerprint_of(data, recipe=Recipe(name, "none"))
        assert (found.codes[0].kind, found.flags) == (CodeKind.FLAT, (Flag.FLAT,))
        assert found.codes == fingerprint_of(data).codes


def test_heavy_algorithms_have_a_lower_pixel_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PIXELS_HEAVY", 320 * 240 - 1)
    for name, algorithm in ALGORITHMS.items():
        if algorithm.is_of_metadata:
            continue
        found = fingerprint_of(FILES["PNG"], recipe=Recipe(name, "none"))
        assert bool(found.codes) != algorithm.is_heavy, name
        assert ("at most 76799" in found.detail) == algorithm.is_heavy


def test_unscaled_jpeg_has_the_pixel_limit_of_other_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PIXELS", 700 * 500 - 1)
    assert fingerprint_of(FILES["JPEG"]).codes
    assert fingerprint_of(FILES["JPEG"], recipe=Recipe("phash", "none")).flags == (Flag.UNDECODABLE,)


def test_codes_of_metadata_do_not_depend_on_pixels() -> None:
    metadata = json.dumps(
        {"Image Width": 640, "title": "The harbour", "Date/Time Original": "2019:07:06 13:05:11"}
    )
    recipe = Recipe(SIMHASH, "none")
    for data in (FILES["PNG"], FILES["PNG"][:200], b"<svg></svg>"):
        found = fingerprint(ImageRef("x", "x", metadata), io.BytesIO(data), len(data), recipe=recipe)
        assert found.codes == (Code(CodeKind.HASH, simhash(json.loads(metadata))[0]),)
        assert (found.algorithm, found.width, found.flags) == ("simhash/1", 0, ())
    for metadata in ("", "{}", '{"Image Width": 640}'):
        found = fingerprint(ImageRef("x", "x", metadata), io.BytesIO(data), len(data), recipe=recipe)
        assert (found.algorithm, found.codes) == ("", ())


def test_registry_is_consistent() -> None:
    assert len({algorithm.recipe for algorithm in ALGORITHMS.values()}) == len(ALGORITHMS)
    for name, algorithm in ALGORITHMS.items():
        assert name == algorithm.name
        assert 0 <= algorithm.default_k <= algorithm.max_k <= algorithm.bits // 4
        assert algorithm.recipe.startswith(f"{name}/")
        assert Recipe(name, "none").name == algorithm.recipe


def test_recipe_survives_pickle_and_json() -> None:
    for recipe in (Recipe(), Recipe(views="crops", turns=True), Recipe("pdq", "none")):
        assert pickle.loads(pickle.dumps(recipe)) == recipe
        assert Recipe(**json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sift",), "algorithm must be one of dct, phash, .*, got sift"),
        (("dct", "some"), "views must be one of none, trim, centre, crops, got some"),
        (("phash",), "views must be none with phash, got trim"),
        (("phash", "none", True), "turns must be off with phash"),
    ],
)
def test_impossible_recipes_are_refused(arguments: tuple[str, str, bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(*arguments)


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "run pip install '.[pdq]' in the checkout" in missing_library(ALGORITHMS["pdq"])
    assert not any(missing_library(ALGORITHMS[name]) for name in ALGORITHMS if name != "pdq")
    assert '"pdq": [' in (Path(__file__).parents[2] / "setup.py").read_text()
