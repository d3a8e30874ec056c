"""Near duplicates: images whose pictures lie within k of a kept one.

fingerprints --ShardByDigest--> (home, images) ---------------------------------------+
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

from beam_dedup.core import blocks
from beam_dedup.core.matching import planner, shard_verdicts
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.rank import KeepPolicy
from beam_dedup.core.thresholds import Thresholds
from transforms.exact import DIGEST_SHARDS, ShardByDigest
from transforms.near_rounds import Block, JudgeCodes, JudgeOnOneWorker


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

    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy = KeepPolicy.FIRST
    known: bool = False

    @no_annotations  # Beam has no types for several outputs
    def expand(self, fingerprints: PCollection[bytes]) -> NearMarked:
        images = fingerprints | "Pack" >> ShardByDigest(
            self.digest_shards, self.keep
        )  # (home, block of IMAGES)
        codes = (
            images | "ByDigest" >> beam.GroupByKey() | "Codes" >> beam.FlatMap(codes_of_shard)
        )  # (home, CODES)
        if self.planning.spread:
            chosen = (  # Estimate, one a window
                codes
                | "Census" >> beam.Map(stats_of)
                | "Sum" >> beam.CombineGlobally(add_up).without_defaults()
                | "Plan" >> beam.Map(choose_plan, self.thresholds, self.planning)
            )
            marks = codes | "Near" >> JudgeCodes(self.thresholds, chosen, self.known)  # (home, MARKS)
        else:
            marks, chosen = codes | "Near" >> JudgeOnOneWorker(self.thresholds, self.planning)
        verdicts = (
            {"images": images, "marks": marks}
            | "Home" >> beam.CoGroupByKey()
            | "Verdicts" >> beam.Map(judge_shard)
        )
        return NearMarked(verdicts, chosen)


def codes_of_shard(shard: tuple[bytes, Iterable[bytes]]) -> Iterator[Block]:
    """The codes of the images that speak for a home."""
    settled = shard_verdicts.group_images(blocks.load(shard[1], blocks.IMAGES))
    yield shard[0], blocks.dump(shard_verdicts.compared_codes(settled, int(shard[0])))


def stats_of(block: Block) -> bytes:
    return planner.dump_stats(planner.code_stats(blocks.load([block[1]], blocks.CODES)))


def add_up(parts: Iterable[bytes]) -> bytes:
    return planner.dump_stats(planner.merge_stats(map(planner.load_stats, parts)))


def choose_plan(counted: bytes, thresholds: Thresholds, planning: PlanSettings) -> Estimate:
    """The plan for all codes.

    Raises:
      PlanError: it would go quadratic, and that was not asked for.
    """
    return planning.choose(thresholds, planner.load_stats(counted))


def judge_shard(shard: tuple[bytes, dict[str, Iterable[bytes]]]) -> bytes:
    """The verdicts of one home, with the witnesses that were found elsewhere."""
    settled = shard_verdicts.group_images(blocks.load(shard[1]["images"], blocks.IMAGES))
    return blocks.dump(shard_verdicts.verdicts(settled, blocks.load(shard[1]["marks"], blocks.MARKS)))
