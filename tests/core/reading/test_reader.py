"""`fingerprint`: which files are images, what a fingerprint holds, and which files are rejected."""

import hashlib
import io
import os
import struct
import tracemalloc
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO, cast

import pytest
from PIL import Image

from beam_dedup.core import limits
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import ImageError
from beam_dedup.core.imaging import fingerprint as fingerprints
from beam_dedup.core.imaging.fingerprint import fingerprint
from beam_dedup.core.imaging.formats import sniff
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import CodeKind, Fingerprint, Flag, ImageRef, Reason, Rejection
from beam_dedup.core.reading.reader import read_images
from tests.pictures import REF, code_of, encoded, fingerprint_of, photo

JPEG = encoded(photo(), "JPEG")
PNG = encoded(photo())
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><circle r="4"/></svg>'
HTML = b"<!DOCTYPE html><html><body><svg></svg>404 Not Found</body></html>"


def reason(data: bytes) -> Reason:
    with pytest.raises(ImageError) as caught:
        fingerprint_of(data)
    return caught.value.reason


def test_fields_of_a_fingerprint() -> None:
    ref = ImageRef("file:///a/b.jpg", "b.jpg", '{"license": "CC0"}')
    found = fingerprint(ref, io.BytesIO(JPEG), len(JPEG), modified_ms=1234)
    assert found == Fingerprint(
        ref=ref,
        digest=hashlib.sha256(JPEG).digest(),
        size_bytes=len(JPEG),
        modified_ms=1234,
        format="JPEG",
        width=320,
        height=240,
        algorithm="dct/2",
        codes=(code_of(photo(), "JPEG"),),
    )


def test_without_recipe_nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "decode", lambda *_: pytest.fail("decoded"))
    for data, name in ((JPEG, "JPEG"), (JPEG[:1000], "JPEG"), (PNG, "PNG"), (SVG, "SVG")):
        found = fingerprint_of(data, recipe=None)
        assert found.digest == hashlib.sha256(data).digest()
        assert (found.format, found.codes, found.flags, found.algorithm) == (name, (), (), "")
        assert (found.width, found.height, found.size_bytes, found.detail) == (0, 0, len(data), "")


@pytest.mark.parametrize("name", ["a.txt", "noextension", "a.png", "a.eps", "a.html"])
def test_format_is_found_by_content_not_by_name(name: str) -> None:
    ref = ImageRef(f"file:///{name}", PurePosixPath(name).name)
    found = fingerprint(ref, io.BytesIO(JPEG), len(JPEG))
    assert (found.format, found.codes, found.ref) == ("JPEG", fingerprint_of(JPEG).codes, ref)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", Reason.EMPTY),
        (HTML, Reason.NOT_AN_IMAGE),
        (b"Just text, named .jpg by mistake.\n", Reason.NOT_AN_IMAGE),
        (b"\0" * 5000, Reason.NOT_AN_IMAGE),
        (JPEG[1:], Reason.NOT_AN_IMAGE),
        (b"\xff\xd8", Reason.NOT_AN_IMAGE),
        (b"\n", Reason.NOT_AN_IMAGE),
    ],
)
def test_file_that_is_no_image_is_rejected(data: bytes, wanted: Reason) -> None:
    assert reason(data) == wanted
    with pytest.raises(ImageError):  # in exact mode as well
        fingerprint_of(data, recipe=None)


def test_rejection_quotes_the_first_bytes() -> None:
    with pytest.raises(ImageError, match=r"^not_an_image: first bytes: b'<!DOCTYPE html>") as caught:
        fingerprint_of(HTML)
    assert caught.value.detail.startswith("first bytes: ")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (EPS, "EPS"),
        (SVG, "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (JPEG[: len(JPEG) // 2], "JPEG"),
        (JPEG[:4], "JPEG"),
        (JPEG[:200] + b"\xff" * 2000, "JPEG"),
        (PNG[: len(PNG) // 2], "PNG"),
        (PNG[:8], "PNG"),
        (PNG[:40] + bytes(100) + PNG[140:], "PNG"),
        (encoded(photo(), "GIF")[:2000], "GIF"),
        (encoded(photo(), "WEBP")[:500], "WEBP"),
        (encoded(photo(), "TIFF")[:500], "TIFF"),
        (b"BM" + bytes(60), "BMP"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)} bytes",
)
def test_undecodable_image_has_a_digest_and_no_codes(data: bytes, name: str) -> None:
    found = fingerprint_of(data)
    assert found.digest == hashlib.sha256(data).digest()
    assert (found.format, found.flags[0], found.codes) == (name, Flag.UNDECODABLE, ())
    assert found.flags[1:] in ((), (Flag.TRUNCATED,))
    assert (found.algorithm, found.width, found.height, found.size_bytes) == ("", 0, 0, len(data))
    assert found.detail
    assert len(found.detail) <= 300
    assert "\n" not in found.detail


def test_detail_explains_why_an_image_is_undecodable() -> None:
    assert fingerprint_of(EPS).detail == "EPS is not decoded"
    assert fingerprint_of(PNG[:8]).detail == "damaged: no decoder can read its header"
    assert fingerprint_of(encoded(photo(), "BMP")[:5000]).detail.startswith(
        "OSError: image file is truncated"
    )
    assert "of its rows are present" in fingerprint_of(JPEG[: len(JPEG) // 2]).detail


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_truncation_at_any_byte_is_handled(image_format: str) -> None:
    """Each truncated file has codes, is undecodable, or is rejected; no other exception is raised."""
    data = encoded(photo(1, (40, 30)), image_format)
    assert fingerprint_of(data).codes
    seen = set()
    for size in range(0, len(data), max(len(data) // 80, 1)):
        if sniff(data[:size]) is None:
            assert reason(data[:size]) == (Reason.NOT_AN_IMAGE if size else Reason.EMPTY)
            continue
        found = fingerprint_of(data[:size])
        assert bool(found.codes) != (Flag.UNDECODABLE in found.flags)
        seen.add(found.flags)
    assert (Flag.UNDECODABLE,) in seen


ANY_FILES = {
    "JPEG": JPEG,
    "PNG": PNG,
    "flat JPEG": encoded(Image.new("RGB", (300, 200), (200, 30, 30)), "JPEG"),
    "tiny": encoded(photo(1, (20, 20))),
    "TIFF": encoded(photo(), "TIFF"),
    "damaged": JPEG[:3000],
    "EPS": EPS,
    "SVG": SVG + b" " * 9000,
}


@pytest.mark.parametrize("name", ANY_FILES)
@pytest.mark.parametrize("recipe", [Recipe(), None])
def test_streamed_file_has_the_same_fingerprint_as_a_buffered_one(
    name: str, recipe: Recipe | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ANY_FILES[name]
    buffered = fingerprint_of(data, recipe=recipe)

    asked: set[int | None] = set()

    class Stream(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.add(size)
            return super().read(size)

    monkeypatch.setattr(fingerprints, "BUFFERED_BYTES", len(data) - 1)
    assert fingerprint(REF, Stream(data), len(data), recipe=recipe) == buffered
    assert not asked & {None, -1, len(data) + 1}, "the whole file was asked for at once"
    monkeypatch.setattr(fingerprints, "BUFFERED_BYTES", len(data))
    assert fingerprint(REF, Stream(data), len(data), recipe=recipe) == buffered
    assert len(data) + 1 in asked


@pytest.mark.parametrize("declared", [0, 1, len(PNG) - 1, len(PNG) + 1000])
def test_file_that_grew_or_shrank_is_read_to_its_end(declared: int) -> None:
    assert fingerprint(REF, io.BytesIO(PNG), declared) == fingerprint_of(PNG)


@pytest.mark.parametrize("data", [b"", HTML, b"x" * 9000])
def test_streamed_file_is_rejected_for_the_same_reason(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    before = reason(data)
    monkeypatch.setattr(fingerprints, "BUFFERED_BYTES", -1)
    assert reason(data) == before


def test_file_over_the_limit_is_rejected_unread() -> None:
    allowed = Limits(max_bytes=len(PNG))
    assert fingerprint_of(PNG, limits=allowed).codes, "as many as allowed"

    class Unread(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise AssertionError("read")

    with pytest.raises(ImageError, match=f"^too_large: {len(PNG) + 1} bytes; an image may have {len(PNG)}"):
        fingerprint(REF, Unread(PNG), len(PNG) + 1, limits=allowed)


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("declared", [0, 10, len(PNG) - 1])
def test_file_that_grew_beyond_the_limit_is_rejected(
    declared: int, buffered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its declared size is within the limit, and no more bytes than the limit are read into memory."""
    if not buffered:
        monkeypatch.setattr(fingerprints, "BUFFERED_BYTES", -1)
    asked: list[int] = []

    class Growing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            asked.append(len(data))
            return data

    with pytest.raises(ImageError, match=f"too_large: .* bytes; an image may have {len(PNG) - 1}$"):
        fingerprint(REF, Growing(PNG * 9), declared, limits=Limits(max_bytes=len(PNG) - 1))
    assert not buffered or sum(asked) == len(PNG)


class Endless(io.RawIOBase):
    """A file that claims no bytes and never ends, like some below /proc. Counts what is allocated."""

    def __init__(self) -> None:
        self.at = self.largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0, "all bytes were asked for at once"
        self.largest = max(self.largest, size)
        self.at += size
        return (JPEG[:4] + bytes(size))[:size] if self.at == size else bytes(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        assert (offset, whence) == (0, 0), "the end of such a file can't be sought"
        self.at = 0
        return 0


def test_file_without_size_or_end_is_rejected_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "BUFFERED_BYTES", 8 << 20)
    stream = Endless()
    tracemalloc.start()
    try:
        with pytest.raises(ImageError) as raised:
            fingerprint(REF, cast(BinaryIO, stream), 0, limits=Limits(max_bytes=256 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert raised.value.reason == Reason.TOO_LARGE
    assert raised.value.detail == f"{(256 << 20) + 1} bytes; an image may have {256 << 20}"
    assert stream.largest <= 1 << 20
    assert peak < 32 << 20


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc of Linux")
def test_file_of_proc_takes_no_large_buffer() -> None:
    """It claims 0 bytes and has more."""
    reference = ImageRef("/proc/self/maps", "maps")
    tracemalloc.start()
    try:
        (found,) = read_images(reference, reference.uri, Recipe(), lambda _: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found, Rejection)
    assert found.reason == Reason.NOT_AN_IMAGE
    assert peak < 8 << 20


def test_picture_with_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PIXELS", 320 * 240 - 1)
    monkeypatch.setattr(limits, "MAX_PIXELS_SCALED", 320 * 240)
    found = fingerprint_of(PNG)
    assert found.flags == (Flag.UNDECODABLE,)
    assert found.detail == "320 x 240 pixels; at most 76799 are decoded"
    assert fingerprint_of(JPEG).codes[0].kind == CodeKind.FULL, "JPEG has another limit"
    monkeypatch.setattr(limits, "MAX_PIXELS", 320 * 240)
    monkeypatch.setattr(limits, "MAX_PIXELS_SCALED", 320 * 240 - 1)
    assert fingerprint_of(PNG).codes[0].kind == CodeKind.FULL
    assert fingerprint_of(JPEG).flags == (Flag.UNDECODABLE,)


def test_max_pixels_lowers_the_limit() -> None:
    for data in (PNG, JPEG):
        assert fingerprint_of(data, limits=Limits(max_pixels=320 * 240)).codes
        found = fingerprint_of(data, limits=Limits(max_pixels=320 * 240 - 1))
        assert (found.flags, found.detail) == (
            (Flag.UNDECODABLE,),
            "320 x 240 pixels; at most 76799 are decoded",
        )


def test_progressive_jpeg_has_the_limit_of_unscaled_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder holds all of its coefficients."""
    monkeypatch.setattr(limits, "MAX_PIXELS", 320 * 240 - 1)
    progressive = encoded(photo(), "JPEG", progressive=True)
    assert fingerprint_of(progressive).flags == (Flag.UNDECODABLE,)
    assert fingerprint_of(JPEG).codes


def test_decompression_bomb_is_not_decompressed() -> None:
    """A file of 60 bytes whose header declares 3.6 gigapixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert "3600000000 pixels" in fingerprint_of(bomb).detail


def test_system_error_while_reading_is_raised() -> None:
    class Broken(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        fingerprint(REF, Broken(JPEG), len(JPEG))
