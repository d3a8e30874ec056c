"""When a picture was taken, and which kinds of metadata it has; hostile metadata count as missing."""

import io
import random
import struct
from typing import Any

import pytest
from PIL import ExifTags, Image

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.imaging.facts import taken_of
from beam_dedup.core.model import Flag
from tests.pictures import fingerprint_of, photo

TIME = "2019:01:02 03:04:05"
TAKEN = 20190102030405
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
IPTC = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 8) + b"\x1c\x02\x05\0\x03abc"


def exif(time: Any = TIME, position: bool = False, **base: Any) -> Image.Exif:
    made = Image.Exif()
    made[ExifTags.Base.Make] = "maker"
    for name, value in base.items():
        made[getattr(ExifTags.Base, name)] = value
    if time is not None:
        made.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = time
    if position:
        made.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 30.0, 0.0)
    return made


def saved(image_format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    if "exif" in options:
        options["exif"] = options["exif"].tobytes()  # of an object, TIFF saves some directories only
    photo(1, (64, 48)).save(stream, image_format, **options)
    return stream.getvalue()


def with_iptc(jpeg: bytes) -> bytes:
    segment = b"\xff\xed" + struct.pack(">H", len(IPTC) + 2) + IPTC
    return jpeg[:2] + segment + jpeg[2:]


def facts(data: bytes, recipe: Recipe = Recipe(facts=True)) -> tuple[int, int]:  # noqa: B008  frozen
    found = fingerprint_of(data, recipe=recipe)
    assert found.codes
    return found.taken, found.metadata_kinds


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
def test_facts_of_formats(image_format: str) -> None:
    assert facts(saved(image_format)) == (0, 0)
    assert facts(saved(image_format, exif=exif())) == (TAKEN, 2)
    assert facts(saved(image_format, exif=exif(position=True))) == (TAKEN, 3)
    assert facts(saved(image_format, exif=exif(None))) == (0, 0 if image_format == "TIFF" else 1)


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "AVIF"])
def test_xmp_counts(image_format: str) -> None:
    assert facts(saved(image_format, xmp=XMP)) == (0, 1)
    assert facts(saved(image_format, xmp=XMP, exif=exif(position=True))) == (TAKEN, 4)


def test_iptc_counts() -> None:
    assert facts(with_iptc(saved("JPEG"))) == (0, 1)
    assert facts(with_iptc(saved("JPEG", exif=exif(position=True), xmp=XMP))) == (TAKEN, 5)
    assert facts(saved("TIFF", tiffinfo={700: XMP, 33723: b"\x1c\x02\x05\0\x03abc"})) == (0, 2)


def test_facts_are_read_only_if_asked_for_and_do_not_change_the_codes() -> None:
    data = saved("JPEG", exif=exif(Orientation=6), xmp=XMP)
    with_facts, without = (fingerprint_of(data, recipe=Recipe(facts=wanted)) for wanted in (True, False))
    assert (without.taken, without.metadata_kinds) == (0, 0)
    assert (with_facts.codes, with_facts.algorithm) == (without.codes, without.algorithm)
    assert facts(data, Recipe("phash", "none", facts=True)) == (TAKEN, 3)


@pytest.mark.parametrize(
    "value",
    [
        "0000:00:00 00:00:00", "    :  :     :  :  ", "2019:13:01 00:00:00", "2019:02:30 00:00:00", "2019:01:01 24:00:00",
        "2019:01:01 23:59:60", "2019:01:01", "", "x" * 100_000, "2019:01:01 00:00:00" + " " * 100, "٢٠١٩:01:01 00:00:00",
        "-019:01:01 00:00:00", b"\xff" * 19, 20190102030405, (2019, 1, 1), None, 1.5, float("nan"), ["2019:01:01 00:00:00"],
    ],
)  # fmt: skip
def test_what_is_no_time_counts_as_missing(value: Any) -> None:
    assert taken_of(value) == 0


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (TIME, TAKEN),
        (TIME.encode(), TAKEN),
        (f"  {TIME}\0", TAKEN),
        ("2019-01-02T03:04:05+02:00", TAKEN),
        ("0001:01:01 00:00:00", 10101000000),
        ("9999:12:31 23:59:59", 99991231235959),
    ],
)
def test_times(value: Any, taken: int) -> None:
    assert taken_of(value) == taken


@pytest.mark.parametrize("seed", range(150))
def test_damaged_metadata_do_not_change_the_verdict(seed: int) -> None:
    """The EXIF is overwritten at random: the picture has the same codes, and facts are numbers of their range."""
    rng = random.Random(seed)
    made = exif(Orientation=rng.choice([1, 6]), position=True)
    data = bytearray(saved("JPEG", exif=made))
    start = data.index(b"Exif\0\0") + 6
    end = start + len(made.tobytes()) - 6
    for _ in range(rng.choice([1, 3, 20])):
        data[rng.randrange(start, end)] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
    plain = fingerprint_of(bytes(data), recipe=Recipe())
    found = fingerprint_of(bytes(data), recipe=Recipe(facts=True))
    assert (found.codes, found.flags, found.detail) == (plain.codes, plain.flags, plain.detail)
    assert Flag.UNDECODABLE not in found.flags
    assert found.taken == 0 or 10**10 < found.taken < 10**14
    assert 0 <= found.metadata_kinds <= 5


def test_endless_exif_is_read_in_bounded_time() -> None:
    """Directories that name themselves as sub-directories, and a count of 4 billion values."""
    entries = [
        struct.pack("<HHII", 0x8769, 4, 1, 8),  # the EXIF directory is this directory
        struct.pack("<HHII", 0x8825, 4, 1, 8),
        struct.pack("<HHII", 0x9003, 2, 0xFFFFFFFF, 8),
    ]
    body = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + struct.pack("<I", 8)
    jpeg = saved("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    taken, kinds = facts(jpeg[:2] + segment + jpeg[2:])
    assert taken == 0
    assert kinds <= 2
