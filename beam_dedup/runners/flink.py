"""The options of Flink that Beam for Python does not know by itself, and what a stream on Flink can't do without.

Flink acknowledges what it has read when a checkpoint is complete: without checkpoints nothing ever is. And a checkpoint that
falls into a bundle may hold back its output for ever, unless bundles are finished first. Bundles that wait a second for more, as
they do of themselves, add up over the steps to more than a verdict may take.
"""

import argparse

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from beam_dedup.core.errors import UsageError

CHECKPOINT_MS = 10_000
BUNDLE_MS = 100
STATE_BACKEND = "filesystem"  # of the two that Beam's job server knows, the one that every Flink has

_RUNNERS = ("FlinkRunner", "PortableRunner")


class FlinkStreamOptions(PipelineOptions):
    """Options that the job server of Flink takes."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--checkpointing_interval", type=int, help="of Flink: milliseconds between checkpoints"
        )
        parser.add_argument(
            "--finish_bundle_before_checkpointing",
            action="store_true",
            default=None,
            help="of Flink: no checkpoint falls into a bundle",
        )
        parser.add_argument(
            "--max_bundle_time_mills", type=int, help="of Flink: milliseconds that a bundle waits for more"
        )
        for name, text in (
            ("state_backend", "where state is: filesystem (memory; checkpoints are files) or rocksdb (disk)"),
            (
                "state_backend_storage_path",
                "a folder or prefix for checkpoints, as file:///shared/checkpoints",
            ),
            ("savepoint_path", "a savepoint whose state the job begins with"),
            ("number_of_execution_retries", "how often a job that fails is begun again"),
            ("execution_retry_delay", "milliseconds before that"),
            ("max_bundle_size", "elements in a bundle"),
        ):
            parser.add_argument(f"--{name}", help=f"of Flink: {text}")


def is_flink(options: PipelineOptions) -> bool:
    """Whether the job goes to Flink. A portable job server does not say what is behind it, and is taken for that of Flink."""
    return options.get_all_options().get("runner") in _RUNNERS


def complete(options: PipelineOptions) -> list[str]:
    """Sets what a stream on Flink needs and was not given. Returns what was set, as flags.

    Raises:
      UsageError: several workers take turns, and what the reader of one holds would wait until it has its turn again; or
        a place of state is named without one for checkpoints, which the job server would refuse.
    """
    if not is_flink(options):
        return []
    if int(options.view_as(PortableOptions).sdk_worker_parallelism) != 1:
        raise UsageError(
            "--sdk_worker_parallelism: a stream on Flink has one worker for each task manager (1, the default); "
            "have more task managers, and a higher --parallelism"
        )
    flink = options.view_as(FlinkStreamOptions)
    if flink.state_backend and not flink.state_backend_storage_path:
        raise UsageError(
            f"--state_backend={flink.state_backend} needs --state_backend_storage_path: a folder that all of Flink sees, "
            "for checkpoints"
        )
    added = []
    if not flink.checkpointing_interval:
        flink.checkpointing_interval = CHECKPOINT_MS
        added.append(f"--checkpointing_interval={CHECKPOINT_MS}")
    if not flink.finish_bundle_before_checkpointing:
        flink.finish_bundle_before_checkpointing = True
        added.append("--finish_bundle_before_checkpointing")
    if not flink.max_bundle_time_mills:
        flink.max_bundle_time_mills = BUNDLE_MS
        added.append(f"--max_bundle_time_mills={BUNDLE_MS}")
    if flink.state_backend_storage_path and not flink.state_backend:  # or the job server passes over the path
        flink.state_backend = STATE_BACKEND
        added.append(f"--state_backend={STATE_BACKEND}")
    return added


def checkpoint_message(options: PipelineOptions) -> str:
    """What there is to know if checkpoints are given no place here: whether Flink has one of its own can't be seen."""
    if not is_flink(options) or options.view_as(FlinkStreamOptions).state_backend_storage_path:
        return ""
    return (
        "checkpoints go where Flink's own configuration says (state.checkpoints.dir). If it names no place, no state may be larger "
        "than 5 MB, and the job fails at some 20,000 images: --state_backend_storage_path gives them one"
    )
