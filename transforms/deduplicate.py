"""References in, verdicts out: the whole of it, for anybody's pipeline."""

import dataclasses
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.conservation import ReadTally
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.model import ImageRef
from beam_dedup.core.rank import KeepPolicy
from beam_dedup.core.thresholds import Thresholds
from transforms import metrics
from transforms.exact import DIGEST_SHARDS, MarkExactDuplicates
from transforms.fingerprint import FingerprintImages
from transforms.near import MarkNearDuplicates
from transforms.read_settings import ReadSettings


class Deduplicated(NamedTuple):
    """Blocks of `blocks.VERDICTS`, one verdict per image; in near mode the plan by which pairs were found; what was read."""

    verdicts: PCollection[bytes]
    plan: PCollection[Estimate] | None
    read_tally: PCollection[ReadTally]


@dataclasses.dataclass(kw_only=True)
class DeduplicateImages(beam.PTransform[PCollection[list[ImageRef]], Deduplicated]):
    """Reads, fingerprints and judges images.

    In: references with unique URIs, some at a time (`BatchReferences` makes lists of single ones). Out: `Deduplicated`:
    each image kept, a duplicate of a kept one, or rejected with a reason (`UnbatchVerdicts` makes single ones of the
    blocks). In windows, each window is judged by itself.

    recipe: what codes of pictures are made; without one only equal bytes count. within: how near. planning: how pairs are found. homes: parts
    the images are judged in, each in the memory of one worker. keep: which copy is preferred. known: references to
    images that are kept beforehand, marked as `known`; they get no verdict. processes: decoding processes of one worker.
    limits: what a file may ask for.
    """

    settings: ReadSettings = ReadSettings()
    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy = KeepPolicy.FIRST
    known: PCollection[list[ImageRef]] | None = None

    @no_annotations  # Beam has no types for several outputs
    def expand(self, images: PCollection[list[ImageRef]]) -> Deduplicated:
        all_images = images if self.known is None else (images, self.known) | "WithKnown" >> beam.Flatten()
        read = all_images | "Fingerprint" >> FingerprintImages(settings=self.settings)
        plan = None
        if self.settings.recipe:
            mark = MarkNearDuplicates(
                self.thresholds, self.planning, self.digest_shards, self.keep, self.known is not None
            )
            judged, plan = read.fingerprints | "MarkNear" >> mark
        else:
            judged = read.fingerprints | "MarkExact" >> MarkExactDuplicates(self.digest_shards, self.keep)
        # Flink runs a step behind a Flatten in each of the branches, and then tells the counters of one of them only.
        counted = (
            judged | "Count" >> beam.Map(metrics.count),
            read.rejections | "CountRejected" >> beam.Map(metrics.count),
        )
        return Deduplicated(counted | "All" >> beam.Flatten(), plan, read.read_tally)
