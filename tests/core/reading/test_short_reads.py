"""read_images on disks that return few bytes at a time, and on disks with bad sectors."""

import bz2
import gzip
import lzma
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import zstandard
from PIL import Image

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import ImageError
from beam_dedup.core.imaging import fingerprint as fingerprints
from beam_dedup.core.model import Fingerprint, ImageRef, Reason, Rejection
from beam_dedup.core.reading.local_files import open_local
from beam_dedup.core.reading.reader import Found, read_images
from tests.core.archives.made_archives import FILES, record, response, tar, warc, zipped
from tests.core.short_reads import use_bad_disk
from tests.pictures import encoded, photo

_IO_ERROR = "Input/output error"
_RECORDS = [record(f"http://example.com/{name}", response(data)) for name, data in FILES.items()]

PICTURES = {
    name: encoded(photo(4, (200, 150)), name) for name in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
}
ARCHIVES = {
    "zip": zipped(FILES),
    "tar": tar(FILES),
    "tar.gz": gzip.compress(tar(FILES), mtime=0),
    "tar.bz2": bz2.compress(tar(FILES)),
    "tar.xz": lzma.compress(tar(FILES)),
    "tar.zst": zstandard.compress(tar(FILES)),
    "warc": warc(*_RECORDS),
    "warc.gz": warc(*_RECORDS, compressed=True),
}
EVERY = {**PICTURES, **ARCHIVES}


def read_file(path: Path) -> list[Found]:
    return list(read_images(ImageRef(str(path), path.name), str(path), Recipe(), lambda _: None))


def write(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("most", [1, 100, 4096])
@pytest.mark.parametrize("name", EVERY)
def test_short_reads_change_nothing(
    name: str, most: int, buffered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not buffered:
        monkeypatch.setattr(fingerprints, "BUFFERED_BYTES", -1)
    path = write(tmp_path, name, EVERY[name])
    expected = read_file(path)
    assert any(isinstance(image, Fingerprint) and image.codes for image in expected)
    use_bad_disk(monkeypatch, most=most)
    assert read_file(path) == expected


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("name", PICTURES)
def test_picture_on_a_bad_sector_is_unreadable(
    name: str, buffered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no digest, which would be that of its beginning."""
    if not buffered:
        monkeypatch.setattr(fingerprints, "BUFFERED_BYTES", -1)
    path = write(tmp_path, name, PICTURES[name])
    for bad in (0, 1, 50, len(PICTURES[name]) // 2, len(PICTURES[name]) - 1):
        use_bad_disk(monkeypatch, bad=bad)
        (found,) = read_file(path)
        assert isinstance(found, Rejection)
        assert (found.ref.name, found.reason, found.detail) == (name, Reason.UNREADABLE, _IO_ERROR)


def test_two_files_that_differ_after_a_bad_sector_are_not_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A BMP begins with its lower rows."""
    use_bad_disk(monkeypatch, bad=32768)
    for seed in range(2):
        image = Image.new("RGB", (300, 400))
        image.paste(photo(9, (300, 200)), (0, 200))
        image.paste(photo(seed, (300, 200)), (0, 0))
        (found,) = read_file(write(tmp_path, f"scan{seed}.bmp", encoded(image, "BMP")))
        assert isinstance(found, Rejection)
        assert found.reason == Reason.UNREADABLE


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_with_a_bad_sector_has_its_members_before_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The archive is reported as unreadable, and not as damaged: its missing members may exist."""
    data = ARCHIVES[name]
    path = write(tmp_path, name, data)
    expected = read_file(path)
    for bad in range(0, len(data), max(len(data) // 60, 1)):
        use_bad_disk(monkeypatch, bad=bad)
        *before, last = read_file(path)
        assert isinstance(last, Rejection), bad
        assert (last.ref.uri, last.reason, last.detail) == (str(path), Reason.UNREADABLE, _IO_ERROR), bad
        assert before == expected[: len(before)], bad


def test_error_in_the_second_reading_of_a_large_picture_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large picture is digested first, then decoded. The decoder takes the error for a truncated file."""
    path = write(tmp_path, "a.jpg", PICTURES["JPEG"])
    ordinary = fingerprints.decode

    def decode(stream: BinaryIO, *arguments: Any) -> Any:
        use_bad_disk(monkeypatch, bad=len(PICTURES["JPEG"]) * 9 // 10)
        return ordinary(stream, *arguments)

    monkeypatch.setattr(fingerprints, "BUFFERED_BYTES", -1)
    monkeypatch.setattr(fingerprints, "decode", decode)
    use_bad_disk(monkeypatch)
    (found,) = read_file(path)
    assert isinstance(found, Rejection)
    assert (found.reason, found.detail) == (Reason.UNREADABLE, _IO_ERROR)


def test_file_that_becomes_shorter_while_it_is_read_is_unreadable(tmp_path: Path) -> None:
    path = write(tmp_path, "a", bytes(1000))

    def read_while_it_is_cut() -> None:
        with open_local(str(path)) as (stream, size_bytes, _):
            assert len(stream.read(10)) == 10
            os.truncate(path, 600)
            stream.read(size_bytes)

    with pytest.raises(ImageError) as raised:
        read_while_it_is_cut()
    assert (raised.value.reason, raised.value.detail) == (
        Reason.UNREADABLE,
        "the file ends after 600 of 1000 bytes",
    )
