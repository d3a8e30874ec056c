"""Which copy is preferred: a total order on images, as bytes that sort in it, the preferred first.

    class (1 byte) | length of what comes next (1 byte) | what the policy looks at | URI

Known images come before all others, since they are kept whatever comes; pictures that are cut short after all whole ones,
or a cut copy might displace the whole one; and those that could not be opened last, since there is nothing to keep of
them but their metadata. Ties of the policy end at the URI, which no two
images share, so a rank is also the identity of an image.
"""

import enum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core.model import Flag

_KNOWN, _NEW, _CUT_SHORT, _DESCRIBED = range(4)
_MOST = np.uint64((1 << 64) - 1)
_SIGN = np.uint64(
    1 << 63
)  # flipped, numbers below 0 come before those above: a file may be older than the epoch


class Keep(enum.StrEnum):
    """The policies."""

    FIRST = "first"  # by URI
    LARGEST = "largest"  # by pixels, then bytes
    OLDEST = "oldest"  # by time of modification; images without one come last
    NEWEST = "newest"


def ranks_of(fingerprints: pa.Table, keep: Keep) -> pa.Array:
    """The ranks of images, given as rows of `blocks.FINGERPRINTS`; of two the one with the smaller rank is preferred."""
    seen = _seen(fingerprints, keep)
    known = np.asarray(fingerprints["known"].combine_chunks())
    heads = np.empty((len(known), 2 + seen.shape[1]), np.uint8)
    flags = fingerprints["flags"].combine_chunks()
    is_cut, is_described = (
        np.asarray(pc.match_substring(flags, flag.value)) for flag in (Flag.TRUNCATED, Flag.DESCRIBED)
    )
    heads[:, 0] = np.select([known, is_described, is_cut], [_KNOWN, _DESCRIBED, _CUT_SHORT], _NEW)
    heads[:, 1] = seen.shape[1]
    heads[:, 2:] = seen
    uris = fingerprints["uri"].to_pylist()
    return pa.array([head.tobytes() + uri for head, uri in zip(heads, uris, strict=True)], pa.large_binary())


def _seen(fingerprints: pa.Table, keep: Keep) -> npt.NDArray[np.uint8]:
    """What the policy looks at, in as many bytes for each image."""

    def column(name: str) -> npt.NDArray[np.uint64]:
        return np.asarray(fingerprints[name].combine_chunks()).astype(np.uint64)

    match keep:
        case Keep.FIRST:
            return np.zeros((len(fingerprints), 0), np.uint8)
        case Keep.LARGEST:
            values = [_MOST - column("width") * column("height"), _MOST - column("size_bytes")]
        case Keep.OLDEST:
            values = [np.where(column("modified_ms"), column("modified_ms") ^ _SIGN, _MOST)]
        case Keep.NEWEST:
            values = [_MOST - (column("modified_ms") ^ _SIGN)]
    return np.stack(values, axis=1).astype(">u8").view(np.uint8)


def uris_of(ranks: pa.Array) -> pa.Array:
    """The URIs at the ends of ranks."""
    return pa.array([rank[2 + rank[1] :] for rank in ranks.to_pylist()], pa.binary())


def uri_of(rank: bytes) -> str:
    """The URI at the end of a rank."""
    return rank[2 + rank[1] :].decode("utf-8", "surrogateescape")


def are_known(ranks: pa.Array) -> pa.Array:
    """Which ranks are those of known images."""
    return pa.array([rank[0] == _KNOWN for rank in ranks.to_pylist()], pa.bool_())
