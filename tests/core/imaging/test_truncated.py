"""Truncated pictures are decoded as far as they go, flagged, and ranked after complete ones."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageFile

from beam_dedup.core.imaging import truncated
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.model import Flag, ImageRef
from beam_dedup.core.preference import KeepPolicy
from beam_dedup.core.rank import ranks_of
from beam_dedup.core.tables import fingerprints_table
from tests.pictures import bits_apart, encoded, fingerprint_of, photo

prepare_decoders()
PHOTO = photo(3, (480, 320))
DEEP = Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257)
ROW_BY_ROW = {
    "JPEG": encoded(PHOTO, "JPEG", quality=85),
    "grey JPEG": encoded(PHOTO.convert("L"), "JPEG"),
    "CMYK JPEG": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "PNG": encoded(PHOTO),
    "PNG with alpha": encoded(PHOTO.convert("RGBA")),
    "PNG with a palette": encoded(PHOTO.convert("P")),
    "PNG of 16 bits": encoded(DEEP),
    "PNG in black and white": encoded(PHOTO.convert("1")),
    "GIF": encoded(PHOTO, "GIF", interlace=0),
    "TIFF": encoded(PHOTO, "TIFF"),
    "PPM": encoded(PHOTO, "PPM"),
}
PROGRESSIVE = encoded(PHOTO, "JPEG", progressive=True)


def truncate(data: bytes, share: float) -> bytes:
    """Returns the given share of a file, from its beginning."""
    return data[: int(len(data) * share)]


@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_picture_with_most_of_its_rows_has_a_near_code(name: str) -> None:
    whole = fingerprint_of(ROW_BY_ROW[name])
    assert Flag.TRUNCATED not in whole.flags
    part = fingerprint_of(truncate(ROW_BY_ROW[name], 0.96))
    assert part.flags == (Flag.TRUNCATED,)
    assert part.detail.startswith("truncated: 9")
    assert part.detail.endswith("% of its rows are present")
    assert (part.width, part.height, part.format) == (whole.width, whole.height, whole.format)
    assert bits_apart(part.codes[0], whole.codes[0]) <= 48


@pytest.mark.parametrize("name", [name for name in ROW_BY_ROW if "PNG " not in name])
def test_code_depends_on_present_rows_only(name: str) -> None:
    """Not on rows that the decoder invents: two pictures that differ only in the missing rows have one code."""
    kept_rows = 288  # 9 in 10
    image = Image.open(io.BytesIO(ROW_BY_ROW[name]))
    image.load()
    other = image.copy()
    other.paste(image.crop((0, 0, image.width, image.height - kept_rows)), (0, kept_rows))
    options = {"GIF": {"interlace": 0}, "JPEG": {"quality": 85}, "PNG": {"compress_level": 6}}.get(
        str(image.format), {}
    )
    one, changed = (encoded(each, str(image.format), **options) for each in (image, other))
    same = next(i for i, (a, b) in enumerate(itertools.zip_longest(one, changed)) if a != b)
    assert same > len(one) * truncated.MIN_SHARE, "too little would be compared"
    codes = {fingerprint_of(each[:same]).codes[0].data for each in (one, changed)}
    assert len(codes) == 1


@pytest.mark.parametrize("share", [0.6, 0.3, 0.05])
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_picture_with_too_few_rows_has_no_code(name: str, share: float) -> None:
    part = fingerprint_of(truncate(ROW_BY_ROW[name], share))
    assert Flag.UNDECODABLE in part.flags
    assert not part.codes
    if len(ROW_BY_ROW[name]) * share > 2000:  # else its header may be incomplete
        assert part.flags == (Flag.UNDECODABLE, Flag.TRUNCATED)
        assert "of its rows are present" in part.detail


@pytest.mark.parametrize("share", [0.999, 0.9, 0.6, 0.35])
def test_progressive_jpeg_is_complete_with_its_first_scan(share: float) -> None:
    part, whole = fingerprint_of(truncate(PROGRESSIVE, share)), fingerprint_of(PROGRESSIVE)
    assert part.flags == (Flag.TRUNCATED,)
    assert bits_apart(part.codes[0], whole.codes[0]) <= 24


def test_scans_of_an_embedded_thumbnail_are_not_counted() -> None:
    assert truncated.jpeg_scans(io.BytesIO(encoded(PHOTO, "JPEG"))) == (1, True)
    every, _ = truncated.jpeg_scans(io.BytesIO(PROGRESSIVE))
    assert every > 4
    counted = [truncated.jpeg_scans(io.BytesIO(PROGRESSIVE[:length])) for length in range(len(PROGRESSIVE))]
    assert not any(ended for _, ended in counted)
    counts = [count for count, _ in counted]
    assert counts == sorted(counts), "more bytes, more scans"
    assert counts[0] == 0
    assert counts[-1] == every
    # A segment that contains a complete JPEG with scans of its own.
    inner = truncate(PROGRESSIVE, 1)[:60000]
    segment = b"\xff\xe5" + (len(inner) + 2).to_bytes(2, "big") + inner
    assert truncated.jpeg_scans(io.BytesIO(PROGRESSIVE[:2] + segment + PROGRESSIVE[2:])) == (every, True)
    first = next(length for length, count in enumerate(counts) if count == 1)
    part = fingerprint_of(PROGRESSIVE[: first + 100])
    assert part.flags == (Flag.UNDECODABLE, Flag.TRUNCATED)
    assert "first of its scans" in part.detail


@pytest.mark.parametrize(("name", "length"), [("JPEG", 2), ("PNG", 12), ("GIF", 1)])
def test_file_without_its_end_marker_is_truncated(name: str, length: int) -> None:
    whole, part = fingerprint_of(ROW_BY_ROW[name]), fingerprint_of(ROW_BY_ROW[name][:-length])
    assert part.flags == (Flag.TRUNCATED,)
    if name == "JPEG":  # its decoder must read ahead before it returns the last rows
        assert part.detail == "truncated: 95% of its rows are present"
        assert bits_apart(part.codes[0], whole.codes[0]) <= 24
        return
    assert part.detail == "truncated: 100% of its rows are present"
    assert part.codes == whole.codes


def test_jpeg_without_end_marker_is_truncated_even_if_its_scaled_decode_succeeds() -> None:
    """Pillow raises no error here, since the smallest scale leaves out the last rows."""
    large = encoded(photo(3, (1600, 1200)), "JPEG", quality=85)
    assert fingerprint_of(large).flags == ()
    assert fingerprint_of(large[:-2]).flags == (Flag.TRUNCATED,)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "TIFF"])
def test_bytes_after_the_end_marker_are_ignored(name: str) -> None:
    assert not fingerprint_of(ROW_BY_ROW[name] + b"\0" * 100_000).flags


def test_flat_upper_part_has_no_code() -> None:
    """In a photo below a large sky, the upper part looks like a blank page."""
    picture = Image.new("RGB", (400, 400), (90, 140, 220))
    picture.paste(PHOTO.resize((400, 60)), (0, 340))
    part = fingerprint_of(truncate(encoded(picture, "TIFF"), 0.8))
    assert part.flags == (Flag.TRUNCATED,), part.detail
    assert not part.codes


def test_formats_not_decoded_row_by_row_are_not_decoded_partially() -> None:
    """Pillow's tolerance of truncated files is off again afterwards."""
    for image_format in ("WEBP", "AVIF", "JPEG2000", "BMP"):
        part = fingerprint_of(truncate(encoded(PHOTO, image_format), 0.95))
        assert Flag.UNDECODABLE in part.flags
        assert not part.codes
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("keep", list(KeepPolicy))
def test_truncated_picture_ranks_after_complete_ones_whatever_the_policy(keep: KeepPolicy) -> None:
    """The truncated one is larger, once older and once newer, and its name comes first."""
    whole = fingerprint_of(ROW_BY_ROW["PNG"], modified_ms=1000)
    larger = encoded(PHOTO.resize((960, 640)))
    for modified_ms in (1, 5000):
        part = fingerprint_of(truncate(larger, 0.97), modified_ms=modified_ms)
        part = dataclasses.replace(part, ref=ImageRef("file:///a", "a"))
        last = dataclasses.replace(whole, ref=ImageRef("file:///z", "z"))
        ranks = ranks_of(fingerprints_table([part, last]), keep).to_pylist()
        assert ranks[1] < ranks[0]
        known = dataclasses.replace(part, ref=ImageRef("file:///a", "a", known=True))
        ranks = ranks_of(fingerprints_table([known, last]), keep).to_pylist()
        assert ranks[0] < ranks[1], "a known image ranks before all others"


def test_only_the_first_bytes_of_a_huge_jpeg_are_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(PHOTO, "JPEG") + b"\0"
    monkeypatch.setattr(truncated, "MAX_SCANNED_BYTES", len(data) // 2)
    assert truncated.jpeg_scans(io.BytesIO(data)) == (1, True)
    assert truncated.jpeg_scans(io.BytesIO(data[: len(data) // 2 - 1])) == (1, False)
    assert not fingerprint_of(data).flags
