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

from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Reason

MAP_SUFFIX = "_filenameToUrl.json"
MAP_BYTES = 1 << 30  # a larger file is not read as a map

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


def is_map(name: str) -> bool:
    """Returns whether a base name is one that `nutch dump` gives its maps.

    >>> is_map("20240102030405_filenameToUrl.json"), is_map("filenameToUrl.json")
    (True, False)
    """
    return name.endswith(MAP_SUFFIX) and len(name) > len(MAP_SUFFIX)


def urls(data: bytes) -> dict[str, str]:
    """Parses a map: returns the URL of each file of a segment, by its base name.

    Raises:
      ImageError: the data is no such map.
    """
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ImageError(Reason.MALFORMED, f"no URL map of Nutch: {error}"[:200]) from error
    if not isinstance(value, dict):
        raise ImageError(Reason.MALFORMED, "no URL map of Nutch: not an object")
    found: dict[str, str] = {}
    for path, url in value.items():
        name = base_name(path)
        # If several paths have one base name, the URL whose hash is in the name is the right one.
        if isinstance(url, str) and name and (name not in found or contains_hash(name, url)):
            found[name] = url
    return found


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
