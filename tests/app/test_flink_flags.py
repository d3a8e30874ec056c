"""Tests of the Flink options that a stream needs: which are added, which are kept, which are refused."""

import pytest

from beam_dedup.core.errors import UsageError
from beam_dedup.runners import flink, select

REQUIRED = [
    "--checkpointing_interval=10000",
    "--finish_bundle_before_checkpointing",
    "--max_bundle_time_mills=100",
    "--externalized_checkpoints_enabled",
    "--retain_externalized_checkpoints_on_cancellation",
]


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner"])
@pytest.mark.parametrize("given", range(2**5))
def test_missing_options_are_added_and_returned(given: int, runner: str) -> None:
    flags = [flag for number, flag in enumerate(REQUIRED) if given >> number & 1]
    options = select.beam_options([f"--runner={runner}", *flags])
    assert flink.complete(options) == [flag for flag in REQUIRED if flag not in flags]
    assert flink.complete(options) == []


def test_given_options_are_kept() -> None:
    given = [
        "--checkpointing_interval=500",
        "--finish_bundle_before_checkpointing",
        "--max_bundle_time_mills=7",
        "--externalized_checkpoints_enabled",
        "--retain_externalized_checkpoints_on_cancellation",
    ]
    options = select.beam_options(["--runner=FlinkRunner", *given])
    assert flink.complete(options) == []
    values = options.get_all_options()
    assert (values["checkpointing_interval"], values["max_bundle_time_mills"]) == (500, 7)


def test_several_workers_per_task_manager_are_refused() -> None:
    options = select.beam_options(["--runner=FlinkRunner", "--sdk_worker_parallelism=2"])
    with pytest.raises(UsageError, match=r"--sdk_worker_parallelism must be 1 .*got 2; .*more task managers"):
        flink.complete(options)


def test_path_for_checkpoints_sets_the_state_backend() -> None:
    """The job server ignores the path of a state backend whose kind is not given."""
    options = select.beam_options(
        ["--runner=FlinkRunner", *REQUIRED, "--state_backend_storage_path=s3://b/c"]
    )
    assert flink.complete(options) == ["--state_backend=filesystem"]
    assert options.get_all_options()["state_backend"] == "filesystem"
    given = ["--state_backend=rocksdb", "--state_backend_storage_path=s3://b/c"]
    options = select.beam_options(["--runner=FlinkRunner", *REQUIRED, *given])
    assert flink.complete(options) == []
    assert flink.checkpoint_message(options) == ""


def test_state_backend_without_a_path_for_checkpoints_is_refused() -> None:
    options = select.beam_options(["--runner=FlinkRunner", "--state_backend=rocksdb"])
    with pytest.raises(UsageError, match=r"--state_backend=rocksdb needs --state_backend_storage_path"):
        flink.complete(options)


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner"])
def test_message_says_where_checkpoints_go(runner: str) -> None:
    options = select.beam_options([f"--runner={runner}"])
    assert "state.checkpoints.dir" in flink.checkpoint_message(options)


@pytest.mark.parametrize("runner", ["PrismRunner", "DataflowRunner", "DirectRunner"])
def test_other_runners_get_no_flink_options(runner: str) -> None:
    options = select.beam_options([f"--runner={runner}"])
    assert flink.complete(options) == []
    assert not options.get_all_options()["checkpointing_interval"]
    assert flink.checkpoint_message(options) == ""
