"""References in, verdicts out: the whole of it, for anybody's pipeline."""

import dataclasses
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.model import ImageRef, Verdict
from beam_dedup.core.plan import Plan
from beam_dedup.core.within import Within
from transforms import metrics
from transforms.exact import HOMES, MarkExactDuplicates
from transforms.fingerprint import FingerprintImages
from transforms.near import MarkNearDuplicates
from transforms.progress import Tally


class Deduplicated(NamedTuple):
    """One verdict per image, and in near mode the plan by which pairs were found and the number of codes it is for."""

    verdicts: PCollection[Verdict]
    plan: PCollection[tuple[Plan, int]] | None


@dataclasses.dataclass
class DeduplicateImages(beam.PTransform[PCollection[ImageRef], Deduplicated]):
    """Reads, fingerprints and judges images.

    In: references with unique URIs. Out: `Deduplicated`: each image kept, a duplicate of a kept one, or rejected with
    a reason. In windows, each window is judged by itself.

    near: also pictures within k, not equal bytes alone. within: how near. plan: how pairs are found; chosen from the
    number of images if not given. homes: parts the images are judged in, each in the memory of one worker.
    """

    near: bool = False
    within: Within = Within()
    plan: Plan | None = None
    homes: int = HOMES
    tally: Tally | None = None

    @no_annotations  # Beam has no types for several outputs
    def expand(self, images: PCollection[ImageRef]) -> Deduplicated:
        read = images | "Fingerprint" >> FingerprintImages(pictures=self.near, tally=self.tally)
        plan = None
        if self.near:
            marked = read.fingerprints | "MarkNear" >> MarkNearDuplicates(self.within, self.plan, self.homes)
            judged, plan = marked.verdicts, marked.plan
        else:
            judged = read.fingerprints | "MarkExact" >> MarkExactDuplicates(self.homes)
        rejected = read.rejections | "Rejected" >> beam.Map(Verdict.of_rejection)
        verdicts = (judged, rejected) | "All" >> beam.Flatten() | "Count" >> beam.Map(metrics.count)
        return Deduplicated(verdicts, plan)
