"""References in, verdicts out: the whole of it, for anybody's pipeline."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.model import ImageRef, Rejection, Verdict
from beam_dedup.core.plan import Plan
from beam_dedup.core.rank import Keep
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
    number of images if not given. homes: parts the images are judged in, each in the memory of one worker. keep: which
    copy is preferred. known: references to images that are kept beforehand, marked as `known`; they get no verdict.
    """

    near: bool = False
    within: Within = Within()
    plan: Plan | None = None
    homes: int = HOMES
    keep: Keep = Keep.FIRST
    known: PCollection[ImageRef] | None = None
    tally: Tally | None = None

    @no_annotations  # Beam has no types for several outputs
    def expand(self, images: PCollection[ImageRef]) -> Deduplicated:
        all_images = images if self.known is None else (images, self.known) | "WithKnown" >> beam.Flatten()
        read = all_images | "Fingerprint" >> FingerprintImages(pictures=self.near, tally=self.tally)
        plan = None
        if self.near:
            mark = MarkNearDuplicates(self.within, self.plan, self.homes, self.keep, self.known is not None)
            judged, plan = read.fingerprints | "MarkNear" >> mark
        else:
            judged = read.fingerprints | "MarkExact" >> MarkExactDuplicates(self.homes, self.keep)
        rejected = read.rejections | "Rejected" >> beam.FlatMap(verdict_of_rejection)
        verdicts = (judged, rejected) | "All" >> beam.Flatten() | "Count" >> beam.Map(metrics.count)
        return Deduplicated(verdicts, plan)


def verdict_of_rejection(rejection: Rejection) -> Iterator[Verdict]:
    """The verdict on an image that was rejected; a known one gets none, but is counted."""
    if rejection.ref.known:
        Metrics.counter(metrics.NAMESPACE, metrics.KNOWN_REJECTED).inc()
    else:
        yield Verdict.of_rejection(rejection)
