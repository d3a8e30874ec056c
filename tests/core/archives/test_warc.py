"""WARC: which records are images, what they are called, and what damage costs."""

import gzip
import zlib

import pytest
import zstandard

from beam_dedup.core.archives.members import BadMember, Member, Skipped
from beam_dedup.core.archives.warc import name_of
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason
from tests.core.archives.made_archives import GIF, JPEG, PNG, chunked, items, record, response, told, warc

URL = "http://example.com/a/b.png"
ID = "<urn:uuid:12345678-1234-1234-1234-1234567890ab>"
METADATA = {"url": URL, "date": "2024-01-02T03:04:05Z", "record_id": ID, "content_type": "image/png"}
PAGE = record("http://example.com/", response(b"<html>" * 1000, "text/html; charset=utf-8"))
both = pytest.mark.parametrize("packed", [False, True])


@both
def test_an_image_and_what_is_known_of_it(packed: bool) -> None:
    data = warc(PAGE, record(URL, response(PNG)), PAGE, packed=packed)
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
        # Undone by the crawler, with the header left there.
        (PNG, {"Transfer_Encoding": "chunked"}),
        (PNG, {"Content_Encoding": "gzip"}),
        (PNG, {"Content_Encoding": "br"}),
        (PNG, {"Content_Encoding": "identity"}),
        (PNG, {"content_type": "text/html"}),
        (PNG, {"content_type": "application/octet-stream"}),
    ],
)
def test_codings_of_transport(body: bytes, fields: dict[str, str]) -> None:
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
def test_a_body_that_ends_too_early_is_marked(body: bytes, fields: dict[str, str]) -> None:
    [one] = items(warc(record(URL, response(body, **fields))))
    assert isinstance(one, Member)
    assert one.metadata["truncated"] == "http"
    assert PNG.startswith(one.data[:500])


def test_the_mark_of_the_crawler_is_kept() -> None:
    [one] = items(warc(record(URL, response(PNG[:500]), WARC_Truncated="length")))
    assert isinstance(one, Member)
    assert one.metadata == {**METADATA, "truncated": "length"}


def test_what_is_an_image_and_what_is_not() -> None:
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
    assert told(data) == [
        ("e.org/claims", b"<html>not found"),
        ("e.org/is", JPEG),
        ("e.org/resource.gif", GIF),
        ("e.org/converted", PNG),
        ("e.org/nothing", b""),
        ("e.org/no-header", JPEG),
        ("", "3 skipped"),
    ]
    assert [one.metadata.get("status") for one in items(data) if isinstance(one, Member)][:2] == [None, 404]


def test_what_can_not_be_undone_is_told() -> None:
    assert told(warc(record(URL, response(b"\x8b\x02\x80", "image/svg+xml", Content_Encoding="br")))) == [
        ("example.com/a/b.png", "unsupported")
    ]
    assert told(warc(record(URL, response(PNG), WARC_Segment_Number="1"))) == [
        ("example.com/a/b.png", "unsupported")
    ]


def test_names() -> None:
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
    found = [one.name for one in items(warc(*(record(url, response(PNG)) for url in urls)))]  # type: ignore[union-attr]
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
def test_no_name_is_empty_or_begins_at_the_root(url: str) -> None:
    assert not name_of(url).startswith("/")
    assert name_of(url)
    assert "u:p" not in name_of(url)


class TestDamage:
    RECORDS = tuple(record(f"http://e.org/{number}.png", response(PNG)) for number in range(5))

    @both
    def test_a_file_that_is_cut_short(self, packed: bool) -> None:
        data = warc(*self.RECORDS, packed=packed)[:-1500]
        *sound, cut, whole = items(data)
        assert [one.name for one in sound] == [f"e.org/{number}.png" for number in range(4)]  # type: ignore[union-attr]
        assert isinstance(cut, BadMember)
        assert isinstance(whole, BadMember)
        assert (cut.name, cut.reason, whole.name, whole.reason) == (
            "e.org/4.png",
            Reason.DAMAGED,
            "",
            Reason.DAMAGED,
        )
        assert "cut short" in whole.detail

    @both
    def test_a_page_that_is_cut_short_is_told_as_well(self, packed: bool) -> None:
        data = warc(*self.RECORDS[:2], PAGE, packed=packed)[: -30 if packed else -3000]
        assert [one[1] for one in told(data)] == [PNG, PNG, "1 skipped", "damaged"]

    def test_a_damaged_record_does_not_cost_the_next(self) -> None:
        packed = [gzip.compress(one, 1) for one in self.RECORDS]
        for at in (20, 500, len(packed[1]) - 6):
            bad = bytearray(packed[1])
            bad[at] ^= 0xFF
            found = told(b"".join([packed[0], bytes(bad), *packed[2:]]))
            sound = [name for name, content in found if content == PNG]
            assert sound[0] == "e.org/0.png"
            assert sound[-2:] == ["e.org/3.png", "e.org/4.png"]
            assert ("", "damaged") in found

    def test_what_only_looks_like_the_next_record_is_passed_over(self) -> None:
        packed = [gzip.compress(one, 1) for one in self.RECORDS]
        fakes = b"\x1f\x8b\x08\x00no gzip" + gzip.compress(b"no record") * 2
        found = told(packed[0] + packed[1][:300] + b"\xff" * 300 + fakes + b"".join(packed[2:]))
        assert [name for name, content in found if content == PNG] == [
            "e.org/0.png",
            "e.org/2.png",
            "e.org/3.png",
            "e.org/4.png",
        ]

    @both
    def test_rubbish_between_records(self, packed: bool) -> None:
        rubbish = b"no record at all\r\n" * 30 + b"\r\n"
        data = warc(self.RECORDS[0], rubbish, self.RECORDS[1], packed=packed)
        assert [one[1] for one in told(data)] == [PNG, PNG, "damaged"]

    @pytest.mark.parametrize("length", [0, 100, 3500, 1 << 40, "x", -5])
    @both
    def test_a_length_that_is_wrong(self, length: object, packed: bool) -> None:
        data = warc(
            self.RECORDS[0], record(URL, response(PNG), length=length), *self.RECORDS[2:], packed=packed
        )
        found = told(data)
        assert found[0] == ("e.org/0.png", PNG)
        assert "damaged" in [one[1] for one in found]
        assert all(
            content in (PNG, "damaged", "1 skipped") or name == "example.com/a/b.png"
            for name, content in found
        )

    def test_headers_without_end(self) -> None:
        data = warc(self.RECORDS[0], record(URL, response(PNG), X="y" * (2 << 20)), self.RECORDS[1])
        found = told(data)
        assert found[0] == ("e.org/0.png", PNG)
        assert "damaged" in [one[1] for one in found]
        data = warc(record(URL, b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 50_000), self.RECORDS[1])
        assert told(data) == [("e.org/1.png", PNG), ("", "1 skipped")]


def test_limits() -> None:
    records = [record(f"http://e.org/{number}.png", response(PNG)) for number in range(3)]
    assert told(warc(*records), Limits(max_members=2))[-1] == ("", "too_large")
    assert {one[1] for one in told(warc(*records), Limits(max_member_bytes=len(PNG) - 1))} == {"too_large"}
    bomb = record(URL, response(gzip.compress(JPEG + bytes(1 << 26)), Content_Encoding="gzip"))
    assert told(warc(bomb, *records), Limits(free_bytes=1 << 20, max_ratio=100)) == [
        ("example.com/a/b.png", "too_large"),
        *((f"e.org/{number}.png", PNG) for number in range(3)),
    ]
    large = record(URL, response(JPEG + bytes(1 << 26)))
    assert told(warc(large, packed=True), Limits(free_bytes=1 << 20, max_ratio=100))[-1] == ("", "too_large")
