"""Archives made by code, for tests: ordinary ones by the standard library, and the parts of WARC by hand."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import zstandard

from beam_dedup.core.archives.containers import Container, container_of, members
from beam_dedup.core.archives.members import BadMember, Member, Skipped
from beam_dedup.core.limits import Limits
from tests.pictures import encoded, photo

PNG = encoded(photo(1, (40, 30)))
JPEG = encoded(photo(2, (40, 30)), "JPEG")
GIF = encoded(photo(3, (40, 30)), "GIF")
FILES = {"a.png": PNG, "b/c.jpg": JPEG, "b/d.gif": GIF, "b/e.txt": b"no image", "empty.jpg": b""}
MODIFIED = 1_700_000_000  # seconds


def tar(files: Mapping[str, bytes] | Iterable[tuple[str, bytes]], **options: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **options) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            archive.addfile(tar_info(name, data), io.BytesIO(data))
    return out.getvalue()


def tar_info(name: str, data: bytes = b"", **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), MODIFIED
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def special_tar(*infos: tarfile.TarInfo) -> bytes:
    """A tar of headers without bytes, and one picture after them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info in infos:
            archive.addfile(info)
        archive.addfile(tar_info("a.png", PNG), io.BytesIO(PNG))
    return out.getvalue()


def zipped(
    files: Mapping[str, bytes] | Iterable[tuple[str, bytes]],
    method: int = zipfile.ZIP_DEFLATED,
    **options: Any,
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, **options) as archive:
        for name, data in files.items() if isinstance(files, Mapping) else files:
            archive.writestr(zipfile.ZipInfo(name, (2023, 11, 14, 22, 13, 20)), data, method)
    return out.getvalue()


class Unseekable(io.BytesIO):
    """As a pipe is written to: zip then puts sizes behind the members."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def streamed_zip(files: Mapping[str, bytes]) -> bytes:
    out = Unseekable()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "gz": lambda data: gzip.compress(data, 1),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def record(
    url: str,
    block: bytes,
    kind: str = "response",
    content_type: str = "application/http; msgtype=response",
    **fields: Any,
) -> bytes:
    """A WARC record; `length` among the fields is a lie about the block's."""
    length = fields.pop("length", len(block))
    lines = {
        "WARC-Type": kind,
        "WARC-Target-URI": url,
        "WARC-Date": "2024-01-02T03:04:05Z",
        "WARC-Record-ID": "<urn:uuid:12345678-1234-1234-1234-1234567890ab>",
        "Content-Type": content_type,
        **{name.replace("_", "-"): value for name, value in fields.items()},
        "Content-Length": length,
    }
    header = "WARC/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n"
    return header.encode() + block + b"\r\n\r\n"


def response(body: bytes, content_type: str = "image/png", status: str = "200 OK", **fields: str) -> bytes:
    """An HTTP response."""
    lines = {
        "Content-Type": content_type,
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    return (
        f"HTTP/1.1 {status}\r\n".encode()
        + b"".join(f"{name}: {value}\r\n".encode() for name, value in lines.items())
        + b"\r\n"
        + body
    )


def chunked(data: bytes, size: int = 100) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


INFO = record("", b"software: a test\r\n", "warcinfo", "application/warc-fields")


def warc(*records: bytes, packed: bool = False) -> bytes:
    """A WARC file of records; packed as is usual, each by itself."""
    return b"".join(gzip.compress(one, 1) if packed else one for one in (INFO, *records))


def items(
    data: bytes, limits: Limits | None = None, container: Container | None = None
) -> list[Member | BadMember | Skipped]:
    found = container or container_of(data[:4096])
    assert found is not None, "no archive"
    return list(members(io.BytesIO(data), found, limits))


def told(data: bytes, limits: Limits | None = None) -> list[tuple[str, bytes | str]]:
    """What comes out, in short: names, and bytes or reasons."""
    return [
        ("", f"{item.count} skipped")
        if isinstance(item, Skipped)
        else (item.name, item.data if isinstance(item, Member) else str(item.reason))
        for item in items(data, limits)
    ]
