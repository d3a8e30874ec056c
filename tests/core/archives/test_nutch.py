"""Nutch dumps: URL maps, and refused CBOR files, in the form in which its dumpers write them."""

import hashlib
import json
import struct

import pytest

from beam_dedup.core.archives.nutch import is_map, refusal, urls
from beam_dedup.core.errors import ImageError
from beam_dedup.core.imaging.formats import sniff
from tests.core.archives.made_archives import GIF, JPEG, PNG, tar, warc, zipped


def dumped_name(url: str, base: str, extension: str) -> str:
    return f"{hashlib.md5(url.encode()).hexdigest()}_{base[:32]}.{extension[:5]}"


def cbor_text(text: str, tag: bool = True) -> bytes:
    """Encodes a text in CBOR like the Jackson library of Nutch."""
    data = text.encode()
    size = len(data)
    head = (
        bytes([0x60 + size])
        if size < 24
        else b"\x78" + bytes([size])
        if size < 256
        else b"\x79" + struct.pack(">H", size)
        if size < 65536
        else b"\x7a" + struct.pack(">L", size)
    )
    return (b"\xd9\xd9\xf7" if tag else b"") + head + data


def cbor_text_in_parts(text: str, size: int) -> bytes:
    """Encodes a text in CBOR in parts of `size` bytes, without a length of the whole."""
    data = text.encode()
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return (
        b"\xd9\xd9\xf7\x7f"
        + b"".join(b"\x79" + struct.pack(">H", len(part)) + part for part in parts)
        + b"\xff"
    )


URLS = ["http://e.org/a.jpg", "http://e.org/picture", "http://e.org/é/b.png?w=1", "http://e.org/"]


@pytest.mark.parametrize("directory", ["/home/crawl/dump/a1/b2/", "/dump/", "C:\\dump\\a1\\"])
def test_urls_are_found_by_base_name_wherever_the_dump_is(directory: str) -> None:
    names = [dumped_name(url, "base", "html") for url in URLS]
    data = json.dumps(dict(zip([directory + name for name in names], URLS, strict=True))).encode()
    assert urls(data) == dict(zip(names, URLS, strict=True))


def test_urls_are_found_with_reversed_url_directories() -> None:
    name = hashlib.sha256(URLS[0].encode()).hexdigest().upper()
    assert urls(json.dumps({f"/dump/org/e/{name}": URLS[0]}).encode()) == {name: URLS[0]}


def test_url_whose_hash_is_in_the_name_wins() -> None:
    name = dumped_name(URLS[0], "a", "jpg")
    for paths in (
        {f"/x/{name}": "http://wrong", f"/y/{name}": URLS[0]},
        {f"/y/{name}": URLS[0], f"/x/{name}": "http://wrong"},
    ):
        assert urls(json.dumps(paths).encode()) == {name: URLS[0]}


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, JPEG, b'{"a": 1'],
    ids=lambda data: repr(data[:9]),
)
def test_other_data_is_refused_as_a_map(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^malformed: no URL map of Nutch: "):
        urls(data)


def test_malformed_entries_are_left_out() -> None:
    assert urls(b'{"/d/a.jpg": 1, "/d/": "http://x", "/d/b.jpg": "http://b", "c": null}') == {
        "b.jpg": "http://b"
    }


def test_maps_are_recognised_by_name() -> None:
    assert is_map("20150101_filenameToUrl.json")
    assert not is_map("_filenameToUrl.json")
    assert not is_map("x_filenameToUrl.json.bak")
    assert not is_map("filenametourl.json")


@pytest.mark.parametrize("size", [10, 100, 1000, 70_000])
@pytest.mark.parametrize("tag", [True, False])
@pytest.mark.parametrize("begin", ['{"url":', '{\n  "url" : '])
def test_cbor_is_refused(size: int, tag: bool, begin: str) -> None:
    text = begin + '"http://e.org","response":{"body":"' + "\ufffd" * size + '"}}'
    for data in (cbor_text(text, tag), cbor_text_in_parts(text, 1000)):
        assert "destroys the bytes of images" in refusal(data[:100])


def test_cbor_map_is_refused_too() -> None:
    assert refusal(b"\xd9\xd9\xf7\xa2\x63url\x6chttp://e.org\x68response\x60")
    assert refusal(b"\xbf\x63url\x6chttp://e.org")


@pytest.mark.parametrize(
    "data",
    [
        JPEG,
        PNG,
        GIF,
        b"",
        b"x",
        b'{"url": "http://e.org"}',
        tar({}),
        zipped({}),
        warc(),
        b"\xd9\xd9\xf7",
        b"`" * 50,
    ],
    ids=lambda data: repr(data[:9]),
)
def test_other_files_are_not_refused(data: bytes) -> None:
    assert refusal(data[:100]) == ""


def test_cbor_is_not_recognised_as_an_image() -> None:
    assert sniff(cbor_text('{"url":"x"}')) is None
