"""Identifies images by their metadata, where their bytes cannot be read: by a digest and by a simhash.

*Canonical* metadata leaves out everything in which two copies of one image may differ: file system keys (name,
path and dates of the file, Tika's notes about its own work), the case of keys, white space, the order of
several values, and whether a number is stored as text. Nested objects are flattened.

*Exact mode*: the recorded digests of the bytes, or else the SHA-256 of the canonical metadata, if they have
at least two discriminating values. Without them nothing shows that two images are the same, so an image
equals only itself. Digests that differ, of whatever kind, make two images.

*Near mode*: a simhash (Charikar 2002; Manku, Jain and Das Sarma 2007) of 64 bits over these features:

| feature | weight |
|---|---|
| a key | 4 |
| a key and its value | 2 |
| the same for a *discriminating* key: time and place of the shot, identifiers, written texts | 8 |
| the content type | 1 |

If m of n features of equal weight differ, two simhashes differ in about 64 acos(1 - m/n) / pi bits. If keys
and values had equal weight, one difference in 20 values would change 5 bits: so keys weigh more. Two
pictures by one camera agree in all keys and most values: so discriminating values weigh most. Metadata with
fewer than two discriminating values is not enough for a simhash: two pictures of equal dimensions by one
encoder agree in everything that Tika finds, except the size of the file.
"""

import base64
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from beam_dedup.core.thresholds import SIMHASH_BITS

KEY_WEIGHT, VALUE_WEIGHT, DISCRIMINATING_WEIGHT, TYPE_WEIGHT = 4, 2, 8, 1
MIN_DISCRIMINATING = 2  # values that a simhash needs to be compared

# Keys of Tika and ExifTool, in lower case. "File Name" and "File Modified Date" are those of Tika's
# temporary file, so they are listed here; "File Size" is that of the image, so it is not.
_FILE_SYSTEM_KEYS = frozenset(
    {
        "__path__",
        "path",
        "filepath",
        "file path",
        "filename",
        "file name",
        "resourcename",
        "resource_name",
        "sourcefile",
        "directory",
        "file modified date",
        "file creation date",
        "file accessed date",
        "filemodifydate",
        "fileaccessdate",
        "filecreatedate",
        "fileinodechangedate",
        "filepermissions",
        "embeddedrelationshipid",
        "x-parsed-by",
    }
)
_FILE_SYSTEM_PREFIXES = ("x-tika:", "tk:", "fs:", "file:", "system:", "tika:")  # `tk:` is of Tika 4
_TYPE_KEYS = frozenset({"content-type", "content_type", "contenttype", "mime type", "mimetype", "dc:format"})
_DISCRIMINATING = re.compile(
    r"original|digitized|created|creat(?:e|ion)[- ]?date|sub-?sec|gps|^geo:|latitude|longitude"
    r"|unique.?id|documentid|instanceid|serial|shutter ?count|image number"
    r"|title|description|caption|headline|subject\b|keywords|comment"
)
_DIGEST_KEY = re.compile(
    r"(?:(?:x-tika|tika|tk):digest:)?"
    r"(sha-?3[-_]?(?:224|256|384|512)|sha[-_]?(?:1|224|256|384|512)|md[25])(?:sum)?"
    r"(?::(?:hex|base32|base64))?"
)
_OTHER_DIGEST_KEY = re.compile(r"digest|hash|checksum|md5|sha-?\d")  # anywhere in a key of the file system
# Bytes of each kind of digest; the preferred kinds first.
_DIGEST_BYTES = {
    "sha256": 32,
    "sha512": 64,
    "sha384": 48,
    "sha3512": 64,
    "sha3384": 48,
    "sha3256": 32,
    "sha224": 28,
    "sha3224": 28,
    "sha1": 20,
    "md5": 16,
    "md2": 16,
}


class Digest(NamedTuple):
    """A digest of an image's bytes that its metadata records."""

    kind: str  # a key of `_DIGEST_BYTES`
    value: bytes


def canonical(metadata: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Returns canonical metadata: sorted keys, each with its sorted values.

    >>> canonical({"__path__": "/a.jpg", "Image  Width": 640, "Empty": "", "dc": {"subject": ["b ", "a"]}})
    {'dc/subject': ('a', 'b'), 'image width': ('640',)}
    """
    found: dict[str, set[str]] = {}
    for key, value in _flattened("", metadata):
        if not _is_of_file_system(key):
            found.setdefault(key, set()).add(value)
    return {key: tuple(sorted(found[key])) for key in sorted(found)}


def recorded_digest(metadata: Mapping[str, Any]) -> Digest | None:
    """Returns the digest of the bytes that the metadata records; of several, the preferred kind.

    It is in hex, base32 or base64, under a key like `X-TIKA:digest:SHA256`, `tk:digest:SHA3_512:BASE32` or
    `md5`, alone or in a list.

    >>> recorded_digest({"X-TIKA:digest:MD5": ["d41d8cd98f00b204e9800998ecf8427e"]}).kind
    'md5'
    """
    digests = _recorded_digests(metadata)[0]
    return digests[0] if digests else None


def _recorded_digests(metadata: Mapping[str, Any]) -> tuple[list[Digest], list[str]]:
    """Returns the digests that the metadata records, and the values of digests that cannot be decoded.

    The preferred digests come first. Values that cannot be decoded are those of unknown kinds, and those
    with another length. Equal ones prove nothing, but different ones show that two images differ.
    """
    found: set[Digest] = set()
    others: set[str] = set()
    for name, field in metadata.items():
        key = " ".join(str(name).split()).casefold()
        match = _DIGEST_KEY.fullmatch(key)
        if not match and not (key.startswith(_FILE_SYSTEM_PREFIXES) and _OTHER_DIGEST_KEY.search(key)):
            continue
        kind = re.sub("[-_]", "", match[1]) if match else ""
        for _, value in _flattened("", field):
            if kind and (data := _decoded(value, _DIGEST_BYTES[kind])):
                found.add(Digest(kind, data))
            else:
                others.add(f"{key}\0{value}")
    kinds = list(_DIGEST_BYTES)
    return sorted(found, key=lambda one: (kinds.index(one.kind), one.value)), sorted(others)


def canonical_key(metadata: Mapping[str, Any]) -> bytes | None:
    """Returns 32 bytes, equal for equal canonical metadata; None if that is empty but for the content type."""
    fields = canonical(metadata)
    if not fields.keys() - _TYPE_KEYS:
        return None
    text = json.dumps(fields, sort_keys=True)  # ASCII with escapes, so surrogates do no harm
    return _tagged("metadata", text.encode("ascii"))


def identity(metadata: Mapping[str, Any], path: str) -> bytes | None:
    """Returns 32 bytes that serve as the digest of an image that cannot be read.

    A recorded SHA-256 is returned as it is, so it equals the digest of a copy that can be read. Other
    results equal the digest of no file. They are equal for two images only if all recorded digests are; or,
    without digests, if all canonical metadata are, with at least `MIN_DISCRIMINATING` discriminating values.

    Args:
      metadata: of the image.
      path: of the image; the result depends on it if the metadata do not identify the image.
    Returns:
      None if the metadata say nothing about the image but its content type.
    """
    digests, others = _recorded_digests(metadata)
    sha256 = [digest.value for digest in digests if digest.kind == "sha256"]
    if len(sha256) == 1:
        return sha256[0]
    rest = json.dumps(others).encode("ascii") if others else b""
    if len(digests) == 1 and not rest:
        return _tagged(*digests[0])
    if digests:
        return _tagged("digests", b"".join(_tagged(*digest) for digest in digests) + rest)
    key = canonical_key(metadata)
    if key is None:
        return None
    if _discriminating(_features(canonical(metadata))) < MIN_DISCRIMINATING:
        return _tagged("unidentified", key + _encoded(path))
    return _tagged("metadata and digests", key + rest) if rest else key


def simhash(metadata: Mapping[str, Any]) -> tuple[bytes, bool]:
    """Returns the simhash, 8 bytes, and whether the metadata is enough for it to be compared."""
    features = list(_features(canonical(metadata)))
    if not features:
        return bytes(SIMHASH_BITS // 8), False
    hashes = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text, _ in features)
    bits = np.unpackbits(np.frombuffer(hashes, np.uint8)).reshape(-1, SIMHASH_BITS)
    weights = np.array([weight for _, weight in features])
    sums = (bits * weights[:, None]).sum(axis=0) * 2 - weights.sum()
    return np.packbits(sums > 0).tobytes(), _discriminating(features) >= MIN_DISCRIMINATING


def _discriminating(features: Iterable[tuple[bytes, int]]) -> int:
    """Returns the number of discriminating values among features."""
    return sum(weight == DISCRIMINATING_WEIGHT for _, weight in features)


def _features(fields: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[bytes, int]]:
    """Yields the features of canonical metadata, with their weights."""
    for key, values in fields.items():
        if key in _TYPE_KEYS:
            # All keys of the content type are one feature, without parameters as in "image/jpeg; version=1".
            yield from ((b"\0type\0" + _encoded(value.partition(";")[0]), TYPE_WEIGHT) for value in values)
            continue
        yield b"\0key\0" + _encoded(key), KEY_WEIGHT
        weight = DISCRIMINATING_WEIGHT if _DISCRIMINATING.search(key) else VALUE_WEIGHT
        yield from ((_encoded(key) + b"\0" + _encoded(value), weight) for value in values)


def _flattened(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yields the single values below a key, each with its full key (`outer/inner`)."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            part = " ".join(str(name).split()).casefold()
            yield from _flattened(f"{key}/{part}" if key else part, one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _flattened(key, one)
    elif text := _text(value):
        yield key, text


def _text(value: Any) -> str:
    """Converts a single value to text, so that `640` equals `"640"` and `true` equals `"true"`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
    return " ".join(unicodedata.normalize("NFC", str(value)).split())


def _is_of_file_system(key: str) -> bool:
    return (
        key in _FILE_SYSTEM_KEYS or key.startswith(_FILE_SYSTEM_PREFIXES) or bool(_DIGEST_KEY.fullmatch(key))
    )


def _decoded(text: str, size: int) -> bytes | None:
    """Decodes a digest in hex, base32 or base64; None if it is not one of `size` bytes."""
    text = text.rstrip("=")
    try:
        if len(text) == 2 * size:
            return bytes.fromhex(text)
        padded = text + "=" * (-len(text) % 8)
        # Of one size, each encoding has another length.
        if len(text) == (8 * size + 4) // 5:
            data = base64.b32decode(padded, casefold=True)
        elif len(text) == (8 * size + 5) // 6:
            data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=None, validate=True)
        else:
            return None
    except ValueError:
        return None
    return data if len(data) == size else None


def _tagged(kind: str, data: bytes) -> bytes:
    """Returns 32 bytes that depend on the data and equal no file's SHA-256, except by chance."""
    return hashlib.sha256(b"beam_dedup/" + kind.encode() + b"/1\0" + data).digest()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
