"""Near duplicates: images whose pictures lie within k of a kept one.

fingerprints --PackByDigest--> (home, images) ---------------------------------------+
                                    |                                                 |
                               equal bytes, equal codes                               |
                                    v                                                 v
                              (home, codes) --JudgeCodes--> (home, witnesses) --> verdicts
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks, census, grouping
from beam_dedup.core.census import Planning
from beam_dedup.core.choosing import Estimate
from beam_dedup.core.rank import Keep
from beam_dedup.core.within import Within
from transforms.exact import HOMES, PackByDigest
from transforms.places import Block, JudgeCodes, JudgeInOnePlace


class NearMarked(NamedTuple):
    """Blocks of `blocks.VERDICTS`, and the plan by which near duplicates were looked for, with what it was to cost."""

    verdicts: PCollection[bytes]
    plan: PCollection[Estimate]


@dataclasses.dataclass
class MarkNearDuplicates(beam.PTransform[PCollection[bytes], NearMarked]):
    """First equal bytes, then pictures within k: keeps images of which no two are within k.

    In: blocks of `blocks.FINGERPRINTS`, with unique URIs. Out: blocks of `blocks.VERDICTS`: one verdict on each image that is not
    known, in the same window; windows are judged by themselves. The verdicts do not depend on order, bundles or workers.

    within: the thresholds. planning: how pairs are found. homes: parts the images are packed in. keep: the policy that
    ranks. known: whether there may be known images among the fingerprints.
    """

    within: Within = Within()
    planning: Planning = Planning()
    homes: int = HOMES
    keep: Keep = Keep.FIRST
    known: bool = False

    @no_annotations  # Beam has no types for several outputs
    def expand(self, fingerprints: PCollection[bytes]) -> NearMarked:
        images = fingerprints | "Pack" >> PackByDigest(self.homes, self.keep)  # (home, block of IMAGES)
        codes = (
            images | "ByDigest" >> beam.GroupByKey() | "Codes" >> beam.FlatMap(codes_of_home)
        )  # (home, CODES)
        if self.planning.spread:
            chosen = (  # Estimate, one a window
                codes
                | "Census" >> beam.Map(census_of)
                | "Sum" >> beam.CombineGlobally(add_up).without_defaults()
                | "Plan" >> beam.Map(choose_plan, self.within, self.planning)
            )
            marks = codes | "Near" >> JudgeCodes(self.within, chosen, self.known)  # (home, MARKS)
        else:
            marks, chosen = codes | "Near" >> JudgeInOnePlace(self.within, self.planning)
        verdicts = (
            {"images": images, "marks": marks}
            | "Home" >> beam.CoGroupByKey()
            | "Verdicts" >> beam.Map(judge_home)
        )
        return NearMarked(verdicts, chosen)


def codes_of_home(home: tuple[bytes, Iterable[bytes]]) -> Iterator[Block]:
    """The codes of the images that speak for a home."""
    settled = grouping.settle(blocks.load(home[1], blocks.IMAGES))
    yield home[0], blocks.dump(grouping.compared_codes(settled, int(home[0])))


def census_of(block: Block) -> bytes:
    return census.dump(census.take(blocks.load([block[1]], blocks.CODES)))


def add_up(parts: Iterable[bytes]) -> bytes:
    return census.dump(census.total(map(census.load, parts)))


def choose_plan(counted: bytes, within: Within, planning: Planning) -> Estimate:
    """The plan for all codes.

    Raises:
      PlanError: it would go quadratic, and that was not asked for.
    """
    return planning.choose(within, census.load(counted))


def judge_home(home: tuple[bytes, dict[str, Iterable[bytes]]]) -> bytes:
    """The verdicts of one home, with the witnesses that were found elsewhere."""
    settled = grouping.settle(blocks.load(home[1]["images"], blocks.IMAGES))
    return blocks.dump(grouping.verdicts(settled, blocks.load(home[1]["marks"], blocks.MARKS)))
