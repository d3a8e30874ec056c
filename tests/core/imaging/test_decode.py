"""The same picture in any mode, format or orientation has the same code."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from beam_dedup.core.imaging.animation import Animation
from beam_dedup.core.imaging.decode import oriented, square, thumbnail
from beam_dedup.core.model import CodeKind
from tests.pictures import bits_apart, code_of, encoded, fingerprint_of, levels_apart, photo

ORIENTATION = 0x0112
PHOTO = photo()
GREY = PHOTO.convert("L")


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags.tobytes()


def wide(values: np.ndarray) -> Image.Image:
    """A 16-bit picture."""
    return Image.fromarray(values.astype(np.uint16))


def grey_values() -> np.ndarray:
    return np.asarray(GREY).astype(np.int64)


# The file, and the mode in which Pillow opens it (checked, so that each case tests its mode).
SAME_GREY = {
    "grey": (encoded(GREY), "L"),
    "colours": (encoded(PHOTO), "RGB"),
    "grey with alpha": (encoded(GREY.convert("LA")), "LA"),
    "colours with alpha": (encoded(PHOTO.convert("RGBA")), "RGBA"),
    "palette": (encoded(GREY.convert("P")), "P"),
    "palette with alpha": (encoded(GREY.convert("P"), transparency=bytes([255] * 256)), "P"),
    "palette with alpha in a TIFF": (encoded(GREY.convert("P").convert("PA"), "TIFF"), "PA"),
    "grey with a colour left out": (encoded(GREY.point(lambda v: max(v, 1)), transparency=0), "L"),
    "CMYK in a TIFF": (encoded(PHOTO.convert("CMYK"), "TIFF"), "CMYK"),
    "16 bits": (encoded(wide(grey_values() * 257)), "I;16"),
    "16 bits, low ones are noise": (encoded(wide(grey_values() * 256 + 77)), "I;16"),
    "16 bits in a TIFF": (encoded(wide(grey_values() * 257), "TIFF"), "I;16"),
    "16 bits, high byte first": (encoded(Image.frombytes("I;16B", GREY.size, (grey_values() * 257).astype(">u2").tobytes()), "TIFF"), "I;16B"),
    "32 bits, 16 of them used": (encoded(Image.fromarray((grey_values() * 257).astype(np.int32)), "TIFF"), "I"),
    "32 bits, 8 of them used": (encoded(Image.fromarray(grey_values().astype(np.int32)), "TIFF"), "I"),
    "real numbers up to 255": (encoded(Image.fromarray(grey_values().astype(np.float32)), "TIFF"), "F"),
    "BMP": (encoded(PHOTO, "BMP"), "RGB"),
    "PPM": (encoded(PHOTO, "PPM"), "RGB"),
    "TIFF": (encoded(PHOTO, "TIFF", compression="tiff_lzw"), "RGB"),
    "WebP": (encoded(PHOTO, "WEBP", lossless=True), "RGB"),
    "JPEG 2000": (encoded(PHOTO, "JPEG2000", irreversible=False), "RGB"),
}  # fmt: skip
LOSSY = {
    "real numbers up to 1": (encoded(Image.fromarray((grey_values() / 255).astype(np.float32)), "TIFF"), "F"),
    "JPEG": (encoded(PHOTO, "JPEG", quality=90), "RGB"),
    "grey JPEG": (encoded(GREY, "JPEG", quality=90), "L"),
    "progressive JPEG": (encoded(PHOTO, "JPEG", quality=90, progressive=True), "RGB"),
    "CMYK JPEG": (encoded(PHOTO.convert("CMYK"), "JPEG", quality=90), "CMYK"),
    "GIF": (encoded(GREY, "GIF"), "P"),
    "AVIF": (encoded(PHOTO, "AVIF", quality=90), "RGB"),
    "WebP": (encoded(PHOTO, "WEBP", quality=90), "RGB"),
    "ICO": (encoded(photo(1, (256, 192)), "ICO", sizes=[(256, 192)]), "RGB"),
}


@pytest.mark.parametrize(("name", "allowed"), [*((n, 1) for n in SAME_GREY), *((n, 4) for n in LOSSY)])
def test_code_does_not_depend_on_mode_or_format(name: str, allowed: int) -> None:
    data, mode = SAME_GREY[name] if allowed == 1 else LOSSY[name]
    assert Image.open(io.BytesIO(data)).mode == mode
    (code,) = fingerprint_of(data).codes
    assert code.kind == CodeKind.FULL
    assert bits_apart(code, code_of(PHOTO)) <= allowed


def test_black_and_white_has_the_code_of_rgb() -> None:
    image = GREY.convert("1", dither=Image.Dither.NONE)
    assert code_of(image) == code_of(image.convert("RGB"))


@pytest.mark.parametrize("levels", [128, 300])
def test_transparent_value_does_not_change_how_16_bits_are_read(levels: int) -> None:
    values = np.maximum(grey_values() * levels, 1)
    assert bits_apart(code_of(wide(values)), code_of(wide(values), transparency=0)) <= 1


def over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def with_alpha(seed: int, size: tuple[int, int]) -> Image.Image:
    image = photo(seed, size).convert("RGBA")
    image.putalpha(photo(seed + 1, size).convert("L"))
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_are_over_white(mode: str) -> None:
    image = with_alpha(7, (64, 64)).convert(mode)
    for into in ("L", "RGB"):
        wanted = np.asarray(over_white(image).convert(into)).astype(int)
        assert np.abs(square(thumbnail(image, into), into).astype(int) - wanted).max() <= 2
    assert bits_apart(code_of(image), code_of(over_white(image))) <= 2
    assert bits_apart(code_of(image), code_of(image.convert("RGB"))) > 48, "alpha must matter in this picture"


def test_transparent_palette_entries_are_white() -> None:
    palette = PHOTO.quantize(16)
    for transparency in (3, bytes([255, 255, 255, 0])):
        data = encoded(palette, transparency=transparency)
        shown = over_white(Image.open(io.BytesIO(data)))
        assert bits_apart(fingerprint_of(data).codes[0], code_of(shown)) <= 1
        assert fingerprint_of(data).codes[0] != code_of(palette), "nothing was transparent"


def test_colours_of_transparent_pixels_do_not_change_the_code() -> None:
    """Neither inside a transparent part nor, by resizing, at its edge."""
    alpha = GREY.point(lambda value: 255 if value > 110 else 0)
    codes = set()
    for hidden in ("white", "black", "red"):
        image = Image.new("RGBA", PHOTO.size, hidden)
        image.paste(PHOTO, mask=alpha)
        image.putalpha(alpha)
        codes.add(code_of(image))
    assert len(codes) == 1


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG"])
def test_code_of_an_animation_is_of_its_first_frame(image_format: str) -> None:
    frames = [photo(seed, (100, 80)) for seed in (1, 2, 3)]
    exact = {"lossless": True} if image_format == "WEBP" else {}
    moving = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], duration=50, **exact)
    assert Image.open(io.BytesIO(moving)).n_frames == 3  # type: ignore[attr-defined]
    [code], [still] = (
        fingerprint_of(data).codes for data in (moving, encoded(frames[0], image_format, **exact))
    )
    assert Animation(3, 150).mixed(code.data) == still.data
    assert (fingerprint_of(moving).width, fingerprint_of(moving).height) == (100, 80)


@pytest.mark.parametrize("orientation", range(10))
def test_oriented_equals_pillows_transpose(orientation: int) -> None:
    pixels = np.asarray(photo(1, (64, 64)))
    image = Image.fromarray(pixels)
    image.getexif()[ORIENTATION] = orientation
    shown = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(oriented(pixels, orientation), shown)
    assert np.array_equal(oriented(pixels[..., 0], orientation), shown[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_file_is_fingerprinted_as_a_viewer_shows_it(image_format: str, orientation: int) -> None:
    data = encoded(PHOTO, image_format, exif=exif(orientation))
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    fingerprint = fingerprint_of(data)
    assert bits_apart(fingerprint.codes[0], code_of(shown)) <= 4
    assert (fingerprint.width, fingerprint.height) == shown.size
    assert shown.size == (PHOTO.size if orientation < 5 else PHOTO.size[::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_exact_without_scaling(orientation: int) -> None:
    for image in (photo(1, (64, 64)), Image.linear_gradient("L").resize((64, 64)).convert("RGB")):
        turned = fingerprint_of(encoded(image, exif=exif(orientation)))
        image.getexif()[ORIENTATION] = orientation
        assert turned.codes == (code_of(ImageOps.exif_transpose(image)),)


def test_flat_jpeg_is_oriented_in_its_second_decode_too() -> None:
    image = Image.linear_gradient("L").convert("RGB")
    turned = code_of(image, "JPEG", exif=exif(6))
    assert turned.kind == CodeKind.FLAT
    assert levels_apart(turned, code_of(image.transpose(Image.Transpose.ROTATE_270))) <= 2
    assert levels_apart(turned, code_of(image)) > 100


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_picture_with_damaged_exif_is_fingerprinted(image_format: str) -> None:
    for tags in (b"Exif\0\0garbage", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x05"):
        fingerprint = fingerprint_of(encoded(PHOTO, image_format, exif=tags))
        assert (fingerprint.flags, fingerprint.detail) == ((), ""), tags
        assert bits_apart(fingerprint.codes[0], code_of(PHOTO)) <= 4


def test_multi_picture_jpeg_of_a_phone_is_a_jpeg() -> None:
    data = encoded(PHOTO, "MPO", save_all=True, append_images=[photo(2)])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    fingerprint = fingerprint_of(data)
    assert fingerprint.format == "JPEG"
    assert bits_apart(fingerprint.codes[0], code_of(PHOTO)) <= 4


def test_code_of_a_smaller_or_compressed_copy_is_near() -> None:
    small, worse = PHOTO.resize((160, 120)), photo().copy()
    assert bits_apart(code_of(small, "JPEG", quality=60), code_of(PHOTO)) <= 48
    assert bits_apart(code_of(worse, "JPEG", quality=30), code_of(PHOTO)) <= 48
    assert bits_apart(code_of(photo(2)), code_of(PHOTO)) > 80
