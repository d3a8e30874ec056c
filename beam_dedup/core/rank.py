"""Computes ranks: bytes that sort images in the order of preference, the preferred image first.

    class (1 byte) | length of the next part (1 byte) | values of the rules, order of names (1 byte) | URI [| 0 | generation]

The class sorts first: known images and then protected ones, since both are kept in any case; then complete images;
then truncated ones, so that a truncated copy never displaces the complete picture; and last images that could not be
opened, of which there is nothing to keep but their metadata. Then each rule of the preference has its value, of as many
bytes for every image. Of images equal under the rules, those reached by their real path come before links
(`beam_dedup.core.links`): the file itself is preferred to all its other names. Since the names of a file have different
paths, the order of names precedes the first rule about paths. Then images are ordered by URI, and in a stream, where
an overwritten object is another image with the same URI, by generation. No two images share URI and generation, so a
rank also identifies an image.
"""

from collections.abc import Iterator
from typing import Any

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
from beam_dedup.core.preference import KeepPolicy, Preference, Rule, RuleKind

_KNOWN, _PROTECTED, _NEW, _TRUNCATED, _DESCRIBED = range(5)
_KEPT_BEFOREHAND = (_KNOWN, _PROTECTED)
NEAREST = b"nearest"  # the word for a witness that ranks after its duplicate
_CLASS_WORDS = (b"known", b"protected", b"", b"truncated", b"described")  # by class
ROW = "row-"  # begins the generation of an image that is a row of a table, which ends with a hash of the row
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
    matched = matches(_glob_paths(fingerprints, preference), preference.protect)
    flags = fingerprints["flags"].combine_chunks()
    is_described = np.asarray(pc.match_substring(flags, Flag.DESCRIBED.value))
    found: BoolArray = matched & ~is_described & ~np.asarray(fingerprints["known"].combine_chunks())
    return found


def _glob_paths(fingerprints: pa.Table, preference: Preference) -> tuple[pa.Array, ...]:
    uris, names = (fingerprints[name].combine_chunks() for name in ("uri", "name"))
    return glob_paths(uris, names, preference.directory, preference.has_labels)


def ranks_of(
    fingerprints: pa.Table, keep: KeepPolicy | Preference, protected: BoolArray | None = None
) -> pa.Array:
    """Returns the ranks of images; the image with the smaller rank is preferred.

    Args:
      fingerprints: rows of `blocks.FINGERPRINTS`.
      keep: which images are preferred.
      protected: (rows,) True for images that are kept in any case; none if not given.

    Returns:
      (rows,) large_binary, in the order of the rows.
    """
    known = np.asarray(fingerprints["known"].combine_chunks())
    flags = fingerprints["flags"].combine_chunks()
    is_truncated, is_described, is_link = (
        np.asarray(pc.match_substring(flags, flag.value))
        for flag in (Flag.TRUNCATED, Flag.DESCRIBED, Flag.LINK)
    )
    is_protected = np.zeros(len(known), bool) if protected is None else protected
    image_class = np.select(
        [known, is_protected, is_described, is_truncated], [_KNOWN, _PROTECTED, _DESCRIBED, _TRUNCATED], _NEW
    )
    names_order = np.maximum(is_link, orders_of(fingerprints["identity"].combine_chunks()))
    values = list(_values(fingerprints, Preference.of(keep), names_order))
    length = sum(part.shape[1] for part in values)
    heads = np.concatenate(
        [_bytes_of(image_class), _bytes_of(np.full(len(known), length)), *values], axis=1, dtype=np.uint8
    )
    names = _names(fingerprints)
    return pa.array(
        [head.tobytes() + name for head, name in zip(heads, names, strict=True)], pa.large_binary()
    )


def _bytes_of(numbers: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Returns numbers up to 255 as a column of bytes."""
    return numbers.astype(np.uint8)[:, None]


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


def _parts(preference: Preference) -> Iterator[Rule | None]:
    """Yields what has a value in a rank, in order: the rules, and None for the order of names."""
    is_placed = False
    for rule in preference.rules:
        if not is_placed and rule.kind in (RuleKind.PATH, RuleKind.NOT):
            is_placed = True
            yield None
        yield rule
    if not is_placed:
        yield None


def _values(
    fingerprints: pa.Table, preference: Preference, names_order: npt.NDArray[np.uint8]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yields the bytes of each part of the ranks, each of shape (images, bytes)."""
    paths = None
    for rule in _parts(preference):
        if rule is None:
            yield _bytes_of(names_order)
        elif rule.kind in (RuleKind.PATH, RuleKind.NOT):
            if paths is None:
                paths = _glob_paths(fingerprints, preference)
            yield _bytes_of(matches(paths, [rule.glob]) == (rule.kind is RuleKind.NOT))
        elif rule.kind is RuleKind.FORMAT:
            yield _bytes_of(_format_order(fingerprints["format"].combine_chunks(), rule))
        elif rule.kind is RuleKind.METADATA:
            yield _bytes_of(255 - np.asarray(fingerprints["metadata_kinds"].combine_chunks()))
        else:
            yield _number(fingerprints, rule.kind)[:, None].astype(">u8").view(np.uint8)


def _format_order(formats: pa.Array, rule: Rule) -> npt.NDArray[np.uint8]:
    """Returns the position of each format in a rule; the number of positions for others."""
    order = np.full(len(formats), len(rule.formats), np.uint8)
    for position, names in reversed(list(enumerate(rule.formats))):
        wanted = pa.array([name.encode() for name in names], pa.binary())
        order[np.asarray(pc.is_in(formats, value_set=wanted))] = position
    return order


def _number(fingerprints: pa.Table, kind: RuleKind) -> npt.NDArray[np.uint64]:
    """Returns a number for each image, smaller for preferred ones."""

    def column(name: str) -> npt.NDArray[np.uint64]:
        return np.asarray(fingerprints[name].combine_chunks()).astype(np.uint64)

    match kind:
        case RuleKind.PIXELS:
            return _MOST - column("width") * column("height")
        case RuleKind.BYTES:
            return _MOST - column("size_bytes")
        case RuleKind.OLDEST:
            return np.where(column("modified_ms"), column("modified_ms") ^ _SIGN, _MOST)
        case RuleKind.NEWEST:
            return _MOST - (column("modified_ms") ^ _SIGN)
        case RuleKind.TAKEN:
            return np.where(column("taken"), column("taken"), _MOST)
    raise AssertionError(kind)


def kept_by(ranks: pa.Array, kept_ranks: pa.Array, preference: Preference) -> pa.Array:
    """Returns why witnesses are preferred to their duplicates: the first part of the ranks that differs.

    A witness may rank after its duplicate, since it is the nearest kept image: then another kept image, which is
    preferred to the duplicate, is within k of it too.

    Args:
      ranks: (images,) ranks of images, by this preference.
      kept_ranks: (images,) the ranks of their witnesses; null for other images.
      preference: by which both are ranked.

    Returns:
      (images,) binary: the text of a rule; `known`, `protected`, `truncated` or `described` if the classes differ,
      `links` if one is a further name of a file, `first` if only the URI differs; `nearest` for a witness that ranks
      after its duplicate; null without a witness.
    """
    size, parts = len(ranks), list(_parts(preference))
    names = [b"", b""]  # of the class, and of the length, which is the same for all
    for part in parts:
        names += [to_bytes(part.text)] * part.size if part else [b"links"]
    wanted = np.flatnonzero(np.asarray(kept_ranks.is_valid()))
    ranks, kept_ranks = (column.take(pa.array(wanted)) for column in (ranks, kept_ranks))
    heads, kept_heads = (_heads(column, len(names)) for column in (ranks, kept_ranks))
    differs = heads != kept_heads
    at = np.where(differs.any(axis=1), differs.argmax(axis=1), len(names))
    words = [*names, b"first", NEAREST, *_CLASS_WORDS]
    classes = len(names) + 2
    # A known or protected witness is preferred for that; else the duplicate is in a class of less worth.
    by_class = np.where(kept_heads[:, 0] <= _PROTECTED, kept_heads[:, 0], heads[:, 0])
    word = np.where(at == 0, classes + by_class, at)
    word[np.asarray(pc.greater(kept_ranks, ranks))] = classes - 1
    indices, is_missing = np.zeros(size, np.int64), np.ones(size, bool)
    indices[wanted], is_missing[wanted] = word, False
    return pa.array(words, pa.binary()).take(pa.array(indices, mask=is_missing))


def _heads(ranks: pa.Array, size: int) -> npt.NDArray[np.uint8]:
    """Returns the first bytes of ranks, of which each has as many: (ranks, size)."""
    if not len(ranks):
        return np.zeros((0, size), np.uint8)
    offsets = np.frombuffer(ranks.buffers()[1], np.int64)[ranks.offset : ranks.offset + len(ranks)]
    data = np.frombuffer(ranks.buffers()[2], np.uint8)
    heads: npt.NDArray[np.uint8] = data[offsets[:, None] + np.arange(size)]
    return heads


def uris_of(ranks: pa.Array) -> pa.Array:
    """Returns the URIs in an array of ranks, as binaries."""
    return pa.array([_uri(rank) for rank in ranks.to_pylist()], pa.binary())


def uri_of(rank: bytes) -> str:
    """Returns the URI in a rank."""
    return to_text(_uri(rank))


def _uri(rank: bytes) -> bytes:
    name = rank[2 + rank[1] :]
    return name.rpartition(_END)[0] if _END in name else name


def is_of_row(rank: bytes) -> bool:
    """Returns whether an image is a row of a table: then other rows may have the same URI, and even all of its fields."""
    _, end, generation = rank[2 + rank[1] :].rpartition(_END)
    return bool(end) and generation.startswith(to_bytes(ROW))


def numbered_rank(rank: bytes, number: int) -> bytes:
    """Returns the rank of one of several equal rows. It sorts after `rank`, and before the ranks of other rows."""
    return rank + b"#%08d" % number


def are_known(ranks: pa.Array) -> pa.Array:
    """Returns, for each rank, whether its image is known."""
    return pa.array([rank[0] == _KNOWN for rank in ranks.to_pylist()], pa.bool_())


def are_kept_beforehand(ranks: pa.Array) -> pa.Array:
    """Returns, for each rank, whether its image is kept whatever is near it: known images and protected ones."""
    return pa.array([rank[0] in _KEPT_BEFOREHAND for rank in ranks.to_pylist()], pa.bool_())


def as_protected(rank: bytes) -> bytes:
    """Returns the rank that an image has if it is protected."""
    return bytes([min(rank[0], _PROTECTED)]) + rank[1:]
