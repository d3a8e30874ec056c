"""Keeps tables in the state of a key: tables of keys, and tables of images.

A table of keys (`find_keys`) has rows of fixed size, found by their field `key`. A table of images
(`find_images`) is an Arrow table, whose rows are found by image number.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.codes import BoolArray, IntArray
from beam_dedup.core.stream.messages import Rows, int_column, load_rows, pack_columns, unpack_columns
from beam_dedup.core.stream.state_cells import Cells, Change, add_block, piece_slices


def count_keys(cells: Cells, dtype: np.dtype[np.void]) -> int:
    """Returns the number of rows in a table of keys."""
    return sum(map(len, (*cells.settled, *cells.recent))) // dtype.itemsize


def find_keys(cells: Cells, dtype: np.dtype[np.void], wanted: Rows) -> tuple[BoolArray, Rows]:
    """Looks up rows by their keys (the field `key`).

    Returns:
      found: whether each wanted key is stored, (wanted,) bool.
      rows: the stored row of each wanted key, (wanted,); zeros where there is none.
    """
    found = np.zeros(len(wanted), bool)
    rows = np.zeros(len(wanted), dtype)
    keys = np.ascontiguousarray(wanted["key"])
    recent = load_rows(cells.recent, dtype)
    recent = recent[np.isin(_key_heads(recent), _key_heads(wanted))]  # only rows that can match, to sort few
    recent = recent[np.argsort(recent["key"])]
    for columns in (
        *(unpack_columns(piece, dtype) for piece in cells.settled),
        unpack_columns(pack_columns(recent), dtype),
    ):
        there = columns["key"]
        if not len(there):
            continue
        at = np.minimum(np.searchsorted(there, keys), len(there) - 1)
        here = there[at] == keys
        found |= here
        for name, column in columns.items():
            rows[name][here] = column[at[here]]
    return found, rows


def _key_heads(rows: Rows) -> npt.NDArray[np.uint32]:
    """Returns the first 4 bytes of each key, which is the first field of a row."""
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), rows.dtype.itemsize)
    return np.ascontiguousarray(raw[:, :4]).view(np.uint32)[:, 0]


def add_keys(cells: Cells, new: Rows) -> Change:
    """Returns the change that adds rows to a table of keys. No key may be stored already."""
    dtype = new.dtype

    def merge(recent: bytes) -> list[bytes]:
        settled = [_piece_rows(piece, dtype) for piece in cells.settled]
        rows = np.concatenate([*settled, load_rows([recent], dtype)])
        rows = rows[np.argsort(rows["key"])]
        return [pack_columns(rows[cut]) for cut in piece_slices(len(rows), dtype.itemsize)]

    return add_block(cells, new.tobytes(), b"".join, merge)


def first_of_each(keys: Sequence[bytes] | Rows) -> BoolArray:
    """Returns for each key whether it is the first of its value, in the given order."""
    found = np.zeros(len(keys), bool)
    found[np.unique(keys, return_index=True)[1]] = True
    return found


def _piece_rows(piece: bytes, dtype: np.dtype[np.void]) -> Rows:
    columns = unpack_columns(piece, dtype)
    rows = np.zeros(len(piece) // dtype.itemsize, dtype)
    for name, column in columns.items():
        rows[name] = column
    return rows


def find_images(cells: Cells, new: pa.Table, wanted: IntArray) -> tuple[BoolArray, pa.Table]:
    """Looks up images by number in a table of images, and in rows that are about to be added.

    Returns:
      found: whether each wanted image is there, (wanted,) bool.
      rows: the rows of those that are, in the order of `wanted`.
    """
    schema = new.schema
    at: list[IntArray] = []
    rows: list[pa.Table] = []
    recent = pa.concat_tables([blocks.load(cells.recent, schema), new])
    for table in (*(blocks.load([piece], schema) for piece in cells.settled), recent):
        position, row = _positions(int_column(table), wanted)
        if len(position):
            at.append(position)
            rows.append(table.take(pa.array(row)))
    found = np.zeros(len(wanted), bool)
    if not at:
        return found, schema.empty_table()
    positions = np.concatenate(at)
    found[positions] = True
    return found, pa.concat_tables(rows).take(pa.array(np.argsort(positions)))


def _positions(images: IntArray, wanted: IntArray) -> tuple[IntArray, IntArray]:
    """Returns (i, j) such that `images[j] == wanted[i]`. No image may occur twice in `images`."""
    if not len(images) or not len(wanted):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(images, kind="stable")  # cheap if already sorted
    at = np.minimum(np.searchsorted(images, wanted, sorter=order), len(images) - 1)
    row = order[at]
    position = np.flatnonzero(images[row] == wanted)
    return position, row[position]


def add_images(cells: Cells, new: pa.Table) -> Change:
    """Returns the change that adds rows to a table of images. No image may be stored already."""
    schema = new.schema

    def join(parts: Sequence[bytes]) -> bytes:
        return blocks.dump(blocks.load(parts, schema))

    def merge(recent: bytes) -> list[bytes]:
        table = blocks.load([*cells.settled, recent], schema).sort_by("image")
        row_bytes = -(-table.nbytes // max(len(table), 1))
        return [
            blocks.dump(table.slice(cut.start, cut.stop - cut.start))
            for cut in piece_slices(len(table), row_bytes)
        ]

    return add_block(cells, blocks.dump(new) if len(new) else b"", join, merge)
