"""What is decided where an image's own block is: equal bytes, equal pictures, and at last the verdict.

Images of one digest share a home, so exact duplicates are decided there. Of images with equal codes only the
best-ranked of each home is compared with the rest of the world; the others share its fate.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.codes import VIEWS, IntArray
from beam_dedup.core.model import BASE_VIEW, Fingerprint, Kind, Reason, Status, Verdict, Witness
from beam_dedup.core.rank import is_known, uri_of


@dataclasses.dataclass(frozen=True, slots=True)
class Home:
    """The images of one home in order of rank, and who speaks for whom."""

    images: pa.Table  # of blocks.IMAGES, sorted by rank
    same_bytes: IntArray  # (images,) row of the best-ranked image with these bytes
    same_picture: IntArray  # (images,) row of the best-ranked one with the picture of that one


def settle(images: pa.Table, pictures: bool = True) -> Home:
    """Groups the images of one home by bytes and by picture.

    pictures: False for exact mode, where equal pictures of different bytes have nothing to do with each other.

    Raises:
      ValueError: two images have the same URI; a URI is what tells images apart.
    """
    images = images.sort_by("rank")
    ranks = images["rank"].combine_chunks()
    twice = pc.equal(ranks[1:], ranks[:-1]) if len(ranks) > 1 else pa.array([], pa.bool_())
    if pc.any(twice).as_py():
        uri = uri_of(ranks[pc.index(twice, True).as_py()].as_py())
        raise ValueError(f"two images have the URI {uri!r}: URIs must be unique")
    same_bytes = _firsts(_numbers(images["digest"].combine_chunks()))
    if not pictures:
        return Home(images, same_bytes, same_bytes)
    chosen = np.flatnonzero(same_bytes == np.arange(len(same_bytes)))
    has_codes = _code_counts(images)[chosen] > 0
    compared = chosen[has_codes]
    same_picture = np.arange(len(same_bytes))
    same_picture[compared] = compared[_firsts(_picture_numbers(images.take(pa.array(compared))))]
    return Home(images, same_bytes, same_picture[same_bytes])


def compared_codes(home: Home, name: bytes) -> pa.Table:
    """`CODES` of the images that speak for this home, which is called `name`."""
    speaks = (home.same_picture == np.arange(len(home.same_picture))) & (_code_counts(home.images) > 0)
    rows = home.images.take(pa.array(np.flatnonzero(speaks)))
    codes = rows["codes"].combine_chunks()
    image = pc.list_parent_indices(codes)
    code = codes.flatten()
    columns = [
        pa.array([name] * len(code), pa.binary()),
        rows["rank"].take(image),
        rows["digest"].take(image),
        code.field("view"),
        code.field("kind"),
        code.field("data"),
        pa.array([is_known(rank) for rank in rows["rank"].to_pylist()], pa.bool_()).take(image),
    ]
    return pa.Table.from_arrays(columns, schema=blocks.CODES)


def verdicts(home: Home, marks: pa.Table) -> Iterator[Verdict]:
    """The verdict of every image of a home but the known ones, given the witnesses (`MARKS`) of those that speak for it.

    Several places may have found a witness for one image: the nearest counts, ties by rank.
    """
    ordered = marks.sort_by(
        [(name, "ascending") for name in ("rank", "distance", "kept_rank", "view", "long_distance")]
    )
    # The last entry of a key stays in a dict, so the best must come last.
    witness_of = {
        row["rank"]: Witness(
            uri=uri_of(row["kept_rank"]),
            digest=row["kept_digest"],
            distance=row["distance"],
            long_distance=row["long_distance"],
            view=VIEWS[row["view"]],
        )
        for row in reversed(ordered.to_pylist())
    }
    images = list(blocks.fingerprints_of(home.images))
    ranks = home.images["rank"].to_pylist()
    for row, (image, speaker) in enumerate(zip(images, home.same_picture.tolist(), strict=True)):
        if image.ref.known:
            continue
        kept = images[speaker]
        witness = witness_of.get(ranks[speaker])
        if witness is None and speaker != row:
            witness = _witness_with_the_same_picture(kept, image.digest == kept.digest)
        reason = None
        if witness is not None:
            reason = Reason.EXACT if witness.digest == image.digest else Reason.NEAR
        yield _verdict(image, reason, witness)


def _witness_with_the_same_picture(kept: Fingerprint, same_bytes: bool) -> Witness:
    has_long = not same_bytes and kept.codes[0].kind == Kind.FULL
    return Witness(kept.ref.uri, kept.digest, 0, 0 if has_long else None, BASE_VIEW)


def _verdict(image: Fingerprint, reason: Reason | None, witness: Witness | None) -> Verdict:
    return Verdict(
        ref=image.ref,
        status=Status.KEPT if witness is None else Status.DUPLICATE,
        reason=reason,
        digest=image.digest,
        fingerprint=image.codes[0].data if image.codes else b"",
        algorithm=image.algorithm,
        witness=witness,
        width=image.width,
        height=image.height,
        format=image.format,
        size_bytes=image.size_bytes,
        flags=image.flags,
        detail=image.detail,
    )


def _numbers(column: pa.Array) -> IntArray:
    """Equal values get equal numbers."""
    return np.asarray(column.dictionary_encode().indices).astype(np.int64)


def _firsts(numbers: IntArray) -> IntArray:
    """For each position, the first position with the same number."""
    _, first, back = np.unique(numbers, return_index=True, return_inverse=True)
    return first[back].astype(np.int64)


def _code_counts(images: pa.Table) -> IntArray:
    return np.asarray(pc.list_value_length(images["codes"].combine_chunks())).astype(np.int64)


def _picture_numbers(images: pa.Table) -> IntArray:
    """Equal codes in equal views get equal numbers. The length of a code's data tells its kind."""
    codes = images["codes"].combine_chunks()
    code = codes.flatten()
    view, data = code.field("view"), code.field("data")
    ends = np.asarray(pc.list_value_length(codes)).astype(np.int64).cumsum()
    bounds = np.concatenate([[0], ends])
    data_bounds = np.concatenate([[0], np.asarray(pc.binary_length(data)).astype(np.int64).cumsum()])[bounds]
    all_views = _binaries(bounds, np.asarray(view).tobytes())
    all_data = _binaries(data_bounds, blocks.joined(pa.chunked_array([data])))
    return _numbers(all_views) * (len(images) + 1) + _numbers(all_data)


def _binaries(bounds: IntArray, data: bytes) -> pa.Array:
    return pa.Array.from_buffers(
        pa.binary(),
        len(bounds) - 1,
        [None, pa.py_buffer(bounds.astype(np.int32).tobytes()), pa.py_buffer(data)],
    )
