"""What is made of the end of a job that another engine did."""

import pytest
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_dedup.core.errors import DedupError
from beam_dedup.runners import select


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
    select.wait_for(kind(state))


@each_kind
@pytest.mark.parametrize("state", [PipelineState.FAILED, PipelineState.CANCELLED])
def test_all_else_is_told(kind: type[PipelineResult], state: str) -> None:
    with pytest.raises((DedupError, RuntimeError), match=state):
        select.wait_for(kind(state))


class _Interrupted(_Telling):
    cancelled = 0

    def wait_until_finish(self, duration: int | None = None) -> str:  # noqa: ARG002
        raise KeyboardInterrupt

    def cancel(self) -> None:
        self.cancelled += 1


GOES_ON = "Flink continues crawl until you cancel it there"
NO_WORKERS = "crawl lost its workers, which ran in this process; Flink restarts it as often as configured"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--runner=PortableRunner"], GOES_ON),
        (["--runner=PortableRunner", "--environment_type=EXTERNAL"], GOES_ON),
        (["--runner=PortableRunner", "--environment_type=LOOPBACK"], NO_WORKERS),
        (["--runner=FlinkRunner", "--flink_master=host:8081"], GOES_ON),
        (["--runner=FlinkRunner"], NO_WORKERS),
        (["--runner=PrismRunner"], ""),
    ],
)
def test_ctrl_c_asks_for_the_end_of_the_job(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beam's job server then waits for the job no longer, and that is all: it is told what becomes of it."""
    result = _Interrupted("RUNNING")
    options = select.beam_options([*flags, "--job_name=crawl"])
    with pytest.raises(KeyboardInterrupt):
        select.wait_for(result, select.interrupted_message(options))
    assert result.cancelled == 1
    said = capsys.readouterr().err
    assert told in said
    assert bool(said) == bool(told)
