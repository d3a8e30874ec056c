"""WARC: which records are images, their names, and which records are lost by damage."""

import gzip
import zlib

import pytest
import zstandard

from beam_dedup.core.archives.members import BadMember, Member, Skipped
from beam_dedup.core.archives.warc import name_of
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason
from tests.core.archives.made_archives import (
    GIF,
    JPEG,
    PNG,
    chunked,
    items,
    names_of,
    record,
    response,
    summary,
    warc,
)

URL = "http://example.com/a/b.png"
ID = "<urn:uuid:12345678-1234-1234-1234-1234567890ab>"
METADATA = {"url": URL, "date": "2024-01-02T03:04:05Z", "record_id": ID, "content_type": "image/png"}
PAGE = record("http://example.com/", response(b"<html>" * 1000, "text/html; charset=utf-8"))
both = pytest.mark.parametrize("compressed", [False, True])


@both
def test_image_has_the_metadata_of_its_record(compressed: bool) -> None:
    data = warc(PAGE, record(URL, response(PNG)), PAGE, compressed=compressed)
    assert items(data) == [Member("example.com/a/b.png", PNG, 1_704_164_645_000, METADATA), Skipped(2)]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (PNG, {}),
        (chunked(PNG), {"Transfer_Encoding": "chunked"}),
        (chunked(PNG, 1), {"Transfer_Encoding": "Chunked"}),
        (b"%x;ext=1 \r\n%s\r\n0000\r\n\r\n" % (len(PNG), PNG), {"Transfer_Encoding": "chunked"}),
        (gzip.compress(PNG), {"Content_Encoding": "gzip"}),
        (gzip.compress(PNG), {"Content_Encoding": "x-gzip"}),
        (zlib.compress(PNG), {"Content_Encoding": "deflate"}),
        (zstandard.ZstdCompressor().compress(PNG), {"Content_Encoding": "zstd"}),
        (chunked(gzip.compress(PNG)), {"Content_Encoding": "gzip", "Transfer_Encoding": "chunked"}),
        (gzip.compress(gzip.compress(PNG)), {"Content_Encoding": "gzip, gzip"}),
        # The crawler removed the coding, but kept the header field.
        (PNG, {"Transfer_Encoding": "chunked"}),
        (PNG, {"Content_Encoding": "gzip"}),
        (PNG, {"Content_Encoding": "br"}),
        (PNG, {"Content_Encoding": "identity"}),
        (PNG, {"content_type": "text/html"}),
        (PNG, {"content_type": "application/octet-stream"}),
    ],
)
def test_transfer_and_content_codings_are_removed(body: bytes, fields: dict[str, str]) -> None:
    [one] = items(warc(record(URL, response(body, **fields))))
    assert isinstance(one, Member)
    assert one.data == PNG
    assert "truncated" not in one.metadata


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (chunked(PNG)[:1000], {"Transfer_Encoding": "chunked"}),
        (chunked(PNG)[:1000] + b"\r\nzz\r\n", {"Transfer_Encoding": "chunked"}),
        (gzip.compress(PNG)[:2000], {"Content_Encoding": "gzip"}),
        (gzip.compress(PNG)[:2000] + b"\xff" * 100, {"Content_Encoding": "gzip"}),
        (chunked(gzip.compress(PNG))[:2000], {"Content_Encoding": "gzip", "Transfer_Encoding": "chunked"}),
    ],
)
def test_body_that_ends_too_early_is_marked_truncated(body: bytes, fields: dict[str, str]) -> None:
    [one] = items(warc(record(URL, response(body, **fields))))
    assert isinstance(one, Member)
    assert one.metadata["truncated"] == "http"
    assert PNG.startswith(one.data[:500])


def test_warc_truncated_of_the_crawler_is_kept() -> None:
    [one] = items(warc(record(URL, response(PNG[:500]), WARC_Truncated="length")))
    assert isinstance(one, Member)
    assert one.metadata == {**METADATA, "truncated": "length"}


def test_records_that_are_images_are_returned_and_others_counted() -> None:
    data = warc(
        record("http://e.org/claims", response(b"<html>not found", "image/jpeg")),
        record("http://e.org/is", response(JPEG, "text/plain", status="404 Not Found")),
        record("http://e.org/resource.gif", GIF, "resource", "image/gif"),
        record("http://e.org/converted", PNG, "conversion", "application/octet-stream"),
        record("http://e.org/moved", response(b"", "image/png", status="301 Moved")),
        record("http://e.org/nothing", response(b"", "image/png")),
        record("http://e.org/again", response(b""), "revisit"),
        record("http://e.org/request", b"GET / HTTP/1.1\r\n\r\n", "request"),
        record("http://e.org/about", b"x: y\r\n", "metadata", "application/warc-fields"),
        record("http://e.org/no-header", JPEG),
        PAGE,
    )
    assert summary(data) == [
        ("e.org/claims", b"<html>not found"),
        ("e.org/is", JPEG),
        ("e.org/resource.gif", GIF),
        ("e.org/converted", PNG),
        ("e.org/nothing", b""),
        ("e.org/no-header", JPEG),
        ("", "3 skipped"),
    ]
    assert [one.metadata.get("status") for one in items(data) if isinstance(one, Member)][:2] == [None, 404]


def test_unsupported_coding_and_segmented_record_are_unsupported() -> None:
    assert summary(warc(record(URL, response(b"\x8b\x02\x80", "image/svg+xml", Content_Encoding="br")))) == [
        ("example.com/a/b.png", "unsupported")
    ]
    assert summary(warc(record(URL, response(PNG), WARC_Segment_Number="1"))) == [
        ("example.com/a/b.png", "unsupported")
    ]


def test_names_are_made_of_urls_and_are_unique() -> None:
    urls = [
        URL,
        URL,
        f"{URL}?w=1",
        f"{URL}?w=2",
        "https://example.com/a/b.png",
        "http://example.com/",
        "",
        "::[",
    ]
    found = names_of(items(warc(*(record(url, response(PNG)) for url in urls))))
    assert found[0] == "example.com/a/b.png"
    assert found[1] == "example.com/a/b#2.png"
    assert found[2] != found[3]
    assert found[2].startswith("example.com/a/b~")
    assert all(name.endswith(".png") for name in found[:5])
    assert found[4] == "example.com/a/b#3.png"
    assert found[5] == "example.com/index"
    assert len(set(found)) == len(urls)


@pytest.mark.parametrize(
    "url", ["http://e.org/../../x", "http://u:p@e.org/x", "http://e.org//etc/passwd", "file:///x"]
)
def test_name_is_relative_not_empty_and_without_password(url: str) -> None:
    assert not name_of(url).startswith("/")
    assert name_of(url)
    assert "u:p" not in name_of(url)


class TestDamage:
    RECORDS = tuple(record(f"http://e.org/{number}.png", response(PNG)) for number in range(5))

    @both
    def test_truncated_image_and_file_are_damaged(self, compressed: bool) -> None:
        data = warc(*self.RECORDS, compressed=compressed)[:-1500]
        *intact, image, whole = items(data)
        assert names_of(intact) == [f"e.org/{number}.png" for number in range(4)]
        assert isinstance(image, BadMember)
        assert isinstance(whole, BadMember)
        assert (image.name, image.reason, whole.name, whole.reason) == (
            "e.org/4.png",
            Reason.DAMAGED,
            "",
            Reason.DAMAGED,
        )
        assert "truncated" in whole.detail

    @both
    def test_file_truncated_in_a_page_is_damaged(self, compressed: bool) -> None:
        data = warc(*self.RECORDS[:2], PAGE, compressed=compressed)[: -30 if compressed else -3000]
        assert [one[1] for one in summary(data)] == [PNG, PNG, "1 skipped", "damaged"]

    def test_records_after_a_damaged_one_are_read(self) -> None:
        compressed = [gzip.compress(one, 1) for one in self.RECORDS]
        for at in (20, 500, len(compressed[1]) - 6):
            bad = bytearray(compressed[1])
            bad[at] ^= 0xFF
            found = summary(b"".join([compressed[0], bytes(bad), *compressed[2:]]))
            intact = [name for name, content in found if content == PNG]
            assert intact[0] == "e.org/0.png"
            assert intact[-2:] == ["e.org/3.png", "e.org/4.png"]
            assert ("", "damaged") in found

    def test_gzip_that_holds_no_record_is_skipped_after_damage(self) -> None:
        compressed = [gzip.compress(one, 1) for one in self.RECORDS]
        fakes = b"\x1f\x8b\x08\x00no gzip" + gzip.compress(b"no record") * 2
        found = summary(
            compressed[0] + compressed[1][:300] + b"\xff" * 300 + fakes + b"".join(compressed[2:])
        )
        assert [name for name, content in found if content == PNG] == [
            "e.org/0.png",
            "e.org/2.png",
            "e.org/3.png",
            "e.org/4.png",
        ]

    @both
    def test_rubbish_between_records_is_reported(self, compressed: bool) -> None:
        rubbish = b"no record at all\r\n" * 30 + b"\r\n"
        data = warc(self.RECORDS[0], rubbish, self.RECORDS[1], compressed=compressed)
        assert [one[1] for one in summary(data)] == [PNG, PNG, "damaged"]

    @pytest.mark.parametrize("length", [0, 100, 3500, 1 << 40, "x", -5])
    @both
    def test_wrong_length_affects_only_its_record(self, length: object, compressed: bool) -> None:
        data = warc(
            self.RECORDS[0],
            record(URL, response(PNG), length=length),
            *self.RECORDS[2:],
            compressed=compressed,
        )
        found = summary(data)
        assert found[0] == ("e.org/0.png", PNG)
        assert "damaged" in [one[1] for one in found]
        assert all(
            content in (PNG, "damaged", "1 skipped") or name == "example.com/a/b.png"
            for name, content in found
        )

    def test_endless_headers_do_not_stop_reading(self) -> None:
        data = warc(self.RECORDS[0], record(URL, response(PNG), X="y" * (2 << 20)), self.RECORDS[1])
        found = summary(data)
        assert found[0] == ("e.org/0.png", PNG)
        assert "damaged" in [one[1] for one in found]
        data = warc(record(URL, b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000), self.RECORDS[1])
        assert summary(data) == [("e.org/1.png", PNG), ("", "1 skipped")]


def test_limits_apply_to_members_and_decompressed_bytes() -> None:
    records = [record(f"http://e.org/{number}.png", response(PNG)) for number in range(3)]
    assert summary(warc(*records), Limits(max_members=2))[-1] == ("", "too_large")
    assert {one[1] for one in summary(warc(*records), Limits(max_member_bytes=len(PNG) - 1))} == {"too_large"}
    bomb = record(URL, response(gzip.compress(JPEG + bytes(1 << 26)), Content_Encoding="gzip"))
    assert summary(warc(bomb, *records), Limits(free_bytes=1 << 20, max_ratio=100)) == [
        ("example.com/a/b.png", "too_large"),
        *((f"e.org/{number}.png", PNG) for number in range(3)),
    ]
    large = record(URL, response(JPEG + bytes(1 << 26)))
    assert summary(warc(large, compressed=True), Limits(free_bytes=1 << 20, max_ratio=100))[-1] == (
        "",
        "too_large",
    )
