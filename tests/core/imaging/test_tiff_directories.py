"""Directories of a TIFF that are no pages: reduced pictures and masks, and the thumbnails of raw pictures."""

import io
import struct

import pytest
from PIL import Image, TiffImagePlugin

from beam_dedup.core.model import Flag
from tests.pictures import encoded, fingerprint_of, photo

PHOTO = photo(3, (600, 400))


def pages(*images: Image.Image, kinds: tuple[int, ...] = ()) -> bytes:
    """Returns a TIFF with these pages; kinds: NewSubfileType of each."""
    stream = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(stream, new=True) as file:
        for number, image in enumerate(images):
            tags = TiffImagePlugin.ImageFileDirectory_v2()
            tags[254] = kinds[number] if kinds else 0
            image.save(file, "TIFF", tiffinfo=tags)
            file.newFrame()
    return stream.getvalue()


def reduced(share: float) -> Image.Image:
    return PHOTO.resize((round(600 * share), round(400 * share)))


@pytest.mark.parametrize(
    "others",
    [(reduced(0.25),), (reduced(0.5), reduced(0.25)), (reduced(1 / 3),)],
    ids=["small", "pyramid", "third"],
)
def test_smaller_copies_of_the_first_page_are_no_pages(others: tuple[Image.Image, ...]) -> None:
    found = fingerprint_of(pages(PHOTO, *others))
    assert found.flags == ()
    assert found.codes == fingerprint_of(encoded(PHOTO, "TIFF")).codes


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_reduced_pictures_and_masks_are_no_pages(kind: int) -> None:
    """Whatever they show."""
    assert fingerprint_of(pages(PHOTO, photo(9, (600, 400)), kinds=(0, kind))).flags == ()


@pytest.mark.parametrize(
    "other",
    [PHOTO, photo(9, (600, 400)), photo(9, (300, 200)), PHOTO.crop((0, 0, 300, 400)), photo(9, (900, 600))],
    ids=["equal", "other", "other, smaller", "part", "larger"],
)
def test_other_pages_count(other: Image.Image) -> None:
    found = fingerprint_of(pages(PHOTO, other))
    assert (found.flags, found.detail) == ((Flag.ANIMATED,), "2 frames, 0 ms")


def raw(tags: dict[int, int | bytes], maker: bytes = b"Example\0") -> bytes:
    """Returns a TIFF of one directory with an uncompressed 8 x 8 picture, whose other tags are given."""
    pixels = bytes(range(64))
    entries: dict[int, tuple[int, int, int | bytes]] = {
        256: (4, 1, 8),
        257: (4, 1, 8),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        271: (2, len(maker), maker),
        273: (4, 1, 8),
        278: (4, 1, 8),
        279: (4, 1, 64),
    }
    for tag, value in tags.items():
        entries[tag] = (1, 4, value) if isinstance(value, bytes) else (4, 1, value)
    start = 8 + len(pixels)
    extra_at = start + 2 + 12 * len(entries) + 4
    rows, extra = b"", b""
    for tag, (kind, count, value) in sorted(entries.items()):
        if isinstance(value, bytes) and len(value) > 4:
            field, extra = struct.pack("<L", extra_at + len(extra)), extra + value
        else:
            field = value.ljust(4, b"\0") if isinstance(value, bytes) else struct.pack("<L", value)
        rows += struct.pack("<HHL", tag, kind, count) + field
    directory = struct.pack("<H", len(entries)) + rows + struct.pack("<L", 0) + extra
    return b"II*\0" + struct.pack("<L", start) + pixels + directory


@pytest.mark.parametrize(
    ("tags", "maker", "name"),
    [
        ({50706: bytes([1, 4, 0, 0])}, b"Example\0", "DNG"),
        ({254: 1, 330: 8}, b"NIKON CORPORATION\0", "NEF"),
        ({254: 1, 330: 8}, b"SONY\0", "ARW"),
        ({254: 1, 330: 8}, b"Example\0", "RAW"),
    ],
)
def test_raw_picture_in_a_tiff_is_compared_by_its_bytes_alone(
    tags: dict[int, int | bytes], maker: bytes, name: str
) -> None:
    found = fingerprint_of(raw(tags, maker))
    assert (found.format, found.flags, found.codes) == (name, (Flag.UNDECODABLE,), ())
    assert found.detail == f"{name} is not decoded"


@pytest.mark.parametrize("tags", [{}, {254: 1}, {254: 0, 330: 8}])
def test_other_tiffs_are_no_raw_pictures(tags: dict[int, int | bytes]) -> None:
    assert fingerprint_of(raw(tags, b"NIKON CORPORATION\0")).format == "TIFF"
