"""Tables in state: rows sorted by a key of fixed size, and rows sorted by image number."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.codes import BoolArray, IntArray
from beam_dedup.core.stream.messages import Rows, columnar, columns_of, numbers, rows_of
from beam_dedup.core.stream.state_cells import Cells, Change, cuts, remembered


def count_keys(cells: Cells, dtype: np.dtype[np.void]) -> int:
    """How many rows are remembered."""
    return sum(map(len, (*cells.settled, *cells.recent))) // dtype.itemsize


def find_keys(cells: Cells, dtype: np.dtype[np.void], wanted: Rows) -> tuple[BoolArray, Rows]:
    """Looks up rows by their keys.

    Returns: whether each is remembered, (wanted,), and the remembered row of each, or else zeros.
    """
    found = np.zeros(len(wanted), bool)
    rows = np.zeros(len(wanted), dtype)
    keys = np.ascontiguousarray(wanted["key"])
    recent = rows_of(cells.recent, dtype)
    recent = recent[np.isin(_heads(recent), _heads(wanted))]  # few of many, so that little is sorted
    recent = recent[np.argsort(recent["key"])]
    for columns in (
        *(columns_of(piece, dtype) for piece in cells.settled),
        columns_of(columnar(recent), dtype),
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


def _heads(rows: Rows) -> npt.NDArray[np.uint32]:
    """The first bytes of the keys, which are the first of the rows."""
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), rows.dtype.itemsize)
    return np.ascontiguousarray(raw[:, :4]).view(np.uint32)[:, 0]


def add_keys(cells: Cells, new: Rows) -> Change:
    """Remembers some rows."""
    dtype = new.dtype

    def merge(recent: bytes) -> list[bytes]:
        settled = [_rows(piece, dtype) for piece in cells.settled]
        rows = np.concatenate([*settled, rows_of([recent], dtype)])
        rows = rows[np.argsort(rows["key"])]
        return [columnar(rows[cut]) for cut in cuts(len(rows), dtype.itemsize)]

    return remembered(cells, new.tobytes(), b"".join, merge)


def first_of_each(keys: Sequence[bytes] | Rows) -> BoolArray:
    """Which are the first of their kind, in the order given."""
    found = np.zeros(len(keys), bool)
    found[np.unique(keys, return_index=True)[1]] = True
    return found


def _rows(piece: bytes, dtype: np.dtype[np.void]) -> Rows:
    columns = columns_of(piece, dtype)
    rows = np.zeros(len(piece) // dtype.itemsize, dtype)
    for name, column in columns.items():
        rows[name] = column
    return rows


def find_images(cells: Cells, new: pa.Table, wanted: IntArray) -> tuple[BoolArray, pa.Table]:
    """Looks images up in what is remembered and what is new.

    Returns: which of them are there, (wanted,), and the rows of these, in their order.
    """
    schema = new.schema
    at: list[IntArray] = []
    rows: list[pa.Table] = []
    recent = pa.concat_tables([blocks.load(cells.recent, schema), new])
    for table in (*(blocks.load([piece], schema) for piece in cells.settled), recent):
        place, row = _positions(numbers(table), wanted)
        if len(place):
            at.append(place)
            rows.append(table.take(pa.array(row)))
    found = np.zeros(len(wanted), bool)
    if not at:
        return found, schema.empty_table()
    places = np.concatenate(at)
    found[places] = True
    return found, pa.concat_tables(rows).take(pa.array(np.argsort(places)))


def _positions(images: IntArray, wanted: IntArray) -> tuple[IntArray, IntArray]:
    """(i, j) such that `images[j] == wanted[i]`; images are not twice there."""
    if not len(images) or not len(wanted):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(images, kind="stable")  # sorted ones cost little
    at = np.minimum(np.searchsorted(images, wanted, sorter=order), len(images) - 1)
    row = order[at]
    place = np.flatnonzero(images[row] == wanted)
    return place, row[place]


def add_images(cells: Cells, new: pa.Table) -> Change:
    """Remembers some rows."""
    schema = new.schema

    def join(parts: Sequence[bytes]) -> bytes:
        return blocks.dump(blocks.load(parts, schema))

    def merge(recent: bytes) -> list[bytes]:
        table = blocks.load([*cells.settled, recent], schema).sort_by("image")
        row_bytes = -(-table.nbytes // max(len(table), 1))
        return [
            blocks.dump(table.slice(cut.start, cut.stop - cut.start)) for cut in cuts(len(table), row_bytes)
        ]

    return remembered(cells, blocks.dump(new) if len(new) else b"", join, merge)
