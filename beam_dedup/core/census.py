"""How many codes there are to compare, and what they are like: what a plan is chosen from."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from beam_dedup.core import choosing
from beam_dedup.core.algorithms import Recipe, Views
from beam_dedup.core.choosing import GATHERED_CODES, Estimate
from beam_dedup.core.codes import BASE, TURNS, VIEWS, WordArray
from beam_dedup.core.plan import Plan, mixed
from beam_dedup.core.tables import codes_of
from beam_dedup.core.views import CENTRES
from beam_dedup.core.within import Within

SAMPLE = 8192  # codes: enough to see chance collisions from


@dataclasses.dataclass(frozen=True, slots=True)
class Census:
    """Number of codes, how many of them are no views, and some of these.

    sample: the (at most) `SAMPLE` distinct short codes of the smallest hashes. So it does not depend on how the codes are
    parted, and a code that many images have is in it once, as it is compared once.
    """

    codes: int
    bases: int
    sample: WordArray


@dataclasses.dataclass(frozen=True, slots=True)
class Planning:
    """How a plan is come by.

    given: the plan, if it is not to be chosen. gathered: so many codes are judged in one place. spread: False promises
    that there are not more, so that the steps of judging in many places can be left out. force: whether a plan that
    would go quadratic is followed.
    """

    given: Plan | None = None
    gathered: int = GATHERED_CODES
    spread: bool = True
    force: bool = False

    def choose(self, within: Within, census: Census) -> Estimate:
        """The plan for all codes.

        Raises:
          PlanError: it would go quadratic, and that was not asked for.
        """
        chosen = self._estimated(within, census)
        if not self.force:
            chosen.check()
        return chosen

    def _estimated(self, within: Within, census: Census) -> Estimate:
        if self.given is None:
            gathered = self.gathered if self.spread else census.codes
            return choosing.choose(within, census.codes, census.bases, census.sample, gathered)
        candidates = self.given.candidates(census.codes, census.bases)
        return Estimate(
            self.given, within.k, census.codes, candidates, self.given.seconds(census.codes, candidates)
        )


def most_codes(recipe: Recipe) -> int:
    """How many codes an image has at most."""
    crops = len(VIEWS) - len(TURNS)
    of_views = {Views.NONE: 1, Views.TRIM: 2, Views.CENTRE: 2 + len(CENTRES), Views.CROPS: crops}
    return of_views[Views(recipe.views)] + (len(TURNS) if recipe.turns else 0)


def take(codes: pa.Table) -> Census:
    """Of a table of `blocks.CODES`."""
    columns = codes_of(codes)
    bases = columns.hashed[columns.view[columns.hashed] == BASE]
    return Census(len(codes), int((columns.view == BASE).sum()), _smallest(columns.short[bases]))


def total(parts: Iterable[Census]) -> Census:
    """Of several sets of codes together."""
    taken = list(parts)
    sample = np.concatenate([np.zeros(0, np.uint64), *(part.sample for part in taken)])
    return Census(sum(part.codes for part in taken), sum(part.bases for part in taken), _smallest(sample))


def _smallest(words: WordArray) -> WordArray:
    words = np.unique(words)
    return words[np.argsort(mixed(words), kind="stable")[:SAMPLE]]


def dump(census: Census) -> bytes:
    return np.concatenate([np.array([census.codes, census.bases], np.uint64), census.sample]).tobytes()


def load(data: bytes) -> Census:
    numbers = np.frombuffer(data, np.uint64)
    return Census(int(numbers[0]), int(numbers[1]), numbers[2:])
