"""Recognises what a file is that is no image, by its first bytes, so that a run can say what it has rejected."""

import codecs
import enum

from beam_dedup.core.imaging.formats import HEAD_BYTES


class Kind(enum.StrEnum):
    """What files are, as a noun for one of them."""

    VIDEO = "video"
    AUDIO = "audio file"
    DATA = "data file"
    ARCHIVE = "archive"
    TEXT = "text file"
    PROGRAM = "program"
    DOCUMENT = "document"


# The names that `format_of` returns, and what each is.
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("MP4", "QuickTime", "3GP", "Matroska", "AVI", "MPEG", "FLV", "ASF"), Kind.VIDEO),
    **dict.fromkeys(("MP3", "M4A", "WAV", "Ogg", "FLAC", "MIDI"), Kind.AUDIO),
    **dict.fromkeys(
        ("Parquet", "Avro", "Arrow", "Feather", "ORC", "SQLite", "HDF5", "NumPy", "FITS"), Kind.DATA
    ),
    **dict.fromkeys(("7-Zip", "RAR", "ZIP", "GZIP", "BZIP2", "XZ", "ZSTD", "CAB", "Unix"), Kind.ARCHIVE),
    **dict.fromkeys(("JSON", "XML", "XMP", "HTML", "plain"), Kind.TEXT),
    **dict.fromkeys(("ELF", "Windows"), Kind.PROGRAM),
    **dict.fromkeys(("Office", "RTF"), Kind.DOCUMENT),
}

# (offset, signature, name); the first match decides.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1aE\xdf\xa3", "Matroska"),
    (8, b"AVI ", "AVI"),
    (8, b"WAVE", "WAV"),
    (0, b"\x00\x00\x01\xba", "MPEG"),
    (0, b"\x00\x00\x01\xb3", "MPEG"),
    (0, b"FLV\x01", "FLV"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "ASF"),
    (4, b"moov", "QuickTime"),
    (4, b"mdat", "QuickTime"),
    (4, b"wide", "QuickTime"),
    (0, b"ID3", "MP3"),
    (0, b"\xff\xfb", "MP3"),
    (0, b"\xff\xf3", "MP3"),
    (0, b"OggS", "Ogg"),
    (0, b"fLaC", "FLAC"),
    (0, b"MThd", "MIDI"),
    (0, b"PAR1", "Parquet"),
    (0, b"Obj\x01", "Avro"),
    (0, b"ARROW1", "Arrow"),
    (0, b"FEA1", "Feather"),
    (0, b"ORC", "ORC"),
    (0, b"SQLite format 3\x00", "SQLite"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (0, b"Rar!\x1a\x07", "RAR"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"PK\x05\x06", "ZIP"),
    (0, b"\x1f\x8b", "GZIP"),
    (0, b"BZh", "BZIP2"),
    (0, b"\xfd7zXZ\x00", "XZ"),
    (0, b"\x28\xb5\x2f\xfd", "ZSTD"),
    (0, b"MSCF", "CAB"),
    (0, b"!<arch>\n", "Unix"),
    (0, b"\x7fELF", "ELF"),
    (0, b"MZ", "Windows"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office"),
    (0, b"{\\rtf", "RTF"),
)
_BRANDS = {b"qt  ": "QuickTime", b"M4A ": "M4A", b"M4B ": "M4A"}  # of ISO media files; others are MP4
_CONTROL = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1b")


def format_of(head: bytes) -> str:
    """Returns the name of a file format that is no image format, from the first bytes of a file; "" if it is unknown.

    >>> (
    ...     format_of(b"\\x00\\x00\\x00\\x18ftypmp42"),
    ...     format_of(b"PAR1..."),
    ...     format_of(b"{"),
    ...     format_of(b"\\x00\\xff"),
    ... )
    ('MP4', 'Parquet', 'JSON', '')
    """
    for offset, signature, name in _SIGNATURES:
        if head.startswith(signature, offset):
            return name
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "3GP" if brand.startswith(b"3g") else _BRANDS.get(brand, "MP4")
    return _text_format(head)


def _text_format(head: bytes) -> str:
    """Returns the name of a text format; "" if the bytes are no text in UTF-8."""
    if _CONTROL.intersection(head):
        return ""
    is_whole = len(head) < HEAD_BYTES  # otherwise the last letter may be cut
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head, final=is_whole)
    except UnicodeDecodeError:
        return ""
    text = text.lstrip().lower()
    if "<x:xmpmeta" in text or text.startswith("<?xpacket"):
        return "XMP"
    if text.startswith(("<!doctype html", "<html")):
        return "HTML"
    if text.startswith("<"):
        return "HTML" if "<html" in text else "XML"
    return "JSON" if text.startswith(("{", "[")) else "plain"


def phrase(name: str, count: int) -> str:
    """Returns what so many files of a format are.

    >>> phrase("MP4", 1), phrase("plain", 1200)
    ('1 MP4 video', '1,200 plain text files')
    """
    return f"{count:,} {name} {KINDS[name]}{'' if count == 1 else 's'}"
