"""HEIF pictures are fingerprinted if their optional library is installed, else compared by digest."""

import io

import pillow_heif
import pytest
from PIL import Image

from beam_dedup.core.imaging import formats
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.model import Flag
from tests.pictures import bits_apart, encoded, fingerprint_of, photo

prepare_decoders()
PHOTO = photo(5, (400, 300))
HEIC = encoded(PHOTO, "HEIF", quality=80)


def test_heic_copy_is_near_the_original() -> None:
    found, original = fingerprint_of(HEIC), fingerprint_of(encoded(PHOTO))
    assert (found.format, found.width, found.height, found.flags) == ("HEIF", 400, 300, ())
    assert bits_apart(found.codes[0], original.codes[0]) <= 24


def test_exif_orientation_is_applied() -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    turned = fingerprint_of(encoded(PHOTO, "HEIF", quality=80, exif=tags.tobytes()))
    jpeg = fingerprint_of(encoded(PHOTO, "JPEG", quality=90, exif=tags.tobytes()))
    assert (turned.width, turned.height) == (jpeg.width, jpeg.height) == (300, 400)
    assert bits_apart(turned.codes[0], jpeg.codes[0]) <= 24


def test_file_of_several_pictures_is_no_animation() -> None:
    """They are shots of a burst, or edits: a viewer shows the first one."""
    file = pillow_heif.HeifFile()
    for seed in (5, 6, 7):
        file.add_from_pillow(photo(seed, (400, 300)))
    stream = io.BytesIO()
    file.save(stream)
    found = fingerprint_of(stream.getvalue())
    assert found.flags == ()
    assert bits_apart(found.codes[0], fingerprint_of(encoded(photo(5, (400, 300)))).codes[0]) <= 24


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated_file_is_undecodable(share: float) -> None:
    found = fingerprint_of(HEIC[: int(len(HEIC) * share)])
    assert Flag.UNDECODABLE in found.flags
    assert not found.codes


def test_without_the_library_it_is_undecodable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, formats.HEIF)
    found = fingerprint_of(HEIC)
    assert (found.format, found.flags, found.codes) == ("HEIF", (Flag.UNDECODABLE,), ())
    assert found.detail == "HEIF is not decoded; run pip install '.[heif]' in the checkout"
