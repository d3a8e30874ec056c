"""What is made of the end of a job that another engine did."""

import pytest
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_dedup import engine
from beam_dedup.core.errors import DedupError


class _Raising(PipelineResult):
    """As Dataflow's: whatever has not ended by itself is an error."""

    def wait_until_finish(self, duration: int | None = None) -> str:  # noqa: ARG002
        if self.state == PipelineState.DONE:
            return PipelineState.DONE
        raise RuntimeError(f"Dataflow pipeline failed. State: {self.state}")


class _Telling(PipelineResult):
    def wait_until_finish(self, duration: int | None = None) -> str:  # noqa: ARG002
        return str(self.state)


each_kind = pytest.mark.parametrize("kind", [_Raising, _Telling])


@each_kind
@pytest.mark.parametrize("state", [PipelineState.DONE, PipelineState.DRAINED, PipelineState.UPDATED])
def test_a_stream_that_is_drained_or_replaced_has_not_failed(kind: type[PipelineResult], state: str) -> None:
    engine.wait_for(kind(state))


@each_kind
@pytest.mark.parametrize("state", [PipelineState.FAILED, PipelineState.CANCELLED])
def test_all_else_is_told(kind: type[PipelineResult], state: str) -> None:
    with pytest.raises((DedupError, RuntimeError), match=state):
        engine.wait_for(kind(state))
