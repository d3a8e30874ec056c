"""Flat pictures are compared by their colours, tiny pictures by the short code alone."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from beam_dedup.core.codes import from_codes
from beam_dedup.core.imaging.dct import active, coefficients, profiles
from beam_dedup.core.matching.selection import keep
from beam_dedup.core.model import Code, CodeKind, Flag
from beam_dedup.core.thresholds import FLAT_LEVELS, Thresholds
from tests.core.imaging.test_fingerprint import BIT_ORDER, grey, wave
from tests.pictures import bits_apart, code_of, encoded, fingerprint_of, levels_apart, photo


def plain(colour: str | tuple[int, int, int], size: tuple[int, int] = (200, 150)) -> Image.Image:
    return Image.new("RGB", size, colour)


def gradient() -> Image.Image:
    """Red grows downwards, blue to the right."""
    pixels = np.zeros((192, 256, 3), np.uint8)
    pixels[..., 0] = np.linspace(20, 230, 192)[:, None]
    pixels[..., 2] = np.linspace(0, 200, 256)
    return Image.fromarray(pixels)


def flag(*colours: str) -> Image.Image:
    """Vertical stripes, from left to right."""
    image = plain("white", (300, 200))
    width = 300 // len(colours)
    for number, colour in enumerate(colours):
        ImageDraw.Draw(image).rectangle([number * width, 0, (number + 1) * width - 1, 199], colour)
    return image


def ruled() -> Image.Image:
    """A page with a line across."""
    image = plain("white", (400, 600))
    ImageDraw.Draw(image).rectangle([0, 200, 399, 205], "#888")
    return image


GRAPHICS = {
    "white": plain("white"),
    "black": plain("black"),
    "gradient": gradient(),
    "flag": flag("#002395", "#ffffff", "#ed2939"),
    "flag of two": flag("#006600", "#ff0000"),
    "ruled page": ruled(),
}


def kept(*codes: Code, k: int = 8) -> list[int]:
    return np.flatnonzero(
        keep(from_codes([[code] for code in codes]), len(codes), Thresholds(k, 48))
    ).tolist()


@pytest.mark.parametrize("waves", [7, 8])
def test_picture_with_less_than_8_active_coefficients_is_flat(waves: int) -> None:
    pixels = grey(np.sum([wave(row, column) for row, column in BIT_ORDER[9 : 9 + waves]], axis=0))
    assert active(coefficients(pixels)) == waves
    code = code_of(Image.fromarray(pixels))
    if waves == 7:
        assert code == Code(CodeKind.FLAT, profiles(np.repeat(pixels[..., None], 3, axis=2)))
    else:
        assert code.kind == CodeKind.FULL
        assert int.from_bytes(code.data).bit_count() == 8


def test_profile_holds_the_mean_colours_of_strips() -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    wanted = []
    for strips in (pixels.swapaxes(0, 1), pixels):  # vertical ones, then horizontal ones
        for first in range(0, 64, 4):
            wanted += [
                round(float(colour)) for colour in strips[first : first + 4].reshape(-1, 3).mean(axis=0)
            ]
    assert list(profiles(pixels)) == wanted


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 31)])
def test_profile_of_a_plain_colour_is_that_colour(colour: tuple[int, int, int]) -> None:
    for image_format in ("PNG", "BMP", "TIFF"):
        fingerprint = fingerprint_of(encoded(plain(colour), image_format))
        assert fingerprint.codes == (Code(CodeKind.FLAT, bytes(colour) * 32),)
        assert fingerprint.flags == (Flag.FLAT,)


def test_jpeg_of_one_colour_is_compared_in_colour() -> None:
    """A JPEG is first decoded to grey, but red and a grey of the same lightness are not duplicates."""
    red, equally_light = plain((200, 30, 30)), plain((81, 81, 81))
    assert red.convert("L").getpixel((0, 0)) == equally_light.convert("L").getpixel((0, 0))
    codes = [code_of(image, "JPEG", quality=95) for image in (red, equally_light)]
    assert codes[0].data[0] > 190 > 90 > codes[0].data[1]
    assert kept(*codes) == [0, 1]


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 75}),
        ("JPEG", {"quality": 75, "progressive": True}),
        ("WEBP", {"quality": 95}),
        ("AVIF", {}),
        ("BMP", {}),
    ],
)
@pytest.mark.parametrize("name", GRAPHICS)
def test_reencoded_flat_picture_is_a_duplicate(name: str, image_format: str, options: dict[str, int]) -> None:
    original = code_of(GRAPHICS[name])
    copy = code_of(GRAPHICS[name], image_format, **options)
    assert copy.kind == original.kind == CodeKind.FLAT
    assert levels_apart(copy, original) <= FLAT_LEVELS
    assert kept(original, copy) == [0]


def test_different_flat_pictures_are_kept() -> None:
    turned = GRAPHICS["gradient"].transpose(Image.Transpose.ROTATE_180)
    flags = [flag(*colours) for colours in itertools.permutations(["#002395", "#ffffff", "#ed2939"])]
    others = [gradient(), turned, plain((255, 255, 254)), plain("white"), plain("black"), *flags]
    assert kept(*(code_of(image) for image in others)) == list(range(len(others)))


def test_of_a_thousand_blank_pages_one_is_kept() -> None:
    blank = [
        encoded(plain("white", (10 + page, 700 - page)), ("PNG", "GIF", "JPEG", "BMP")[page % 4])
        for page in range(20)
    ]
    blank.append(encoded(Image.new("RGBA", (60, 80), (90, 0, 0, 0))))
    codes = [fingerprint_of(page).codes[0] for page in blank]
    assert set(codes) == {Code(CodeKind.FLAT, b"\xff" * 96)}
    assert kept(*codes * 50) == [0]


def test_flat_and_tiny_picture_is_flat() -> None:
    fingerprint = fingerprint_of(encoded(plain("white", (1, 1))))
    assert (fingerprint.codes[0].kind, fingerprint.flags) == (CodeKind.FLAT, (Flag.FLAT,))
    assert (fingerprint.width, fingerprint.height) == (1, 1)


@pytest.mark.parametrize(
    ("size", "tiny"),
    [((23, 200), True), ((200, 23), True), ((24, 24), False), ((16, 16), True), ((400, 24), False)],
)
def test_picture_with_a_side_under_24_pixels_is_tiny(size: tuple[int, int], tiny: bool) -> None:
    fingerprint = fingerprint_of(encoded(photo(1, size)))
    (code,) = fingerprint.codes
    assert (code.kind, len(code.data)) == ((CodeKind.TINY, 8) if tiny else (CodeKind.FULL, 32))
    assert fingerprint.flags == ((Flag.TINY,) if tiny else ())
    assert (fingerprint.width, fingerprint.height) == size


def test_tiny_picture_has_the_short_code_of_the_large_one() -> None:
    large, small = code_of(photo()), code_of(photo().resize((20, 15), Image.Resampling.LANCZOS))
    assert bits_apart(Code(CodeKind.TINY, large.data[:8]), small) <= 4
    assert kept(large, small) == [0]
    assert kept(large, code_of(photo(2, (20, 15)))) == [0, 1]
