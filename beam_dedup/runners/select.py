"""Where a pipeline runs: Beam's options, checked strictly, and the engine for this machine.

The engine of this machine is Beam's FnApiRunner, by choice: it starts within a second and needs nothing but what is
installed. (Beam's `DirectRunner` is a switch that first looks for another runner's program, and downloads it where it
can.) It is given one worker, in this process, and that worker as many processes that decode as there are jobs
(`beam_dedup.core.reading.isolated_decoder`); matching uses all cores by itself. Several workers of the engine would only copy what goes
between them. The verdicts are the same whatever the number.
"""

import argparse
import difflib
import logging
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
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
from beam_dedup.options.option_table import OPTIONS
from beam_dedup.runners import flink
from beam_dedup.runners.redaction import hide_secrets

LOCAL_RUNNER = "FnApiRunner"
DATAFLOW = "DataflowRunner"

_MEANT = (PipelineState.DONE, PipelineState.DRAINED, PipelineState.UPDATED)
IN_MEMORY, PROCESSES = "in_memory", "multi_processing"


class _BeamParser(_BeamArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _beam_parser() -> argparse.ArgumentParser:
    made = _BeamParser(
        prog="dedup", usage="dedup ... [options of Apache Beam]", add_help=False, allow_abbrev=False
    )
    for part in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in part.__dict__:
            part._add_argparse_args(made)
    return made


def beam_help() -> str:
    """Help on every option of Beam."""
    return _beam_parser().format_help()


def beam_flags() -> set[str]:
    """The options of Beam that take no value."""
    return {flag for action in _beam_parser()._actions if action.nargs == 0 for flag in action.option_strings}


def beam_options(arguments: Sequence[str]) -> PipelineOptions:
    """Beam's options from what is not ours.

    Raises:
      UsageError: an option is known neither to us nor to Beam, which would pass over it; or a value is wrong.
    """
    beam_parser = _beam_parser()
    _, unknown = beam_parser.parse_known_args(list(arguments))
    if unknown:
        flag = unknown[0].split("=")[0]
        if not flag.startswith("-"):
            raise UsageError(
                f"{flag!r} was not expected here; images are named by -i, each input by one of its own, and patterns in quotes"
            )
        known = [*beam_parser._option_string_actions, *(name for option in OPTIONS for name in option.flags)]
        nearest = difflib.get_close_matches(flag, known, n=1)
        raise UsageError(f"there is no option {flag}" + (f"; the nearest is {nearest[0]}" if nearest else ""))
    made = PipelineOptions(list(arguments))
    hide_secrets(made.get_all_options(drop_default=True))
    setup = made.view_as(SetupOptions)
    if setup.save_main_session is None:
        setup.save_main_session = False  # all that workers need is in packages
    return made


def check_stream_runner(options: PipelineOptions) -> None:
    runner = options.view_as(StandardOptions).runner or ""
    if runner.endswith("DirectRunner"):
        raise UsageError(
            f"--runner={runner} does not run what has no end: leave it out, and it is done on this machine all the same"
        )


def is_local(beam: PipelineOptions) -> bool:
    """Whether the work is done by this process and its children."""
    return (beam.view_as(StandardOptions).runner or LOCAL_RUNNER) == LOCAL_RUNNER


def is_dataflow(beam: PipelineOptions) -> bool:
    return bool(beam.view_as(StandardOptions).runner == DATAFLOW)


def wait_for(result: PipelineResult, said_when_interrupted: str = "") -> None:
    """Waits until a job has ended as it was meant to: by itself, or, if it stays, drained or replaced by another version.
    Ctrl-C asks the engine to end the job.

    Raises:
      DedupError: it was ended otherwise.
    """
    try:
        state = result.wait_until_finish()
    except KeyboardInterrupt:
        result.cancel()
        if said_when_interrupted:
            print(f"dedup: {said_when_interrupted}", file=sys.stderr)
        raise
    except Exception:
        state = result.state
        if state not in _MEANT:  # Dataflow's raises for these as well
            raise
    if state is not None and state not in _MEANT:
        raise DedupError(f"the job ended in the state {state}")


def has_workers_here(beam: PipelineOptions) -> bool:
    """Whether the workers of another engine are threads of this process."""
    told = beam.get_all_options()
    if told["environment_type"]:
        return bool(told["environment_type"] == "LOOPBACK")
    # What these runners choose by themselves.
    return told["runner"] == "PrismRunner" or (
        told["runner"] == "FlinkRunner" and told["flink_master"] in MAGIC_HOST_NAMES
    )


def interrupted_message(beam: PipelineOptions) -> str:
    """What there is to know when Ctrl-C has ended the command: Beam's job server then waits no longer for the job, which goes on."""
    if not flink.is_flink(beam):
        return ""
    name = beam.view_as(GoogleCloudOptions).job_name or "the job"
    if has_workers_here(beam):
        return f"{name} has lost its workers: Flink begins it anew as often as it is configured to, or until it is cancelled there"
    return f"Flink goes on with {name} until it is cancelled there"


def finished_message(beam: PipelineOptions) -> str:
    """What there is to say when another engine has taken the job and is done with it."""
    template = beam.view_as(GoogleCloudOptions).template_location
    if is_dataflow(beam) and template:
        return f"the template is at {template}; nothing runs yet"
    return "the job is done; its counters are on the dashboard of the runner"


def processes(beam: PipelineOptions, config: DedupConfig) -> int:
    """How many processes a worker has to decode, once there is a runner."""
    alone = is_local(beam) and beam.view_as(DirectOptions).direct_num_workers == 1
    return config.jobs if alone else 1


def runner_for(beam: PipelineOptions, config: DedupConfig) -> PipelineRunner:
    """The runner that was asked for, or the one for this machine.

    Raises:
      UsageError: there is no such runner.
    """
    if not is_local(beam):
        try:
            return create_runner(beam.view_as(StandardOptions).runner)
        except (ValueError, ImportError, AttributeError) as error:
            raise UsageError(f"--runner: {error}") from error
    direct = beam.view_as(DirectOptions)
    mode = direct.direct_running_mode
    if mode != IN_MEMORY and direct.direct_num_workers == 1:  # Beam's default
        direct.direct_num_workers = config.jobs
    if mode == PROCESSES:
        direct.direct_running_mode = IN_MEMORY
        # It warns of several workers in one thread; ours are processes then.
        logging.getLogger("apache_beam.runners.portability.fn_api_runner.fn_runner").setLevel(logging.ERROR)
    if mode != PROCESSES:
        return FnApiRunner()
    # Of itself it tells worker processes no options, and so not where a store is or who asks.
    told = JobServiceHandle.encode_pipeline_options(beam.get_all_options(drop_default=True))
    provision = beam_provision_api_pb2.ProvisionInfo(retrieval_token="none", pipeline_options=told)
    return FnApiRunner(_worker_processes(), provision_info=ExtendedProvisionInfo(provision))


def _worker_processes() -> Any:
    # Ctrl-C goes to all processes of a terminal; the workers leave it to this one, from their first instruction on.
    command = f"trap '' INT; exec {shlex.quote(sys.executable)} -m beam_dedup.runners.sdk_worker"
    return SubprocessSDKEnvironment.from_command_string(command)
