"""Holds what every step that reads images needs to know, as one value."""

import dataclasses

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.limits import Limits
from transforms.tally import Tally


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadSettings:
    """How images are read and decoded.

    Args:
      recipe: which codes are computed from each picture; None computes none and decodes nothing, so that only
        equal bytes are found.
      decoder_processes: processes per worker that open and decode files. Use more than 1 only where the runner has
        a single worker on a machine with several cores.
      tally: where workers report their progress, on one machine; None reports nothing.
      limits: the largest files, pictures and archives that are accepted, and the longest time for one image.
    """

    recipe: Recipe | None = None
    decoder_processes: int = 1
    tally: Tally | None = None
    limits: Limits = Limits()
