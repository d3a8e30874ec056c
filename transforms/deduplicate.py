"""Deduplicates images, from references to verdicts, in any Beam pipeline."""

import dataclasses
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.blocks import FingerprintBlock, VerdictBlock
from beam_dedup.core.conservation import ReadTally
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.leaks import Leakage
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.model import ImageRef
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.splits import Splits, with_splits
from beam_dedup.core.thresholds import Thresholds
from transforms import metrics
from transforms.decided import DropUnwanted, as_side_input
from transforms.exact import DIGEST_SHARDS, MarkExactDuplicates
from transforms.fingerprint import Fingerprinted, FingerprintImages
from transforms.leaks import DropLeaked, FindLeaks, Near, ShardedContents
from transforms.near import MarkNearDuplicates
from transforms.read_settings import ReadSettings


class SplitLeaks(NamedTuple):
    """Which images leak to other splits."""

    leakage: PCollection[Leakage]  # one
    contents: PCollection[ShardedContents]
    fingerprints: PCollection[
        FingerprintBlock
    ]  # of all images that were compared, also of those that were rejected


class Deduplicated(NamedTuple):
    """The outputs of `DeduplicateImages`."""

    verdicts: PCollection[VerdictBlock]  # one verdict per image that is not known
    plan: PCollection[Estimate] | None  # near mode: how near pairs were found; exact mode: None
    read_tally: PCollection[ReadTally]  # which references were read, and which images were found
    # How many pairs within the thresholds were exempt since a person declared them different; None without such pairs.
    pinned: PCollection[int] | None
    fingerprints: PCollection[
        FingerprintBlock
    ]  # of the images that were judged, and of known ones, for `FindPairs`
    leaks: SplitLeaks | None = None  # None without splits


@dataclasses.dataclass(kw_only=True)
class DeduplicateImages(beam.PTransform[PCollection[list[ImageRef]], Deduplicated]):
    """Reads, fingerprints and judges images.

    Every image gets exactly one verdict: kept, a duplicate of a kept image, or rejected with a reason. No two kept
    images are duplicates of each other, except two protected ones, and with `across` those of one input.

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
      across: the labels of the inputs (`beam_dedup.core.reading.input_paths.labels`), if only images of different inputs
        are duplicates of each other; else (). If there are several, each image's name must begin with the label of its
        input, as those of `ReadImages` do. All known images are one more input.
      splits: the splits of the images, between which leaks are found; the verdicts get the names. Bounded input only, in the
        global window.
      drop_from: the name of a split whose images that leak to another are rejected before all others are judged; "" for
        none.
    """

    settings: ReadSettings = ReadSettings()
    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy | Preference = KeepPolicy.FIRST
    known: PCollection[list[ImageRef]] | None = None
    decisions: Decisions = NO_DECISIONS
    across: tuple[str, ...] = ()
    splits: Splits | None = None
    drop_from: str = ""

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
        split_leaks = None
        if self.splits:
            near = None
            if self.settings.recipe:
                near = Near(self.thresholds, self.planning, self.keep, self.decisions)
            found = fingerprints | "Leaks" >> FindLeaks(self.splits, near, self.digest_shards)
            split_leaks = SplitLeaks(found.leakage, found.contents, fingerprints)
            if self.drop_from:
                unleaked = fingerprints | "Leaked" >> DropLeaked(
                    self.splits, self.drop_from, found.leaks, self.digest_shards
                )
                fingerprints, dropped = unleaked.fingerprints, (*dropped, unleaked.verdicts)
        plan = pinned = None
        if self.settings.recipe:
            mark = MarkNearDuplicates(
                self.thresholds,
                self.planning,
                self.digest_shards,
                self.keep,
                self.known is not None,
                self.decisions,
                self.across,
            )
            judged, plan, pinned = fingerprints | "MarkNear" >> mark
        else:
            judged = fingerprints | "MarkExact" >> MarkExactDuplicates(
                self.digest_shards, self.keep, self.across
            )
        # Counted before the Flatten: Flink runs a step after a Flatten once per branch, and then reports the counters
        # of one branch only.
        counted = (
            judged | "Count" >> beam.Map(metrics.count),
            read.rejections | "CountRejected" >> beam.Map(metrics.count),
            *(
                verdicts | f"CountDropped{number or ''}" >> beam.Map(metrics.count)
                for number, verdicts in enumerate(dropped)
            ),
        )
        verdicts = counted | "All" >> beam.Flatten()
        if self.splits:
            verdicts |= "Splits" >> beam.Map(with_splits, self.splits)
        return Deduplicated(verdicts, plan, read.read_tally, pinned, fingerprints, split_leaks)
