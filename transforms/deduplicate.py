"""Deduplicates images, from references to verdicts, in any Beam pipeline."""

import dataclasses
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.conservation import ReadTally
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.model import ImageRef
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.thresholds import Thresholds
from transforms import metrics
from transforms.decided import DropUnwanted, as_side_input
from transforms.exact import DIGEST_SHARDS, MarkExactDuplicates
from transforms.fingerprint import Fingerprinted, FingerprintImages
from transforms.near import MarkNearDuplicates
from transforms.read_settings import ReadSettings


class Deduplicated(NamedTuple):
    """The outputs of `DeduplicateImages`."""

    verdicts: PCollection[VerdictBlock]  # one verdict per image that is not known
    plan: PCollection[Estimate] | None  # near mode: how near pairs were found; exact mode: None
    read_tally: PCollection[ReadTally]  # which references were read, and which images were found
    # How many pairs within the thresholds were exempt since a person declared them different; None without such pairs.
    pinned: PCollection[int] | None = None


@dataclasses.dataclass(kw_only=True)
class DeduplicateImages(beam.PTransform[PCollection[list[ImageRef]], Deduplicated]):
    """Reads, fingerprints and judges images.

    Every image gets exactly one verdict: kept, a duplicate of a kept image, or rejected with a reason. No two kept
    images are duplicates of each other, except two protected ones.

    Element in: a list of `ImageRef` with unique URIs (`BatchReferences` makes lists of single references). Out:
    `Deduplicated`: blocks of `VERDICTS` (`UnbatchVerdicts` splits them into single verdicts), in near mode one
    `Estimate` per window, and `ReadTally` for `CheckConservation`. Bounded as the input. Each window is judged by
    itself; an unbounded input needs windows that end. To judge images as they arrive, use `JudgeArrivals`.

    The verdicts do not depend on the order of the input, on bundles or on the number of workers. An archive counts
    as its members.

    Counters: `Initial_Image_Count`, `Final_Image_Count`, `Exact_Duplicate_Count`, `Near_Duplicate_Count`,
    `Rejected_Count`, one `Rejected_<reason>_Count` per reason, `Described_Image_Count`, and those of `FingerprintImages`.

    Args:
      settings: how images are read. With a recipe, near duplicates are found; without one, only equal bytes count.
      thresholds: when two codes are near.
      planning: how near pairs are found.
      digest_shards: the number of digest shards. The images of one shard meet in the memory of one worker.
      keep: which copy is preferred, and which images are protected.
      known: references to images that are kept beforehand, marked as `known`. They can be witnesses, but get no
        verdict.
      decisions: what a person decided about digests and pairs of them. Pairs and `keep` count in near mode only.
    """

    settings: ReadSettings = ReadSettings()
    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy | Preference = KeepPolicy.FIRST
    known: PCollection[list[ImageRef]] | None = None
    decisions: Decisions = NO_DECISIONS

    @no_annotations  # Beam has no types for several outputs
    def expand(self, images: PCollection[list[ImageRef]]) -> Deduplicated:
        all_images = images if self.known is None else (images, self.known) | "WithKnown" >> beam.Flatten()
        return self.judged(all_images | "Fingerprint" >> FingerprintImages(settings=self.settings))

    def judged(self, read: Fingerprinted) -> Deduplicated:
        """Adds the steps that judge images which were read."""
        fingerprints = read.fingerprints
        dropped: tuple[PCollection[VerdictBlock], ...] = ()
        if self.decisions.drop:
            unwanted = DropUnwanted(as_side_input(fingerprints.pipeline, self.decisions), self.keep)
            wanted = fingerprints | "Unwanted" >> unwanted
            fingerprints, dropped = wanted.fingerprints, (wanted.verdicts,)
        plan = pinned = None
        if self.settings.recipe:
            mark = MarkNearDuplicates(
                self.thresholds,
                self.planning,
                self.digest_shards,
                self.keep,
                self.known is not None,
                self.decisions,
            )
            judged, plan, pinned = fingerprints | "MarkNear" >> mark
        else:
            judged = fingerprints | "MarkExact" >> MarkExactDuplicates(self.digest_shards, self.keep)
        # Counted before the Flatten: Flink runs a step after a Flatten once per branch, and then reports the counters
        # of one branch only.
        counted = (
            judged | "Count" >> beam.Map(metrics.count),
            read.rejections | "CountRejected" >> beam.Map(metrics.count),
            *(verdicts | "CountDropped" >> beam.Map(metrics.count) for verdicts in dropped),
        )
        return Deduplicated(counted | "All" >> beam.Flatten(), plan, read.read_tally, pinned)
