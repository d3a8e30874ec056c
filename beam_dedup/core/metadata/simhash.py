"""Identifies images by their metadata, where their bytes cannot be read: by a digest and by a simhash.

*Canonical* metadata leaves out everything in which two copies of one image may differ: file system keys (name,
path and dates of the file, Tika's notes about its own work), the case of keys, white space, the order of
several values, and whether a number is stored as text. Nested objects are flattened.

*Exact mode*: a recorded digest of the bytes, or else the SHA-256 of the canonical metadata.

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
from collections.abc import Iterator, Mapping
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
_FILE_SYSTEM_PREFIXES = ("x-tika:", "fs:", "file:", "system:", "tika:")
_TYPE_KEYS = frozenset({"content-type", "content_type", "contenttype", "mime type", "mimetype", "dc:format"})
_DISCRIMINATING = re.compile(
    r"original|digitized|created|creat(?:e|ion)[- ]?date|sub-?sec|gps|^geo:|latitude|longitude"
    r"|unique.?id|documentid|instanceid|serial|shutter ?count|image number"
    r"|title|description|caption|headline|subject\b|keywords|comment"
)
_DIGEST_KEY = re.compile(r"(?:x-tika:digest:)?(sha-?256|sha-?512|sha-?384|sha-?1|md5)(?:sum)?")
_DIGEST_BYTES = {"sha256": 32, "sha512": 64, "sha384": 48, "sha1": 20, "md5": 16}  # the preferred ones first


class Digest(NamedTuple):
    """A digest of an image's bytes that its metadata records."""

    kind: str  # sha256, sha512, sha384, sha1, md5
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

    It is in hex or base32, under a key like `X-TIKA:digest:SHA256` or `md5`.

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
    """Returns 32 bytes, equal for equal canonical metadata; None if that is empty but for the content type."""
    fields = canonical(metadata)
    if not fields.keys() - _TYPE_KEYS:
        return None
    text = json.dumps(fields, sort_keys=True)  # ASCII with escapes, so surrogates do no harm
    return _tagged("metadata", text.encode("ascii"))


def identity(metadata: Mapping[str, Any]) -> bytes | None:
    """Returns 32 bytes that serve as the digest of an image that cannot be read.

    A recorded SHA-256 is returned as it is, so it equals the digest of a copy that can be read. The result
    for another recorded digest, or for canonical metadata, does not equal the digest of any file. The result
    is None if neither a digest nor canonical metadata identify the image.
    """
    digest = recorded_digest(metadata)
    if digest is None:
        return canonical_key(metadata)
    return digest.value if digest.kind == "sha256" else _tagged(digest.kind, digest.value)


def simhash(metadata: Mapping[str, Any]) -> tuple[bytes, bool]:
    """Returns the simhash, 8 bytes, and whether the metadata is enough for it to be compared."""
    features = list(_features(canonical(metadata)))
    discriminating = sum(weight == DISCRIMINATING_WEIGHT for _, weight in features)
    if not features:
        return bytes(SIMHASH_BITS // 8), False
    hashes = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text, _ in features)
    bits = np.unpackbits(np.frombuffer(hashes, np.uint8)).reshape(-1, SIMHASH_BITS)
    weights = np.array([weight for _, weight in features])
    sums = (bits * weights[:, None]).sum(axis=0) * 2 - weights.sum()
    return np.packbits(sums > 0).tobytes(), discriminating >= MIN_DISCRIMINATING


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
    """Decodes a digest in hex or base32; None if it is not one of `size` bytes."""
    text = text.rstrip("=")
    try:
        if len(text) == 2 * size:
            return bytes.fromhex(text)
        data = base64.b32decode(text + "=" * (-len(text) % 8), casefold=True)
    except ValueError:
        return None
    return data if len(data) == size else None


def _tagged(kind: str, data: bytes) -> bytes:
    """Returns 32 bytes that depend on the data and equal no file's SHA-256, except by chance."""
    return hashlib.sha256(b"beam_dedup/" + kind.encode() + b"/1\0" + data).digest()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
