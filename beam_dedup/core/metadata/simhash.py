"""What the metadata of an image says of its identity, for images whose bytes can't be had.

*Canonical* metadata is what is left when everything that another copy may say otherwise is gone: the keys of the file
system (name, path, dates of the file; Tika's notes of its own work), upper and lower case of keys, white space, the order
of several values, and whether a number is text. Nested objects are flattened.

*Exact*: a recorded digest of the bytes, or else the SHA-256 of the canonical metadata.

*Near*: a simhash (Charikar 2002; Manku, Jain and Das Sarma 2007) of 64 bits over features of these weights:

| feature | weight |
|---|---|
| that there is a key | 4 |
| key and value | 2 |
| key and value, where it tells pictures apart: when and where it was taken, identifiers, what was written about it | 8 |
| the content type | 1 |

Of n features of one weight of which m differ, two simhashes differ in about 64 acos(1 - m/n) / pi bits. With keys and values
of one weight a single difference in 20 values is 5 bits: so keys weigh more. Two pictures by one camera agree in all keys and
most values: so what tells pictures apart weighs most. Metadata without two values of that kind is not `enough`: two
pictures of one size by one encoder agree in all that Tika says of them, except the size of the file.
"""

import base64
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from beam_dedup.core.thresholds import SIMHASH_BITS

KEY_WEIGHT, VALUE_WEIGHT, TELLING_WEIGHT, TYPE_WEIGHT = 4, 2, 8, 1
TELLING_VALUES = 2  # at least, for a simhash to mean something

# Keys in lower case, as Tika and ExifTool write them. "File Name" and "File Modified Date" are those of Tika's temporary
# file; "File Size" is that of the image, and counts.
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
_FILE_SYSTEM_PREFIXES = ("x-tika:", "fs:", "file:", "system:", "tika:")
_TYPE_KEYS = frozenset({"content-type", "content_type", "contenttype", "mime type", "mimetype", "dc:format"})
_TELLING = re.compile(
    r"original|digitized|created|creat(?:e|ion)[- ]?date|sub-?sec|gps|^geo:|latitude|longitude"
    r"|unique.?id|documentid|instanceid|serial|shutter ?count|image number"
    r"|title|description|caption|headline|subject\b|keywords|comment"
)
_DIGEST_KEY = re.compile(r"(?:x-tika:digest:)?(sha-?256|sha-?512|sha-?384|sha-?1|md5)(?:sum)?")
_DIGEST_BYTES = {
    "sha256": 32,
    "sha512": 64,
    "sha384": 48,
    "sha1": 20,
    "md5": 16,
}  # in the order of preference


class Digest(NamedTuple):
    """A recorded digest of an image's bytes."""

    kind: str  # sha256, sha512, sha384, sha1, md5
    value: bytes


def canonical(metadata: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Canonical metadata: keys in order, each with its values in order.

    >>> canonical({"__path__": "/a.jpg", "Image  Width": 640, "Empty": "", "dc": {"subject": ["b ", "a"]}})
    {'dc/subject': ('a', 'b'), 'image width': ('640',)}
    """
    found: dict[str, set[str]] = {}
    for key, value in _flat("", metadata):
        if not _of_the_file_system(key):
            found.setdefault(key, set()).add(value)
    return {key: tuple(sorted(found[key])) for key in sorted(found)}


def recorded_digest(metadata: Mapping[str, Any]) -> Digest | None:
    """The best recorded digest of the bytes: hex or base32, under a key like `X-TIKA:digest:SHA256` or `md5`.

    >>> recorded_digest({"X-TIKA:digest:MD5": "d41d8cd98f00b204e9800998ecf8427e"}).kind
    'md5'
    """
    found: dict[str, bytes] = {}
    for key, value in metadata.items():
        if isinstance(value, str) and (match := _DIGEST_KEY.fullmatch(key.strip().lower())):
            kind = match[1].replace("-", "")
            if data := _decoded(value.strip(), _DIGEST_BYTES[kind]):
                found[kind] = data
    return next((Digest(kind, found[kind]) for kind in _DIGEST_BYTES if kind in found), None)


def canonical_key(metadata: Mapping[str, Any]) -> bytes | None:
    """32 bytes, equal for equal canonical metadata; None if nothing counts but the content type."""
    fields = canonical(metadata)
    if not fields.keys() - _TYPE_KEYS:
        return None
    text = json.dumps(fields, sort_keys=True)  # of ASCII only, so that surrogates do no harm
    return _tagged("metadata", text.encode("ascii"))


def identity(metadata: Mapping[str, Any]) -> bytes | None:
    """32 bytes that stand for the bytes of an image which can't be had, or None if nothing is known of them.

    A recorded SHA-256 is itself, and so equals the digest of a copy that can be had. What stands for other digests, or
    for canonical metadata, equals none.
    """
    digest = recorded_digest(metadata)
    if digest is None:
        return canonical_key(metadata)
    return digest.value if digest.kind == "sha256" else _tagged(digest.kind, digest.value)


def simhash(metadata: Mapping[str, Any]) -> tuple[bytes, bool]:
    """The simhash, 8 bytes, and whether there is enough for it to mean something."""
    features = list(_features(canonical(metadata)))
    telling = sum(weight == TELLING_WEIGHT for _, weight in features)
    if not features:
        return bytes(SIMHASH_BITS // 8), False
    hashes = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text, _ in features)
    bits = np.unpackbits(np.frombuffer(hashes, np.uint8)).reshape(-1, SIMHASH_BITS)
    weights = np.array([weight for _, weight in features])
    sums = (bits * weights[:, None]).sum(axis=0) * 2 - weights.sum()
    return np.packbits(sums > 0).tobytes(), telling >= TELLING_VALUES


def _features(fields: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[bytes, int]]:
    """The features of canonical metadata, with their weights."""
    for key, values in fields.items():
        if key in _TYPE_KEYS:
            # By one name, and without what follows it: "image/jpeg; version=1".
            yield from ((b"\0type\0" + _encoded(value.partition(";")[0]), TYPE_WEIGHT) for value in values)
            continue
        yield b"\0key\0" + _encoded(key), KEY_WEIGHT
        weight = TELLING_WEIGHT if _TELLING.search(key) else VALUE_WEIGHT
        yield from ((_encoded(key) + b"\0" + _encoded(value), weight) for value in values)


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            part = " ".join(str(name).split()).casefold()
            yield from _flat(f"{key}/{part}" if key else part, one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _flat(key, one)
    elif text := _text(value):
        yield key, text


def _text(value: Any) -> str:
    """A single value as text: `640` and `"640"` are one, and so are `true` and `"true"`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
    return " ".join(unicodedata.normalize("NFC", str(value)).split())


def _of_the_file_system(key: str) -> bool:
    return (
        key in _FILE_SYSTEM_KEYS or key.startswith(_FILE_SYSTEM_PREFIXES) or bool(_DIGEST_KEY.fullmatch(key))
    )


def _decoded(text: str, size: int) -> bytes | None:
    """The bytes of a digest in hex or in base32, if it is one of that size."""
    text = text.rstrip("=")
    try:
        if len(text) == 2 * size:
            return bytes.fromhex(text)
        data = base64.b32decode(text + "=" * (-len(text) % 8), casefold=True)
    except ValueError:
        return None
    return data if len(data) == size else None


def _tagged(kind: str, data: bytes) -> bytes:
    """32 bytes that no file's SHA-256 is likely to be."""
    return hashlib.sha256(b"beam_dedup/" + kind.encode() + b"/1\0" + data).digest()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
