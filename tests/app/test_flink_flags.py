"""What a stream on Flink is given, if it was not given it."""

import pytest

from beam_dedup.core.errors import UsageError
from beam_dedup.runners import flink, select

ALL = [
    "--checkpointing_interval=10000",
    "--finish_bundle_before_checkpointing",
    "--max_bundle_time_mills=100",
]


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner"])
@pytest.mark.parametrize("given", range(8))
def test_what_was_not_given_is_added_and_told(given: int, runner: str) -> None:
    flags = [flag for number, flag in enumerate(ALL) if given >> number & 1]
    options = select.beam_options([f"--runner={runner}", *flags])
    assert flink.complete(options) == [flag for flag in ALL if flag not in flags]
    assert flink.complete(options) == []


def test_what_was_given_stays() -> None:
    given = [
        "--checkpointing_interval=500",
        "--finish_bundle_before_checkpointing",
        "--max_bundle_time_mills=7",
    ]
    options = select.beam_options(["--runner=FlinkRunner", *given])
    assert flink.complete(options) == []
    told = options.get_all_options()
    assert (told["checkpointing_interval"], told["max_bundle_time_mills"]) == (500, 7)


def test_workers_that_take_turns_are_refused() -> None:
    options = select.beam_options(["--runner=FlinkRunner", "--sdk_worker_parallelism=2"])
    with pytest.raises(UsageError, match=r"--sdk_worker_parallelism must be 1 .*got 2; .*more task managers"):
        flink.complete(options)


def test_a_place_for_checkpoints_is_used() -> None:
    """The job server passes over the path of a storage that it knows no kind of."""
    options = select.beam_options(["--runner=FlinkRunner", *ALL, "--state_backend_storage_path=s3://b/c"])
    assert flink.complete(options) == ["--state_backend=filesystem"]
    assert options.get_all_options()["state_backend"] == "filesystem"
    given = ["--state_backend=rocksdb", "--state_backend_storage_path=s3://b/c"]
    options = select.beam_options(["--runner=FlinkRunner", *ALL, *given])
    assert flink.complete(options) == []
    assert flink.checkpoint_message(options) == ""


def test_state_that_has_no_place_for_checkpoints() -> None:
    options = select.beam_options(["--runner=FlinkRunner", "--state_backend=rocksdb"])
    with pytest.raises(UsageError, match=r"--state_backend=rocksdb needs --state_backend_storage_path"):
        flink.complete(options)


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner"])
def test_it_is_told_where_checkpoints_go(runner: str) -> None:
    options = select.beam_options([f"--runner={runner}"])
    assert "state.checkpoints.dir" in flink.checkpoint_message(options)


@pytest.mark.parametrize("runner", ["PrismRunner", "DataflowRunner", "DirectRunner"])
def test_other_engines_are_given_nothing(runner: str) -> None:
    options = select.beam_options([f"--runner={runner}"])
    assert flink.complete(options) == []
    assert not options.get_all_options()["checkpointing_interval"]
    assert flink.checkpoint_message(options) == ""
