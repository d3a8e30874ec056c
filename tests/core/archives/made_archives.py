"""Makes archives for tests: tar and zip by the standard library, WARC records and HTTP responses by hand."""

import bz2
import gzip
import io
import lzma
import struct
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
    """Returns a tar of the given headers without contents, followed by one picture."""
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


def linked_tar(*entries: tuple[str, bytes | str], layout: int = tarfile.GNU_FORMAT) -> bytes:
    """Returns a tar of files (name and bytes) and hard links (name and target), in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=layout) as archive:
        for name, data in entries:
            if isinstance(data, bytes):
                archive.addfile(tar_info(name, data), io.BytesIO(data))
            else:
                archive.addfile(tar_info(name, type=tarfile.LNKTYPE, linkname=data, mtime=MODIFIED + 1))
    return out.getvalue()


class Unseekable(io.BytesIO):
    """A stream that cannot seek, like a pipe."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def streamed_zip(files: Mapping[str, bytes]) -> bytes:
    """Returns a zip written to a pipe: sizes and checksums follow the members, in data descriptors."""
    out = Unseekable()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
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
    """Returns a WARC record. The field `length` overrides the true length of the block."""
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
    """Returns an HTTP response."""
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
    """Applies the chunked transfer coding, with chunks of `size` bytes."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


INFO = record("", b"software: a test\r\n", "warcinfo", "application/warc-fields")


def warc(*records: bytes, compressed: bool = False) -> bytes:
    """Returns a WARC file; if compressed, each record is a gzip member of its own, as usual."""
    return b"".join(gzip.compress(one, 1) if compressed else one for one in (INFO, *records))


def skippable(data: bytes, number: int = 0) -> bytes:
    """Returns a skippable frame of zstandard or lz4."""
    return struct.pack("<LL", 0x184D2A50 + number, len(data)) + data


def with_dictionary(*records: bytes, compress: bool = False) -> bytes:
    """Returns a WARC file of one zstandard frame per record, with a dictionary in front."""
    samples: list[bytes | bytearray | memoryview] = [
        bytes([number]) + one[:700] for number in range(256) for one in records
    ]
    dictionary = zstandard.train_dictionary(4096, samples)
    compressor = zstandard.ZstdCompressor(dict_data=dictionary)
    stored = dictionary.as_bytes()
    front = skippable(zstandard.compress(stored) if compress else stored, 13)
    return front + b"".join(map(compressor.compress, records))


def items(
    data: bytes, limits: Limits | None = None, container: Container | None = None
) -> list[Member | BadMember | Skipped]:
    """Returns all items of an archive; its kind is recognised unless it is given."""
    found = container or container_of(data[:4096])
    assert found is not None, "no archive"
    return list(members(io.BytesIO(data), found, limits))


def names_of(found: Iterable[Member | BadMember | Skipped]) -> list[str]:
    """Returns the names of members, good and bad."""
    names = []
    for item in found:
        assert not isinstance(item, Skipped)
        names.append(item.name)
    return names


def times_of(found: Iterable[Member | BadMember | Skipped]) -> list[int]:
    """Returns the modification times of good members, in milliseconds since the epoch."""
    times = []
    for item in found:
        assert isinstance(item, Member)
        times.append(item.modified_ms)
    return times


def summary(data: bytes, limits: Limits | None = None) -> list[tuple[str, bytes | str]]:
    """Returns each item of an archive as its name and its bytes, or its reason."""
    return [
        ("", f"{item.count} skipped")
        if isinstance(item, Skipped)
        else (item.name, item.data if isinstance(item, Member) else str(item.reason))
        for item in items(data, limits)
    ]
