"""Ends the job servers that Beam starts for a run: Prism itself, or the one that submits jobs to Flink.

A job server runs whatever program it gets from whoever reaches its port. Beam stops it when Python exits, but
this program ends without Python's exit handlers (`beam_dedup.cli.entry`).
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineRunner

from beam_dedup.shutdown import killing_children_on_signals


@contextlib.contextmanager
def stopping_job_server(runner: PipelineRunner) -> Iterator[None]:
    """Stops the job server that a runner starts in the block, however the block ends.

    A job server that was there before (`--job_endpoint`) goes on, and so does a job on a Flink cluster.
    """
    if not isinstance(runner, PortableRunner):
        yield
        return
    started: list[Any] = []  # job servers
    untyped: Any = runner
    start = untyped.default_job_server

    def remember(options: PipelineOptions) -> Any:
        started.append(start(options))
        return started[-1]

    untyped.default_job_server = remember
    try:
        with killing_children_on_signals():
            yield
    finally:
        for server in started:
            server.stop()
