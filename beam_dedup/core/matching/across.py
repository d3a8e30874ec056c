"""Judges images of several inputs such that only images of different inputs are duplicates of each other (`--across`).

The definition is the usual one, over a smaller relation: two images are related if they belong to different inputs, and
have equal bytes or are within k. Images of one input with the same bytes (a *unit*) are related to the same images, and
not to each other, so they share their outcome: all are kept, or all are duplicates with one witness. So units are judged
instead of images, and a unit ranks as its best image. Images kept beforehand are units of their own: an image that is
protected has another outcome than its copies. All known images are one further input.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import links
from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.codes import BoolArray, IntArray

NOWHERE = 0  # the number of the input of images that may be duplicates of all others


def input_numbers(images: pa.Table, labels: Sequence[str], is_known: BoolArray) -> IntArray:
    """Returns the number of the input of each image: from 1 for the inputs, and one more for known images.

    A link belongs to the input of the file that it leads to, if that is an image too: it is no content of its own, and
    must not outlast the file.

    Args:
      images: rows of `blocks.IMAGES`, all that have some digests.
      labels: with which the names of the images of each input begin (`input_paths.labels`).
      is_known: (images,) whether each is known.

    Raises:
      ValueError: a name begins with no label.
    """
    known = len(labels) + 1
    if len(labels) == 1:  # names have no label
        numbers = np.ones(len(images), np.int64)
    else:
        first = pc.replace_substring_regex(
            images["name"].combine_chunks(), pattern=b"(?s)/.*", replacement=b""
        )
        found = pc.index_in(first, pa.array([to_bytes(label) for label in labels], pa.binary()))
        numbers = np.asarray(pc.fill_null(found, -1)).astype(np.int64) + 1
        missing = np.flatnonzero((numbers == NOWHERE) & ~is_known)
        if len(missing):
            name = to_text(images["name"][int(missing[0])].as_py())
            raise ValueError(f"the name {name!r} must begin with the label of an input: {', '.join(labels)}")
    numbers[is_known] = known
    target = links.targets_of(images)
    leads = (target >= 0) & ~is_known
    leads[leads] = ~is_known[target[leads]]
    numbers[leads] = numbers[target[leads]]
    return numbers


def first_elsewhere(group: IntArray, inputs: IntArray, chosen: BoolArray) -> IntArray:
    """Returns, for each row, the first chosen row of the same group and another input; -1 if there is none.

    Args:
      group: (rows,) the number of each row's group, less than the number of rows.
      inputs: (rows,) the number of each row's input.
      chosen: (rows,) mask.

    >>> first_elsewhere(
    ...     np.array([0, 0, 0, 3]), np.array([1, 2, 1, 2]), np.array([True, True, False, True])
    ... ).tolist()
    [1, 0, 1, -1]
    """
    rows = np.flatnonzero(chosen)
    first = _first_rows(group, rows)
    # For rows of the input of that one: the first of another input.
    other = _first_rows(group, rows[inputs[rows] != inputs[first[group[rows]]]])
    first, other = first[group], other[group]
    return np.where((first >= 0) & (inputs[first] != inputs), first, other)


def _first_rows(group: IntArray, rows: IntArray) -> IntArray:
    """Returns, for each group, the first of some rows, which are in ascending order; -1 if it has none of them."""
    found = np.full(len(group), -1)
    groups, at = np.unique(group[rows], return_index=True)
    found[groups] = rows[at]
    return found


def units(same_bytes: IntArray, inputs: IntArray, is_fixed: BoolArray) -> IntArray:
    """Returns the first row of each row's unit.

    Args:
      same_bytes: (rows,) the first row with the same bytes.
      inputs: (rows,) the number of each row's input.
      is_fixed: (rows,) whether it is kept beforehand.
    """
    keys = (same_bytes * (int(inputs.max(initial=0)) + 1) + inputs) * 2 + is_fixed
    _, first, back = np.unique(keys, return_index=True, return_inverse=True)
    rows: IntArray = first[back].astype(np.int64)
    return rows


def are_kept(
    same_bytes: IntArray, inputs: IntArray, is_fixed: BoolArray, compared: BoolArray, marked: BoolArray
) -> BoolArray:
    """Returns which rows of a digest shard are kept.

    Args:
      same_bytes, inputs, is_fixed: as for `units`.
      compared: (rows,) whether the codes of each row's unit were compared. Equal bytes have equal codes, so units with
        the same bytes met there.
      marked: (rows,) whether they are near a kept unit.
    """
    has_fixed = first_elsewhere(same_bytes, inputs, is_fixed) >= 0
    # Of bytes that are not compared, the first unit is kept.
    free = np.where(compared, ~marked, inputs == inputs[same_bytes])
    kept: BoolArray = is_fixed | ~has_fixed & free
    return kept
