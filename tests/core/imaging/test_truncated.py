"""What is cut short is decoded as far as it goes, flagged, and ranked after what is whole."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image, ImageFile

from beam_dedup.core.imaging import truncated
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.model import Flag, ImageRef
from beam_dedup.core.rank import KeepPolicy, ranks_of
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


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_most_of_a_picture_is_compared(name: str) -> None:
    whole = fingerprint_of(ROW_BY_ROW[name])
    assert Flag.TRUNCATED not in whole.flags
    part = fingerprint_of(cut(ROW_BY_ROW[name], 0.96))
    assert part.flags == (Flag.TRUNCATED,)
    assert part.detail.startswith("cut short: 9")
    assert part.detail.endswith("% of its rows are there")
    assert (part.width, part.height, part.format) == (whole.width, whole.height, whole.format)
    assert bits_apart(part.codes[0], whole.codes[0]) <= 48


@pytest.mark.parametrize("name", [name for name in ROW_BY_ROW if "PNG " not in name])
def test_what_is_compared_is_what_is_there(name: str) -> None:
    """Not what the decoder makes up: two pictures that agree in their upper parts only have one code when cut there."""
    kept_rows = 288  # 9 in 10
    image = Image.open(io.BytesIO(ROW_BY_ROW[name]))
    image.load()
    other = image.copy()
    other.paste(image.crop((0, 0, image.width, image.height - kept_rows)), (0, kept_rows))
    options = {"GIF": {"interlace": 0}, "JPEG": {"quality": 85}}.get(str(image.format), {})
    one, changed = (encoded(each, str(image.format), **options) for each in (image, other))
    same = next(i for i, (a, b) in enumerate(itertools.zip_longest(one, changed)) if a != b)
    assert same > len(one) * truncated.ENOUGH, "else there is nothing to compare"
    codes = {fingerprint_of(each[:same]).codes[0].data for each in (one, changed)}
    assert len(codes) == 1


@pytest.mark.parametrize("share", [0.6, 0.3, 0.05])
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_too_little_is_compared_by_digest_alone(name: str, share: float) -> None:
    part = fingerprint_of(cut(ROW_BY_ROW[name], share))
    assert Flag.UNDECODABLE in part.flags
    assert not part.codes
    if len(ROW_BY_ROW[name]) * share > 2000:  # else its header may be cut
        assert part.flags == (Flag.UNDECODABLE, Flag.TRUNCATED)
        assert "of its rows are there" in part.detail


@pytest.mark.parametrize("share", [0.999, 0.9, 0.6, 0.35])
def test_a_progressive_picture_is_there_with_its_first_scan(share: float) -> None:
    part, whole = fingerprint_of(cut(PROGRESSIVE, share)), fingerprint_of(PROGRESSIVE)
    assert part.flags == (Flag.TRUNCATED,)
    assert bits_apart(part.codes[0], whole.codes[0]) <= 24


def test_scans_are_counted_in_the_file_not_in_its_thumbnail() -> None:
    assert truncated._jpeg_scans(io.BytesIO(encoded(PHOTO, "JPEG"))) == (1, True)
    every, _ = truncated._jpeg_scans(io.BytesIO(PROGRESSIVE))
    assert every > 4
    counted = [truncated._jpeg_scans(io.BytesIO(PROGRESSIVE[:length])) for length in range(len(PROGRESSIVE))]
    assert not any(ended for _, ended in counted)
    counts = [count for count, _ in counted]
    assert counts == sorted(counts), "more bytes, more scans"
    assert counts[0] == 0
    assert counts[-1] == every
    # A segment that holds a whole picture of as many scans.
    inner = cut(PROGRESSIVE, 1)[:60000]
    segment = b"\xff\xe5" + (len(inner) + 2).to_bytes(2, "big") + inner
    assert truncated._jpeg_scans(io.BytesIO(PROGRESSIVE[:2] + segment + PROGRESSIVE[2:])) == (every, True)
    first = next(length for length, count in enumerate(counts) if count == 1)
    part = fingerprint_of(PROGRESSIVE[: first + 100])
    assert part.flags == (Flag.UNDECODABLE, Flag.TRUNCATED)
    assert "first of its scans" in part.detail


@pytest.mark.parametrize(("name", "length"), [("JPEG", 2), ("PNG", 12), ("GIF", 1)])
def test_only_the_end_marker_is_missing(name: str, length: int) -> None:
    whole, part = fingerprint_of(ROW_BY_ROW[name]), fingerprint_of(ROW_BY_ROW[name][:-length])
    assert part.flags == (Flag.TRUNCATED,)
    if name == "JPEG":  # its decoder looks ahead before it gives away the last rows
        assert part.detail == "cut short: 95% of its rows are there"
        assert bits_apart(part.codes[0], whole.codes[0]) <= 24
        return
    assert part.detail == "cut short: 100% of its rows are there"
    assert part.codes == whole.codes


def test_a_jpeg_whose_scaled_decode_needs_no_end_is_told_all_the_same() -> None:
    """Pillow is content with it: the smallest scale leaves its last rows out."""
    large = encoded(photo(3, (1600, 1200)), "JPEG", quality=85)
    assert fingerprint_of(large).flags == ()
    assert fingerprint_of(large[:-2]).flags == (Flag.TRUNCATED,)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "TIFF"])
def test_what_follows_the_end_changes_nothing(name: str) -> None:
    assert not fingerprint_of(ROW_BY_ROW[name] + b"\0" * 100_000).flags


def test_a_plain_part_tells_nothing_of_the_rest() -> None:
    """A photo below much sky: its upper part is as plain as a blank page."""
    picture = Image.new("RGB", (400, 400), (90, 140, 220))
    picture.paste(PHOTO.resize((400, 60)), (0, 340))
    part = fingerprint_of(cut(encoded(picture, "TIFF"), 0.8))
    assert part.flags == (Flag.TRUNCATED,), part.detail
    assert not part.codes


def test_damage_is_not_taken_for_a_cut() -> None:
    """Of formats that are not decoded row by row nothing is guessed, and decoders stay strict afterwards."""
    for image_format in ("WEBP", "AVIF", "JPEG2000", "BMP"):
        part = fingerprint_of(cut(encoded(PHOTO, image_format), 0.95))
        assert Flag.UNDECODABLE in part.flags
        assert not part.codes
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("keep", list(KeepPolicy))
def test_a_cut_picture_comes_after_every_whole_one(keep: KeepPolicy) -> None:
    """Whatever the policy: it is larger, older and newer than the whole one, and its name comes first."""
    whole = fingerprint_of(ROW_BY_ROW["PNG"], modified_ms=1000)
    larger = encoded(PHOTO.resize((960, 640)))
    for modified_ms in (1, 5000):
        part = fingerprint_of(cut(larger, 0.97), modified_ms=modified_ms)
        part = part.__class__(**{**_fields(part), "ref": ImageRef("file:///a", "a")})
        last = whole.__class__(**{**_fields(whole), "ref": ImageRef("file:///z", "z")})
        ranks = ranks_of(fingerprints_table([part, last]), keep).to_pylist()
        assert ranks[1] < ranks[0]
        known = part.__class__(**{**_fields(part), "ref": ImageRef("file:///a", "a", known=True)})
        ranks = ranks_of(fingerprints_table([known, last]), keep).to_pylist()
        assert ranks[0] < ranks[1], "a known image is kept whatever comes"


def _fields(image: object) -> dict[str, object]:
    return {name: getattr(image, name) for name in image.__slots__}  # type: ignore[attr-defined]


def test_of_a_huge_jpeg_the_first_bytes_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(PHOTO, "JPEG") + b"\0"
    monkeypatch.setattr(truncated, "_MOST_WALKED", len(data) // 2)
    assert truncated._jpeg_scans(io.BytesIO(data)) == (1, True)
    assert truncated._jpeg_scans(io.BytesIO(data[: len(data) // 2 - 1])) == (1, False)
    assert not fingerprint_of(data).flags
