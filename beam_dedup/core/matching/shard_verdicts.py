"""What is decided where an image's own block is: equal bytes, equal pictures, and at last the verdict.

Images of one digest share a home, so exact duplicates are decided there. Of images with equal codes only the
best-ranked of each home is compared with the rest of the world; the others share its fate.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.codes import IntArray
from beam_dedup.core.model import CodeKind, Reason, Status
from beam_dedup.core.rank import are_known, uri_of, uris_of


@dataclasses.dataclass(frozen=True, slots=True)
class DigestShard:
    """The images of one home in order of rank, and who speaks for whom."""

    images: pa.Table  # of blocks.IMAGES, sorted by rank
    same_bytes: IntArray  # (images,) row of the best-ranked image with these bytes
    # (images,) row of the one that speaks for it: the best-ranked one with the picture of that one, where both are known
    # or both are not; for a copy of a known one's bytes, that one.
    same_picture: IntArray


def group_images(images: pa.Table, pictures: bool = True) -> DigestShard:
    """Groups the images of one home by bytes and by picture.

    pictures: False for exact mode, where equal pictures of different bytes have nothing to do with each other.

    Raises:
      ValueError: two images have the same URI; a URI is what tells images apart.
    """
    images = images.sort_by("rank")
    first = blocks.first_rows(images["rank"])
    if not first.all():
        uri = uri_of(images["rank"][int(np.argmin(first))].as_py())
        raise ValueError(f"two images have the URI {uri!r}: URIs must be unique")
    same_bytes = _firsts(_numbers(images["digest"].combine_chunks()))
    if not pictures:
        return DigestShard(images, same_bytes, same_bytes)
    chosen = np.flatnonzero(same_bytes == np.arange(len(same_bytes)))
    has_codes = _code_counts(images)[chosen] > 0
    compared = chosen[has_codes]
    same_picture = np.arange(len(same_bytes))
    # Known ones are a group of their own: what has the picture of one may have that of a better-ranked one elsewhere too.
    known = np.asarray(are_known(images["rank"].combine_chunks()))
    pictures_of = 2 * _picture_numbers(images.take(pa.array(compared))) + known[compared]
    same_picture[compared] = compared[_firsts(pictures_of)]
    copies_known = known[same_bytes] & ~known
    return DigestShard(images, same_bytes, np.where(copies_known, same_bytes, same_picture[same_bytes]))


def compared_codes(shard: DigestShard, number: int) -> pa.Table:
    """`CODES` of the images that speak for this home, which has a number."""
    speaks = (shard.same_picture == np.arange(len(shard.same_picture))) & (_code_counts(shard.images) > 0)
    rows = shard.images.take(pa.array(np.flatnonzero(speaks)))
    codes = rows["codes"].combine_chunks()
    image = pc.list_parent_indices(codes)
    code = codes.flatten()
    ranks = rows["rank"].combine_chunks()
    columns = [
        pa.array(np.full(len(code), number, np.int32)),
        ranks.take(image),
        rows["digest"].take(image),
        code.field("view"),
        code.field("kind"),
        code.field("data"),
        are_known(ranks).take(image),
    ]
    return pa.Table.from_arrays(columns, schema=blocks.CODES)


def verdicts(shard: DigestShard, marks: pa.Table) -> pa.Table:
    """The verdict (`VERDICTS`) on every image of a home but the known ones, given the witnesses (`MARKS`) of those that
    speak for it.

    Several places may have found a witness for one image: the nearest counts, ties by rank.
    """
    images, rows, representative = shard.images, np.arange(len(shard.images)), shard.same_picture
    digests = images["digest"].combine_chunks().cast(pa.binary())
    uris = uris_of(images["rank"])
    best = _best_marks(marks)
    mark = pc.index_in(images["rank"].combine_chunks(), best["rank"].combine_chunks()).take(
        pa.array(representative)
    )
    marked = np.asarray(mark.is_valid())
    follows = ~marked & (representative != rows)  # a duplicate of the one that speaks for it, which is kept
    followed = pa.array(representative, mask=~follows)
    kept_uri = pc.coalesce(uris_of(best["kept_rank"]).take(mark), uris.take(followed))
    kept_digest = pc.coalesce(
        best["kept_digest"].combine_chunks().cast(pa.binary()).take(mark), digests.take(followed)
    )
    is_full = np.asarray(pc.fill_null(pc.equal(_of_base(images, "kind"), int(CodeKind.FULL)), False))
    no_distance = pa.array(np.zeros(len(rows), np.int32), mask=~follows)
    # Of pictures with equal codes, but not with equal bytes, the long distance is known too.
    differs = follows & is_full & (shard.same_bytes[rows] != shard.same_bytes[representative])
    no_long_distance = pa.array(np.zeros(len(rows), np.int32), mask=~differs)
    duplicate = marked | follows
    same_bytes = np.asarray(pc.fill_null(pc.equal(kept_digest, digests), False))
    reason = np.where(same_bytes, Reason.EXACT.encode(), Reason.NEAR.encode())
    table = pa.Table.from_arrays(
        [
            uris,
            images["name"],
            images["metadata"],
            pa.array(np.where(duplicate, Status.DUPLICATE.encode(), Status.KEPT.encode()), pa.binary()),
            pa.array(reason, pa.binary(), mask=~duplicate),
            digests,
            pc.fill_null(_of_base(images, "data"), b""),
            *(
                images[name]
                for name in ("algorithm", "width", "height", "format", "size_bytes", "flags", "detail")
            ),
            kept_uri,
            kept_digest,
            pc.coalesce(best["distance"].combine_chunks().take(mark), no_distance),
            pc.coalesce(best["long_distance"].combine_chunks().take(mark), no_long_distance),
            pc.coalesce(
                best["view"].combine_chunks().take(mark),
                pa.array(np.zeros(len(rows), np.uint8), mask=~follows),
            ),
        ],
        schema=blocks.VERDICTS,
    )
    return table.filter(pc.invert(are_known(images["rank"])))


def _best_marks(marks: pa.Table) -> pa.Table:
    """The best row of each image."""
    order = ("rank", "distance", "kept_rank", "view", "long_distance")
    # No long distance comes before any, as in one place (NO_DISTANCE).
    marks = marks.sort_by([(name, "ascending", "at_start") for name in order])
    return marks.filter(pa.array(blocks.first_rows(marks["rank"])))


def _of_base(images: pa.Table, field: str) -> pa.Array:
    """A field of the code of the base view of each image, which is its first; null without one."""
    counts = _code_counts(images)
    first = pa.array(np.cumsum(counts) - counts, mask=counts == 0)
    return images["codes"].combine_chunks().flatten().field(field).take(first)


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
