"""Finds near duplicates: images whose pictures are within k of the picture of a kept image.

fingerprints --ShardByDigest--> (digest shard, images) ----------------------------------+
                                          |                                              |
                              group equal bytes and equal codes                          |
                                          v                                              v
                        (digest shard, codes) --JudgeCodes--> (digest shard, marks) --> verdicts

A mark names a duplicate and its witness.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks
from beam_dedup.core.blocks import FingerprintBlock, ImageBlock, VerdictBlock
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.matching import planner, shard_verdicts
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.thresholds import Thresholds
from transforms.decided import CountPinned, as_side_input
from transforms.exact import DIGEST_SHARDS, ShardByDigest
from transforms.near_rounds import JudgeCodes, JudgeOnOneWorker, ShardedCodes


class NearMarked(NamedTuple):
    """The outputs of `MarkNearDuplicates`."""

    verdicts: PCollection[VerdictBlock]
    plan: PCollection[
        Estimate
    ]  # one per window that has codes: how near pairs were found, and its estimated cost
    # How many pairs within k were exempt since a person declared them different; None without such pairs.
    pinned: PCollection[int] | None = None


@dataclasses.dataclass
class MarkNearDuplicates(beam.PTransform[PCollection[FingerprintBlock], NearMarked]):
    """Keeps images so that no two kept images are within k, and marks every other image as a duplicate of a kept one.

    Images with equal bytes are grouped first, then the best-ranked one of each group is compared by its codes. Every
    duplicate has a kept witness within k. The definition is in `beam_dedup.core.matching.selection`.

    Element in: a block of `FINGERPRINTS`; URIs are unique within a window. Out: `NearMarked`: blocks of `VERDICTS`, with
    one verdict per image that is not known, and one `Estimate` per window. Bounded as the input. Each window is judged
    by itself; an unbounded input needs windows that end.

    The verdicts do not depend on the order of the input, on bundles, on the number of workers or on the plan. The
    pipeline fails with a `PlanError` if the plan needs more comparisons per code than
    `beam_dedup.core.matching.planner.MAX_CANDIDATES`, unless `planning.force` is set. Counts nothing.

    Args:
      thresholds: when two codes are near.
      planning: how the plan is chosen.
      digest_shards: the number of digest shards. The images of one shard meet in the memory of one worker.
      keep: which images are preferred, and which are protected.
      known: whether known images may be among the fingerprints.
      decisions: what a person decided: pairs that are within k, or not, whatever their codes say, and images that are
        kept beforehand, as known ones are, but judged and counted.
      across: the labels of the inputs, if only images of different inputs are duplicates of each other
        (`beam_dedup.core.matching.across`); else ().
    """

    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy | Preference = KeepPolicy.FIRST
    known: bool = False
    decisions: Decisions = NO_DECISIONS
    across: tuple[str, ...] = ()

    @no_annotations  # Beam has no types for several outputs
    def expand(self, fingerprints: PCollection[FingerprintBlock]) -> NearMarked:
        # PCollection[ShardedImages]
        images = fingerprints | "Pack" >> ShardByDigest(self.digest_shards, self.keep)
        decisions = as_side_input(fingerprints.pipeline, self.decisions)
        # PCollection[ShardedCodes]
        codes = (
            images
            | "ByDigest" >> beam.GroupByKey()
            | "Codes" >> beam.FlatMap(codes_of_shard, decisions, self.across)
        )
        # PCollection[ShardedMarks]; PCollection[Estimate], one per window
        if self.planning.spread:
            chosen = (
                codes
                | "Census" >> beam.Map(stats_of)
                | "Sum" >> beam.CombineGlobally(sum_stats).without_defaults()
                | "Plan" >> beam.Map(choose_plan, self.thresholds, self.planning)
            )
            may_be_kept_beforehand = (
                self.known or bool(Preference.of(self.keep).protect) or bool(self.decisions.keep)
            )
            marks = codes | "Near" >> JudgeCodes(self.thresholds, chosen, may_be_kept_beforehand, decisions)
        else:
            marks, chosen = codes | "Near" >> JudgeOnOneWorker(self.thresholds, self.planning, decisions)
        verdicts = (
            {"images": images, "marks": marks}
            | "Home" >> beam.CoGroupByKey()
            | "Verdicts" >> beam.Map(judge_shard, Preference.of(self.keep), decisions, self.across)
        )
        pinned = (
            codes | "Pinned" >> CountPinned(self.thresholds, decisions) if self.decisions.different else None
        )
        return NearMarked(verdicts, chosen, pinned)


def codes_of_shard(
    shard: tuple[bytes, Iterable[ImageBlock]], decisions: Decisions, across: tuple[str, ...]
) -> Iterator[ShardedCodes]:
    """Yields the codes of the representatives of a digest shard: the images that stand for those with equal pictures."""
    images = blocks.load(shard[1], blocks.IMAGES)
    settled = shard_verdicts.group_images(images, decisions=decisions, across=across)
    yield shard[0], blocks.dump(shard_verdicts.compared_codes(settled, int(shard[0]), decisions))


def stats_of(codes: ShardedCodes) -> bytes:
    """Returns the statistics of the codes of one digest shard, from which the plan is chosen."""
    return planner.dump_stats(planner.code_stats(blocks.load([codes[1]], blocks.CODES)))


def sum_stats(parts: Iterable[bytes]) -> bytes:
    """Returns the statistics of several sets of codes together."""
    return planner.dump_stats(planner.merge_stats(map(planner.load_stats, parts)))


def choose_plan(stats: bytes, thresholds: Thresholds, planning: PlanSettings) -> Estimate:
    """Returns the plan for all codes.

    Raises:
      PlanError: the plan would compare a code with more than `MAX_CANDIDATES` others, and `planning.force` is not set.
    """
    return planning.choose(thresholds, planner.load_stats(stats))


def judge_shard(
    shard: tuple[bytes, dict[str, Iterable[bytes]]],
    preference: Preference,
    decisions: Decisions,
    across: tuple[str, ...],
) -> VerdictBlock:
    """Returns the verdicts on the images of one digest shard, given the marks that other shards made on them."""
    images = blocks.load(shard[1]["images"], blocks.IMAGES)
    settled = shard_verdicts.group_images(images, decisions=decisions, across=across)
    marks = blocks.load(shard[1]["marks"], blocks.MARKS)
    return blocks.dump(shard_verdicts.verdicts(settled, marks, preference, decisions))
