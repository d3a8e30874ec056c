"""Rejects the images that a person decided to drop."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.decisions import Decisions
from beam_dedup.core.model import Reason, Status
from beam_dedup.core.preference import Preference
from beam_dedup.core.rank import are_protected

_FROM_IMAGE = ("uri", "name", "metadata", "digest", "width", "height", "format", "size_bytes")
_EMPTY = ("fingerprint", "algorithm", "flags", "detail")


def split_dropped(
    fingerprints: pa.Table, decisions: Decisions, preference: Preference
) -> tuple[pa.Table, pa.Table]:
    """Returns the images to judge (`FINGERPRINTS`), and the verdicts (`VERDICTS`) on those that are dropped.

    A known image that is dropped has no verdict, as known images have none.

    Args:
      fingerprints: rows of `FINGERPRINTS`.
      decisions: with the digests to drop.
      preference: with the globs of protected images, which are never dropped.
    """
    is_dropped = decisions.are_dropped(fingerprints["digest"].combine_chunks())
    if is_dropped.any():
        is_dropped &= ~are_protected(fingerprints, preference)
    is_new = ~np.asarray(fingerprints["known"].combine_chunks()).astype(bool)
    rows = fingerprints.filter(pa.array(is_dropped & is_new))
    columns = []
    for field in blocks.VERDICTS:
        if field.name in _FROM_IMAGE:
            column = rows[field.name].combine_chunks().cast(field.type)
        elif field.name in ("status", "reason"):
            value = Status.REJECTED if field.name == "status" else Reason.DROPPED
            column = pa.array([value.encode()] * len(rows), field.type)
        elif field.name in _EMPTY:
            column = pa.array([b""] * len(rows), field.type)
        else:
            column = pa.nulls(len(rows), field.type)
        columns.append(column)
    verdicts = pa.Table.from_arrays(columns, schema=blocks.VERDICTS)
    return fingerprints.filter(pc.invert(pa.array(is_dropped))), verdicts
