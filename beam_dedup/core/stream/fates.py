"""The fates of images: what they mean for the image itself and for the copies of its bytes."""

import numpy as np
import pyarrow as pa

from beam_dedup.core.codes import BASE, NO_DISTANCE, ByteArray, IntArray
from beam_dedup.core.stream.messages import FATES


def kept(image: IntArray, names: pa.Table) -> pa.Table:
    """Of images that are kept, given their own names: a copy is a duplicate of the image itself."""
    zeros = np.zeros(len(image), np.int64)
    return _fates(image, True, names, zeros, zeros + NO_DISTANCE, np.full(len(image), BASE, np.uint8))


def duplicates(
    image: IntArray, names: pa.Table, distance: IntArray, long_distance: IntArray, view: ByteArray
) -> pa.Table:
    """Of duplicates, given the names of their witnesses: a copy has the same witness."""
    return _fates(image, False, names, distance, long_distance, view)


def _fates(
    image: IntArray,
    is_kept: bool,
    names: pa.Table,
    distance: IntArray,
    long_distance: IntArray,
    view: ByteArray,
) -> pa.Table:
    columns = [
        pa.array(image, pa.int64()),
        pa.array(np.full(len(image), is_kept)),
        names["uri"],
        names["digest"],
        pa.array(distance, pa.int32()),
        pa.array(long_distance, pa.int32(), mask=long_distance == NO_DISTANCE),
        pa.array(view, pa.uint8()),
    ]
    return pa.Table.from_arrays(columns, schema=FATES)
