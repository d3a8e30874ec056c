"""Which keys of a fixed size were seen before: rows whose first field is the `key`, remembered sorted by it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from beam_dedup.core.codes import BoolArray
from beam_dedup.core.stream.cells import Cells, Change, cuts, remembered
from beam_dedup.core.stream.messages import Rows, columnar, columns_of, rows_of


def count(cells: Cells, dtype: np.dtype[np.void]) -> int:
    """How many rows are remembered."""
    return sum(map(len, (*cells.settled, *cells.recent))) // dtype.itemsize


def find(cells: Cells, dtype: np.dtype[np.void], wanted: Rows) -> tuple[BoolArray, Rows]:
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


def add(cells: Cells, new: Rows) -> Change:
    """Remembers some rows."""
    dtype = new.dtype

    def merge(recent: bytes) -> list[bytes]:
        settled = [_rows(piece, dtype) for piece in cells.settled]
        rows = np.concatenate([*settled, rows_of([recent], dtype)])
        rows = rows[np.argsort(rows["key"])]
        return [columnar(rows[cut]) for cut in cuts(len(rows), dtype.itemsize)]

    return remembered(cells, new.tobytes(), b"".join, merge)


def firsts(keys: Sequence[bytes] | Rows) -> BoolArray:
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
