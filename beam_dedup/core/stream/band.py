"""Where codes meet: which images were here before each that arrives.

The state of a place is all codes that came here. A block of new ones is compared with them, and with each other. Of the
predecessors of an image only those are named that may be anchors: one that had a predecessor of its own in the very same
place is none, wherever else it has been. So however many pictures are alike, an image is told of few of them, and that it
has predecessors at all.

A code equal to that of a base view which is remembered need not be remembered too. Its image has a predecessor here, so it
is no anchor. Whatever comes within k of it later is within k of the remembered one too, so it is no anchor either. If both
are no duplicates, `finish` judges both. So a million copies of one picture are one entry.
"""

from collections.abc import Sequence

import numpy as np

from beam_dedup.core.codes import BASE, NO_DISTANCE, BoolArray, IntArray
from beam_dedup.core.model import CodeKind
from beam_dedup.core.stream import code_search, code_shards
from beam_dedup.core.stream.code_search import Met
from beam_dedup.core.stream.messages import (
    ANSWER_ROWS,
    FIRST,
    KNOWN,
    NOBODY,
    Rows,
    codes_from_rows,
    rows_of,
    send_to_digest_shards,
)
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, Topic, by_topic
from beam_dedup.core.stream.state_cells import Cells


def band(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Answers every new code of an image that is to be judged, and remembers it."""
    shard = code_shards.code_shard_of(plan, key)
    rows = rows_of([part for parts in by_topic(bodies).values() for part in parts], shard.dtype)
    rows = rows[np.argsort(rows["flags"] & KNOWN == 0, kind="stable")]  # known ones were there before all
    images, image = np.unique(rows["image"], return_inverse=True)
    codes = codes_from_rows(rows)
    known = rows["flags"] & KNOWN > 0
    near = np.zeros(len(images), bool)
    repeats = np.zeros(len(rows), bool)
    named: list[Rows] = []
    asked = not known.all()  # nobody asks who was here before what is known
    for met in code_search.met_before(shard, cells, codes) if asked else ():
        near[image[met.row]] = True
        repeats[met.row[_repeats(rows, met)]] = True
        named.append(_named(rows, met, met.earlier["flags"] & FIRST > 0))
    here = list(code_search.met_within(shard, rows, codes)) if asked else []
    for met in here:
        near[image[met.row]] = True
        repeats[met.row[_repeats(rows, met)]] = True
    first = ~near | _any_of(image, known, len(images))
    named += [_named(rows, met, first[np.searchsorted(images, met.earlier["image"])]) for met in here]
    new = rows[known | ~repeats]
    new["flags"] |= np.where(first[image[known | ~repeats]], FIRST, 0).astype(np.uint8)
    names = np.concatenate([np.zeros(0, ANSWER_ROWS), *named])
    answers = np.concatenate([_tallies(images, image, ~known, near, names), names])
    return Result(
        code_search.remember(shard, cells, new),
        send_to_digest_shards(plan, Step.GATHER, Topic.ANSWERS, answers, answers["image"]),
    )


def _any_of(image: IntArray, codes: BoolArray, images: int) -> BoolArray:
    """Which images have a code that is True."""
    found = np.zeros(images, bool)
    found[image[codes]] = True
    return found


def _repeats(rows: Rows, met: Met) -> BoolArray:
    """Which pairs are of equal codes, the earlier one of a base view."""
    equal = (
        (met.distance == 0) & (met.earlier["view"] == BASE) & (rows["kind"][met.row] == met.earlier["kind"])
    )
    verified: BoolArray = (met.long_distance == 0) | (met.earlier["kind"] != CodeKind.FULL)
    repeated: BoolArray = equal & verified
    return repeated


def _named(rows: Rows, met: Met, first: BoolArray) -> Rows:
    """Predecessors that may be anchors, of images that are to be judged."""
    chosen = np.flatnonzero(first & (rows["flags"][met.row] & KNOWN == 0))
    found = np.zeros(len(chosen), ANSWER_ROWS)
    found["image"] = rows["image"][met.row[chosen]]
    found["other"], found["count"] = met.earlier["image"][chosen], 1
    for name in ("distance", "long_distance", "view"):
        found[name] = getattr(met, name)[chosen]
    return found


def _tallies(images: IntArray, image: IntArray, asked: BoolArray, near: BoolArray, names: Rows) -> Rows:
    """How many codes of each image have come here, of those that are to be answered; and what is said of it besides."""
    counts = np.bincount(image[asked], minlength=len(images))
    found = np.zeros(len(images), ANSWER_ROWS)
    found["image"], found["other"], found["long_distance"] = images, NOBODY, NO_DISTANCE
    found["count"], found["near"] = counts, near
    found["named"] = np.bincount(np.searchsorted(images, names["image"]), minlength=len(images))
    return found[counts > 0]
