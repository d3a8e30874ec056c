"""The steps by name."""

from collections.abc import Callable, Mapping, Sequence

from beam_dedup.core.stream.admit import admit
from beam_dedup.core.stream.band import band
from beam_dedup.core.stream.cells import Cells
from beam_dedup.core.stream.confirm import confirm
from beam_dedup.core.stream.decide import decide
from beam_dedup.core.stream.finish import finish
from beam_dedup.core.stream.gather import gather
from beam_dedup.core.stream.originals import originals
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan
from beam_dedup.core.stream.settle import settle

# Of the plan, a key, its state, and the bodies of messages to it.
Take = Callable[[StreamPlan, bytes, Cells, Sequence[bytes]], Result]

STEPS: Mapping[Step, Take] = {
    Step.ADMIT: admit,
    Step.ORIGINALS: originals,
    Step.BAND: band,
    Step.GATHER: gather,
    Step.CONFIRM: confirm,
    Step.DECIDE: decide,
    Step.FINISH: finish,
    Step.SETTLE: settle,
}
