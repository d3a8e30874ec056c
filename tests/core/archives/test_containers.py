"""Archives of each kind: their members, the order, the errors that are reported, and the limits."""

import io
import random
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_dedup.core.archives.containers import Container, container_of, members, read_member, read_members
from beam_dedup.core.archives.members import BadMember, Member, Names, file_uri, member_uri, split_uri
from beam_dedup.core.errors import ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason
from tests.core.archives.made_archives import (
    COMPRESSORS,
    FILES,
    GIF,
    JPEG,
    MODIFIED,
    PNG,
    Unseekable,
    items,
    names_of,
    record,
    response,
    special_tar,
    streamed_zip,
    summary,
    tar,
    tar_info,
    times_of,
    warc,
    zipped,
)

ALL = list(FILES.items())
ARCHIVES = {
    **{f"tar.{name}": compress(tar(FILES)) for name, compress in COMPRESSORS.items()},
    "zip": zipped(FILES),
    "zip stored": zipped(FILES, zipfile.ZIP_STORED),
    "zip bzip2": zipped(FILES, zipfile.ZIP_BZIP2),
    "zip from a pipe": streamed_zip(FILES),
}


class Forwards(Unseekable):
    """A stream like one from a network, which is read once and in requests of at most 1 MiB."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 <= size <= 1 << 20
        return super().read(size)


@pytest.mark.parametrize("name", ARCHIVES)
def test_members_are_returned_in_their_order(name: str) -> None:
    found = items(ARCHIVES[name])
    assert [(one.name, one.data) for one in found if isinstance(one, Member)] == ALL
    assert len(found) == len(ALL)


@pytest.mark.parametrize("name", [name for name in ARCHIVES if name.startswith("tar")])
def test_tar_is_read_once_and_forwards(name: str) -> None:
    data = ARCHIVES[name]
    container = container_of(data[:4096])
    assert container
    assert names_of(members(Forwards(data), container)) == list(FILES)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        *((compress(tar(FILES)), Container("tar", name)) for name, compress in COMPRESSORS.items()),
        (zipped(FILES), Container("zip")),
        (zipped({}), Container("zip")),
        (warc(), Container("warc")),
        (warc(compressed=True), Container("warc", "gz")),
        (COMPRESSORS["zst"](warc()), Container("warc", "zst")),
        (PNG, None),
        (JPEG, None),
        (GIF, None),
        (b"", None),
        (b"PK", None),
        (COMPRESSORS["gz"](PNG), None),
        (COMPRESSORS["xz"](PNG * 3), None),
        (b"\0" * 10240, None),
        (b"<html>", None),
    ],
)
def test_archive_is_recognised_by_its_first_bytes(data: bytes, wanted: Container | None) -> None:
    assert container_of(data[:4096]) == wanted


def test_bzip2_that_holds_no_tar_is_not_an_image() -> None:
    """4 KiB of bzip2 decompress to nothing, so such a file is first assumed to be a tar."""
    data = COMPRESSORS["bz2"](random.Random(1).randbytes(200_000))
    assert container_of(data[:4096]) == Container("tar", "bz2")
    [whole] = items(data)
    assert isinstance(whole, BadMember)
    assert (whole.name, whole.reason) == ("", Reason.NOT_AN_IMAGE)


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_every_tar_format_are_read(layout: int) -> None:
    files = {"x" * 90 + "/" + "y" * 90 + ".png": PNG, "plain.png": PNG}
    if layout != tarfile.USTAR_FORMAT:
        files |= {"n" * 300 + ".png": PNG, "日本/é.png": PNG, "not utf-8 \udcff\udcfe.png": PNG}
    data = tar(files, format=layout)
    assert summary(data) == list(files.items())
    assert set(times_of(items(data))) == {MODIFIED * 1000}


def test_names_equal_those_of_tarfile() -> None:
    names = ["a/b.png", "é.png", "n" * 200, "\udcff"]
    for layout in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(fileobj=io.BytesIO(tar(dict.fromkeys(names, PNG), format=layout))) as archive:
            found = items(tar(dict.fromkeys(names, PNG), format=layout))
            assert archive.getnames() == names == names_of(found)


def test_global_pax_headers_apply_to_all_members() -> None:
    data = tar({"a.png": PNG, "b.png": PNG}, format=tarfile.PAX_FORMAT, pax_headers={"mtime": "12.5"})
    assert times_of(items(data)) == [12500, 12500]


def test_special_members_are_bad_and_directories_are_left_out() -> None:
    kinds = {
        "link": (tarfile.SYMTYPE, "a symbolic link"),
        "pipe": (tarfile.FIFOTYPE, "a pipe"),
        "disk": (tarfile.BLKTYPE, "a device"),
        "tty": (tarfile.CHRTYPE, "a device"),
    }
    infos = [tar_info(name, type=kind, linkname="a.png") for name, (kind, _) in kinds.items()]
    data = special_tar(tar_info("directory", type=tarfile.DIRTYPE), *infos)
    *bad, last = items(data)
    assert bad == [BadMember(name, Reason.NOT_A_FILE, text) for name, (_, text) in kinds.items()]
    assert isinstance(last, Member)
    assert last.data == PNG


def test_sparse_file_is_unsupported() -> None:
    data = bytearray(tar({"sparse": bytes(1000), "a.png": PNG}, format=tarfile.GNU_FORMAT))
    data[156:157] = b"S"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    assert summary(bytes(data)) == [("sparse", "unsupported"), ("a.png", PNG)]


def test_joined_tars_are_read_as_one() -> None:
    assert summary(tar({"a.png": PNG}) + tar({"b.png": JPEG})) == [("a.png", PNG), ("b.png", JPEG)]
    assert summary(COMPRESSORS["gz"](tar({"a.png": PNG})) + COMPRESSORS["gz"](tar({"b.png": JPEG}))) == [
        ("a.png", PNG),
        ("b.png", JPEG),
    ]
    assert summary(tar({"a.png": PNG}) + b"rubbish" * 200) == [("a.png", PNG)]


def test_damaged_header_loses_one_member() -> None:
    data = bytearray(tar(FILES))
    at = 512 + len(PNG) + -len(PNG) % 512
    data[at + 3] ^= 0xFF
    found = summary(bytes(data))
    assert found == [ALL[0], *ALL[2:], ("", "damaged")]


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
def test_members_before_a_truncation_are_returned(name: str, share: float) -> None:
    data = ARCHIVES[name]
    found = summary(data[: int(len(data) * share)])
    intact = [one for one in found if isinstance(one[1], bytes)]
    assert intact == ALL[: len(intact)]
    if name == "tar." and share >= 0.8:  # only padding after the end mark is missing
        assert found == ALL
        return
    assert found[-1][0] == ""
    assert found[-1][1] == "damaged"
    assert [one for one in found if one[0] == ""] == found[-1:], "reported once"
    # bzip2, xz and zstandard decompress a whole block or nothing, and this is one block.
    if share >= 0.8 and name not in ("tar.bz2", "tar.xz", "tar.zst"):
        assert len(intact) >= 2


def test_error_of_a_truncated_tar_names_position_and_member() -> None:
    data = ARCHIVES["tar."]
    last = items(data[: data.index(GIF) + 2048])[-1]
    detail = f"truncated after 2048 of {len(GIF)} bytes; at or after member 'b/d.gif'"
    assert last == BadMember("", Reason.DAMAGED, detail)


def test_tar_without_end_mark_is_damaged() -> None:
    data = tar(FILES)
    sizes = [512 + len(content) + -len(content) % 512 for content in FILES.values()]
    *intact, last = items(data[: sum(sizes[:2])])
    assert names_of(intact) == list(FILES)[:2]
    assert isinstance(last, BadMember)
    assert "no end mark" in last.detail


def test_names_are_unique() -> None:
    twice = [("a.png", PNG), ("a.png", JPEG), ("a#2.png", GIF), ("d/.x", PNG), ("d/.x", GIF), ("a.png", GIF)]
    wanted = ["a.png", "a#2.png", "a#2#2.png", "d/.x", "d/.x#2", "a#3.png"]
    with pytest.warns(UserWarning, match="Duplicate name"):
        zip_archive = zipped(twice)
    for data in (tar(twice), zip_archive):
        found = items(data)
        assert [(one.name, one.data) for one in found if isinstance(one, Member)] == [
            (name, content) for name, (_, content) in zip(wanted, twice, strict=True)
        ]


def test_unique_names_take_linear_time() -> None:
    names = Names()
    assert len({names.unique("a.png") for _ in range(20_000)}) == 20_000


class TestZip:
    def test_encrypted_member_is_reported(self) -> None:
        data = bytearray(zipped(FILES))
        for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.find(signature) + at] |= 1
        assert summary(bytes(data)) == [("a.png", "encrypted"), *ALL[1:]]

    def test_other_compression_method_is_unsupported(self) -> None:
        data = bytearray(zipped({"a.png": PNG}))
        for signature, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            data[data.find(signature) + at] = 98
        assert items(bytes(data)) == [
            BadMember("a.png", Reason.UNSUPPORTED, "compressed with ppmd", len(PNG))
        ]

    def test_directories_are_left_out_and_links_are_bad(self) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("d/", b"")
            link = zipfile.ZipInfo("link")
            link.external_attr, link.create_system = 0o120777 << 16, 3
            archive.writestr(link, "a.png")
            archive.writestr("a.png", PNG)
        assert summary(out.getvalue()) == [("link", "not_a_file"), ("a.png", PNG)]

    def test_member_with_wrong_checksum_is_damaged(self) -> None:
        data = bytearray(zipped(FILES, zipfile.ZIP_STORED))
        data[data.find(PNG) + 1000] ^= 1
        assert summary(bytes(data)) == [("a.png", "damaged"), *ALL[1:]]

    def test_zip64_sizes_are_read(self) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive, archive.open("a.png", "w", force_zip64=True) as member:
            member.write(PNG)
        assert summary(out.getvalue()) == [("a.png", PNG)]

    def test_more_than_65535_members_are_read(self) -> None:
        """The end record cannot count so many, so the zip64 records hold their number."""
        names = [f"{number}.png" for number in range(66_000)]
        assert [name for name, _ in summary(zipped(dict.fromkeys(names, b"x"), zipfile.ZIP_STORED))] == names

    def test_bytes_before_or_after_the_archive_are_ignored(self) -> None:
        data = zipped(FILES)
        assert summary(data + b"x" * 100) == ALL
        found = items(b"#!" + b"x" * 500 + data, container=Container("zip"))
        assert names_of(found) == list(FILES)

    def test_directory_of_a_stored_archive_is_not_used_for_a_truncated_one(self) -> None:
        inner = zipped({"inner.png": PNG})
        data = zipped({"a.png": PNG, "b.zip": inner}, zipfile.ZIP_STORED)
        truncated = data[: data.index(b"PK\x01\x02", data.index(inner) + len(inner)) + 10]
        assert summary(truncated) == [("a.png", PNG), ("b.zip", "nested_archive"), ("", "damaged")]

    def test_names_with_the_utf8_flag_are_utf8_or_surrogates(self) -> None:
        data = zipped({"ééx.png": PNG})
        name = "ééx".encode()
        assert summary(data) == [("ééx.png", PNG)]
        assert summary(data.replace(name, b"\xff\xfe\xfd\xfc-")) == [("\udcff\udcfe\udcfd\udcfc-.png", PNG)]

    def test_names_without_the_utf8_flag_are_utf8_or_code_page_437(self) -> None:
        data = zipped({"xxx.png": PNG})
        assert summary(data.replace(b"xxx.png", b"m\x81l.png")) == [("mül.png", PNG)]
        assert summary(data.replace(b"xxx.png", "é-.png".encode())) == [("é-.png", PNG)]

    def test_modification_times_are_read_as_utc(self) -> None:
        assert set(times_of(items(zipped(FILES)))) == {MODIFIED * 1000}

    def test_overlapping_members_are_limited_together(self) -> None:
        """Ten thousand members share the bytes of one."""
        data = zipped({"a": bytes(1 << 20)})
        begin, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
        directory = data[begin:end] * 10_000
        tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 10_000, 10_000, len(directory), begin, 0)
        limits = Limits(max_ratio=10, free_bytes=1 << 26)
        *some, last = items(data[:begin] + directory + tail, limits)
        assert len(some) == 64
        assert isinstance(last, BadMember)
        assert last.reason == Reason.TOO_LARGE


class TestLimits:
    @pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "zst"])
    def test_decompression_bomb_is_stopped_in_little_memory(self, compression: str) -> None:
        bomb = COMPRESSORS[compression](tar({"a.png": PNG, "bomb": bytes(1 << 26)}))
        tracemalloc.start()
        found = summary(bomb, Limits(free_bytes=1 << 20, max_ratio=100))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found == [("a.png", PNG), ("", "too_large")]
        assert peak < 50 << 20

    def test_zip_bomb_is_stopped_in_little_memory(self) -> None:
        bomb = zipped({"a.png": PNG, "bomb": bytes(1 << 26), "b.png": PNG})
        tracemalloc.start()
        found = summary(bomb, Limits(free_bytes=1 << 20, max_ratio=100))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found == [("a.png", PNG), ("bomb", "too_large"), ("b.png", PNG)]
        assert peak < 50 << 20

    @pytest.mark.parametrize("archive", [tar, zipped])
    def test_member_that_is_too_large_is_reported(self, archive: Callable[..., bytes]) -> None:
        assert summary(archive(FILES), Limits(max_member_bytes=len(JPEG))) == [
            (name, data if len(data) <= len(JPEG) else "too_large") for name, data in ALL
        ]

    @pytest.mark.parametrize("archive", [tar, zipped])
    def test_reading_stops_after_too_many_members(self, archive: Callable[..., bytes]) -> None:
        found = summary(archive(FILES), Limits(max_members=2))
        assert found == [*ALL[:2], ("", "too_large")]

    def test_zip_member_with_wrong_size_is_damaged(self) -> None:
        data = bytearray(zipped({"bomb": bytes(1 << 24)}))
        for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            struct.pack_into("<L", data, data.find(signature) + at, 100)
        tracemalloc.start()
        assert summary(bytes(data)) == [("bomb", "damaged")]
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()

    def test_long_name_of_gigabytes_is_too_large(self) -> None:
        header = bytearray(tarfile.TarInfo("x").tobuf()[:512])
        header[124:136], header[156:157] = b"77777777777\0", b"L"
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        [bad] = items(bytes(header) + bytes(10_000))
        assert isinstance(bad, BadMember)
        assert bad.reason == Reason.TOO_LARGE

    @pytest.mark.parametrize(
        "size", [b"\x80" + b"\xff" * 11, b"\xff" * 12, b"zzzzzzzzzzz\0", b"77777777777\0"]
    )
    def test_malformed_sizes_are_reported(self, size: bytes) -> None:
        header = bytearray(tarfile.TarInfo("x").tobuf()[:512])
        header[124:136] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        found = items(bytes(header) + tar({"a.png": PNG}))
        assert {one.reason for one in found if isinstance(one, BadMember)} <= {
            Reason.DAMAGED,
            Reason.TOO_LARGE,
        }


@pytest.mark.parametrize("outer", [tar, zipped])
@pytest.mark.parametrize("inner", ["zip", "tar.", "tar.gz", "tar.zst"])
def test_nested_archive_is_not_opened(outer: Callable[..., bytes], inner: str) -> None:
    data = outer({"a.png": PNG, "in.jpg": ARCHIVES[inner]})
    [_, bad] = items(data)
    assert bad == BadMember("in.jpg", Reason.NESTED_ARCHIVE, f"a {inner.strip('.')}", len(ARCHIVES[inner]))


READ_AGAIN = {
    **{name: ARCHIVES[name] for name in ("tar.", "tar.gz", "zip")},
    "warc": warc(
        record("http://e.org/1.png", response(PNG)),
        record("http://e.org/1.png", response(GIF)),
        record("http://e.org/page", response(b"<html>", "text/html")),
        record("http://e.org/2.png", response(JPEG)),
        compressed=True,
    ),
}


class TestReadingAgain:
    @pytest.mark.parametrize("name", READ_AGAIN)
    def test_chosen_members_are_read_in_the_order_of_the_archive(self, name: str) -> None:
        data = READ_AGAIN[name]
        container = container_of(data[:4096])
        assert container
        first = {one.name: one.data for one in items(data) if isinstance(one, Member)}
        for wanted in ([], list(first), list(first)[::-2], ["nobody", next(iter(first))]):
            again = list(read_members(io.BytesIO(data), container, wanted))
            assert again == [(one, first[one]) for one in first if one in wanted]
        last = list(first)[-1]
        assert read_member(io.BytesIO(data), container, last) == first[last]
        with pytest.raises(ImageError, match="not_found"):
            read_member(io.BytesIO(data), container, "nobody")

    def test_other_members_are_skipped_unread(self) -> None:
        read = 0

        class Watched(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                nonlocal read
                data = super().read(size)
                read += len(data)
                return data

        big = {"big": bytes(1 << 22), "a.png": PNG, "b": bytes(1 << 22)}
        for data in (tar(big), zipped(big, zipfile.ZIP_STORED)):
            container = container_of(data[:4096])
            assert container
            read = 0
            assert read_member(Watched(data), container, "a.png") == PNG
            assert read < 1 << 19

    def test_changed_member_raises(self) -> None:
        data = bytearray(zipped(FILES))
        data[60] ^= 0xFF
        with pytest.raises(ImageError):
            read_member(io.BytesIO(bytes(data)), Container("zip"), "a.png")


class TestUris:
    @given(st.text(), st.text())
    @settings(max_examples=500)
    def test_split_uri_is_the_inverse_of_member_uri(self, archive: str, name: str) -> None:
        assert split_uri(member_uri(archive, name)) == (archive, name)
        assert split_uri(file_uri(archive)) == (archive, "")

    @given(st.text("!%215a", max_size=8), st.text("!%215a", max_size=4))
    @settings(max_examples=2000)
    def test_split_uri_is_the_inverse_with_escaped_characters(self, archive: str, name: str) -> None:
        assert split_uri(member_uri(archive, name)) == (archive, name)

    def test_ordinary_names_are_not_escaped(self) -> None:
        for path in ("/a/b.jpg", "gs://bucket/a b%20c.jpg", "50%.jpg", "a%2f"):
            assert file_uri(path) == path
            assert member_uri(path, "x!y.jpg") == f"{path}!x!y.jpg"


class TestWebDataset:
    def test_sidecars_become_metadata(self) -> None:
        files = {
            "s/000.jpg": JPEG,
            "s/000.json": b'{"url": "http://e.org/0", "width": 40}',
            "s/000.txt": b" a caption\n",
            "s/001.cls": b"7",
            "s/001.left.png": PNG,
            "s/001.right.png": PNG,
            "s/002.json": b"[1, 2]",
            "s/002.png": PNG,
            "s/003.json": b"{broken",
            "s/003.png": PNG,
            "s/004.png": PNG,
        }
        found = items(tar(files))
        assert [(one.name, one.metadata) for one in found if isinstance(one, Member)] == [
            ("s/000.jpg", {"url": "http://e.org/0", "width": 40, "txt": "a caption"}),
            ("s/001.left.png", {"cls": "7"}),
            ("s/001.right.png", {"cls": "7"}),
            ("s/002.png", {"json": [1, 2]}),
            ("s/003.png", {"json": "{broken"}),
            ("s/004.png", {}),
        ]
        assert len(found) == 6

    def test_sidecar_without_image_is_a_member(self) -> None:
        files = {"a.json": b"{}", "b.txt": b"text", "c.png": PNG, "d.txt": b"x", "c.txt": b"late"}
        assert summary(tar(files)) == list(files.items())

    def test_buffer_is_limited_to_the_bytes_of_one_member(self) -> None:
        files = {"a.1.png": PNG, "a.2.png": PNG, "a.3.png": PNG, "a.json": b'{"x": 1}'}
        found = items(tar(files), Limits(max_member_bytes=2 * len(PNG)))
        assert [(one.name, one.metadata) for one in found if isinstance(one, Member)] == [
            ("a.1.png", {}),
            ("a.2.png", {}),
            ("a.3.png", {"x": 1}),
        ]

    @pytest.mark.parametrize(
        "text", ["[" * 500 + "]" * 500, '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}']
    )
    def test_json_that_cannot_be_stored_is_kept_as_text(self, text: str) -> None:
        [one] = items(tar({"a.png": PNG, "a.json": text.encode()}))
        assert isinstance(one, Member)
        assert one.metadata == {"json": text}

    def test_deeply_nested_json_is_kept_as_text(self) -> None:
        [one] = items(tar({"a.png": PNG, "a.json": b"[" * 200_000}))
        assert isinstance(one, Member)
        assert one.metadata["json"].startswith("[[[")


def test_checksum_of_signed_bytes_is_accepted() -> None:
    """Some old tools computed it like that."""
    header = bytearray(tar({"é.png": PNG}, format=tarfile.GNU_FORMAT))
    block = header[:512]
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    header[148:156] = b"%06o\0 " % signed
    assert summary(bytes(header)) == [("é.png", PNG)]
