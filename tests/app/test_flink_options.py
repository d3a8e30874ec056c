"""What a stream on Flink is given, if it was not given it."""

import pytest

from beam_dedup import engine, flink_options
from beam_dedup.core.errors import UsageError

ALL = [
    "--checkpointing_interval=10000",
    "--finish_bundle_before_checkpointing",
    "--max_bundle_time_mills=100",
]


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner"])
@pytest.mark.parametrize("given", range(8))
def test_what_was_not_given_is_added_and_told(given: int, runner: str) -> None:
    flags = [flag for number, flag in enumerate(ALL) if given >> number & 1]
    options = engine.beam_options([f"--runner={runner}", *flags])
    assert flink_options.complete(options) == [flag for flag in ALL if flag not in flags]
    assert flink_options.complete(options) == []


def test_what_was_given_stays() -> None:
    given = [
        "--checkpointing_interval=500",
        "--finish_bundle_before_checkpointing",
        "--max_bundle_time_mills=7",
    ]
    options = engine.beam_options(["--runner=FlinkRunner", *given])
    assert flink_options.complete(options) == []
    told = options.get_all_options()
    assert (told["checkpointing_interval"], told["max_bundle_time_mills"]) == (500, 7)


def test_workers_that_take_turns_are_refused() -> None:
    options = engine.beam_options(["--runner=FlinkRunner", "--sdk_worker_parallelism=2"])
    with pytest.raises(UsageError, match=r"--sdk_worker_parallelism: .*more task managers"):
        flink_options.complete(options)


def test_a_place_for_checkpoints_is_used() -> None:
    """The job server passes over the path of a storage that it knows no kind of."""
    options = engine.beam_options(["--runner=FlinkRunner", *ALL, "--state_backend_storage_path=s3://b/c"])
    assert flink_options.complete(options) == ["--state_backend=filesystem"]
    assert options.get_all_options()["state_backend"] == "filesystem"
    given = ["--state_backend=rocksdb", "--state_backend_storage_path=s3://b/c"]
    options = engine.beam_options(["--runner=FlinkRunner", *ALL, *given])
    assert flink_options.complete(options) == []
    assert flink_options.told_of_checkpoints(options) == ""


def test_state_that_has_no_place_for_checkpoints() -> None:
    options = engine.beam_options(["--runner=FlinkRunner", "--state_backend=rocksdb"])
    with pytest.raises(UsageError, match=r"--state_backend=rocksdb needs --state_backend_storage_path"):
        flink_options.complete(options)


@pytest.mark.parametrize("runner", ["FlinkRunner", "PortableRunner"])
def test_it_is_told_where_checkpoints_go(runner: str) -> None:
    options = engine.beam_options([f"--runner={runner}"])
    assert "state.checkpoints.dir" in flink_options.told_of_checkpoints(options)


@pytest.mark.parametrize("runner", ["PrismRunner", "DataflowRunner", "DirectRunner"])
def test_other_engines_are_given_nothing(runner: str) -> None:
    options = engine.beam_options([f"--runner={runner}"])
    assert flink_options.complete(options) == []
    assert not options.get_all_options()["checkpointing_interval"]
    assert flink_options.told_of_checkpoints(options) == ""
