"""Views: each cropped, bordered, turned or tilted copy of a picture matches one of its views."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from beam_dedup.core.algorithms import ALGORITHMS, SIMHASH, Recipe, Views
from beam_dedup.core.codes import TURNS, VIEWS, code_bytes
from beam_dedup.core.errors import DecodeError
from beam_dedup.core.imaging.decode import as_stored, oriented
from beam_dedup.core.imaging.fingerprint import decode
from beam_dedup.core.model import BASE_VIEW, Code
from tests.pictures import bits_apart, code_of, encoded, fingerprint_of, photo

ALL = Recipe(views="crops", turns=True)
PHOTO = photo(1, (600, 400))


def views_of(data: bytes, recipe: Recipe = ALL) -> dict[str, Code]:
    return {code.view: code for code in fingerprint_of(data, recipe=recipe).codes}


def crop(share: tuple[float, float, float, float]) -> Image.Image:
    width, height = PHOTO.size
    return PHOTO.crop(
        (
            round(share[0] * width),
            round(share[1] * height),
            round(share[2] * width),
            round(share[3] * height),
        )
    )


def framed(image: Image.Image, colour: str, across: int, down: int) -> Image.Image:
    return ImageOps.expand(image, (across, down), fill=colour)


def turned(image: Image.Image, degrees: float) -> Image.Image:
    """Rotates a picture and crops it to the largest frame of its shape that lies in it.

    With 600 x 400 pixels and 4 degrees that is 0.89 of each side.
    """
    whole = image.rotate(degrees, Image.Resampling.BICUBIC)
    share = 1 / (np.cos(np.radians(abs(degrees))) + 1.5 * np.sin(np.radians(abs(degrees))))
    x, y = image.width * (1 - share) / 2, image.height * (1 - share) / 2
    return whole.crop((round(x), round(y), round(image.width - x), round(image.height - y)))


CROPPED = {
    "centre95": crop((0.025, 0.025, 0.975, 0.975)),
    "centre90": crop((0.05, 0.05, 0.95, 0.95)),
    "centre85": crop((0.075, 0.075, 0.925, 0.925)),
    "centre80": crop((0.1, 0.1, 0.9, 0.9)),
    "centre70": crop((0.15, 0.15, 0.85, 0.85)),
    "left05": crop((0.05, 0, 1, 1)),
    "right05": crop((0, 0, 0.95, 1)),
    "top05": crop((0, 0.05, 1, 1)),
    "bottom05": crop((0, 0, 1, 0.95)),
    "left10": crop((0.1, 0, 1, 1)),
    "right10": crop((0, 0, 0.9, 1)),
    "top10": crop((0, 0.1, 1, 1)),
    "bottom10": crop((0, 0, 1, 0.9)),
    "topleft05": crop((0.05, 0.05, 1, 1)),
    "topright05": crop((0, 0.05, 0.95, 1)),
    "bottomleft05": crop((0.05, 0, 1, 0.95)),
    "bottomright05": crop((0, 0, 0.95, 0.95)),
    "topleft10": crop((0.1, 0.1, 1, 1)),
    "topright10": crop((0, 0.1, 0.9, 1)),
    "bottomleft10": crop((0.1, 0, 1, 0.9)),
    "bottomright10": crop((0, 0, 0.9, 0.9)),
    "1:1": crop((1 / 6, 0, 5 / 6, 1)),
    "4:3": crop((1 / 18, 0, 17 / 18, 1)),
    "16:9": crop((0, 0.078, 1, 0.922)),
    "9:16": crop((0.3125, 0, 0.6875, 1)),
    "tiltleft": turned(PHOTO, 2.5),
    "tiltright": turned(PHOTO, -2.5),
}
TURNED = {
    "mirror": Image.Transpose.FLIP_LEFT_RIGHT,
    "flip": Image.Transpose.FLIP_TOP_BOTTOM,
    "rot180": Image.Transpose.ROTATE_180,
    "rot90": Image.Transpose.ROTATE_90,
    "rot270": Image.Transpose.ROTATE_270,
    "transpose": Image.Transpose.TRANSPOSE,
    "transverse": Image.Transpose.TRANSVERSE,
}


def test_names_of_views_are_complete_and_unique() -> None:
    assert len(set(VIEWS)) == len(VIEWS) <= 255
    assert VIEWS[0] == BASE_VIEW
    assert VIEWS[-7:] == TURNS == tuple(TURNED)
    assert {*CROPPED, *TURNED, BASE_VIEW, "trim"} == set(VIEWS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_view_is_the_part_it_is_named_after(orientation: int) -> None:
    """The part of the picture as a viewer shows it, whatever its stored orientation."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[0x0112] = inverse
    stored = ImageOps.exif_transpose(_tagged(PHOTO, orientation))
    found = views_of(encoded(stored, exif=exif.tobytes()))
    assert [*found] == [name for name in VIEWS if name != "trim"]
    for name, part in CROPPED.items():
        allowed = 24 if name.startswith("tilt") else 12
        assert bits_apart(found[name], code_of(part)) <= allowed, name


def _tagged(image: Image.Image, orientation: int) -> Image.Image:
    copy = image.copy()
    copy.getexif()[0x0112] = orientation
    return copy


@pytest.mark.parametrize("orientation", range(1, 9))
def test_as_stored_is_the_inverse_of_oriented(orientation: int) -> None:
    stored = np.arange(64 * 64).reshape(64, 64)
    left, top, right, bottom = (round(64 * side) for side in as_stored((0.125, 0.25, 1, 0.5), orientation))
    part = oriented(stored[top:bottom, left:right], orientation)  # type: ignore[arg-type]
    assert np.array_equal(part, oriented(stored, orientation)[16:32, 8:])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TURNED)
@pytest.mark.parametrize("size", [(64, 64), (600, 400), (300, 900)])
def test_turned_views_are_the_codes_of_turned_pictures(name: str, size: tuple[int, int]) -> None:
    image = photo(2, size)
    really = code_of(image.transpose(TURNED[name]))
    view = views_of(encoded(image), Recipe(views="none", turns=True))[name]
    assert bits_apart(view, really) <= 2


@pytest.mark.parametrize("colour", ["black", "white", "#707070", "#b03020"])
@pytest.mark.parametrize(("across", "down"), [(12, 12), (60, 60), (0, 50), (90, 0)])
@pytest.mark.parametrize("quality", [50, 95])
def test_trim_view_is_near_the_original(colour: str, across: int, down: int, quality: int) -> None:
    found = views_of(encoded(framed(PHOTO, colour, across, down), "JPEG", quality=quality), Recipe())
    assert [*found] == [BASE_VIEW, "trim"]
    assert bits_apart(found["trim"], code_of(PHOTO)) <= 24


def test_transparent_border_is_trimmed() -> None:
    image = framed(PHOTO, "white", 60, 60).convert("RGBA")
    alpha = framed(Image.new("L", PHOTO.size, 255), "black", 60, 60)
    image.putalpha(alpha)
    assert bits_apart(views_of(encoded(image), Recipe())["trim"], code_of(PHOTO)) <= 8


@pytest.mark.parametrize("share", [0.5, 0.6])
def test_small_object_on_a_plain_background_is_not_cut_out(share: float) -> None:
    small = PHOTO.resize((100, 66))
    found = views_of(encoded(framed(small, "white", 200, 150)), Recipe())
    assert [*found] == [BASE_VIEW], share


def test_picture_without_border_has_no_trim_view() -> None:
    assert all([*views_of(encoded(photo(seed)), Recipe())] == [BASE_VIEW] for seed in range(20))


def test_view_with_the_code_of_an_earlier_view_is_left_out() -> None:
    wave = np.cos((np.arange(64) + 0.5) * np.pi / 64 * 2)
    symmetric = Image.fromarray(np.clip(128 + 90 * np.outer(wave, wave), 0, 255).astype(np.uint8))
    ringed = ImageOps.expand(PHOTO.convert("L").resize((32, 32)), 16, fill=128)
    for image in (symmetric, ringed, PHOTO):
        codes = fingerprint_of(encoded(image), recipe=ALL).codes
        assert len({code.data for code in codes}) == len(codes)
        assert [code.view for code in codes] == [name for name in VIEWS if name in {c.view for c in codes}]


def test_base_code_does_not_depend_on_views() -> None:
    for views in Views:
        for turns in (False, True):
            found = views_of(encoded(PHOTO, "JPEG"), Recipe(views=views, turns=turns))
            assert found[BASE_VIEW] == code_of(PHOTO, "JPEG")
            assert (len(found) > 7) == (turns or views == Views.CROPS)


@pytest.mark.parametrize("size", [(1, 1), (23, 23), (23, 400), (2, 3000)])
def test_tiny_picture_has_one_code(size: tuple[int, int]) -> None:
    assert len(views_of(encoded(photo(1, size)))) == 1


def test_part_of_fewer_than_24_pixels_has_no_code() -> None:
    names = views_of(encoded(photo(1, (200, 25))), Recipe(views="crops"))
    assert {"left10", "centre95"} & {*names} == {"left10"}
    assert {"top10", "centre70"}.isdisjoint(names)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "one pixel": lambda: encoded(photo(1, (1, 1))),
    "a line": lambda: encoded(photo(1, (3000, 1))),
    "very wide": lambda: encoded(photo(1, (9000, 25))),
    "flat": lambda: encoded(Image.new("RGB", (300, 200), "red"), "JPEG"),
    "flat in a frame": lambda: encoded(framed(Image.new("RGB", (300, 200), "red"), "white", 40, 40)),
    "palette": lambda: encoded(PHOTO.quantize(16), transparency=3),
    "bilevel": lambda: encoded(PHOTO.convert("1")),
    "CMYK": lambda: encoded(PHOTO.convert("CMYK"), "JPEG"),
    "16 bits": lambda: encoded(Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257)),
    "real numbers": lambda: encoded(Image.fromarray(np.full((90, 90), np.nan, np.float32)), "TIFF"),
    "truncated": lambda: encoded(PHOTO, "JPEG")[:4000],
    "truncated PNG": lambda: encoded(PHOTO)[:4000],
    "header alone": lambda: encoded(PHOTO, "WEBP")[:30],
    "grey with alpha": lambda: encoded(PHOTO.convert("LA")),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "recipe", [ALL, *(Recipe(name, "none") for name in ALGORITHMS if name != SIMHASH)], ids=str
)
def test_odd_picture_has_codes_or_raises_decode_error(name: str, recipe: Recipe) -> None:
    data = HOSTILE[name]()
    try:
        codes = decode(io.BytesIO(data), recipe).codes
    except DecodeError:
        return
    assert codes == decode(io.BytesIO(data), recipe).codes
    assert codes[0].view == BASE_VIEW
    assert {code.view for code in codes} <= set(VIEWS)
    kinds = np.array([code.kind for code in codes], np.uint8)
    assert [len(code.data) for code in codes] == code_bytes(kinds).tolist()
