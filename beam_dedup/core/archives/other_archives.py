"""Recognises files that may hold images in a form that is not read: other archives, and compressed images.

They are rejected as `unsupported`, so that a user can unpack or decompress them.
"""

import re

from beam_dedup.core.archives import zip_directory
from beam_dedup.core.archives.decompress import LZ4, compression_of, decompressed_head
from beam_dedup.core.imaging.formats import HEAD_BYTES, sniff

_SIGNATURES = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"MSCF\0\0\0\0": "a cabinet archive",
    b"xar!": "a xar archive",
    b"!<arch>\n": "an ar archive",
    b"filedesc://": "an ARC file of a crawl",
    LZ4: "a file compressed with lz4",
    b"LZIP\x01": "a file compressed with lzip",
    b"\x89LZO\x00\r\n\x1a\n": "a file compressed with lzop",
    b"\x1f\x9d": "a file compressed with compress (.Z)",
}
_BEGINNINGS = tuple(_SIGNATURES)
_CPIO = re.compile(rb"07070[127][0-9A-Fa-f]{70}")
_COMPRESSIONS = {"gz": "gzip", "bz2": "bzip2", "zst": "zstandard"}


def unsupported(head: bytes) -> str:
    """Returns the kind of a file that holds images in a form that is not read; "" for all other files.

    Args:
      head: the first `HEAD_BYTES` bytes of a file that is no archive (`containers.container_of`).

    >>> unsupported(b"Rar!\\x1a\\x07\\x01\\x00"), unsupported(b"GIF89a")
    ('a RAR archive', '')
    """
    if kind := _other_archive(head):
        return kind
    compression = compression_of(head)
    content = decompressed_head(head, compression, HEAD_BYTES) if compression else b""
    return unsupported_content(content, compression) if content else ""


def unsupported_content(content: bytes, compression: str) -> str:
    """Returns the same for a compressed file whose content is neither tar nor WARC.

    Args:
      content: its first bytes.
      compression: a key of `decompress.SIGNATURES`.
    """
    image = sniff(content)
    kind = f"a {image} image" if image else _other_archive(content)
    if content.startswith(zip_directory.SIGNATURES):
        kind = "a zip archive"
    elif not kind and compression_of(content):
        kind = "a compressed file"
    return f"{kind}, compressed with {_COMPRESSIONS.get(compression, compression)}" if kind else ""


def _other_archive(head: bytes) -> str:
    if head.startswith(_BEGINNINGS):
        return next(kind for signature, kind in _SIGNATURES.items() if head.startswith(signature))
    return "a cpio archive" if _CPIO.match(head) else ""
