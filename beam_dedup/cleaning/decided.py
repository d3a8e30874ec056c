"""Applies the decisions of a person (`--decisions`) to the duplicates in the records."""

import dataclasses
from typing import Self

from beam_dedup.cleaning.duplicates import Duplicate
from beam_dedup.cleaning.steps import How
from beam_dedup.core.decisions import Decisions, Pair, pair_of, split_digests
from beam_dedup.core.names import shown

# Files that are dropped have no witness, so they are only moved, and can be moved back.
DROPPING = (How.TRASH, How.MOVE)


@dataclasses.dataclass(frozen=True, slots=True)
class Decided:
    """Decisions in sets.

    Attributes:
      different: pairs of digests that are no duplicates of each other.
      same: pairs of digests that are duplicates of each other.
      keep: digests of files that are never touched.
      drop: digests of files that are moved away, whether they are duplicates or not.
    """

    different: frozenset[Pair]
    same: frozenset[Pair]
    keep: frozenset[bytes]
    drop: frozenset[bytes]

    @classmethod
    def of(cls, decisions: Decisions) -> Self:
        keep, drop = (frozenset(split_digests(joined)) for joined in (decisions.keep, decisions.drop))
        return cls(decisions.different_pairs(), decisions.same_pairs(), keep, drop)

    def accepts(self, duplicate: Duplicate) -> bool:
        """Returns whether a person decided that a duplicate is the same picture as its witness."""
        return any(pair_of(duplicate.digest, digest) in self.same for digest in duplicate.witness_digests)

    def objection(self, duplicate: Duplicate, how: How) -> str:
        """Returns why a duplicate is left although the records have it; "" if no decision is against it."""
        if duplicate.is_dropped:
            if how in DROPPING:
                return ""
            return f"you decided to drop it, but --how {how} would leave no copy. Try --how trash"
        if any(pair_of(duplicate.digest, digest) in self.different for digest in duplicate.witness_digests):
            return f"you decided that it is no duplicate of its witness {shown(duplicate.witness)}"
        return ""
