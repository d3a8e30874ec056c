"""Archives as other programs write them: hard links, names, split markers, compression of the whole file."""

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.archives.containers import Container, container_of, members, read_member, read_members
from beam_dedup.core.archives.members import BadMember, Member
from beam_dedup.core.archives.other_archives import unsupported
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Fingerprint, ImageRef, Reason, Rejection
from beam_dedup.core.reading.reader import read_images
from tests.core.archives.made_archives import (
    COMPRESSORS,
    FILES,
    GIF,
    JPEG,
    MODIFIED,
    PNG,
    Unseekable,
    items,
    linked_tar,
    record,
    response,
    skippable,
    summary,
    tar,
    tar_info,
    warc,
    with_dictionary,
    zipped,
)
from tests.pictures import encoded, photo

LARGE = encoded(photo(9, (300, 200)))  # more than the first bytes of a file hold


class TestHardLinks:
    @pytest.mark.parametrize("compression", COMPRESSORS)
    def test_hard_link_is_a_member_with_the_bytes_of_its_target(self, compression: str) -> None:
        data = COMPRESSORS[compression](
            linked_tar(("a.png", PNG), ("b.png", "a.png"), ("c.jpg", JPEG), ("d.png", "a.png"))
        )
        assert items(data) == [
            Member("a.png", PNG, MODIFIED * 1000),
            Member("c.jpg", JPEG, MODIFIED * 1000),
            Member("b.png", PNG, (MODIFIED + 1) * 1000),
            Member("d.png", PNG, (MODIFIED + 1) * 1000),
        ]
        container = container_of(data[:4096])
        assert container
        assert read_member(io.BytesIO(data), container, "d.png") == PNG
        again = dict(read_members(io.BytesIO(data), container, ["d.png", "c.jpg", "b.png"]))
        assert again == {"b.png": PNG, "c.jpg": JPEG, "d.png": PNG}

    def test_hard_links_are_those_that_tarfile_extracts(self, tmp_path: Path) -> None:
        data = linked_tar(
            ("d/a.png", PNG),
            ("./b.png", "d/a.png"),
            ("c.png", "./b.png"),  # a link to a link
            ("f.png", "./d//a.png"),
        )
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(tmp_path, filter="data")
        found = {one.name: one.data for one in items(data) if isinstance(one, Member)}
        for name in ("b.png", "c.png", "f.png"):
            stored = name if name in found else f"./{name}"
            assert found[stored] == (tmp_path / name).read_bytes(), name

    def test_hard_link_names_the_last_member_of_this_name_before_it(self) -> None:
        data = linked_tar(("a.png", PNG), ("b.png", "a.png"), ("a.png", JPEG), ("c.png", "a.png"))
        assert dict(summary(data)) == {"a.png": PNG, "b.png": PNG, "a#2.png": JPEG, "c.png": JPEG}

    @pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_long_and_non_ascii_targets_are_found(self, layout: int) -> None:
        name = "é" * 40 + "/" + "n" * 150 + ".png"
        data = linked_tar((name, PNG), ("b.png", name), layout=layout)
        assert summary(data) == [(name, PNG), ("b.png", PNG)]

    def test_hard_link_without_an_earlier_target_is_not_found(self) -> None:
        data = linked_tar(("b.png", "a.png"), ("a.png", PNG), ("c.png", "nobody"), ("d.png", ""))
        wanted = "a hard link to {!r}, which is not in the archive before it"
        assert items(data) == [
            Member("a.png", PNG, MODIFIED * 1000),
            BadMember("b.png", Reason.NOT_FOUND, wanted.format("a.png")),
            BadMember("c.png", Reason.NOT_FOUND, wanted.format("nobody")),
            BadMember("d.png", Reason.NOT_FOUND, wanted.format("")),
        ]

    def test_hard_link_to_a_member_that_is_no_file_has_its_reason(self) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(tar_info("tty", type=tarfile.CHRTYPE))
            archive.addfile(tar_info("a.png", type=tarfile.LNKTYPE, linkname="tty"))
        assert items(out.getvalue())[1] == BadMember("a.png", Reason.NOT_A_FILE, "a hard link to a device")

    def test_hard_links_before_damage_are_read(self) -> None:
        data = linked_tar(("a.png", PNG), ("b.png", "a.png"), ("c.jpg", JPEG))
        truncated = data[: data.index(JPEG) + 100]
        assert summary(truncated) == [("a.png", PNG), ("b.png", PNG), ("", "damaged")]

    def test_hard_link_in_a_stream_that_cannot_seek_is_unsupported(self) -> None:
        data = linked_tar(("a.png", PNG), ("b.png", "a.png"))
        *_, last = members(Unseekable(data), Container("tar"))
        assert isinstance(last, BadMember)
        assert (last.name, last.reason) == ("b.png", Reason.UNSUPPORTED)

    def test_bytes_of_all_hard_links_are_limited(self) -> None:
        links = [(f"{number}.png", "a.png") for number in range(50)]
        data = gzip.compress(linked_tar(("a.png", bytes(100_000)), *links))
        found = summary(data, Limits(free_bytes=1_000_000, max_ratio=1))
        assert len(found) == 12
        assert found[-1] == ("", "too_large")

    def test_member_that_is_too_large_makes_its_hard_links_too_large(self) -> None:
        data = linked_tar(("a.png", PNG), ("b.png", "a.png"))
        assert summary(data, Limits(max_member_bytes=100)) == [("a.png", "too_large"), ("b.png", "too_large")]


def renamed_zip(names: list[bytes], extra: bytes = b"") -> bytes:
    """Returns a zip whose names are these bytes, without the flag for UTF-8."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number, name in enumerate(names):
            info = zipfile.ZipInfo(f"{number:03}".ljust(len(name), "_"))
            info.extra = extra
            archive.writestr(info, PNG)
    data = out.getvalue()
    for number, name in enumerate(names):
        data = data.replace(f"{number:03}".ljust(len(name), "_").encode(), name)
    return data


def unicode_path(name: bytes, text: bytes, version: int = 1) -> bytes:
    """Returns the extra field with the name of a member in UTF-8."""
    field = struct.pack("<BL", version, zlib.crc32(name)) + text
    return struct.pack("<HH", 0x7075, len(field)) + field


class TestZip:
    def test_names_in_code_page_437_equal_those_of_zipfile(self) -> None:
        data = renamed_zip(["müller.jpg".encode("cp437"), "café.jpg".encode("cp437"), bytes(range(128, 256))])
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
        assert names[:2] == ["müller.jpg", "café.jpg"]
        assert [name for name, _ in summary(data)] == names

    @pytest.mark.parametrize(
        ("extra", "wanted"),
        [
            (unicode_path(b"caf\x82.jpg", "日本.jpg".encode()), "日本.jpg"),
            (unicode_path(b"other.jpg", "日本.jpg".encode()), "café.jpg"),
            (unicode_path(b"caf\x82.jpg", b"\xff.jpg"), "café.jpg"),
            (unicode_path(b"caf\x82.jpg", "日本.jpg".encode(), version=2), "café.jpg"),
            (b"\x75\x70\x02\x00\x01\x02", "café.jpg"),
        ],
    )
    def test_name_in_the_unicode_field_is_used_if_it_replaces_this_name(
        self, extra: bytes, wanted: str
    ) -> None:
        data = renamed_zip([b"caf\x82.jpg"], extra)
        assert summary(data) == [(wanted, PNG)]
        truncated = data[: data.index(b"PK\x01\x02")]
        assert summary(truncated) == [(wanted, PNG), ("", "damaged")], "also in the local header"

    @pytest.mark.parametrize("marker", [b"PK00", b"PK\x07\x08"])
    def test_archive_with_a_spanning_marker_is_read(self, marker: bytes) -> None:
        data = marker + zipped(FILES)
        assert summary(data) == list(FILES.items())
        truncated = data[: data.index(b"PK\x01\x02")]
        assert summary(truncated) == [*FILES.items(), ("", "damaged")]
        assert container_of(marker + b"no archive") is None

    def test_lzma_and_xz_members_are_read(self) -> None:
        assert summary(zipped(FILES, zipfile.ZIP_LZMA)) == list(FILES.items())
        data = bytearray(zipped({"a.png": lzma.compress(PNG)}, zipfile.ZIP_STORED))
        for signature, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            header = data.find(signature) + at
            data[header : header + 2] = struct.pack("<H", 95)
            struct.pack_into("<L", data, header + 6, zlib.crc32(PNG))
            struct.pack_into("<L", data, header + 14, len(PNG))
        assert summary(bytes(data)) == [("a.png", PNG)]

    def test_damaged_lzma_members_are_reported(self) -> None:
        whole = zipped({"a.png": PNG}, zipfile.ZIP_LZMA)
        begin = whole.index(b"a.png") + 5
        for at, value in ((2, 9), (4, 255), (8, 255), (30, 0), (31, 0)):
            data = bytearray(whole)
            data[begin + at] = value
            [bad] = items(bytes(data))
            assert isinstance(bad, BadMember)
            assert bad.reason in (Reason.DAMAGED, Reason.TOO_LARGE)


RECORDS = tuple(record(f"http://e.org/{number}.png", response(LARGE)) for number in range(4))
RECORD_NAMES = [f"e.org/{number}.png" for number in range(4)]


class TestCompressionOfTheWholeFile:
    @pytest.mark.parametrize(
        "data",
        [
            bz2.compress(warc(*RECORDS)),
            b"".join(bz2.compress(one) for one in RECORDS),
            lzma.compress(warc(*RECORDS)),
            lzma.compress(warc(*RECORDS), lzma.FORMAT_ALONE),
            zstandard.compress(warc(*RECORDS)),
            b"".join(zstandard.compress(one) for one in RECORDS),
            skippable(b"x" * 10) + zstandard.compress(warc(*RECORDS)),
            skippable(b"x" * 100_000) + skippable(b"", 15) + zstandard.compress(warc(*RECORDS)),
            b"".join(skippable(b"size", 2) + zstandard.compress(one) for one in RECORDS),
            skippable(b"no dictionary", 13) + zstandard.compress(warc(*RECORDS)),
            with_dictionary(*RECORDS),
            with_dictionary(*RECORDS, compress=True),
        ],
        ids=[
            "bzip2",
            "bzip2 per record",
            "xz",
            "lzma",
            "zstandard",
            "zstandard per record",
            "skippable frame in front",
            "long skippable frames in front",
            "skippable frames between records",
            "dictionary frame with other data",
            "dictionary",
            "compressed dictionary",
        ],
    )
    def test_warc_is_read(self, data: bytes) -> None:
        assert summary(data) == [(name, LARGE) for name in RECORD_NAMES]
        container = container_of(data[:4096])
        assert container
        assert read_member(io.BytesIO(data), container, RECORD_NAMES[-1]) == LARGE

    @pytest.mark.parametrize(
        "data",
        [
            lzma.compress(tar(FILES), lzma.FORMAT_ALONE),
            skippable(b"x" * 100_000) + zstandard.compress(tar(FILES)),
            COMPRESSORS["gz"](tar(FILES))[:3]
            + b"\x04"
            + COMPRESSORS["gz"](tar(FILES))[4:10]
            # a field in the header that is longer than the first bytes of a file
            + struct.pack("<H", 60_000)
            + bytes(60_000)
            + COMPRESSORS["gz"](tar(FILES))[10:],
        ],
        ids=["lzma", "long skippable frame", "gzip with a long field"],
    )
    def test_tar_is_read(self, data: bytes) -> None:
        assert summary(data) == list(FILES.items())

    def test_sidecars_are_not_looked_for_in_a_warc(self) -> None:
        files = [record("http://e.org/a.json", b"{}", "resource", "image/x-json"), RECORDS[0]]
        page = record("http://e.org/a.png", LARGE, "resource", "image/png")
        data = bz2.compress(warc(page, *files))
        assert [name for name, _ in summary(data)] == ["e.org/a.png", "e.org/a.json", "e.org/0.png"]

    def test_missing_dictionary_is_unsupported(self) -> None:
        data = with_dictionary(*RECORDS)
        [whole] = items(data[data.index(b"\x28\xb5\x2f\xfd") :])
        assert whole == BadMember(
            "", Reason.UNSUPPORTED, "compressed with a dictionary that is not in the file"
        )

    def test_large_dictionary_is_not_decompressed(self) -> None:
        bomb = skippable(zstandard.compress(b"\x37\xa4\x30\xec" + bytes(1 << 28)), 13)
        tracemalloc.start()
        found = summary(bomb + zstandard.compress(warc(*RECORDS)))
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
        tracemalloc.stop()
        assert [name for name, _ in found] == RECORD_NAMES

    @pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst"])
    @pytest.mark.parametrize(
        ("content", "kind"),
        [
            (LARGE, "a PNG image"),
            (zipped({"a.png": LARGE}), "a zip archive"),
            (b"7z\xbc\xaf\x27\x1c" + LARGE, "a 7z archive"),
            (gzip.compress(tar({"a.png": LARGE})), "a compressed file"),
        ],
        ids=["image", "zip", "7z", "compressed twice"],
    )
    def test_other_compressed_content_is_unsupported(
        self, compression: str, content: bytes, kind: str, tmp_path: Path
    ) -> None:
        data = COMPRESSORS[compression](content)
        name = {"gz": "gzip", "bz2": "bzip2", "zst": "zstandard"}.get(compression, compression)
        [rejected] = rejections(tmp_path, data)
        assert (rejected.reason, rejected.detail) == (
            Reason.UNSUPPORTED,
            f"{kind}, compressed with {name}",
        )

    @pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst"])
    def test_compressed_text_is_not_an_image(self, compression: str, tmp_path: Path) -> None:
        for text in (b"text", b"text" * 50_000, random.Random(1).randbytes(100_000)):
            [rejected] = rejections(tmp_path, COMPRESSORS[compression](text))
            assert rejected.reason == Reason.NOT_AN_IMAGE


def test_bmp_with_a_reserved_field_that_is_not_zero_is_decoded(tmp_path: Path) -> None:
    plain = encoded(photo(1, (60, 50)), "BMP")
    found: list[object] = []
    for name, data in (("plain.bmp", plain), ("reserved.bmp", plain[:6] + b"GR32" + plain[10:])):
        (tmp_path / name).write_bytes(data)
        reference = ImageRef(str(tmp_path / name), name)
        found += read_images(reference, reference.uri, Recipe(), lambda _: None)
    one, other = found
    assert isinstance(one, Fingerprint)
    assert isinstance(other, Fingerprint)
    assert (other.format, other.flags, other.codes) == ("BMP", one.flags, one.codes)


def rejections(folder: Path, data: bytes) -> Iterator[Rejection]:
    path = folder / "file"
    path.write_bytes(data)
    for found in read_images(ImageRef(str(path), "file"), str(path), None, lambda _: None):
        assert isinstance(found, Rejection)
        yield found


OTHER = {
    b"7z\xbc\xaf\x27\x1c\x00\x04": "a 7z archive",
    b"Rar!\x1a\x07\x00": "a RAR archive",
    b"Rar!\x1a\x07\x01\x00": "a RAR archive",
    b"MSCF\0\0\0\0": "a cabinet archive",
    b"xar!\x00\x1c": "a xar archive",
    b"!<arch>\ndebian-binary": "an ar archive",
    b"070701" + b"0" * 104: "a cpio archive",
    b"070707" + b"0" * 70: "a cpio archive",
    b"filedesc://a.arc.gz 0.0.0.0": "an ARC file of a crawl",
    b"\x04\x22\x4d\x18\x64": "a file compressed with lz4",
    b"LZIP\x01\x0c": "a file compressed with lzip",
    b"\x89LZO\x00\r\n\x1a\n": "a file compressed with lzop",
    b"\x1f\x9d\x90": "a file compressed with compress (.Z)",
}


class TestOtherArchives:
    @pytest.mark.parametrize(("head", "kind"), OTHER.items(), ids=OTHER.values())
    def test_archive_that_is_not_read_is_unsupported(self, head: bytes, kind: str, tmp_path: Path) -> None:
        [rejected] = rejections(tmp_path, head + LARGE)
        assert (rejected.reason, rejected.detail) == (Reason.UNSUPPORTED, kind)
        assert items(tar({"inner": head + LARGE})) == [
            BadMember("inner", Reason.UNSUPPORTED, kind, len(head + LARGE))
        ]

    def test_lz4_after_a_skippable_frame_is_unsupported(self, tmp_path: Path) -> None:
        [rejected] = rejections(tmp_path, skippable(b"x") + b"\x04\x22\x4d\x18" + LARGE)
        assert (rejected.reason, rejected.detail) == (Reason.UNSUPPORTED, "compressed with lz4")

    @pytest.mark.parametrize(
        "head", [PNG, JPEG, GIF, b"", b"070701 is a number", b"text", b"\x5d\x00\x00text", warc()[:4096]]
    )
    def test_other_files_are_not_unsupported(self, head: bytes) -> None:
        assert unsupported(head[:4096]) == ""
        assert unsupported(gzip.compress(b"text")) == ""
