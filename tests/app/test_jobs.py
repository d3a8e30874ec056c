"""Tests how the command waits for a job on another runner, and what it makes of the job's final state."""

import pytest
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_dedup.core.errors import DedupError
from beam_dedup.runners import select


class _Raising(PipelineResult):
    """Like the result of Dataflow: raises for every state but DONE."""

    def wait_until_finish(self, duration: int | None = None) -> str:  # noqa: ARG002
        if self.state == PipelineState.DONE:
            return PipelineState.DONE
        raise RuntimeError(f"Dataflow pipeline failed. State: {self.state}")


class _Returning(PipelineResult):
    """Like the result of other runners: returns the state."""

    def wait_until_finish(self, duration: int | None = None) -> str:  # noqa: ARG002
        return str(self.state)


each_kind = pytest.mark.parametrize("kind", [_Raising, _Returning])


@each_kind
@pytest.mark.parametrize("state", [PipelineState.DONE, PipelineState.DRAINED, PipelineState.UPDATED])
def test_drained_or_updated_stream_has_not_failed(kind: type[PipelineResult], state: str) -> None:
    select.wait_for(kind(state))


@each_kind
@pytest.mark.parametrize("state", [PipelineState.FAILED, PipelineState.CANCELLED])
def test_failed_or_cancelled_job_raises(kind: type[PipelineResult], state: str) -> None:
    with pytest.raises((DedupError, RuntimeError), match=state):
        select.wait_for(kind(state))


class _Interrupted(_Returning):
    cancelled = 0

    def wait_until_finish(self, duration: int | None = None) -> str:  # noqa: ARG002
        raise KeyboardInterrupt

    def cancel(self) -> None:
        self.cancelled += 1


GOES_ON = "Flink continues crawl until you cancel it there"
NO_WORKERS = "crawl lost its workers, which ran in this process; Flink restarts it as often as configured"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--runner=PortableRunner"], GOES_ON),
        (["--runner=PortableRunner", "--environment_type=EXTERNAL"], GOES_ON),
        (["--runner=PortableRunner", "--environment_type=LOOPBACK"], NO_WORKERS),
        (["--runner=FlinkRunner", "--flink_master=host:8081"], GOES_ON),
        (["--runner=FlinkRunner"], NO_WORKERS),
        (["--runner=PrismRunner"], ""),
    ],
)
def test_ctrl_c_cancels_the_result_and_says_what_becomes_of_the_job(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cancelling makes Beam's job server stop waiting for the job, and nothing else."""
    result = _Interrupted("RUNNING")
    options = select.beam_options([*flags, "--job_name=crawl"])
    with pytest.raises(KeyboardInterrupt):
        select.wait_for(result, select.interrupted_message(options))
    assert result.cancelled == 1
    error = capsys.readouterr().err
    assert message in error
    assert bool(error) == bool(message)
