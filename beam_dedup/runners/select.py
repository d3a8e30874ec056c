"""Parses the options of Beam strictly, and selects the runner.

The local runner, used without `--runner`, is Beam's FnApiRunner in this process: it starts within a second
and needs nothing that is not installed. (Beam's `DirectRunner` is a switch: it first looks for the program
of another runner, and downloads it if it can.) The local runner gets one worker, in this process, and that
worker as many decoder processes as there are jobs (`beam_dedup.core.reading.isolated_decoder`); matching
uses all cores by itself. More workers would only add copying of data between them. The verdicts do not
depend on the number of workers.
"""

import argparse
import dataclasses
import logging
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners import create_runner
from apache_beam.runners.portability.flink_runner import MAGIC_HOST_NAMES
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.options.config import DedupConfig
from beam_dedup.options.option import quoted
from beam_dedup.options.option_table import OPTIONS
from beam_dedup.options.suggest import nearest_option
from beam_dedup.output import log
from beam_dedup.runners import flink
from beam_dedup.runners.redaction import hide_secrets
from transforms.read_settings import ReadSettings
from transforms.tally import Tally

LOCAL_RUNNER = "FnApiRunner"
DATAFLOW = "DataflowRunner"

JOB_SERVER_SECONDS = 6.0  # that a job server may take to accept a connection
_JOB_SERVER_RUNNERS = ("PortableRunner", "FlinkRunner", "PrismRunner", "SparkRunner")
_EMBEDDED = "embed"  # value of --job_endpoint: Beam runs the job server in this process

_EXPECTED_STATES = (PipelineState.DONE, PipelineState.DRAINED, PipelineState.UPDATED)
IN_MEMORY, PROCESSES = "in_memory", "multi_processing"


class BeamParser(_BeamArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _beam_parser() -> argparse.ArgumentParser:
    made = BeamParser(
        prog="dedup", usage="dedup ... [options of Apache Beam]", add_help=False, allow_abbrev=False
    )
    for part in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in part.__dict__:
            part._add_argparse_args(made)
    return made


def beam_help() -> str:
    """Returns the help text of all options of Beam."""
    return _beam_parser().format_help()


def beam_flags() -> set[str]:
    """Returns the options of Beam that take no value."""
    return {flag for action in _beam_parser()._actions if action.nargs == 0 for flag in action.option_strings}


def beam_options(arguments: Sequence[str]) -> PipelineOptions:
    """Parses the arguments that are not options of `dedup` as options of Beam.

    Raises:
      UsageError: Beam does not know an option (Beam itself would ignore it), or a value is wrong.
    """
    check_known(arguments)
    made = PipelineOptions(list(arguments))
    hide_secrets(made.get_all_options(drop_default=True))
    setup = made.view_as(SetupOptions)
    if setup.save_main_session is None:
        setup.save_main_session = False  # workers import everything from packages
    return made


def check_known(arguments: Sequence[str]) -> None:
    """Raises UsageError unless Beam knows all of the arguments that are not options of `dedup`, and they have valid values."""
    beam_parser = _beam_parser()
    _, unknown = beam_parser.parse_known_args(list(arguments))
    if unknown:
        flag = unknown[0].split("=")[0]
        if not flag.startswith("-"):
            raise UsageError(
                f"{quoted(unknown[0])} was not expected here; name each input with an -i of its own, and quote patterns"
            )
        own = [name for option in OPTIONS for name in option.flags]
        nearest = nearest_option(flag, own, beam_parser._option_string_actions)
        raise UsageError(
            f"unknown option {flag if flag.isprintable() else quoted(flag)}"
            + (f"; did you mean {nearest}?" if nearest else "")
        )


def check_stream_runner(options: PipelineOptions) -> None:
    """Raises UsageError if the runner can't run a stream."""
    runner = options.view_as(StandardOptions).runner or ""
    if runner.endswith("DirectRunner"):
        raise UsageError(
            f"--runner={runner} can't run a stream; leave out --runner to run it on this machine"
        )


def check_job_server(options: PipelineOptions, seconds: float = JOB_SERVER_SECONDS) -> None:
    """Connects to the job server, if the options name one; Beam would wait for it for five minutes.

    Raises:
      UsageError: no gRPC server answers at `--job_endpoint` within some seconds.
    """
    endpoint = options.view_as(PortableOptions).job_endpoint
    if not endpoint or endpoint == _EMBEDDED or not has_job_server(options):
        return
    with grpc.insecure_channel(endpoint) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            raise UsageError(
                f"--job_endpoint: no job server answers at {endpoint} (tried for {seconds:g} s). Start it, or name the "
                "HOST:PORT at which it accepts jobs"
            ) from None


def is_local(options: PipelineOptions) -> bool:
    """Returns whether this process and its children do the work."""
    return (options.view_as(StandardOptions).runner or LOCAL_RUNNER) == LOCAL_RUNNER


def has_job_server(options: PipelineOptions) -> bool:
    """Returns whether the job goes to one of Beam's job servers."""
    return options.view_as(StandardOptions).runner in _JOB_SERVER_RUNNERS


def is_dataflow(options: PipelineOptions) -> bool:
    return bool(options.view_as(StandardOptions).runner == DATAFLOW)


def wait_for(result: PipelineResult, message_if_interrupted: str = "") -> None:
    """Waits until a job has ended normally: it is done, or a stream was drained or replaced by a new version.

    Ctrl-C asks the runner to cancel the job.

    Args:
      result: the job.
      message_if_interrupted: printed to stderr after Ctrl-C.

    Raises:
      DedupError: the job ended in another state.
      KeyboardInterrupt: Ctrl-C was pressed.
    """
    try:
        state = result.wait_until_finish()
    except KeyboardInterrupt:
        result.cancel()
        if message_if_interrupted:
            log(message_if_interrupted)
        raise
    except Exception:
        state = result.state
        if state not in _EXPECTED_STATES:  # Dataflow's result raises for the expected states too
            raise
    if state is not None and state not in _EXPECTED_STATES:
        raise DedupError(f"the job ended in state {state}")


def has_workers_here(options: PipelineOptions) -> bool:
    """Returns whether the workers of another runner are threads or children of this process.

    They have its current directory and its files.
    """
    all_options = options.get_all_options()
    if all_options["environment_type"]:
        return bool(all_options["environment_type"] == "LOOPBACK")
    # The default of these runners is LOOPBACK; that of Beam's runners in one process needs no name.
    return (all_options["runner"] or "").endswith(("PrismRunner", "DirectRunner")) or (
        all_options["runner"] == "FlinkRunner" and all_options["flink_master"] in MAGIC_HOST_NAMES
    )


def interrupted_message(options: PipelineOptions) -> str:
    """Returns what to report after Ctrl-C; "" if nothing.

    On Flink, cancelling only makes Beam's job server stop waiting for the job. The job itself goes on.
    """
    if not flink.is_flink(options):
        return ""
    name = options.view_as(GoogleCloudOptions).job_name or "the job"
    if has_workers_here(options):
        return (
            f"{name} lost its workers, which ran in this process; Flink restarts it as often as configured, "
            "or until you cancel it there"
        )
    return f"Flink continues {name} until you cancel it there"


def makes_template(options: PipelineOptions) -> bool:
    """Returns whether Dataflow only creates a template, and runs nothing yet."""
    return is_dataflow(options) and bool(options.view_as(GoogleCloudOptions).template_location)


def finished_message(options: PipelineOptions) -> str:
    """Returns what to report when another runner has finished, or has created a template."""
    if makes_template(options):
        return f"the template is at {options.view_as(GoogleCloudOptions).template_location}; nothing runs yet"
    return "the job is done; its counters are on the dashboard of the runner"


def decoder_processes(options: PipelineOptions, config: DedupConfig) -> int:
    """Returns how many decoder processes each worker starts.

    For a batch, call it after `runner_for`, which sets the number of workers.
    """
    single = is_local(options) and options.view_as(DirectOptions).direct_num_workers == 1
    return config.jobs if single else 1


def read_settings(options: PipelineOptions, config: DedupConfig, tally: Tally | None) -> ReadSettings:
    """Returns how the images of a run are read: with codes in near mode only."""
    return ReadSettings(
        recipe=dataclasses.replace(config.recipe, facts=config.keep.needs_facts) if config.near else None,
        decoder_processes=decoder_processes(options, config),
        tally=tally,
        limits=config.read_limits,
    )


def runner_for(options: PipelineOptions, config: DedupConfig) -> PipelineRunner:
    """Returns the runner named by `--runner`, or the local runner. Sets the number of its workers in the options.

    Raises:
      UsageError: Beam has no such runner.
    """
    if not is_local(options):
        try:
            return create_runner(options.view_as(StandardOptions).runner)
        except (ValueError, ImportError, AttributeError) as error:
            raise UsageError(f"--runner: {error}") from error
    direct = options.view_as(DirectOptions)
    mode = direct.direct_running_mode
    if mode != IN_MEMORY and direct.direct_num_workers == 1:  # Beam's default
        direct.direct_num_workers = config.jobs
    if mode == PROCESSES:
        direct.direct_running_mode = IN_MEMORY
        # The runner warns that several workers share one thread, but here they are processes.
        logging.getLogger("apache_beam.runners.portability.fn_api_runner.fn_runner").setLevel(logging.ERROR)
    if mode != PROCESSES:
        return FnApiRunner()
    # The runner does not pass options to worker processes by itself; they need those of the object stores.
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
    provision = beam_provision_api_pb2.ProvisionInfo(retrieval_token="none", pipeline_options=encoded)
    return FnApiRunner(_worker_processes(), provision_info=ExtendedProvisionInfo(provision))


def _worker_processes() -> Any:
    # A terminal sends Ctrl-C to all its processes. The workers ignore it from their start; this process ends them.
    command = f"trap '' INT; exec {shlex.quote(sys.executable)} -m beam_dedup.runners.sdk_worker"
    return SubprocessSDKEnvironment.from_command_string(command)
