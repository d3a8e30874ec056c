"""Lists the steps, and the bags of state that each uses."""

from collections.abc import Callable, Mapping, Sequence

from beam_dedup.core.stream.admit import admit
from beam_dedup.core.stream.band import band
from beam_dedup.core.stream.confirm import confirm
from beam_dedup.core.stream.decide import decide
from beam_dedup.core.stream.finish import finish
from beam_dedup.core.stream.gather import gather
from beam_dedup.core.stream.originals import originals
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan
from beam_dedup.core.stream.settle import settle
from beam_dedup.core.stream.state_cells import Cells

# Arguments: the plan, the key, the state of the key, and the bodies of messages to it.
StepFunction = Callable[[StreamPlan, bytes, Cells, Sequence[bytes]], Result]

STEPS: Mapping[Step, StepFunction] = {
    Step.ADMIT: admit,
    Step.ORIGINALS: originals,
    Step.BAND: band,
    Step.GATHER: gather,
    Step.CONFIRM: confirm,
    Step.DECIDE: decide,
    Step.FINISH: finish,
    Step.SETTLE: settle,
}

# The bags of state that each step uses. The others are never read, since each read costs time.
CELLS: Mapping[Step, tuple[str, ...]] = {
    Step.ADMIT: ("settled", "recent"),
    Step.ORIGINALS: ("settled", "recent"),
    Step.BAND: ("settled", "recent"),
    Step.GATHER: ("waiting",),
    Step.CONFIRM: ("settled", "recent", "waiting"),
    Step.DECIDE: ("waiting",),
    Step.FINISH: ("settled", "recent"),
    Step.SETTLE: ("settled", "recent", "waiting"),
}
