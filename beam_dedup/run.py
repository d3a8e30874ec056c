"""One run from its configuration to its exit code."""

import contextlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence

import apache_beam as beam
import psutil
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_dedup import engine, files, pipeline, progress, summary
from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.core.paths import partial_prefix
from beam_dedup.options import DEBUG_VARIABLE, DedupConfig
from transforms import storage
from transforms.progress import Tally


def run(config: DedupConfig, beam_arguments: Sequence[str], started: float) -> int:
    """Builds the pipeline, runs it to its end and tells what came of it.

    Returns: the exit code. started: time.monotonic() when the command began.

    Raises:
      UsageError: Beam's options are wrong.
      DedupError: the run failed; the message says why in one sentence.
    """
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    beam_options = engine.beam_options(beam_arguments)
    files.check_outputs(config)
    if not engine.is_local(beam_options):
        return _run_elsewhere(config, beam_options)
    scratch = tempfile.mkdtemp(prefix="dedup-")
    try:
        counts = config.counts or os.path.join(scratch, "counts.json")
        tally = Tally(scratch)
        made = beam.Pipeline(runner=engine.runner_for(beam_options, config), options=beam_options)
        preview = os.path.join(scratch, "preview") if config.preview else ""
        pipeline.build(made, config, counts, preview, tally)
        with contextlib.ExitStack() as around:
            around.enter_context(_stopping_on_signals(config, scratch))
            if not config.quiet:
                around.enter_context(progress.shown(tally, Console(file=sys.stderr)))
            if not debug:
                # The engine's threads print the traceback of whatever fails, and decoders warn of each odd file.
                around.enter_context(contextlib.redirect_stderr(io.StringIO()))
            made.run().wait_until_finish()
        if preview:
            with open(preview, encoding="utf-8", errors="surrogateescape") as lines:
                shutil.copyfileobj(lines, sys.stdout)
        if not config.quiet:
            with open(counts, encoding="utf-8") as file:
                summary.show(config, json.load(file), time.monotonic() - started, Console())
        return 0
    except Exception as error:
        _remove_partial_files(config)
        if debug:
            traceback.print_exc()
        raise DedupError(f"failed: {_root_cause(error)}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_elsewhere(config: DedupConfig, beam_options: PipelineOptions) -> int:
    """Submits to a runner that was named; it tells its progress itself, and its counters are on its dashboard."""
    made = beam.Pipeline(options=beam_options)
    if config.preview:
        raise UsageError(
            "--preview prints here what this machine would place: it can't be used with --runner"
        )
    pipeline.build(made, config, config.counts)
    made.run().wait_until_finish()
    return 0


def _root_cause(error: BaseException) -> str:
    """The innermost error in one line. Workers in other processes send theirs as the text of a traceback."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    text = last.split(" [while running")[0]
    name = type(error).__name__
    known = isinstance(error, OSError | DedupError | RuntimeError)
    return (
        text
        if known and text
        else f"{name}: {text}; set {DEBUG_VARIABLE}=1 to see where, and please report it"
    )


@contextlib.contextmanager
def _stopping_on_signals(config: DedupConfig, scratch: str) -> Iterator[None]:
    """Ctrl-C and a request to terminate end the run at once, leaving nothing half-written.

    Not by an exception: the engine would first wait for its workers, for minutes or for ever.
    """

    def stop(number: int, _frame: object) -> None:
        children = psutil.Process().children(recursive=True)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=5)
        storage.halt()
        _remove_partial_files(config, [child.pid for child in children])
        shutil.rmtree(scratch, ignore_errors=True)
        os.write(2, b"\ndedup: interrupted; the input is as it was, and every file in the outputs is whole\n")
        os._exit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _remove_partial_files(config: DedupConfig, workers: Sequence[int] = ()) -> None:
    """Removes what this process and its worker processes had begun to write."""
    ours = tuple(partial_prefix(process) for process in (os.getpid(), *workers))
    for output in config.outputs:
        if files.is_remote(output):
            continue
        folder = output if os.path.isdir(output) else os.path.dirname(output) or "."
        deep = os.walk(folder) if folder == config.output_dir else [(folder, [], os.listdir(folder))]
        for path, _, names in deep:
            for name in names:
                if name.startswith(ours):
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(os.path.join(path, name))
