"""Which copy is preferred: a total order on images, as bytes that sort in it, the preferred first.

    class (1 byte) | length of what comes next (1 byte) | what the policy looks at | URI

Known images come before all others, since they are kept whatever comes; ties of the policy end at the URI, which no two
images share, so a rank is also the identity of an image.
"""

import enum
import struct

from beam_dedup.core.model import Fingerprint

_KNOWN, _NEW = 0, 1
_MOST = (1 << 64) - 1


class Keep(enum.StrEnum):
    """The policies."""

    FIRST = "first"  # by URI
    LARGEST = "largest"  # by pixels, then bytes
    OLDEST = "oldest"  # by time of modification; images without one come last
    NEWEST = "newest"


def rank_of(image: Fingerprint, keep: Keep) -> bytes:
    """The rank of an image; of two images the one with the smaller rank is preferred."""
    match keep:
        case Keep.FIRST:
            seen = b""
        case Keep.LARGEST:
            seen = struct.pack(">QQ", _MOST - image.width * image.height, _MOST - image.size_bytes)
        case Keep.OLDEST:
            seen = struct.pack(">Q", image.modified_ms or _MOST)
        case Keep.NEWEST:
            seen = struct.pack(">Q", _MOST - image.modified_ms)
    head = bytes([_KNOWN if image.ref.known else _NEW, len(seen)])
    return head + seen + image.ref.uri.encode("utf-8", "surrogateescape")


def uri_of(rank: bytes) -> str:
    """The URI at the end of a rank."""
    return rank[2 + rank[1] :].decode("utf-8", "surrogateescape")


def is_known(rank: bytes) -> bool:
    return rank[0] == _KNOWN
