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


class _Interrupted(_Telling):
    cancelled = 0

    def wait_until_finish(self, duration: int | None = None) -> str:  # noqa: ARG002
        raise KeyboardInterrupt

    def cancel(self) -> None:
        self.cancelled += 1


@pytest.mark.parametrize(("runner", "is_told"), [("PortableRunner", True), ("PrismRunner", False)])
def test_ctrl_c_asks_for_the_end_of_the_job(
    runner: str, is_told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beam's job server does so for its own Flink only: who has a cluster is told to look there."""
    result = _Interrupted("RUNNING")
    flags = [f"--runner={runner}", "--job_name=crawl"]
    with pytest.raises(KeyboardInterrupt):
        engine.wait_for(result, engine.told_when_interrupted(engine.beam_options(flags)))
    assert result.cancelled == 1
    assert ("a cluster goes on with crawl until it is cancelled there" in capsys.readouterr().err) == is_told
