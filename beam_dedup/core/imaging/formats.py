"""Recognises the image format of a file by its first bytes, and lists the formats that are decoded.

Images of the other recognised formats are compared by their digests only. The name of a file is never used:
crawls are full of images without an extension, or with a wrong one.
"""

import re

# The formats that Pillow may open. The others are closed on purpose: EPS would run Ghostscript, and security
# holes are found in rarely used decoders.
DECODED_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "ICO", "PPM", "JPEG2000")

# Raw pictures that begin as a TIFF does; only their tags tell them from one. RAW stands for those of other cameras.
RAW = "RAW"
RAW_MAKERS = {"NIKON": "NEF", "SONY": "ARW", "PENTAX": "PEF", "SAMSUNG": "SRW"}

NEW_SUBFILE_TYPE = 254  # tag of a TIFF directory: whether it is a reduced picture, a page or a mask

HEIF = "HEIF"  # also decoded, if its library is installed

HEAD_BYTES = 4096  # enough for every signature below, and for the comments before an <svg> tag

ICON_SIGNATURE = b"\x00\x00\x01\x00"

# (offset, signature, format); the first match decides.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (8, b"WEBPVP8", "WEBP"),
    (0, b"II*\x00\x10\x00\x00\x00CR", "CR2"),
    (0, b"IIU\x00", "RW2"),
    (0, b"IIRO", "ORF"),
    (0, b"MMOR", "ORF"),
    (0, b"II*\x00", "TIFF"),
    (0, b"MM\x00*", "TIFF"),
    (0, b"II+\x00", "TIFF"),
    (0, b"MM\x00+", "TIFF"),
    (0, b"FUJIFILMCCD-RAW", "RAF"),
    (0, ICON_SIGNATURE, "ICO"),
    (0, b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"\xff\x0a", "JXL"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JXL"),
    (0, b"8BPS", "PSD"),
    (0, b"%!PS-Adobe", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"%PDF-", "PDF"),
)

# An ISO media file has its main brand after `ftyp`, then its compatible brands.
_BRANDS: dict[bytes, str] = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIF",
    b"heix": "HEIF",
    b"hevc": "HEIF",
    b"heim": "HEIF",
    b"heis": "HEIF",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"crx ": "CR3",
}

NAMES = tuple(
    sorted(
        {name for *_, name in _SIGNATURES}
        | {*_BRANDS.values(), *RAW_MAKERS.values(), RAW, "DNG", *DECODED_FORMATS, "WEBP", "BMP", "PPM", "SVG"}
    )
)

_BMP_HEADER_SIZES = tuple(size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124))
_NETPBM = re.compile(rb"P[1-6]\s+(#|\d)")
# A declaration, comments and a document type may come before the root element. An HTML page may also
# contain an <svg> tag, so nothing else may come before the tag. The groups are atomic, i.e. the matcher
# does not backtrack into them: otherwise a page of comments would take years.
_SVG = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?>(?:<\?xml[^>]*>\s*|(?><!--.*?-->)\s*|<!DOCTYPE\s+svg[^>\[]*(?:\[.*?\])?[^>]*>\s*)*)<(?:\w+:)?svg[\s>]",
    re.DOTALL | re.IGNORECASE,
)


def sniff(head: bytes) -> str | None:
    """Returns the image format of a file from its first `HEAD_BYTES` bytes; None if it is not a known one.

    >>> sniff(b"GIF89a..."), sniff(b"<?xml version='1.0'?><svg width='1'/>"), sniff(b"<html><svg></svg>")
    ('GIF', 'SVG', None)
    """
    for offset, signature, name in _SIGNATURES:
        if head.startswith(signature, offset):
            return name
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4], "big"), len(head))
        brands = [head[8:12]] + [head[i : i + 4] for i in range(16, length - 3, 4)]
        # `mif1` alone means only "some still picture", so the brand of a codec beside it decides.
        named = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        return "AVIF" if "AVIF" in named else named[0] if named else None
    # Bytes 6 to 9 are reserved, but some programs write their name there. Then the size of the next header
    # shows that it is a BMP.
    if head.startswith(b"BM") and (head[6:10] == bytes(4) or head[14:18] in _BMP_HEADER_SIZES):
        return "BMP"
    if _NETPBM.match(head):
        return "PPM"
    if _SVG.match(head):
        return "SVG"
    return None
