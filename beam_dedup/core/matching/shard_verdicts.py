"""Finds exact duplicates in a digest shard, chooses the codes to compare, and assembles the verdicts.

Images with equal digests are in the same digest shard, so exact duplicates are found there. Among images of
a digest shard with equal codes, only the best-ranked one, the representative, is compared with images of
other shards. The other images get the outcome of their representative. Names of one file have equal digests
too, so links are recognised here (`beam_dedup.core.links`).

If only images of different inputs are duplicates of each other, all units (`beam_dedup.core.matching.across`) are compared,
but those with equal codes and one input once; and the verdicts on units with equal bytes are put together here.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks, links
from beam_dedup.core.codes import BASE, FULL_KINDS, NO_CODE, BoolArray, IntArray
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.matching import across
from beam_dedup.core.model import Flag, Reason, Status
from beam_dedup.core.preference import Preference
from beam_dedup.core.rank import (
    NEAREST,
    are_kept_beforehand,
    are_known,
    as_protected,
    is_of_row,
    kept_by,
    numbered_rank,
    uri_of,
    uris_of,
)
from beam_dedup.core.tables import with_flag

_FULL_KINDS = pa.array(FULL_KINDS, pa.uint8())

DECIDED = b"decided"


@dataclasses.dataclass(frozen=True, slots=True)
class DigestShard:
    """The images of one digest shard, sorted by rank, with the representative of each."""

    images: pa.Table  # of blocks.IMAGES, sorted by rank
    same_bytes: IntArray  # (images,) row of the best-ranked image with the same bytes
    # (images,) row of the representative. For a new image with the bytes of one that is kept beforehand (a known
    # or protected one), it is that one. For any other image it is the best-ranked one whose picture is equal to
    # that of the image at `same_bytes`, those kept beforehand and all others apart. An image about which a person
    # decided represents only its own bytes.
    representative: IntArray
    is_fixed: BoolArray  # (images,) whether it is kept beforehand
    units: "Units | None" = None  # if only images of different inputs are duplicates of each other


@dataclasses.dataclass(frozen=True, slots=True)
class Units:
    """What a digest shard has more if only images of different inputs are duplicates of each other.

    Then an image and its `DigestShard.representative` share their outcome; neither is the other's duplicate.
    """

    inputs: IntArray  # (images,) the number of the input
    compared: BoolArray  # (images,) whether code shards judge the image's unit
    codes_row: IntArray  # (images,) the row whose codes stand for the image's


def group_images(
    images: pa.Table,
    pictures: bool = True,
    decisions: Decisions = NO_DECISIONS,
    across: Sequence[str] = (),
) -> DigestShard:
    """Groups the images of one digest shard by bytes and by picture, and flags the further names of each file.

    Known links to new images are left out, so that no file is a duplicate of a link to itself.

    Args:
      images: rows of `blocks.IMAGES`.
      pictures: False for exact mode, in which equal pictures with different bytes are unrelated.
      decisions: about digests that may have other verdicts than equal pictures.
      across: labels of inputs, if only images of different inputs are duplicates of each other.

    Raises:
      ValueError: two images have the same URI; an image is identified by its URI. Only equal rows of a table, which have a
        generation of `rank.ROW`, may be several: they are numbered. Or the name of an image begins with no label.
    """
    images = _with_protected_targets(images).sort_by("rank")
    first = blocks.first_rows(images["rank"])
    if not first.all():
        images = _with_numbered_rows(images, first)
    digests = _numbers(images["digest"].combine_chunks())
    used = links.without_links_to_new(images, np.asarray(are_known(images["rank"].combine_chunks())), digests)
    if not used.all():
        images, digests = images.filter(pa.array(used)).combine_chunks(), digests[used]
    images = links.with_link_flags(images, digests)
    same_bytes = firsts_of(digests)
    is_fixed = np.asarray(are_kept_beforehand(images["rank"].combine_chunks()))
    if across:
        return _units_of(images, same_bytes, is_fixed, pictures, decisions, across)
    if not pictures:
        return DigestShard(images, same_bytes, same_bytes, is_fixed)
    firsts = np.flatnonzero(same_bytes == np.arange(len(same_bytes)))
    compared = firsts[are_compared(images, is_fixed)[firsts]]
    same_picture = np.arange(len(same_bytes))
    # Images kept beforehand do not represent others: an equal one with a better rank may be in another digest
    # shard.
    groups = 2 * picture_numbers(images.take(pa.array(compared))) + is_fixed[compared]
    if decisions:
        alone = decisions.are_alone(images["digest"].combine_chunks().take(pa.array(compared)))
        groups[alone] = -1 - compared[alone]
    same_picture[compared] = compared[firsts_of(groups)]
    copies_fixed = is_fixed[same_bytes] & ~is_fixed
    representative = np.where(copies_fixed, same_bytes, same_picture[same_bytes])
    return DigestShard(images, same_bytes, representative, is_fixed)


def _units_of(
    images: pa.Table,
    same_bytes: IntArray,
    is_fixed: BoolArray,
    pictures: bool,
    decisions: Decisions,
    labels: Sequence[str],
) -> DigestShard:
    """Returns a digest shard in which only images of different inputs are duplicates. The arguments are columns of it."""
    known = np.asarray(are_known(images["rank"].combine_chunks()))
    inputs = across.input_numbers(images, labels, known)
    digests = images["digest"].combine_chunks()
    if pictures and decisions:
        is_fixed = is_fixed | decisions.are_kept(digests) & (inputs == inputs[same_bytes])
    rows = np.arange(len(images))
    unit = across.units(same_bytes, inputs, is_fixed)
    if not pictures:
        return DigestShard(images, same_bytes, unit, is_fixed, Units(inputs, np.zeros(len(rows), bool), unit))
    has_fixed = across.first_elsewhere(same_bytes, inputs, is_fixed) >= 0
    # Equal bytes may have been decoded with another result, for lack of memory. All units to judge have the same codes.
    codes_row = across.units(same_bytes, np.zeros(len(rows), np.int64), is_fixed)
    compared = are_compared(images, is_fixed)[codes_row] & (is_fixed | ~has_fixed)
    firsts = rows[(unit == rows) & compared]
    sizes = int(inputs.max(initial=0)) + 1
    pictures_of = picture_numbers(images.take(pa.array(codes_row[firsts])))
    groups = (pictures_of * sizes + inputs[firsts]) * 2 + is_fixed[firsts]
    if decisions:
        alone = decisions.are_alone(digests.take(pa.array(firsts)))
        groups[alone] = -1 - firsts[alone]
        declared = np.isin(decisions.numbers_of(digests), decisions.same_numbers)
        compared |= declared & ~is_fixed & ~has_fixed
    same_picture = rows.copy()
    same_picture[firsts] = firsts[firsts_of(groups)]
    return DigestShard(images, same_bytes, same_picture[unit], is_fixed, Units(inputs, compared, codes_row))


def _with_numbered_rows(images: pa.Table, first: BoolArray) -> pa.Table:
    """Returns images, sorted by rank, with the equal ranks of equal rows numbered.

    Such images are equal in everything, so their numbers are the same whenever the shard is loaded.

    Args:
      images: rows of `blocks.IMAGES`, sorted by rank.
      first: (images,) whether each is the first of its rank.
    """
    ranks: list[bytes] = images["rank"].to_pylist()
    digests = images["digest"].to_pylist()
    starts = np.maximum.accumulate(np.where(first, np.arange(len(ranks)), 0))
    for row in np.flatnonzero(~first).tolist():
        if not is_of_row(ranks[row]) or digests[row] != digests[row - 1]:
            raise ValueError(f"two images have the URI {uri_of(ranks[row])!r}: URIs must be unique")
        ranks[row] = numbered_rank(ranks[row], row - int(starts[row]))
    return images.set_column(0, "rank", pa.array(ranks, pa.large_binary()))


def _with_protected_targets(images: pa.Table) -> pa.Table:
    """Returns images of a digest shard, with those protected through which a protected name leads."""
    protected = np.asarray(pc.match_substring(images["flags"], Flag.PROTECTED.value).combine_chunks())
    more = links.depended_on(images, protected) if protected.any() else protected
    more = more & ~np.asarray(are_kept_beforehand(images["rank"].combine_chunks()))
    if not more.any():
        return images
    ranks = images["rank"].to_pylist()
    for row in np.flatnonzero(more).tolist():
        ranks[row] = as_protected(ranks[row])
    return with_flag(images, Flag.PROTECTED, more).set_column(0, "rank", pa.array(ranks, pa.large_binary()))


def are_compared(images: pa.Table, is_fixed: BoolArray) -> BoolArray:
    """Returns which images are compared by their codes: those that have any, except truncated protected ones.

    A protected picture that is truncated is kept, but is no witness of a near image, which may be complete.
    """
    known = np.asarray(are_known(images["rank"].combine_chunks()))
    truncated = np.asarray(pc.match_substring(images["flags"], Flag.TRUNCATED.value).combine_chunks())
    compared: BoolArray = (_code_counts(images) > 0) & ~(truncated & is_fixed & ~known)
    return compared


def compared_codes(shard: DigestShard, number: int, decisions: Decisions = NO_DECISIONS) -> pa.Table:
    """Returns the `CODES` of the representatives of a digest shard.

    Args:
      shard: the digest shard.
      number: its number, which the rows carry so that answers find their way back.
      decisions: the bytes that a person decided to keep are kept beforehand, as known images are. An image without
        codes that was declared the same as another one gets a row of the kind NO_CODE.
    """
    is_fixed = shard.is_fixed
    if decisions and not shard.units:
        is_fixed = is_fixed | decisions.are_kept(shard.images["digest"].combine_chunks())
    is_representative = shard.representative == np.arange(len(shard.representative))
    compared = are_compared(shard.images, is_fixed)
    if shard.units:
        compared = compared[shard.units.codes_row]
        is_representative &= shard.units.compared | shard.is_fixed
    with_codes = code_rows(shard, number, is_representative & compared, is_fixed)
    if not decisions.same:
        return with_codes
    declared = np.isin(decisions.numbers_of(shard.images["digest"].combine_chunks()), decisions.same_numbers)
    without_codes = rows_without_codes(shard, number, is_representative & ~compared & declared, is_fixed)
    return pa.concat_tables([with_codes, without_codes])


def rows_without_codes(shard: DigestShard, number: int, chosen: BoolArray, is_fixed: BoolArray) -> pa.Table:
    """Returns a row of the kind NO_CODE for each image `chosen`."""
    chosen_rows = np.flatnonzero(chosen)
    rows = shard.images.take(pa.array(chosen_rows))
    columns = [
        pa.array(np.full(len(rows), number, np.int32)),
        rows["rank"],
        rows["digest"],
        pa.array(np.full(len(rows), BASE, np.uint8)),
        pa.array(np.full(len(rows), NO_CODE, np.uint8)),
        pa.array([b""] * len(rows), pa.binary()),
        pa.array(is_fixed[chosen]),
        pa.array(_inputs_of(shard, chosen_rows)),
    ]
    return pa.Table.from_arrays(columns, schema=blocks.CODES)


def code_rows(shard: DigestShard, number: int, compared: BoolArray, is_fixed: BoolArray) -> pa.Table:
    """Returns a row for each code of each image `compared`."""
    compared_rows = np.flatnonzero(compared)
    rows = shard.images.take(pa.array(compared_rows))
    codes = rows["codes"].combine_chunks()
    if shard.units:
        codes = shard.images["codes"].combine_chunks().take(pa.array(shard.units.codes_row[compared_rows]))
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
        pa.array(is_fixed[compared]).take(image),
        pa.array(_inputs_of(shard, compared_rows)).take(image),
    ]
    return pa.Table.from_arrays(columns, schema=blocks.CODES)


def _inputs_of(shard: DigestShard, rows: IntArray) -> npt.NDArray[np.int32]:
    """Returns the numbers of the inputs of some images; 0 for all if these do not matter."""
    inputs = shard.units.inputs[rows] if shard.units else np.full(len(rows), across.NOWHERE)
    return inputs.astype(np.int32)


def verdicts(
    shard: DigestShard, marks: pa.Table, preference: Preference, decisions: Decisions = NO_DECISIONS
) -> pa.Table:
    """Returns the verdicts (`VERDICTS`) on the images of a digest shard, except the known ones.

    Args:
      shard: the digest shard.
      marks: the witnesses (`MARKS`) of its representatives. Several code shards may have found a witness
        for one image; the nearest one counts, and of equally near ones the one with the best rank.
      preference: by which images are ranked.
      decisions: with which `shard` was made.
    """
    images, rows, representative = shard.images, np.arange(len(shard.images)), shard.representative
    digests = images["digest"].combine_chunks().cast(pa.binary())
    uris = uris_of(images["rank"])
    best = _best_marks(marks)
    mark = pc.index_in(images["rank"].combine_chunks(), best["rank"].combine_chunks()).take(
        pa.array(representative)
    )
    marked = np.asarray(mark.is_valid())
    if shard.units:
        same, inputs = shard.same_bytes, shard.units.inputs
        is_kept = across.are_kept(same, inputs, shard.is_fixed, shard.units.compared, marked)
        represented_by = across.first_elsewhere(same, inputs, is_kept)
        is_represented = ~is_kept & (represented_by >= 0)
        mark = pc.if_else(pa.array(is_represented), pa.scalar(None, mark.type), mark)
        marked = marked & ~is_represented
    else:
        # A duplicate of its representative, which is kept.
        represented_by = representative
        is_represented = ~marked & (representative != rows) & ~shard.is_fixed
    witness_row = pa.array(represented_by, mask=~is_represented)
    ranks = images["rank"].combine_chunks()
    kept_ranks = pc.coalesce(best["kept_rank"].combine_chunks().take(mark), ranks.take(witness_row))
    kept_uri = pc.coalesce(uris_of(best["kept_rank"]).take(mark), uris.take(witness_row))
    kept_digest = pc.coalesce(
        best["kept_digest"].combine_chunks().cast(pa.binary()).take(mark), digests.take(witness_row)
    )
    is_full = np.asarray(pc.fill_null(pc.is_in(of_base(images, "kind"), value_set=_FULL_KINDS), False))
    zero_distance = pa.array(np.zeros(len(rows), np.int32), mask=~is_represented)
    # Images with equal codes but different bytes also have a long distance: 0.
    has_long = is_represented & is_full & (shard.same_bytes[rows] != shard.same_bytes[represented_by])
    zero_long_distance = pa.array(np.zeros(len(rows), np.int32), mask=~has_long)
    duplicate = marked | is_represented
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
            pc.fill_null(of_base(images, "data"), b""),
            *(
                images[name]
                for name in ("algorithm", "width", "height", "format", "size_bytes", "flags", "detail")
            ),
            kept_uri,
            kept_digest,
            pc.coalesce(best["distance"].combine_chunks().take(mark), zero_distance),
            pc.coalesce(best["long_distance"].combine_chunks().take(mark), zero_long_distance),
            pc.coalesce(
                best["view"].combine_chunks().take(mark),
                pa.array(np.zeros(len(rows), np.uint8), mask=~is_represented),
            ),
            _kept_by(ranks, kept_ranks, kept_digest, preference, decisions),
            images["companions"],
            *(pa.nulls(len(rows), blocks.VERDICTS.field(name).type) for name in blocks.ADDED_LATER),
        ],
        schema=blocks.VERDICTS,
    )
    return table.filter(pc.invert(are_known(images["rank"])))


def _kept_by(
    ranks: pa.Array, kept_ranks: pa.Array, kept_digest: pa.Array, preference: Preference, decisions: Decisions
) -> pa.Array:
    """Returns why witnesses are preferred: `kept_by`, or DECIDED for one that ranks after its duplicate, but is to be kept."""
    words = kept_by(ranks, kept_ranks, preference)
    if not decisions.keep:
        return words
    decided = pc.and_(pc.equal(words, NEAREST), pa.array(decisions.are_kept(kept_digest)))
    return pc.if_else(pc.fill_null(decided, False), pa.scalar(DECIDED, pa.binary()), words)


def _best_marks(marks: pa.Table) -> pa.Table:
    """Returns the best row of each image."""
    # A missing long distance sorts before all others, as NO_DISTANCE does in `selection`, and a missing distance after
    # all others, as UNMEASURED does.
    order = ("rank", "distance", "kept_rank", "view", "long_distance")
    marks = marks.sort_by(
        [(name, "ascending", "at_end" if name == "distance" else "at_start") for name in order]
    )
    return marks.filter(pa.array(blocks.first_rows(marks["rank"])))


def of_base(images: pa.Table, field: str) -> pa.Array:
    """Returns a field of each image's base code, which is its first code; null if it has no codes."""
    counts = _code_counts(images)
    first = pa.array(np.cumsum(counts) - counts, mask=counts == 0)
    return images["codes"].combine_chunks().flatten().field(field).take(first)


def _numbers(column: pa.Array) -> IntArray:
    """Returns a number for each value; equal values have equal numbers."""
    return np.asarray(column.dictionary_encode().indices).astype(np.int64)


def firsts_of(numbers: IntArray) -> IntArray:
    """Returns, for each position, the first position with the same number."""
    _, first, back = np.unique(numbers, return_index=True, return_inverse=True)
    return first[back].astype(np.int64)


def _code_counts(images: pa.Table) -> IntArray:
    """Returns the number of codes of each image."""
    return np.asarray(pc.list_value_length(images["codes"].combine_chunks())).astype(np.int64)


def picture_numbers(images: pa.Table) -> IntArray:
    """Returns a number for each image; images with equal codes in equal views have equal numbers.

    Kinds are not compared: the length of a code's data implies its kind, except that tiny codes and codes
    of metadata both have 8 bytes. Two of these are equal only by chance, with a probability of 2**-64.
    """
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
    """Returns data cut into binary values at `bounds`, without a copy."""
    return pa.Array.from_buffers(
        pa.binary(),
        len(bounds) - 1,
        [None, pa.py_buffer(bounds.astype(np.int32).tobytes()), pa.py_buffer(data)],
    )
