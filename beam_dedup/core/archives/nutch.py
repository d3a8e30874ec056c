"""Reads the URL maps of Apache Nutch's dumps, and recognises its CBOR dumps, which are refused.

`nutch dump` (FileDumper) writes each document to `<2 digits>/<2 digits>/<md5 of URL>_<name>.<extension>`;
with `-flatdir` without the directories; with `-reverseUrlDirs` under the host and the SHA-256 of the URL.
For each segment it also writes a map, `<segment>_filenameToUrl.json`: a JSON object from the path of each
file, at the time of the dump, to its URL. A dump may have been moved since. So files are identified by
their base names, which contain a hash of the URL and are therefore unique to it.

`nutch commoncrawldump` writes CBOR instead, one file per document: a text with a JSON object, in which the
bytes of the document have gone through a text decoder. Bytes that are not text are lost.
"""

import hashlib
import json
import re
from typing import BinaryIO

from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Reason

MAP_SUFFIX = "_filenameToUrl.json"
MAP_BYTES = 1 << 27  # a larger file is not read as a map
_TEXT_BYTES = 1 << 16  # a longer path or URL is left out
MOST_URLS = 1_000_000  # of a map; an entry takes some hundred bytes of memory

LOSSY = (
    "a CBOR file of `nutch commoncrawldump`, which destroys the bytes of images: "
    "dump with `nutch dump`, or with `commoncrawldump -warc`"
)

# The CBOR tag, which older versions of Nutch left out; the header of a text of any length; and the
# beginning of the JSON object that the dumper writes.
_CBOR = re.compile(
    rb"(?:\xd9\xd9\xf7)?"
    rb"(?:[\x60-\x77]|\x78.|\x79..|\x7a.{4}|\x7b.{8}|\x7f(?:[\x60-\x77]|\x78.|\x79..|\x7a.{4}))"
    rb'\s*\{\s*"url"\s*:',
    re.DOTALL,
)
# The same as a CBOR map instead of a text.
_CBOR_MAP = re.compile(rb"(?:\xd9\xd9\xf7)?[\xa1-\xb7\xbf]\x63url[\x60-\x7f]", re.DOTALL)

# The beginning of a map, and one of its entries. Values that are no texts are left out. The repetitions are
# possessive, i.e. the matcher does not backtrack into them: otherwise a long text would take gigabytes.
_MAP_BEGIN = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{\s*(\}?)")
_MAP_TEXT = rb'"((?:[^"\\]|\\.)*+)"'
_MAP_ENTRY = re.compile(rb"\s*" + _MAP_TEXT + rb"\s*:\s*(?:" + _MAP_TEXT + rb"|[-+.\w]+)\s*([,}])", re.DOTALL)


def is_map(name: str) -> bool:
    """Returns whether a base name is one that `nutch dump` gives its maps.

    >>> is_map("20240102030405_filenameToUrl.json"), is_map("filenameToUrl.json")
    (True, False)
    """
    return name.endswith(MAP_SUFFIX) and len(name) > len(MAP_SUFFIX)


def urls(data: bytes, most_urls: int = MOST_URLS) -> dict[str, str]:
    """Parses a map: returns the URL of each file of a segment, by its base name.

    The entries are parsed one by one, since the JSON as a whole would take up to thirty times its size.

    Raises:
      ImageError: the data is no such map, or it has more than `most_urls` entries.
    """
    begin = _MAP_BEGIN.match(data)
    if not begin:
        raise _no_map("not an object")
    found: dict[str, str] = {}
    at, end = begin.end(), begin[1]
    while end != b"}":
        entry = _MAP_ENTRY.match(data, at)
        if not entry:
            raise _no_map(f"malformed after byte {at}")
        at, end = entry.end(), entry[3]
        if entry[2] is None or len(entry[1]) + len(entry[2]) > _TEXT_BYTES:
            continue
        name, url = base_name(_text(entry[1])), _text(entry[2])
        # If several paths have one base name, the URL whose hash is in the name is the right one.
        if name and (name not in found or contains_hash(name, url)):
            if len(found) == most_urls:
                detail = f"a URL map of Nutch with more than {most_urls} URLs, which are not used"
                raise ImageError(Reason.TOO_LARGE, detail)
            found[name] = url
    if data[at:].strip():
        raise _no_map(f"more data after byte {at}")
    return found


def check_size(name: str, stream: BinaryIO) -> None:
    """Checks a file whose name is that of a map. A map that is too large is not used, but listed as a file.

    Args:
      name: the base name.
      stream: the file, at its beginning.
    Raises:
      ImageError: it is a map that is too large.
      OSError: from reading the stream.
    """
    if not is_map(name):
        return
    data = stream.read(MAP_BYTES + 1)
    stream.seek(0)
    if len(data) > MAP_BYTES and _MAP_BEGIN.match(data):
        detail = f"a URL map of Nutch of more than {MAP_BYTES} bytes, whose URLs are not used"
        raise ImageError(Reason.TOO_LARGE, detail)
    try:
        urls(data)
    except ImageError as error:
        if error.reason == Reason.TOO_LARGE:
            raise


def _text(data: bytes) -> str:
    """Decodes a JSON text without its quotation marks."""
    try:
        text = data.decode("utf-8")
        return str(json.loads(f'"{text}"')) if "\\" in text else text
    except ValueError as error:
        raise _no_map(str(error)) from error


def _no_map(detail: str) -> ImageError:
    return ImageError(Reason.MALFORMED, f"no URL map of Nutch: {detail}"[:200])


def base_name(path: str) -> str:
    """Returns the last part of a path of any operating system.

    >>> base_name("/dump/a1/b2/c3_x.html"), base_name("C:\\\\dump\\\\c3_x.html"), base_name("c3_x.html")
    ('c3_x.html', 'c3_x.html', 'c3_x.html')
    """
    return re.split(r"[/\\]", path)[-1]


def contains_hash(name: str, url: str) -> bool:
    """Returns whether a base name contains the hash that `nutch dump` computes from the URL."""
    data = url.encode("utf-8", "surrogatepass")
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return name.startswith(f"{md5}_") or name == hashlib.sha256(data).hexdigest().upper()


def refusal(head: bytes) -> str:
    """Returns why a file is refused, by its first 100 bytes; "" if it is not refused.

    >>> refusal(b"\\xd9\\xd9\\xf7\\x79\\x01\\x02{\\"url\\":")[:11], refusal(b"GIF89a")
    ('a CBOR file', '')
    """
    return LOSSY if _CBOR.match(head) or _CBOR_MAP.match(head) else ""
