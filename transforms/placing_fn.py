"""What steps that place copies have in common: how they tell, and count, what came of each."""

from collections.abc import Iterator
from typing import Any, Final, Literal

from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from beam_dedup.core.model import Placement, Unplaced
from transforms import metrics
from transforms.placing import How, PlacingError
from transforms.progress import PLACED, Tally
from transforms.threaded import ThreadedDoFn

UNPLACED: Final = "unplaced"
_TaggedUnplaced = TaggedOutput[Literal["unplaced"], Unplaced]

Done = tuple[Placement, bool | PlacingError]  # whether there was something to do, or why it can't be done


class PlacingFn(ThreadedDoFn):
    """What `work` is done on -> each placement of it that is there now, or Unplaced on the tagged output."""

    def __init__(self, threads: int, how: How, tally: Tally | None) -> None:
        super().__init__(threads)
        self.how = how
        self.tally = tally
        self.copies = Metrics.counter(metrics.NAMESPACE, metrics.COPIES)
        self.unplaced = Metrics.counter(metrics.NAMESPACE, metrics.UNPLACED)

    def work(self, element: Any) -> list[Done]:
        """Places an element's copies."""
        raise NotImplementedError

    def outputs(self, _element: Any, result: list[Done]) -> Iterator[Placement | _TaggedUnplaced]:
        for placement, done in result:
            if isinstance(done, PlacingError):
                self.unplaced.inc()
                unplaced: _TaggedUnplaced = TaggedOutput(UNPLACED, Unplaced(placement, str(done)))
                yield unplaced
            else:
                if done:
                    self.copies.inc()
                yield placement
        if self.tally:
            self.tally.add(PLACED, len(result))
