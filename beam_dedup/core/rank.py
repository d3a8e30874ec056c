"""Which copy is preferred: a total order on images, as bytes that sort in it, the preferred first.

    class (1 byte) | length of what comes next (1 byte) | what the policy looks at | URI [| 0 | generation]

Known images come before all others, since they are kept whatever comes; pictures that are cut short after all whole ones,
or a cut copy might displace the whole one; and those that could not be opened last, since there is nothing to keep of
them but their metadata. Ties of the policy end at the URI, and in a stream, where what was overwritten is another image of the same URI, at
the generation. No two images share both, so a rank is also the identity of an image.
"""

import enum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core.arrivals import GENERATION, event_metadata
from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.model import Flag

_KNOWN, _NEW, _CUT_SHORT, _DESCRIBED = range(4)
_END = b"\0"  # of a URI; of one with such a byte in it, the last
_MOST = np.uint64((1 << 64) - 1)
_SIGN = np.uint64(
    1 << 63
)  # flipped, numbers below 0 come before those above: a file may be older than the epoch


class KeepPolicy(enum.StrEnum):
    """The policies."""

    FIRST = "first"  # by URI
    LARGEST = "largest"  # by pixels, then bytes
    OLDEST = "oldest"  # by time of modification; images without one come last
    NEWEST = "newest"


def ranks_of(fingerprints: pa.Table, keep: KeepPolicy) -> pa.Array:
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
    names = _names(fingerprints)
    return pa.array(
        [head.tobytes() + name for head, name in zip(heads, names, strict=True)], pa.large_binary()
    )


def _names(fingerprints: pa.Table) -> list[bytes]:
    """URIs, with the generation where there is one. After a zero byte, so that it changes no order of URIs."""
    names: list[bytes] = fingerprints["uri"].to_pylist()
    metadata = fingerprints["metadata"].combine_chunks()
    has_zero, may_say = (
        np.asarray(pc.match_substring(texts, part))
        for texts, part in ((pa.array(names, pa.binary()), _END), (metadata, GENERATION))
    )
    for row in np.flatnonzero(has_zero | may_say).tolist():
        generation = to_bytes(event_metadata(to_text(metadata[row].as_py()))[0]).replace(_END, b"")
        if generation or has_zero[row]:
            names[row] += _END + generation
    return names


def _seen(fingerprints: pa.Table, keep: KeepPolicy) -> npt.NDArray[np.uint8]:
    """What the policy looks at, in as many bytes for each image."""

    def column(name: str) -> npt.NDArray[np.uint64]:
        return np.asarray(fingerprints[name].combine_chunks()).astype(np.uint64)

    match keep:
        case KeepPolicy.FIRST:
            return np.zeros((len(fingerprints), 0), np.uint8)
        case KeepPolicy.LARGEST:
            values = [_MOST - column("width") * column("height"), _MOST - column("size_bytes")]
        case KeepPolicy.OLDEST:
            values = [np.where(column("modified_ms"), column("modified_ms") ^ _SIGN, _MOST)]
        case KeepPolicy.NEWEST:
            values = [_MOST - (column("modified_ms") ^ _SIGN)]
    return np.stack(values, axis=1).astype(">u8").view(np.uint8)


def uris_of(ranks: pa.Array) -> pa.Array:
    """The URIs in ranks."""
    return pa.array([_uri(rank) for rank in ranks.to_pylist()], pa.binary())


def uri_of(rank: bytes) -> str:
    """The URI in a rank."""
    return to_text(_uri(rank))


def _uri(rank: bytes) -> bytes:
    name = rank[2 + rank[1] :]
    return name.rpartition(_END)[0] if _END in name else name


def are_known(ranks: pa.Array) -> pa.Array:
    """Which ranks are those of known images."""
    return pa.array([rank[0] == _KNOWN for rank in ranks.to_pylist()], pa.bool_())
