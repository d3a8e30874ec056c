"""Computes ranks: bytes that sort images in the order of preference, the preferred image first.

    class (1 byte) | length of the next part (1 byte) | values of the policy, order of names (1 byte) | URI [| 0 | generation]

The class sorts first: known images and then protected ones, since both are kept in any case; then complete images;
then truncated ones, so that a truncated copy never displaces the complete picture; and last images that could not be
opened, of which there is nothing to keep but their metadata. Of images equal under the policy, those reached
by their real path come before links (`beam_dedup.core.links`): the file itself is preferred to all its other
names. Then they are
ordered by URI, and in a stream, where an overwritten object is another image with the same URI, by generation. No two
images share URI and generation, so a rank also identifies an image.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core.arrivals import GENERATION, event_metadata
from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.codes import BoolArray
from beam_dedup.core.links import orders_of
from beam_dedup.core.model import Flag
from beam_dedup.core.path_globs import glob_paths, matches
from beam_dedup.core.preference import KeepPolicy, Preference

_KNOWN, _PROTECTED, _NEW, _TRUNCATED, _DESCRIBED = range(5)
_KEPT_BEFOREHAND = (_KNOWN, _PROTECTED)
_END = b"\0"  # ends the URI if a generation follows; the last such byte does, if the URI contains others
_MOST = np.uint64((1 << 64) - 1)
# With the sign bit flipped, negative times sort before positive ones as unsigned numbers: a file may be
# older than the epoch.
_SIGN = np.uint64(1 << 63)


def are_protected(fingerprints: pa.Table, preference: Preference) -> BoolArray:
    """Returns which images the globs of a preference protect.

    Known images need no protection. An image that could not be opened has none: it must not be the witness of an
    image that can be opened.

    Args:
      fingerprints: rows of `blocks.FINGERPRINTS`.
      preference: with the globs.
    """
    if not preference.protect or not len(fingerprints):
        return np.zeros(len(fingerprints), bool)
    uris, names, flags = (fingerprints[name].combine_chunks() for name in ("uri", "name", "flags"))
    matched = matches(glob_paths(uris, names, preference.directory), preference.protect)
    is_described = np.asarray(pc.match_substring(flags, Flag.DESCRIBED.value))
    found: BoolArray = matched & ~is_described & ~np.asarray(fingerprints["known"].combine_chunks())
    return found


def ranks_of(fingerprints: pa.Table, keep: KeepPolicy, protected: BoolArray | None = None) -> pa.Array:
    """Returns the ranks of images; the image with the smaller rank is preferred.

    Args:
      fingerprints: rows of `blocks.FINGERPRINTS`.
      keep: the policy.
      protected: (rows,) True for images that are kept in any case; none if not given.

    Returns:
      (rows,) large_binary, in the order of the rows.
    """
    values = _policy_values(fingerprints, keep)
    known = np.asarray(fingerprints["known"].combine_chunks())
    heads = np.empty((len(known), 3 + values.shape[1]), np.uint8)
    flags = fingerprints["flags"].combine_chunks()
    is_truncated, is_described, is_link = (
        np.asarray(pc.match_substring(flags, flag.value))
        for flag in (Flag.TRUNCATED, Flag.DESCRIBED, Flag.LINK)
    )
    is_protected = np.zeros(len(known), bool) if protected is None else protected
    heads[:, 0] = np.select(
        [known, is_protected, is_described, is_truncated], [_KNOWN, _PROTECTED, _DESCRIBED, _TRUNCATED], _NEW
    )
    heads[:, 1] = values.shape[1] + 1
    heads[:, 2:-1] = values
    heads[:, -1] = np.maximum(is_link, orders_of(fingerprints["identity"].combine_chunks()))
    names = _names(fingerprints)
    return pa.array(
        [head.tobytes() + name for head, name in zip(heads, names, strict=True)], pa.large_binary()
    )


def _names(fingerprints: pa.Table) -> list[bytes]:
    """Returns the URIs, each with its generation if it has one.

    A zero byte separates the two, so that URIs sort as they would without a generation.
    """
    names: list[bytes] = fingerprints["uri"].to_pylist()
    metadata = fingerprints["metadata"].combine_chunks()
    has_zero, may_have_generation = (
        np.asarray(pc.match_substring(texts, part))
        for texts, part in ((pa.array(names, pa.binary()), _END), (metadata, GENERATION))
    )
    for row in np.flatnonzero(has_zero | may_have_generation).tolist():
        generation = to_bytes(event_metadata(to_text(metadata[row].as_py()))[0]).replace(_END, b"")
        if generation or has_zero[row]:
            names[row] += _END + generation
    return names


def _policy_values(fingerprints: pa.Table, keep: KeepPolicy) -> npt.NDArray[np.uint8]:
    """Returns the values by which the policy sorts, as bytes of shape (images, bytes per image)."""

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
    """Returns the URIs in an array of ranks, as binaries."""
    return pa.array([_uri(rank) for rank in ranks.to_pylist()], pa.binary())


def uri_of(rank: bytes) -> str:
    """Returns the URI in a rank."""
    return to_text(_uri(rank))


def _uri(rank: bytes) -> bytes:
    name = rank[2 + rank[1] :]
    return name.rpartition(_END)[0] if _END in name else name


def are_known(ranks: pa.Array) -> pa.Array:
    """Returns, for each rank, whether its image is known."""
    return pa.array([rank[0] == _KNOWN for rank in ranks.to_pylist()], pa.bool_())


def are_kept_beforehand(ranks: pa.Array) -> pa.Array:
    """Returns, for each rank, whether its image is kept whatever is near it: known images and protected ones."""
    return pa.array([rank[0] in _KEPT_BEFOREHAND for rank in ranks.to_pylist()], pa.bool_())


def as_protected(rank: bytes) -> bytes:
    """Returns the rank that an image has if it is protected."""
    return bytes([min(rank[0], _PROTECTED)]) + rank[1:]
