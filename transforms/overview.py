"""Sums up the verdicts of a batch for the summary that a reader sees."""

import dataclasses
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.overview import Overview, overview_of, sum_overviews


class _SumFn(beam.CombineFn):
    """Sums the overviews of blocks of verdicts."""

    def __init__(self, near: bool) -> None:
        super().__init__()
        self.near = near

    def create_accumulator(self) -> Overview:
        return Overview()

    def add_input(self, overview: Overview, block: VerdictBlock) -> Overview:
        return sum_overviews([overview, overview_of(block, self.near)])

    def merge_accumulators(self, accumulators: Iterable[Overview]) -> Overview:
        return sum_overviews(accumulators)

    def extract_output(self, overview: Overview) -> Overview:
        return overview


@dataclasses.dataclass
class SumUpImages(beam.PTransform[PCollection[VerdictBlock], PCollection[Overview]]):
    """Sums up what the counts do not say: groups, bytes of duplicates, kinds of rejected files.

    Element in: a block of `VERDICTS`. Element out: an `Overview`, exactly one, also if there are no images. Bounded, in the
    global window.

    Args:
      near: whether the verdicts were given in near mode.
    """

    near: bool

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[Overview]:
        return verdicts | "SumUp" >> beam.CombineGlobally(_SumFn(self.near))
