"""Pictures with much plain ground have a detail code, which distinguishes them where the long code does not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from beam_dedup.core import codes as code_columns
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.imaging import detail_code
from beam_dedup.core.imaging.fingerprint import decode
from beam_dedup.core.matching.near_pairs import near_pairs
from beam_dedup.core.model import Code, CodeKind
from beam_dedup.core.thresholds import DETAIL_BITS, DETAIL_DISTANCE, Thresholds
from tests.pictures import encoded, fingerprint_of, photo


def page(text: str, size: tuple[int, int] = (620, 877)) -> Image.Image:
    """Returns a white page with a line of text in its middle."""
    image = Image.new("L", size, 255)
    draw = ImageDraw.Draw(image)
    draw.text((size[0] / 2, size[1] / 2), text, font=ImageFont.load_default(40), fill=0, anchor="mm")
    return image


def are_near(one: bytes, other: bytes, recipe: Recipe = Recipe()) -> bool:  # noqa: B008  frozen
    codes = code_columns.from_codes([decode(io.BytesIO(data), recipe).codes for data in (one, other)])
    return any(True for _ in near_pairs(codes, Thresholds()))


def detail_bits_apart(one: Code, other: Code) -> int:
    assert one.kind == other.kind == CodeKind.DETAILED
    return (int.from_bytes(one.data[32:]) ^ int.from_bytes(other.data[32:])).bit_count()


PAGES = {text: page(text) for text in ("For Anna", "For Paul", "THE END", "Chapter 1")}


def test_only_pictures_with_much_plain_ground_have_a_detail_code() -> None:
    assert fingerprint_of(encoded(PAGES["For Anna"])).codes[0].kind == CodeKind.DETAILED
    assert fingerprint_of(encoded(photo(1))).codes[0].kind == CodeKind.FULL


@pytest.mark.parametrize("share", [0.19, 0.21])
def test_a_fifth_of_plain_cells_is_much_plain_ground(share: float) -> None:
    """Cells that differ by one grey level are plain, by two are not."""
    cells = np.zeros((16, 16, 4, 4), np.uint8)
    cells[..., 0, 0] = 2
    cells.reshape(256, 16)[: round(share * 256), 0] = 1
    whole = cells.transpose(0, 2, 1, 3).reshape(64, 64)
    assert detail_code.has_plain_ground(whole) == (share > 0.2)


def test_different_pages_are_not_near() -> None:
    names = list(PAGES)
    for one in names:
        for other in names[names.index(one) + 1 :]:
            assert not are_near(encoded(PAGES[one]), encoded(PAGES[other])), (one, other)


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(views="crops", turns=True)])
@pytest.mark.parametrize("text", PAGES)
def test_copies_of_a_page_are_near(text: str, recipe: Recipe) -> None:
    original = PAGES[text]
    half = original.resize((310, 438), Image.Resampling.LANCZOS)
    for copy in (
        encoded(original, "JPEG", quality=75),
        encoded(half, "JPEG", quality=85),
        encoded(original, "WEBP"),
    ):
        assert are_near(encoded(original), copy, recipe)


def test_turned_page_is_near() -> None:
    recipe = Recipe(views="none", turns=True)
    for turn in Image.Transpose:
        assert are_near(encoded(PAGES["For Anna"]), encoded(PAGES["For Anna"].transpose(turn)), recipe), turn


def test_distance_is_the_angle_between_the_signs_of_coefficients() -> None:
    """Some bits more or less, for any share of equal signs."""
    random = np.random.default_rng(5)
    one = random.choice([-1.0, 0, 1], (32, 32)) * 2**31
    for share in (0.0, 0.05, 0.1, 0.3, 0.5):
        other = np.where(
            random.random((32, 32)) < share, random.permutation(one.ravel()).reshape(32, 32), one
        )
        signs = np.sign(one).ravel(), np.sign(other).ravel()
        angle = np.arccos(signs[0] @ signs[1] / np.linalg.norm(signs[0]) / np.linalg.norm(signs[1]))
        bits = detail_code.detail_bits(np.stack([one, other]))
        assert abs(np.bitwise_count(bits[0] ^ bits[1]).sum() - DETAIL_BITS * angle / np.pi) < 50


def test_coefficients_are_those_of_exact_integers() -> None:
    random = np.random.default_rng(6)
    pixels = random.integers(0, 256, (2, 128, 128), np.uint8)
    cosines = [
        [round(2**15 * np.sqrt(2 / 128) * np.cos(np.pi / 128 * row * (x + 0.5))) for x in range(128)]
        for row in range(1, 33)
    ]
    exact = np.array(cosines, object)
    for picture, found in zip(pixels, detail_code.coefficients(pixels), strict=True):
        assert (exact @ picture.astype(object) @ exact.T == found.astype(np.int64)).all()


def test_golden_detail_code() -> None:
    """It must not change without a new name of the recipe."""
    code = fingerprint_of(encoded(PAGES["THE END"])).codes[0]
    pattern = Image.fromarray(np.add.outer(np.arange(128) ** 2, 3 * np.arange(128)).astype(np.uint8))
    bits = detail_code.detail_bits(detail_code.coefficients(np.asarray(pattern)[None]))
    assert bits[0, :16].tobytes().hex() == "16aa8456869853870a8d7f75d54b98ec"
    assert detail_bits_apart(code, code) == 0
    assert detail_bits_apart(code, fingerprint_of(encoded(PAGES["For Anna"])).codes[0]) > DETAIL_DISTANCE


@pytest.mark.parametrize("side", [40, 79, 80])
def test_small_picture_has_no_detail_code(side: int) -> None:
    """Finer detail than it has pixels would be that of scaling and compression."""
    kind = (
        fingerprint_of(encoded(PAGES["THE END"].crop((210, 340, 410, 540)).resize((side, side))))
        .codes[0]
        .kind
    )
    assert kind == (CodeKind.DETAILED if side == 80 else CodeKind.FULL)
