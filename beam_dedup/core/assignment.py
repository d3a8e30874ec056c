"""Assigns images to splits by component, so that no two images within k are in different splits.

The split of a component is a function of its name, the seed and the shares alone: a keyed hash of the name, which is
evenly distributed, falls into the part of a split. So it does not depend on other components, on the order of the input
or on the number of workers. Shares are met on average only, and a large component is in one split as a whole.
"""

import bisect
import dataclasses
import fractions
import hashlib
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.codes import IntArray
from beam_dedup.core.model import Status
from beam_dedup.core.splits import NO_SPLIT, with_column

_HASH_BYTES = 8
_HASHES = 1 << 8 * _HASH_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """The splits to which images are assigned.

    Args:
      names: of the splits, all different.
      shares: of the splits, positive: image i of n is expected to be in a split in proportion to its share.
      seed: another seed gives another assignment.
    """

    names: tuple[str, ...]
    shares: tuple[float, ...]
    seed: int = 0

    def numbers_of(self, components: pa.Array) -> IntArray:
        """Returns the number of the split of each component; `NO_SPLIT` for null."""
        encoded = components.dictionary_encode()
        key = b"%d" % self.seed
        exact = [fractions.Fraction(share) for share in self.shares]
        # A hash below the first end is in the first split, one below the second in the second, ...
        ends = [int(part * _HASHES / sum(exact)) for part in itertools.accumulate(exact)]
        numbers = [
            bisect.bisect_right(
                ends, int.from_bytes(hashlib.blake2b(name, digest_size=_HASH_BYTES, key=key).digest(), "big")
            )
            for name in encoded.dictionary.to_pylist()
        ]
        at = np.asarray(pc.fill_null(encoded.indices, len(numbers))).astype(np.int64)
        found: IntArray = np.array([*numbers, NO_SPLIT], np.int64)[at]
        return found

    def as_fields(self, images: dict[str, int]) -> dict[str, Any]:
        """Returns what the counts file has: seed, shares, and the number of images of each split."""
        return {
            "seed": self.seed,
            "shares": dict(zip(self.names, self.shares, strict=True)),
            "images": {name: images.get(name, 0) for name in self.names},
        }


def with_assigned(block: VerdictBlock, assignment: Assignment) -> VerdictBlock:
    """Returns verdicts with the splits that the images are assigned to; null if they are rejected.

    An image without a component is a component of its own, named by its digest.
    """
    table = blocks.load([block], blocks.VERDICTS)
    components = pc.coalesce(
        *(table[name].combine_chunks().cast(pa.binary()) for name in ("component", "digest"))
    )
    is_rejected = pc.equal(table["status"].combine_chunks(), Status.REJECTED.encode())
    numbers = assignment.numbers_of(pc.if_else(is_rejected, pa.scalar(None, pa.binary()), components))
    return blocks.dump(with_column(table, "assigned", assignment.names, numbers))


def assigned_counts(block: VerdictBlock) -> dict[str, int]:
    """Returns the number of images that are assigned to each split."""
    assigned = blocks.load([block], blocks.VERDICTS)["assigned"].drop_null()
    return {blocks.to_text(row["values"]): row["counts"] for row in assigned.value_counts().to_pylist()}
