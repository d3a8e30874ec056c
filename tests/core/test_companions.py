"""Which files are companions, and of which images."""

import itertools
import random

import pytest

from beam_dedup.core.blocks import dump
from beam_dedup.core.companions import (
    Companions,
    companions_in,
    count,
    from_column,
    may_have_companions,
    of_no_image,
    owners,
    to_column,
)
from beam_dedup.core.model import Fingerprint, ImageRef
from beam_dedup.core.tables import fingerprints_table

PICTURES = ("jpg", "heic", "png")
CAMERA = ("jpg", "heic")
RAWS = ("cr2", "dng")
OTHERS = ("xmp", "mov", "json")


def images_of(name: str, names: list[str]) -> set[str]:
    """The definition, one file at a time: the images that a file belongs to; an image belongs to itself."""

    def suffix(one: str) -> str:
        return one.lower().rpartition(".")[2]

    def stem(one: str) -> str:
        return one.lower().rpartition(".")[0].removesuffix(".supplemental-metadata")

    def shot(one: str) -> str:
        """The stem that a file counts under: that of the original, if it is an edit of one."""
        base = stem(one)
        if base.startswith("img_e") and base[5:].isdigit():
            original = f"img_{base[5:]}"
            if any(stem(other) == original and suffix(other) in PICTURES + RAWS for other in names):
                return original
        return base

    def images(base: str) -> set[str]:
        own = [other for other in names if stem(other) == base]
        pictures = {other for other in own if suffix(other) in PICTURES}
        raws = {other for other in own if suffix(other) in RAWS}
        return pictures if any(suffix(other) in CAMERA for other in pictures) else pictures | raws

    if suffix(name) in OTHERS:
        whole = [one for one in names if one.lower() == stem(name) and suffix(one) in PICTURES + RAWS]
        if whole:
            return set(itertools.chain.from_iterable(images_of(one, names) for one in whole))
        return images(shot(name))
    base = shot(name)
    return {name} if base == stem(name) and name in images(base) else images(base)


@pytest.mark.parametrize("seed", range(300))
def test_companions_are_those_of_the_definition(seed: int) -> None:
    rng = random.Random(f"companions {seed}")
    stems = ["IMG_1", "img_1", "IMG_E1", "Img_e1", "IMG_2", "b", "IMG_1.JPG", "img_e1.jpg", "b.png", "b.dng"]
    suffixes = [*PICTURES, *RAWS, *OTHERS, "txt", "JPG", "MOV", "supplemental-metadata.json"]
    names = sorted({f"{rng.choice(stems)}.{rng.choice(suffixes)}" for _ in range(rng.randint(1, 14))})
    known = [name for name in names if not name.endswith(".txt")]
    expected = {}
    for name in known:
        images = images_of(name, known)
        if images and images != {name}:
            expected[name] = tuple(sorted(images))
    shuffled = names[:]
    rng.shuffle(shuffled)
    assert owners(shuffled) == expected
    assert may_have_companions(names) or not expected
    found = companions_in(names)
    own = [name for one in found.values() for name in one.own]
    assert sorted(own) == sorted(expected), "each is owned once"
    assert not set(found) & set(expected), "no companion has companions"
    for image, (its_own, shared) in found.items():
        assert {*its_own, *shared} == {name for name, images in expected.items() if image in images}
        assert all(min(expected[name]) == image for name in its_own)


def test_a_raw_file_without_a_camera_picture_is_an_image() -> None:
    assert owners(["a.cr2", "a.xmp", "a.png"]) == {"a.xmp": ("a.cr2", "a.png")}
    assert owners(["a.cr2", "a.xmp", "a.png", "a.HEIC"]) == {
        "a.cr2": ("a.HEIC", "a.png"),
        "a.xmp": ("a.HEIC", "a.png"),
    }


def test_files_without_an_image_are_no_companions() -> None:
    assert owners(["a.mov", "a.xmp", ".xmp", ".jpg", "b.txt", "b.jpg"]) == {}


def test_companions_of_two_images_are_owned_by_the_first() -> None:
    assert companions_in(["a.jpg", "A.HEIC", "a.mov"]) == {
        "A.HEIC": Companions(("a.mov",), ()),
        "a.jpg": Companions((), ("a.mov",)),
    }


def test_names_survive_in_blocks() -> None:
    reference = ImageRef("in/a!.jpg", "a!.jpg", companions=("b\udcff!.xmp",), shared=("a%21.mov",))
    assert from_column(to_column(reference)) == ("a%21.mov", "b\udcff!.xmp")
    assert from_column(to_column(ImageRef("a", "a"))) == ()


def test_companions_of_a_file_that_is_no_image_are_read() -> None:
    image = ImageRef("in/a!.jpg", "x/a!.jpg", companions=("a!.xmp",))
    other = ImageRef("in/b.jpg", "x/b.jpg", companions=("b.cr2", "b.mov"), shared=("c.mov",))
    found = Fingerprint(ImageRef("in/a%21.jpg", "x/a!.jpg"), bytes(32), 1, 0, "JPEG", 1, 1, "", ())
    read = dump(fingerprints_table([found]))
    assert of_no_image([image, other], [read]) == [
        ImageRef("in/b.cr2", "x/b.cr2"),
        ImageRef("in/b.mov", "x/b.mov"),
    ]
    assert count([image, other], [read]) == 1
    assert of_no_image([image], [read]) == []
