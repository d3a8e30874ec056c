"""Image formats are recognised by the first bytes of a file."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from beam_dedup.core.imaging.formats import DECODED_FORMATS, HEAD_BYTES, sniff
from tests.pictures import encoded, photo


def iso(*brands: bytes, length: int | None = None) -> bytes:
    """Returns the first box of an ISO media file (brand, version, compatible brands) and more bytes."""
    body = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (length or 4 + len(body)).to_bytes(4) + body + b"\0\0\0\x08mdatavif"


HEADS = [
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG"),
    (b"\xff\xd8\xff\xe1", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\x89PNG\n\x1a\n", None),  # ruined by a text-mode transfer
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"GIF88a", None),
    (b"RIFF\x10\0\0\0WEBPVP8 ", "WEBP"),
    (b"RIFF\x10\0\0\0WEBPVP8L", "WEBP"),
    (b"RIFF\x10\0\0\0WEBPVP8X", "WEBP"),
    (b"RIFF\x10\0\0\0WAVEfmt ", None),
    (b"BM\x36\x04\0\0\0\0\0\0", "BMP"),
    (b"BM\x36\x04\0\0GR32\x36\0\0\0\x28\0\0\0", "BMP"),  # the name of a program in the reserved field
    (b"BM\x36\x04\0\0GR32\x36\0\0\0\x29\0\0\0", None),
    (b"BMW is a brand of cars", None),
    (b"II*\0\x08\0\0\0", "TIFF"),
    (b"MM\0*\0\0\0\x08", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"II*\0\x10\0\0\0CR\x02\0", "CR2"),
    (b"IIU\0\x08", "RW2"),
    (b"IIRO\x08", "ORF"),
    (b"MMOR\0", "ORF"),
    (b"FUJIFILMCCD-RAW 0201", "RAF"),
    (b"\0\0\1\0\1\0", "ICO"),
    (b"\0\0\2\0\1\0", None),  # a cursor
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\xff\x0a\xfa", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"8BPS\0\1", "PSD"),
    (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"),
    (b"%!PS", None),
    (b"\xc5\xd0\xd3\xc6\x20", "EPS"),
    (b"%PDF-1.7", "PDF"),
    (iso(b"avif", b"mif1"), "AVIF"),
    (iso(b"avis"), "AVIF"),
    (iso(b"mif1", b"miaf", b"avif"), "AVIF"),
    (iso(b"heic", b"mif1"), "HEIF"),
    (iso(b"mif1", b"heic"), "HEIF"),
    (iso(b"mif1"), "HEIF"),
    (iso(b"crx ", b"isom"), "CR3"),
    (iso(b"isom", b"mp42"), None),  # a video; the bytes after the box are no brand
    (iso(b"isom", b"avif", length=16), None),  # nor are those beyond its length
    (iso(b"qt  "), None),
    (b"P6\n640 480\n255\n", "PPM"),
    (b"P1 # drawn by hand\n2 2", "PPM"),
    (b"P4\t8 8\n", "PPM"),
    (b"P7\nWIDTH 4", None),
    (b"P5 is not P6", None),
    (b"P6", None),
    (b"", None),
    (b"\0", None),
    (b"hello, world", None),
    (b"\xef\xbb\xbf<html></html>", None),
    (b"<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
    (b"<svg>", "SVG"),
    (b" \n\t<SVG\n", "SVG"),
    (b"\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?>\n<svg width='4'", "SVG"),
    (b"<?xml version='1.0'?><!-- Made by > somebody --><!-- again --><svg ", "SVG"),
    (b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/svg11.dtd"><svg ', "SVG"),
    (b'<!DOCTYPE svg [<!ENTITY a "b">]><svg ', "SVG"),
    (b"<svg:svg xmlns:svg='http://www.w3.org/2000/svg'>", "SVG"),
    (b"<svgx>", None),
    (b"<!DOCTYPE html><svg>", None),
    (b"<html><svg></svg></html>", None),
    (b"<?xml version='1.0'?><note><svg/></note>", None),
    (b"<!-- <svg> -->", None),
    (b"some words, then <svg>", None),
]


@pytest.mark.parametrize(("head", "wanted"), HEADS, ids=[repr(head[:24]) for head, _ in HEADS])
def test_format_is_recognised_by_first_bytes(head: bytes, wanted: str | None) -> None:
    assert sniff(head) == wanted
    # The bytes after the signature change nothing.
    if wanted not in (None, "PPM"):
        assert sniff((head + b" <rest/>" * 600)[:HEAD_BYTES]) == wanted


@pytest.mark.parametrize("image_format", DECODED_FORMATS)
def test_decoded_formats_are_recognised_under_pillows_name(image_format: str) -> None:
    data = encoded(photo(1, (64, 48)), image_format)
    assert sniff(data[:HEAD_BYTES]) == image_format


def test_formats_that_run_programs_are_not_decoded() -> None:
    Image.init()
    assert set(DECODED_FORMATS) <= set(Image.OPEN)
    assert not {"EPS", "PSD", "PDF", "WMF", "FPX", "MIC"} & set(DECODED_FORMATS)


@settings(derandomize=True, deadline=None)
@given(st.binary(max_size=64), st.sampled_from([head for head, _ in HEADS]))
def test_any_bytes_are_accepted(noise: bytes, head: bytes) -> None:
    known = {name for _, name in HEADS}
    for data in (noise, head[: len(noise)] + noise, head + noise):
        assert sniff(data) in known


@pytest.mark.parametrize(
    "piece",
    [b"<!---->", b"<!-- -->\n", b"<?xml?>", b"<!DOCTYPE svg>", b"<!DOCTYPE svg []>", b" ", b"<!--", b"<svg:"],
)
def test_hostile_bytes_take_no_exponential_time(piece: bytes) -> None:
    """Hostile files are common in crawls, so no pattern may backtrack through all ways to match."""
    # If each piece doubled the time, this would fail within seconds, before the long inputs.
    for pieces in (*range(8, 27), HEAD_BYTES // len(piece)):
        start = time.perf_counter()
        assert sniff(piece * pieces + b"x") is None
        assert time.perf_counter() - start < 1
