"""Rejects images that were read: those that a person decided to drop, and others."""

from collections.abc import Sequence

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
    verdicts = rejected(fingerprints.filter(pa.array(is_dropped & is_new)), Reason.DROPPED)
    return fingerprints.filter(pc.invert(pa.array(is_dropped))), verdicts


def rejected(images: pa.Table, reason: Reason, details: Sequence[str] | None = None) -> pa.Table:
    """Returns verdicts (`VERDICTS`) that reject images (`FINGERPRINTS`).

    Args:
      images: the images.
      reason: why they are rejected.
      details: one for each image; None for none.
    """
    columns = []
    for field in blocks.VERDICTS:
        if field.name in _FROM_IMAGE:
            column = images[field.name].combine_chunks().cast(field.type)
        elif field.name in ("status", "reason"):
            value = Status.REJECTED if field.name == "status" else reason
            column = pa.array([value.encode()] * len(images), field.type)
        elif field.name == "detail" and details is not None:
            column = pa.array([blocks.to_bytes(detail) for detail in details], field.type)
        elif field.name in _EMPTY:
            column = pa.array([b""] * len(images), field.type)
        else:
            column = pa.nulls(len(images), field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=blocks.VERDICTS)
