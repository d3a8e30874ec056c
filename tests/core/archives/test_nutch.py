"""Nutch dumps: URL maps, and refused CBOR files, in the form in which its dumpers write them."""

import contextlib
import hashlib
import json
import struct
import tracemalloc
from pathlib import Path

import pytest

from beam_dedup.core.archives import nutch
from beam_dedup.core.archives.nutch import base_name, is_map, refusal, urls
from beam_dedup.core.errors import ImageError
from beam_dedup.core.imaging.formats import sniff
from beam_dedup.core.model import ImageRef, Reason, Rejection
from beam_dedup.core.reading.reader import read_images
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


def test_all_forms_of_json_texts_are_parsed() -> None:
    maps: list[dict[str, object]] = [
        {},
        {
            '/d/é"\\x.jpg': "http://e.org/😀?a=\u0001\n",
            "C:\\d\\b.jpg": "",
            "/d/null": None,
            "/d/1": -1.5e3,
            "/d/t": True,
        },
    ]
    for value in maps:
        wanted = {base_name(path): url for path, url in value.items() if isinstance(url, str)}
        for options in ({}, {"indent": 1}, {"ensure_ascii": False}):
            data = json.dumps(value, **options).encode()
            assert urls(data) == wanted
            assert urls(b"\xef\xbb\xbf \n" + data + b"\n") == wanted


@pytest.mark.parametrize(
    "data",
    [b'{"a": "b",}', b'{"a": "b"} x', b'{"a" "b"}', b'{"a": "b" "c": "d"}', b'{"a": ["b"]}', rb'{"a": "\u12"}', b"{,}", b'{"a": "\xff"}'],
)  # fmt: skip
def test_malformed_map_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^malformed: no URL map of Nutch: "):
        urls(data)


def test_map_of_too_many_urls_is_refused() -> None:
    data = json.dumps({f"/d/{number}.jpg": "http://x" for number in range(11)}).encode()
    assert len(urls(data, most_urls=11)) == 11
    with pytest.raises(ImageError, match=r"^too_large: a URL map of Nutch with more than 10 URLs"):
        urls(data, most_urls=10)


@pytest.mark.parametrize(
    "data",
    [
        b"{" + b",".join(b'"%06d":"a"' % number for number in range(500_000)) + b"}",
        b'{"a":"' + b"x" * (20 << 20) + b'","b":"c"}',
        b'{"a":"' + b"\\n" * (10 << 20) + b'","b":"c"}',
        b'{"a":"\xf0\x9f\x98\x80' + b"x" * (20 << 20) + b'","b":"c"}',
        b'{"a":"' + b"x" * (20 << 20),
    ],
    ids=["entries", "text", "escapes", "wide", "truncated"],
)
def test_memory_of_a_map_is_limited(data: bytes) -> None:
    tracemalloc.start()
    with contextlib.suppress(ImageError):
        urls(data, most_urls=100_000)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


def test_map_that_is_too_large_is_rejected_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nutch, "MAP_BYTES", 1000)
    name = "20240102_filenameToUrl.json"
    path = tmp_path / name
    too_large = "a URL map of Nutch of more than 1000 bytes, whose URLs are not used"
    for count, reason in ((10, Reason.NOT_AN_IMAGE), (100, Reason.TOO_LARGE)):
        path.write_text(json.dumps({f"/d/{number}.jpg": "http://x" for number in range(count)}))
        [found] = read_images(ImageRef(str(path), f"dump/{name}"), str(path), None, lambda _: None)
        assert isinstance(found, Rejection)
        assert found.reason == reason
        assert (found.detail == too_large) == (reason == Reason.TOO_LARGE)


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
