"""What a picture shows only on another ground, in another range, or at its full size, keeps it apart from others."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from beam_dedup.core.imaging.animation import mixed_with
from beam_dedup.core.imaging.decode import measurements
from beam_dedup.core.model import Code, CodeKind, Flag
from tests.pictures import bits_apart, encoded, fingerprint_of, photo

Shape = tuple[str, tuple[float, ...]]
SHAPES: dict[str, Shape] = {
    "circle": ("ellipse", (50, 50, 200, 200)),
    "bar": ("rectangle", (20, 110, 230, 140)),
    "corner": ("polygon", (20, 20, 230, 20, 20, 230)),
}


def icon(name: str, ink: str, ground: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGBA", (250, 250), ground)
    kind, box = SHAPES[name]
    getattr(ImageDraw.Draw(image), kind)(box, fill=ink)
    return image


def base(image: Image.Image, image_format: str = "PNG") -> Code:
    return fingerprint_of(encoded(image, image_format)).codes[0]


def test_white_on_transparent_is_seen_as_white_on_black() -> None:
    codes = [base(icon(name, "white", (255, 255, 255, 0))) for name in SHAPES]
    assert all(code.kind == CodeKind.DETAILED for code in codes)
    on_black = [base(icon(name, "white", (0, 0, 0, 255))) for name in SHAPES]
    for code, same in zip(codes, on_black, strict=True):
        assert code == same


def test_picture_that_shows_on_white_is_seen_on_white() -> None:
    for name in SHAPES:
        assert base(icon(name, "black", (0, 0, 0, 0))) == base(icon(name, "black", (255, 255, 255, 255)))


def test_invisible_picture_is_seen_without_transparency() -> None:
    picture = photo(1, (300, 200))
    hidden = picture.copy()
    hidden.putalpha(0)
    assert base(hidden).kind == CodeKind.FULL
    assert mixed_with("invisible", base(hidden).data) == base(picture).data
    assert bits_apart(base(hidden), base(picture)) > 48  # a viewer shows nothing of it
    for image_format in ("WEBP", "TIFF"):
        options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
        code = fingerprint_of(encoded(hidden, image_format, **options)).codes[0]
        assert bits_apart(code, base(hidden)) <= 8


def test_invisible_plain_picture_is_flat() -> None:
    assert fingerprint_of(encoded(Image.new("RGBA", (90, 90), (10, 20, 30, 0)))).flags == (Flag.FLAT,)


def levels(seed: int) -> npt.NDArray[np.float64]:
    """Returns a picture as fractions from 0 to 1."""
    grey = np.asarray(photo(seed, (300, 200)).convert("L")).astype(np.float64)
    return (grey - grey.min()) / (grey.max() - grey.min())


@pytest.mark.parametrize(
    ("scale", "added", "kind"),
    [
        (65535, 0, np.uint16),
        (4095, 0, np.uint16),
        (1023, 0, np.uint16),
        (199, 0, np.uint16),
        (40_000, 0, np.int32),
        (250, 0, np.int32),
        (1, 0, np.float32),
        (255, 0, np.float32),
    ],
)
def test_usual_range_of_wide_samples_is_seen_as_8_bits(scale: float, added: float, kind: Any) -> None:
    found = fingerprint_of(encoded(Image.fromarray((levels(3) * scale + added).astype(kind)), "TIFF"))
    assert found.codes[0].kind == CodeKind.FULL
    assert bits_apart(found.codes[0], base(Image.fromarray((levels(3) * 255).astype(np.uint8)))) <= 24


@pytest.mark.parametrize(
    ("scale", "added", "kind"),
    [(60_000, 170_000, np.int32), (3000, -1500, np.int32), (300, 1500, np.float32), (5, -50, np.float32)],
)
def test_measurements_are_seen_by_their_measurements(scale: float, added: float, kind: Any) -> None:
    """Those of another range are not near, though they look alike."""
    samples = (levels(4) * scale + added).astype(kind)
    image = Image.fromarray(samples)
    found = fingerprint_of(encoded(image, "TIFF")).codes[0]
    assert found.kind == CodeKind.FULL
    unmixed = Code(CodeKind.FULL, mixed_with(measurements(image), found.data))
    assert bits_apart(unmixed, base(Image.fromarray((levels(4) * 255).astype(np.uint8)))) <= 24
    shifted = Image.fromarray((samples - 7).astype(kind))
    assert bits_apart(found, fingerprint_of(encoded(shifted, "TIFF")).codes[0]) > 48
    other = fingerprint_of(encoded(Image.fromarray((levels(5) * scale + added).astype(kind)), "TIFF")).codes[
        0
    ]
    assert bits_apart(found, other) > 48


def test_samples_that_are_no_numbers_do_no_harm() -> None:
    samples = (levels(6) * 400 + 1000).astype(np.float32)
    samples[0, :3] = np.nan, np.inf, -np.inf
    assert fingerprint_of(encoded(Image.fromarray(samples), "TIFF")).codes[0].kind == CodeKind.FULL
    nothing = np.full((40, 50), np.nan, np.float32)
    assert fingerprint_of(encoded(Image.fromarray(nothing), "TIFF")).flags == (Flag.FLAT,)


def test_small_differences_on_a_large_offset_are_seen() -> None:
    codes = [
        fingerprint_of(encoded(Image.fromarray((levels(seed) * 100 + 30_000).astype(np.uint16)))).codes[0]
        for seed in (1, 2)
    ]
    assert codes[0].kind == codes[1].kind == CodeKind.FULL
    assert bits_apart(*codes) > 48


def sky(seed: int, size: tuple[int, int] = (1500, 1000)) -> Image.Image:
    random = np.random.default_rng(seed)
    pixels = np.full(size[::-1], 6, np.uint8)
    for _ in range(60):
        y, x = random.integers(0, size[1] - 3), random.integers(0, size[0] - 3)
        pixels[y : y + 2, x : x + 2] = random.integers(120, 256)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_stars_are_too_fine_for_a_code(image_format: str) -> None:
    """Such pictures are compared by their bytes alone."""
    found = fingerprint_of(encoded(sky(1), image_format))
    assert (found.flags, found.codes) == ((Flag.FINE,), ())


@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_plain_colours_gradients_and_stripes_are_flat(image_format: str) -> None:
    down = np.linspace(0, 255, 900).astype(np.uint8)[:, None].repeat(700, 1)
    stripes = np.repeat([0, 255, 60], 300).astype(np.uint8)[:, None].repeat(700, 1)
    noisy = np.random.default_rng(1).normal(200, 3, (900, 700)).clip(0, 255).astype(np.uint8)
    for pixels in (np.full((900, 700), 80, np.uint8), down, down.T.copy(), stripes, stripes.T.copy(), noisy):
        found = fingerprint_of(encoded(Image.fromarray(pixels), image_format))
        assert found.flags == (Flag.FLAT,)
        assert found.codes[0].kind == CodeKind.FLAT


@pytest.mark.parametrize("missing", [-9999.0, -3.4e38, 1e20])
def test_values_that_stand_for_missing_ones_do_not_make_measurements_equal(missing: float) -> None:
    found = []
    for seed in (1, 2):
        samples = levels(seed).astype(np.float32)
        samples[20:40, 30:50] = missing
        found.append(fingerprint_of(encoded(Image.fromarray(samples), "TIFF")).codes[0])
    assert bits_apart(*found) > 48


def test_samples_of_the_greatest_range_are_seen() -> None:
    samples = ((levels(1) - 0.5) * 6e38).astype(np.float32)
    assert fingerprint_of(encoded(Image.fromarray(samples), "TIFF")).codes[0].kind == CodeKind.FULL


def test_few_outliers_do_not_hide_small_differences() -> None:
    samples = (levels(2) * 100 + 30_000).astype(np.uint16)
    samples[0, 0] = 31_000
    assert fingerprint_of(encoded(Image.fromarray(samples))).codes[0].kind == CodeKind.FULL


def test_flat_picture_is_examined_on_the_ground_on_which_it_is_shown() -> None:
    """Its alpha, which is flat too, shows nothing on white."""
    wave = np.cos(np.pi / 200 * (np.arange(200) + 0.5))
    alpha = (128 + 110 * np.outer(wave, wave)).astype(np.uint8)
    image = Image.merge("RGBA", [*[Image.new("L", (200, 200), 255)] * 3, Image.fromarray(alpha)])
    assert fingerprint_of(encoded(image)).flags == (Flag.FLAT,)
