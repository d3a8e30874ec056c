"""What Apache Nutch leaves on disk: `nutch dump` as it is, and why a CBOR dump is refused.

`nutch dump` (its FileDumper) writes each document under `<2 digits>/<2 digits>/<md5 of URL>_<name>.<extension>`, with `-flatdir`
without the folders, with `-reverseUrlDirs` under the host and the SHA-256 of the URL. Beside them it writes, for each
segment, `<segment>_filenameToUrl.json`: one JSON object from the path of each file, as it was then and there, to its URL. A dump
may have been moved since: so files are known by their base names, which hold a hash of the URL and so are no two URLs'.

`nutch commoncrawldump` writes CBOR instead, one file for each document: a text with a JSON object, in which the bytes of the
document have gone through a decoder for text. What was no text is lost.
"""

import hashlib
import json
import re

from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Reason

MAP_SUFFIX = "_filenameToUrl.json"
MAP_BYTES = 1 << 30  # a larger one is no map of a segment

LOSSY = (
    "a CBOR file of `nutch commoncrawldump`, which destroys the bytes of images: "
    "dump with `nutch dump`, or with `commoncrawldump -warc`"
)

# The tag for "this is CBOR", which older versions left out; a text (or a map with it) of any length; and there the object that
# the dumper writes first.
_CBOR = re.compile(
    rb"(?:\xd9\xd9\xf7)?"
    rb"(?:[\x60-\x77]|\x78.|\x79..|\x7a.{4}|\x7b.{8}|\x7f(?:[\x60-\x77]|\x78.|\x79..|\x7a.{4}))"
    rb'\s*\{\s*"url"\s*:',
    re.DOTALL,
)
_CBOR_MAP = re.compile(rb"(?:\xd9\xd9\xf7)?[\xa1-\xb7\xbf]\x63url[\x60-\x7f]", re.DOTALL)


def is_map(name: str) -> bool:
    """Whether a file, by its base name, is what `nutch dump` calls its maps.

    >>> is_map("20240102030405_filenameToUrl.json"), is_map("filenameToUrl.json")
    (True, False)
    """
    return name.endswith(MAP_SUFFIX) and len(name) > len(MAP_SUFFIX)


def urls(data: bytes) -> dict[str, str]:
    """The URL of each file of a segment, by its base name.

    Raises:
      ImageError: it is no such map.
    """
    try:
        said = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ImageError(Reason.MALFORMED, f"no map of Nutch's: {error}"[:200]) from error
    if not isinstance(said, dict):
        raise ImageError(Reason.MALFORMED, "no map of Nutch's: not an object")
    found: dict[str, str] = {}
    for path, url in said.items():
        name = base_name(path)
        # A name that holds the hash of its URL is right; another that claims the same name is not.
        if isinstance(url, str) and name and (name not in found or holds_hash(name, url)):
            found[name] = url
    return found


def base_name(path: str) -> str:
    """The last part of a path, of any system.

    >>> base_name("/dump/a1/b2/c3_x.html"), base_name("C:\\\\dump\\\\c3_x.html"), base_name("c3_x.html")
    ('c3_x.html', 'c3_x.html', 'c3_x.html')
    """
    return re.split(r"[/\\]", path)[-1]


def holds_hash(name: str, url: str) -> bool:
    """Whether `nutch dump` would give the document of a URL such a name."""
    data = url.encode("utf-8", "surrogatepass")
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return name.startswith(f"{md5}_") or name == hashlib.sha256(data).hexdigest().upper()


def refusal(head: bytes) -> str:
    """Why a file is refused, by its first bytes (100 are enough); "" if it is not.

    >>> refusal(b"\\xd9\\xd9\\xf7\\x79\\x01\\x02{\\"url\\":")[:11], refusal(b"GIF89a")
    ('a CBOR file', '')
    """
    return LOSSY if _CBOR.match(head) or _CBOR_MAP.match(head) else ""
