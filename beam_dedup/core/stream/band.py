"""Finds the predecessors of each new code: the images within k that arrived earlier.

The key of the step is a code shard (`beam_dedup.core.stream.code_shards`); its state is all codes that have
arrived there. Each block of new codes is compared with the stored codes and within itself.

An answer says whether an image has predecessors here, but it names only those that may be anchors. A
predecessor that itself had a predecessor in this code shard is no anchor, whatever happens elsewhere, so it
is not named. Thus each image is given few names, however many similar images there are.

A code that equals a stored code of a base view is not stored. This is safe:

- Its image has a predecessor here, so it is no anchor.
- An image that arrives later and is within k of it is also within k of the stored code, so it is no anchor
  either.
- If neither is near an anchor, both are orphans, and `finish` compares them.

So a million copies of one picture are stored as one code.

A code of a truncated image is not stored either, and no image of its block has it as a predecessor. So a truncated image
may be a duplicate, but never a witness: a whole picture is not dropped because a part of it came first.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from beam_dedup.core.codes import BASE, NO_DISTANCE, BoolArray, IntArray
from beam_dedup.core.stream import code_search, code_shards
from beam_dedup.core.stream.code_search import Matches
from beam_dedup.core.stream.messages import (
    ANSWER_ROWS,
    KNOWN,
    NO_IMAGE,
    POSSIBLE_ANCHOR,
    TRUNCATED,
    Rows,
    codes_from_rows,
    load_rows,
    send_to_digest_shards,
)
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, Topic, blocks_by_topic
from beam_dedup.core.stream.state_cells import Cells


def band(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Compares new codes with the stored ones and with each other, sends answers to `gather`, stores the codes.

    Codes of known images are stored but not answered, since nobody waits for their answers.
    """
    shard = code_shards.code_shard_of(plan, key)
    rows = load_rows([part for parts in blocks_by_topic(bodies).values() for part in parts], shard.dtype)
    # Known images count as the first of the block.
    rows = rows[np.argsort(rows["flags"] & KNOWN == 0, kind="stable")]
    images, image = np.unique(rows["image"], return_inverse=True)
    codes = codes_from_rows(rows)
    known = rows["flags"] & KNOWN > 0
    near = np.zeros(len(images), bool)
    repeats = np.zeros(len(rows), bool)
    named: list[Rows] = []
    needs_search = not known.all()  # predecessors of known images are of no interest
    for match in code_search.matches_in_state(shard, cells, codes) if needs_search else ():
        near[image[match.row]] = True
        repeats[match.row[_repeats(rows, match)]] = True
        named.append(_named(rows, match, match.earlier["flags"] & POSSIBLE_ANCHOR > 0))
    in_block = (
        [_of_whole(match) for match in code_search.matches_in_block(shard, rows, codes)]
        if needs_search
        else []
    )
    for match in in_block:
        near[image[match.row]] = True
        repeats[match.row[_repeats(rows, match)]] = True
    first = ~near | _any_of(image, known, len(images))
    named += [
        _named(rows, match, first[np.searchsorted(images, match.earlier["image"])]) for match in in_block
    ]
    stored = (known | ~repeats) & (rows["flags"] & TRUNCATED == 0)
    new = rows[stored]
    new["flags"] |= np.where(first[image[stored]], POSSIBLE_ANCHOR, 0).astype(np.uint8)
    names = np.concatenate([np.zeros(0, ANSWER_ROWS), *named])
    answers = np.concatenate([_summaries(images, image, ~known, near, names), names])
    return Result(
        code_search.add_codes(shard, cells, new),
        send_to_digest_shards(plan, Step.GATHER, Topic.ANSWERS, answers, answers["image"]),
    )


def _any_of(image: IntArray, codes: BoolArray, images: int) -> BoolArray:
    """Returns for each image whether one of its codes is marked in `codes`."""
    found = np.zeros(images, bool)
    found[image[codes]] = True
    return found


def _of_whole(match: Matches) -> Matches:
    """Returns the matches whose earlier image is not truncated."""
    whole = match.earlier["flags"] & TRUNCATED == 0
    return Matches(*(getattr(match, field.name)[whole] for field in dataclasses.fields(match)))


def _repeats(rows: Rows, match: Matches) -> BoolArray:
    """Returns for each match whether both codes are equal and the earlier one is of a base view."""
    equal = (
        (match.distance == 0)
        & (match.earlier["view"] == BASE)
        & (rows["kind"][match.row] == match.earlier["kind"])
    )
    verified: BoolArray = (match.long_distance <= 0) & (match.detail_distance <= 0)
    repeated: BoolArray = equal & verified
    return repeated


def _named(rows: Rows, match: Matches, first: BoolArray) -> Rows:
    """Returns the answer rows that name possible anchors, for images that are not known.

    Args:
      rows: the new codes.
      match: their matches with earlier codes.
      first: whether the earlier image of each match may be an anchor.
    """
    chosen = np.flatnonzero(first & (rows["flags"][match.row] & KNOWN == 0))
    found = np.zeros(len(chosen), ANSWER_ROWS)
    found["image"] = rows["image"][match.row[chosen]]
    found["other"], found["count"] = match.earlier["image"][chosen], 1
    for name in ("distance", "long_distance", "view"):
        found[name] = getattr(match, name)[chosen]
    return found


def _summaries(
    images: IntArray, image: IntArray, is_answered: BoolArray, near: BoolArray, names: Rows
) -> Rows:
    """Returns the summary row of each image that is not known (see `ANSWER_ROWS`).

    Args:
      images: the image numbers in the block, each once.
      image: index into `images`, per code.
      is_answered: per code; False for codes of known images.
      near: whether the image has predecessors here, per image.
      names: the rows that name predecessors.
    """
    counts = np.bincount(image[is_answered], minlength=len(images))
    found = np.zeros(len(images), ANSWER_ROWS)
    found["image"], found["other"], found["long_distance"] = images, NO_IMAGE, NO_DISTANCE
    found["count"], found["near"] = counts, near
    found["named"] = np.bincount(np.searchsorted(images, names["image"]), minlength=len(images))
    return found[counts > 0]
