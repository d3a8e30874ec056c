"""Defines Flink's pipeline options that Beam for Python lacks, and sets those that a stream on Flink needs.

Why a stream needs them:

- Checkpoints: Flink acknowledges what it has read when a checkpoint is complete. Without checkpoints nothing
  is ever acknowledged.
- Bundles that finish before a checkpoint: a checkpoint inside a bundle may hold back the bundle's output
  without end.
- Short bundles: by default a bundle waits a second for more elements. Over all steps this adds up to more
  time than a verdict may take.
- Retained checkpoints: by default Flink deletes the checkpoints of a job that has failed or was cancelled.
  The same stream, started anew, would then record all its images a second time.
"""

import argparse

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from beam_dedup.core.errors import UsageError

CHECKPOINT_MS = 10_000
BUNDLE_MS = 100
STATE_BACKEND = "filesystem"  # every Flink has it; Beam's job server knows only this one and rocksdb

_RUNNERS = ("FlinkRunner", "PortableRunner")


class FlinkStreamOptions(PipelineOptions):
    """Options that the job server of Flink understands."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--checkpointing_interval", type=int, help="Flink: milliseconds between checkpoints"
        )
        parser.add_argument(
            "--finish_bundle_before_checkpointing",
            action="store_true",
            default=None,
            help="Flink: finish each bundle before a checkpoint starts",
        )
        parser.add_argument(
            "--externalized_checkpoints_enabled",
            action="store_true",
            default=None,
            help="Flink: keep the last checkpoint of a job that failed",
        )
        parser.add_argument(
            "--retain_externalized_checkpoints_on_cancellation",
            action="store_true",
            default=None,
            help="Flink: keep the last checkpoint of a job that was cancelled, too",
        )
        parser.add_argument(
            "--max_bundle_time_mills",
            type=int,
            help="Flink: milliseconds that a bundle waits for more elements",
        )
        for name, text in (
            (
                "state_backend",
                "where state is kept: filesystem (memory; checkpoints are files) or rocksdb (disk)",
            ),
            (
                "state_backend_storage_path",
                "directory or prefix for checkpoints, such as file:///shared/checkpoints",
            ),
            ("savepoint_path", "savepoint or retained checkpoint whose state the job starts with"),
            ("number_of_execution_retries", "how often a failed job is restarted"),
            ("execution_retry_delay", "milliseconds before a restart"),
            ("max_bundle_size", "elements in a bundle"),
        ):
            parser.add_argument(f"--{name}", help=f"Flink: {text}")


def is_flink(options: PipelineOptions) -> bool:
    """Returns whether the job goes to Flink.

    A portable job server does not reveal which runner is behind it; it is taken for that of Flink.
    """
    return options.get_all_options().get("runner") in _RUNNERS


def complete(options: PipelineOptions) -> list[str]:
    """Sets the options that a stream on Flink needs and that were not given.

    Returns:
      The options that were set, as flags; none if the job does not go to Flink.

    Raises:
      UsageError: a task manager has several workers (they take turns, so what the reader of one holds would
        wait for its next turn); or a state backend is given without a path for checkpoints, which the job
        server would refuse.
    """
    if not is_flink(options):
        return []
    workers = int(options.view_as(PortableOptions).sdk_worker_parallelism)
    if workers != 1:
        raise UsageError(
            f"--sdk_worker_parallelism must be 1 for a stream on Flink (the default), got {workers}; "
            "to use more workers, use more task managers and a higher --parallelism"
        )
    flink = options.view_as(FlinkStreamOptions)
    if flink.state_backend and not flink.state_backend_storage_path:
        raise UsageError(
            f"--state_backend={flink.state_backend} needs --state_backend_storage_path: a directory for checkpoints that "
            "all machines of Flink can reach"
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
    if not flink.externalized_checkpoints_enabled:
        flink.externalized_checkpoints_enabled = True
        added.append("--externalized_checkpoints_enabled")
    if not flink.retain_externalized_checkpoints_on_cancellation:
        flink.retain_externalized_checkpoints_on_cancellation = True
        added.append("--retain_externalized_checkpoints_on_cancellation")
    if flink.state_backend_storage_path and not flink.state_backend:  # else the job server ignores the path
        flink.state_backend = STATE_BACKEND
        added.append(f"--state_backend={STATE_BACKEND}")
    return added


def checkpoint_message(options: PipelineOptions) -> str:
    """Returns a warning if the options name no directory for checkpoints, else "".

    Flink's own configuration may name one, which can't be seen from here.
    """
    if not is_flink(options) or options.view_as(FlinkStreamOptions).state_backend_storage_path:
        return ""
    return (
        "checkpoints go to the directory in Flink's own configuration (state.checkpoints.dir). If Flink has none, state is "
        "limited to 5 MB and the job fails at about 20,000 images: name one with --state_backend_storage_path"
    )


def failed_message(options: PipelineOptions) -> str:
    """Returns how to resume a stream whose job on Flink has failed, as the end of a sentence; else ""."""
    if not is_flink(options):
        return ""
    path = options.view_as(FlinkStreamOptions).state_backend_storage_path or "CHECKPOINTS"
    return (
        "; to resume it without recording an image twice, submit it again with --savepoint_path and the path that "
        f"`python -m beam_dedup.runners.last_checkpoint {path}` prints"
    )
