"""One run from its configuration to its exit code."""

import contextlib
import dataclasses
import io
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence

import apache_beam as beam
import psutil
from apache_beam.io.filesystems import FileSystems
from rich.console import Console

from beam_dedup import engine, files, pipeline, progress, remote, summary
from beam_dedup.core.census import Planning, most_codes
from beam_dedup.core.choosing import choose
from beam_dedup.core.errors import DEBUG_VARIABLE, DedupError, PlanError, UsageError
from beam_dedup.core.paths import is_remote, partial_prefix
from beam_dedup.options import DedupConfig
from beam_dedup.pipeline import Reports
from transforms import storage
from transforms.listing import list_inputs
from transforms.progress import LISTED, Tally
from transforms.read_metadata import list_rows

_UNPLACED_SHOWN = 5
_SHOW_CURSOR = b"\x1b[?25h"  # the live line hides it


def run(config: DedupConfig, beam_arguments: Sequence[str], started: float) -> int:
    """Builds the pipeline, runs it to its end and tells what came of it.

    Returns: the exit code. started: time.monotonic() when the command began.

    Raises:
      UsageError: Beam's options are wrong.
      DedupError: the run failed; the message says why in one sentence.
    """
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    beam_options = engine.beam_options(beam_arguments)
    FileSystems.set_options(beam_options)  # a pipeline would do so, but files are looked at before
    remote.check_file_systems(config)
    files.check_outputs(config)
    if config.output_dir and files.folds_names(config.output_dir):
        config = dataclasses.replace(config, portable_names=True)
    local = engine.is_local(beam_options)
    if local:
        remote.check_places(config)
    elif engine.is_dataflow(beam_options):
        remote.check_reachable(config)
    # A pass over all names, for who sees the progress, and for the plan.
    counted = local and (config.near or not config.quiet)
    files_to_read = _count_files(config) if counted else 0
    if config.preview and not local:
        raise UsageError("--preview prints what this machine would place: it can't be used with --runner")
    scratch = tempfile.mkdtemp(prefix="dedup-")
    try:
        # Only what this process and its children write can be read here at the end.
        counts, preview, unplaced = (
            os.path.join(scratch, name) for name in ("counts", "preview", "unplaced")
        )
        reports = Reports(config.counts or counts, preview, unplaced) if local else Reports(config.counts)
        tally = Tally(scratch) if local else None
        if tally:
            tally.add(LISTED, files_to_read)
        made = beam.Pipeline(runner=engine.runner_for(beam_options, config), options=beam_options)
        planning = Planning(spread=not local, force=config.force_plan)
        pipeline.build(made, config, reports, planning, engine.processes(beam_options, config), tally)
        with contextlib.ExitStack() as around:
            around.enter_context(stopping_on_signals(config, scratch))
            if tally and not config.quiet:
                around.enter_context(progress.shown(tally, Console(file=sys.stderr)))
            if local and not debug:
                # The engine's threads print the traceback of whatever fails, and decoders warn of each odd file.
                around.enter_context(contextlib.redirect_stderr(io.StringIO()))
            engine.wait_for(made.run())
        if local:
            _tell(config, reports, time.monotonic() - started)
        elif not config.quiet:
            print(f"dedup: {engine.told_at_the_end(beam_options)}")
        return 0
    except Exception as error:
        remove_partial_files(config)
        if debug:
            traceback.print_exc()
        raise as_dedup_error(error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def as_dedup_error(error: Exception) -> DedupError:
    """What ended a run, in one sentence."""
    return error if isinstance(error, DedupError) else DedupError(f"failed: {_root_cause(error)}")


def _tell(config: DedupConfig, reports: Reports, seconds: float) -> None:
    """Prints the preview and the summary, and fails if copies could not be made."""
    if config.preview:
        with open(reports.preview, encoding="utf-8", errors="surrogateescape") as lines:
            shutil.copyfileobj(lines, sys.stdout)
    if not config.quiet:
        with storage.open_bytes(reports.counts) as file:  # which --counts may have put anywhere
            print(summary.text(config, json.load(file), seconds))
    if config.output_dir and not config.preview and (told := told_unplaced(reports.unplaced)):
        raise DedupError(told)


def told_unplaced(path: str) -> str:
    """What is to be said of a file whose lines tell why images could not be placed; "" if it has none."""
    with open(path, encoding="utf-8") as file:
        unplaced = file.read().splitlines()
    if not unplaced:
        return ""
    shown = "".join(f"\n  {line}" for line in unplaced[:_UNPLACED_SHOWN])
    more = f"\n  ... and {len(unplaced) - _UNPLACED_SHOWN} more" if len(unplaced) > _UNPLACED_SHOWN else ""
    return f"{len(unplaced)} of the images could not be placed:{shown}{more}"


def _count_files(config: DedupConfig) -> int:
    """How many files will be read, which progress is told in parts of; and refuses what would take for ever.

    Raises:
      UsageError: near matching would grow with the square of the number of images: the numbers, and what to change.
    """
    known = list_inputs([config.reference], config.outputs) if config.reference else ()
    if config.json_metadata:
        new: Iterator[object] = list_rows(config.json_metadata, config.not_input)
    else:
        new = list_inputs(config.inputs, config.not_input)
    try:
        files = sum(1 for _ in itertools.chain(new, known))
    except OSError as error:  # a store's: folders that can't be listed are rejected
        raise DedupError(f"the input can't be listed: {error}") from error
    if config.near and not config.force_plan:
        try:
            choose(config.within, files * most_codes(config.recipe), files).check()
        except PlanError as error:
            raise UsageError(str(error)) from error
    return files


def _root_cause(error: BaseException) -> str:
    """The innermost error in one line. Workers in other processes send theirs as the text of a traceback."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    text = last.split(" [while running")[0]
    name = type(error).__name__
    text = text.removeprefix("RuntimeError: ")
    known = isinstance(error, OSError | DedupError | RuntimeError)
    return (
        text
        if known and text
        else f"{name}: {text}; set {DEBUG_VARIABLE}=1 to see where, and please report it"
    )


@contextlib.contextmanager
def stopping_on_signals(
    config: DedupConfig, scratch: str, first: Callable[[int], bool] = lambda _: False
) -> Iterator[None]:
    """Ctrl-C and a request to terminate end the run at once, leaving nothing half-written.

    Not by an exception: the engine would first wait for its workers, for minutes or for ever. first: is asked before, with the
    signal's number; if it says yes the run goes on.
    """

    def stop(number: int, _frame: object) -> None:
        if first(number):
            return
        children = psutil.Process().children(recursive=True)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=5)
        storage.halt()
        remove_partial_files(config, [child.pid for child in children])
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):  # nobody may listen any more
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)
            os.write(
                2, b"\ndedup: interrupted; the input is as it was, and every file in the outputs is whole\n"
            )
        os._exit(128 + number)

    before = {
        number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def remove_partial_files(config: DedupConfig, workers: Sequence[int] = (), also: Sequence[str] = ()) -> None:
    """Removes what this process and its worker processes had begun to write: outputs, and files of other folders."""
    ours = tuple(partial_prefix(process) for process in (os.getpid(), *workers))
    for output in (*config.outputs, *also):
        if is_remote(output):
            continue
        folder = output if os.path.isdir(output) else os.path.dirname(output) or "."
        for path, folders, names in os.walk(folder):
            if folder != config.output_dir:
                folders.clear()
            for name in names:
                if name.startswith(ours):
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(os.path.join(path, name))
