"""Assigns images to splits by component, and counts them (definition: `beam_dedup.core.assignment`)."""

import collections
import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.assignment import Assignment, assigned_counts, with_assigned
from beam_dedup.core.blocks import VerdictBlock


class Assigned(NamedTuple):
    """The outputs of `AssignSplits`."""

    verdicts: PCollection[VerdictBlock]
    counts: PCollection[dict[str, int]]  # one: the number of images of each split that has any


@dataclasses.dataclass
class AssignSplits(beam.PTransform[PCollection[VerdictBlock], Assigned]):
    """Assigns every image that is not rejected to a split, and all images of one component to the same.

    Element in: a block of `VERDICTS` with components (`AddComponents`). Out: `Assigned`: the same blocks with splits, and
    one dictionary. Bounded, in the global window. An image gets the same split whatever other components there are. Counts
    nothing.

    Args:
      assignment: the splits, their shares and the seed.
    """

    assignment: Assignment

    @no_annotations  # Beam has no types for several outputs
    def expand(self, verdicts: PCollection[VerdictBlock]) -> Assigned:
        assigned = verdicts | "Assign" >> beam.Map(with_assigned, self.assignment)
        counts = assigned | "Count" >> beam.Map(assigned_counts) | "Sum" >> beam.CombineGlobally(added_counts)
        return Assigned(assigned, counts)


def added_counts(parts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Returns the sum of several numbers by name."""
    total: collections.Counter[str] = collections.Counter()
    for part in parts:
        total.update(part)
    return dict(total)
