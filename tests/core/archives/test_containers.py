"""Archives as folders: what comes out of each kind, in what order, and what is said of the rest."""

import io
import random
import struct
import tarfile
import tracemalloc
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_dedup.core.archives.containers import Container, container_of, read_member, read_members
from beam_dedup.core.archives.members import BadMember, Member, Names, file_uri, member_uri, split_uri
from beam_dedup.core.errors import ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason
from tests.core.archives.made_archives import (
    FILES,
    GIF,
    JPEG,
    MODIFIED,
    PACKERS,
    PNG,
    Unseekable,
    items,
    record,
    response,
    special_tar,
    streamed_zip,
    tar,
    tar_info,
    told,
    warc,
    zipped,
)

ALL = list(FILES.items())
ARCHIVES = {
    **{f"tar.{packing}": pack(tar(FILES)) for packing, pack in PACKERS.items()},
    "zip": zipped(FILES),
    "zip stored": zipped(FILES, zipfile.ZIP_STORED),
    "zip bzip2": zipped(FILES, zipfile.ZIP_BZIP2),
    "zip from a pipe": streamed_zip(FILES),
}


class Forwards(Unseekable):
    """Read once, as from a network; and no more at once than is sensible."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 <= size <= 1 << 20
        return super().read(size)


@pytest.mark.parametrize("name", ARCHIVES)
def test_members_come_out_in_order(name: str) -> None:
    found = items(ARCHIVES[name])
    assert [(one.name, one.data) for one in found if isinstance(one, Member)] == ALL
    assert len(found) == len(ALL)


@pytest.mark.parametrize("name", [name for name in ARCHIVES if name.startswith("tar")])
def test_a_tar_is_read_once_and_forwards(name: str) -> None:
    from beam_dedup.core.archives.containers import members

    data = ARCHIVES[name]
    container = container_of(data[:4096])
    assert container
    assert [one.name for one in members(Forwards(data), container)] == list(FILES)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        *((pack(tar(FILES)), Container("tar", packing)) for packing, pack in PACKERS.items()),
        (zipped(FILES), Container("zip")),
        (zipped({}), Container("zip")),
        (warc(), Container("warc")),
        (warc(packed=True), Container("warc", "gz")),
        (PACKERS["zst"](warc()), Container("warc", "zst")),
        (PNG, None),
        (JPEG, None),
        (GIF, None),
        (b"", None),
        (b"PK", None),
        (PACKERS["gz"](PNG), None),
        (PACKERS["xz"](PNG * 3), None),
        (b"\0" * 10240, None),
        (b"<html>", None),
    ],
)
def test_an_archive_is_known_by_its_bytes(data: bytes, wanted: Container | None) -> None:
    assert container_of(data[:4096]) == wanted


def test_what_can_not_be_told_at_once_is_said_later() -> None:
    """4 KiB of bzip2 do not unpack to anything."""
    data = PACKERS["bz2"](random.Random(1).randbytes(200_000))
    assert container_of(data[:4096]) == Container("tar", "bz2")
    [whole] = items(data)
    assert isinstance(whole, BadMember)
    assert (whole.name, whole.reason) == ("", Reason.NOT_AN_IMAGE)


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_headers_of_every_tar(layout: int) -> None:
    files = {"x" * 90 + "/" + "y" * 90 + ".png": PNG, "plain.png": PNG}
    if layout != tarfile.USTAR_FORMAT:
        files |= {"n" * 300 + ".png": PNG, "日本/é.png": PNG, "not utf-8 \udcff\udcfe.png": PNG}
    data = tar(files, format=layout)
    assert told(data) == list(files.items())
    assert {one.modified_ms for one in items(data)} == {MODIFIED * 1000}  # type: ignore[union-attr]


def test_the_standard_library_agrees_on_names() -> None:
    names = ["a/b.png", "é.png", "n" * 200, "\udcff"]
    for layout in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(fileobj=io.BytesIO(tar(dict.fromkeys(names, PNG), format=layout))) as archive:
            assert (
                archive.getnames()
                == names
                == [one.name for one in items(tar(dict.fromkeys(names, PNG), format=layout))]
            )  # type: ignore[union-attr]


def test_pax_headers_for_all_members() -> None:
    data = tar({"a.png": PNG, "b.png": PNG}, format=tarfile.PAX_FORMAT, pax_headers={"mtime": "12.5"})
    assert [one.modified_ms for one in items(data)] == [12500, 12500]  # type: ignore[union-attr]


def test_special_members_are_told_and_folders_are_not() -> None:
    kinds = {
        "link": (tarfile.SYMTYPE, "a symbolic link"),
        "hard": (tarfile.LNKTYPE, "a hard link"),
        "pipe": (tarfile.FIFOTYPE, "a pipe"),
        "disk": (tarfile.BLKTYPE, "a device"),
        "tty": (tarfile.CHRTYPE, "a device"),
    }
    infos = [tar_info(name, type=kind, linkname="a.png") for name, (kind, _) in kinds.items()]
    data = special_tar(tar_info("folder", type=tarfile.DIRTYPE), *infos)
    *bad, last = items(data)
    assert bad == [BadMember(name, Reason.NOT_A_FILE, text) for name, (_, text) in kinds.items()]
    assert isinstance(last, Member)
    assert last.data == PNG


def test_a_sparse_file_is_not_read_as_what_it_is_not() -> None:
    data = bytearray(tar({"sparse": bytes(1000), "a.png": PNG}, format=tarfile.GNU_FORMAT))
    data[156:157] = b"S"
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    assert told(bytes(data)) == [("sparse", "unsupported"), ("a.png", PNG)]


def test_two_tars_joined() -> None:
    assert told(tar({"a.png": PNG}) + tar({"b.png": JPEG})) == [("a.png", PNG), ("b.png", JPEG)]
    assert told(PACKERS["gz"](tar({"a.png": PNG})) + PACKERS["gz"](tar({"b.png": JPEG}))) == [
        ("a.png", PNG),
        ("b.png", JPEG),
    ]
    assert told(tar({"a.png": PNG}) + b"rubbish" * 200) == [("a.png", PNG)]


def test_a_damaged_header_costs_one_member() -> None:
    data = bytearray(tar(FILES))
    at = 512 + len(PNG) + -len(PNG) % 512
    data[at + 3] ^= 0xFF
    found = told(bytes(data))
    assert found == [ALL[0], *ALL[2:], ("", "damaged")]


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
def test_of_a_cut_archive_the_members_before_the_cut_come_out(name: str, share: float) -> None:
    data = ARCHIVES[name]
    found = told(data[: int(len(data) * share)])
    sound = [one for one in found if isinstance(one[1], bytes)]
    assert sound == ALL[: len(sound)]
    if name == "tar." and share >= 0.8:  # what is missing is filling after the end mark
        assert found == ALL
        return
    assert found[-1][0] == ""
    assert found[-1][1] == "damaged"
    assert [one for one in found if one[0] == ""] == found[-1:], "said once"
    # bzip2, xz and zstandard give a whole block or nothing, and this is one block.
    if share >= 0.8 and name not in ("tar.bz2", "tar.xz", "tar.zst"):
        assert len(sound) >= 2


def test_a_cut_tar_says_where() -> None:
    data = ARCHIVES["tar."]
    last = items(data[: data.index(GIF) + 2048])[-1]
    detail = f"cut short after 2048 of {len(GIF)} bytes; at or after member 'b/d.gif'"
    assert last == BadMember("", Reason.DAMAGED, detail)


def test_a_tar_without_its_end_mark_is_told() -> None:
    data = tar(FILES)
    sizes = [512 + len(content) + -len(content) % 512 for content in FILES.values()]
    *sound, last = items(data[: sum(sizes[:2])])
    assert [one.name for one in sound] == list(FILES)[:2]  # type: ignore[union-attr]
    assert isinstance(last, BadMember)
    assert "no end mark" in last.detail


def test_names_are_unique() -> None:
    twice = [("a.png", PNG), ("a.png", JPEG), ("a#2.png", GIF), ("d/.x", PNG), ("d/.x", GIF), ("a.png", GIF)]
    wanted = ["a.png", "a#2.png", "a#2#2.png", "d/.x", "d/.x#2", "a#3.png"]
    with pytest.warns(UserWarning, match="Duplicate name"):
        packed = zipped(twice)
    for data in (tar(twice), packed):
        found = items(data)
        assert [(one.name, one.data) for one in found if isinstance(one, Member)] == [
            (name, content) for name, (_, content) in zip(wanted, twice, strict=True)
        ]


def test_a_million_members_of_one_name_do_not_take_for_ever() -> None:
    names = Names()
    assert len({names.unique("a.png") for _ in range(20_000)}) == 20_000


class TestZip:
    def test_encrypted_members(self) -> None:
        data = bytearray(zipped(FILES))
        for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            data[data.find(signature) + at] |= 1
        assert told(bytes(data)) == [("a.png", "encrypted"), *ALL[1:]]

    def test_a_method_that_is_not_read(self) -> None:
        assert items(zipped({"a.png": PNG}, zipfile.ZIP_LZMA)) == [
            BadMember("a.png", Reason.UNSUPPORTED, "packed by lzma", len(PNG))
        ]

    def test_folders_and_links(self) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("d/", b"")
            link = zipfile.ZipInfo("link")
            link.external_attr, link.create_system = 0o120777 << 16, 3
            archive.writestr(link, "a.png")
            archive.writestr("a.png", PNG)
        assert told(out.getvalue()) == [("link", "not_a_file"), ("a.png", PNG)]

    def test_a_wrong_checksum(self) -> None:
        data = bytearray(zipped(FILES, zipfile.ZIP_STORED))
        data[data.find(PNG) + 1000] ^= 1
        assert told(bytes(data)) == [("a.png", "damaged"), *ALL[1:]]

    def test_large_numbers(self) -> None:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive, archive.open("a.png", "w", force_zip64=True) as member:
            member.write(PNG)
        assert told(out.getvalue()) == [("a.png", PNG)]

    def test_many_members(self) -> None:
        """More than the end record can count: the zip64 records take over."""
        names = [f"{number}.png" for number in range(66_000)]
        assert [name for name, _ in told(zipped(dict.fromkeys(names, b"x"), zipfile.ZIP_STORED))] == names

    def test_bytes_before_and_after(self) -> None:
        data = zipped(FILES)
        assert told(data + b"x" * 100) == ALL
        assert [one.name for one in items(b"#!" + b"x" * 500 + data, container=Container("zip"))] == list(
            FILES
        )  # type: ignore[union-attr]

    def test_an_archive_stored_in_one_that_is_cut_short(self) -> None:
        inner = zipped({"inner.png": PNG})
        data = zipped({"a.png": PNG, "b.zip": inner}, zipfile.ZIP_STORED)
        cut = data[: data.index(b"PK\x01\x02", data.index(inner) + len(inner)) + 10]
        assert told(cut) == [("a.png", PNG), ("b.zip", "nested_archive"), ("", "damaged")]

    def test_names_of_any_encoding(self) -> None:
        data = zipped({"xxx.png": PNG})
        assert told(data.replace(b"xxx.png", b"\xff\xfe\xfd.png")) == [("\udcff\udcfe\udcfd.png", PNG)]
        assert told(data.replace(b"xxx.png", "é-.png".encode())) == [("é-.png", PNG)]

    def test_times(self) -> None:
        assert {one.modified_ms for one in items(zipped(FILES))} == {MODIFIED * 1000}  # type: ignore[union-attr]

    def test_members_that_overlap(self) -> None:
        """Ten thousand members in the bytes of one."""
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
    @pytest.mark.parametrize("packing", ["gz", "bz2", "xz", "zst"])
    def test_a_bomb_costs_little(self, packing: str) -> None:
        bomb = PACKERS[packing](tar({"a.png": PNG, "bomb": bytes(1 << 26)}))
        tracemalloc.start()
        found = told(bomb, Limits(free_bytes=1 << 20, max_ratio=100))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found == [("a.png", PNG), ("", "too_large")]
        assert peak < 50 << 20

    def test_a_zip_bomb_costs_little(self) -> None:
        bomb = zipped({"a.png": PNG, "bomb": bytes(1 << 26), "b.png": PNG})
        tracemalloc.start()
        found = told(bomb, Limits(free_bytes=1 << 20, max_ratio=100))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found == [("a.png", PNG), ("bomb", "too_large"), ("b.png", PNG)]
        assert peak < 50 << 20

    @pytest.mark.parametrize("pack", [tar, zipped])
    def test_a_member_that_is_too_large(self, pack: object) -> None:
        assert told(pack(FILES), Limits(max_member_bytes=len(JPEG))) == [  # type: ignore[operator]
            (name, data if len(data) <= len(JPEG) else "too_large") for name, data in ALL
        ]

    @pytest.mark.parametrize("pack", [tar, zipped])
    def test_too_many_members(self, pack: object) -> None:
        found = told(pack(FILES), Limits(max_members=2))  # type: ignore[operator]
        assert found == [*ALL[:2], ("", "too_large")]

    def test_a_zip_that_lies_about_a_size(self) -> None:
        data = bytearray(zipped({"bomb": bytes(1 << 24)}))
        for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            struct.pack_into("<L", data, data.find(signature) + at, 100)
        tracemalloc.start()
        assert told(bytes(data)) == [("bomb", "damaged")]
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()

    def test_a_long_name_of_gigabytes(self) -> None:
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
    def test_sizes_that_are_none(self, size: bytes) -> None:
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
def test_an_archive_in_an_archive_is_not_opened(outer: object, inner: str) -> None:
    data = outer({"a.png": PNG, "in.jpg": ARCHIVES[inner]})  # type: ignore[operator]
    [_, bad] = items(data)
    assert bad == BadMember("in.jpg", Reason.NESTED_ARCHIVE, f"a {inner.strip('.')}", len(ARCHIVES[inner]))


READ_AGAIN = {
    **{name: ARCHIVES[name] for name in ("tar.", "tar.gz", "zip")},
    "warc": warc(
        record("http://e.org/1.png", response(PNG)),
        record("http://e.org/1.png", response(GIF)),
        record("http://e.org/page", response(b"<html>", "text/html")),
        record("http://e.org/2.png", response(JPEG)),
        packed=True,
    ),
}


class TestReadingAgain:
    @pytest.mark.parametrize("name", READ_AGAIN)
    def test_any_members(self, name: str) -> None:
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

    def test_what_is_not_wanted_is_not_read(self) -> None:
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

    def test_a_member_that_has_changed(self) -> None:
        data = bytearray(zipped(FILES))
        data[60] ^= 0xFF
        with pytest.raises(ImageError):
            read_member(io.BytesIO(bytes(data)), Container("zip"), "a.png")


class TestUris:
    @given(st.text(), st.text())
    @settings(max_examples=500)
    def test_there_and_back(self, archive: str, name: str) -> None:
        assert split_uri(member_uri(archive, name)) == (archive, name)
        assert split_uri(file_uri(archive)) == (archive, "")

    @given(st.text("!%215a", max_size=8), st.text("!%215a", max_size=4))
    @settings(max_examples=2000)
    def test_there_and_back_where_it_matters(self, archive: str, name: str) -> None:
        assert split_uri(member_uri(archive, name)) == (archive, name)

    def test_ordinary_names_stay(self) -> None:
        for path in ("/a/b.jpg", "gs://bucket/a b%20c.jpg", "50%.jpg", "a%2f"):
            assert file_uri(path) == path
            assert member_uri(path, "x!y.jpg") == f"{path}!x!y.jpg"


class TestWebDataset:
    def test_side_cars_are_metadata(self) -> None:
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

    def test_what_has_no_image_is_a_member(self) -> None:
        files = {"a.json": b"{}", "b.txt": b"text", "c.png": PNG, "d.txt": b"x", "c.txt": b"late"}
        assert told(tar(files)) == list(files.items())

    def test_no_more_is_held_back_than_may_be(self) -> None:
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
    def test_what_could_not_be_written_again_stays_text(self, text: str) -> None:
        [one] = items(tar({"a.png": PNG, "a.json": text.encode()}))
        assert isinstance(one, Member)
        assert one.metadata == {"json": text}

    def test_deep_json_does_no_harm(self) -> None:
        [one] = items(tar({"a.png": PNG, "a.json": b"[" * 200_000}))
        assert isinstance(one, Member)
        assert one.metadata["json"].startswith("[[[")


def test_checksums_of_signed_bytes() -> None:
    """As some old writers reckoned."""
    header = bytearray(tar({"é.png": PNG}, format=tarfile.GNU_FORMAT))
    block = header[:512]
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    header[148:156] = b"%06o\0 " % signed
    assert told(bytes(header)) == [("é.png", PNG)]
