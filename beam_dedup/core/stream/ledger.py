"""What is remembered of images by their number, in tables with a column `image`: settled pieces are sorted by it."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.codes import BoolArray, IntArray
from beam_dedup.core.stream.cells import Cells, Change, cuts, remembered
from beam_dedup.core.stream.messages import numbers


def find(cells: Cells, new: pa.Table, wanted: IntArray) -> tuple[BoolArray, pa.Table]:
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


def add(cells: Cells, new: pa.Table) -> Change:
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
