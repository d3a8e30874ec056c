"""One run from its configuration to its exit code."""

import contextlib
import io
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence

import apache_beam as beam
from rich.console import Console

from beam_dedup import preflight
from beam_dedup.batch import pipeline, progress, summary
from beam_dedup.batch.pipeline import Reports
from beam_dedup.core.errors import DEBUG_VARIABLE, DedupError, PlanError, UsageError
from beam_dedup.core.imaging.views import most_codes
from beam_dedup.core.matching.planner import PlanSettings, choose
from beam_dedup.options.config import DedupConfig
from beam_dedup.runners import select
from beam_dedup.shutdown import as_dedup_error, remove_partial_files, stopping_on_signals
from beam_dedup.unplaced import unplaced_message
from transforms.read import list_rows
from transforms.storage import files as storage
from transforms.storage.listing import list_inputs
from transforms.tally import LISTED, Tally


def run(config: DedupConfig, beam_arguments: Sequence[str], started: float) -> int:
    """Builds the pipeline, runs it to its end and tells what came of it.

    Returns: the exit code. started: time.monotonic() when the command began.

    Raises:
      UsageError: Beam's options are wrong.
      DedupError: the run failed; the message says why in one sentence.
    """
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    prepared = preflight.prepare(config, beam_arguments)
    config, beam_options, local = prepared.config, prepared.beam_options, prepared.is_local
    # A pass over all names, for who sees the progress, and for the plan.
    counted = local and (config.near or not config.quiet)
    files_to_read = _count_files(config) if counted else 0
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
        made = beam.Pipeline(runner=select.runner_for(beam_options, config), options=beam_options)
        planning = PlanSettings(spread=not local, force=config.force_plan)
        pipeline.build(made, config, reports, planning, select.processes(beam_options, config), tally)
        with contextlib.ExitStack() as around:
            around.enter_context(stopping_on_signals(config, scratch))
            if tally and not config.quiet:
                around.enter_context(progress.shown(tally, Console(file=sys.stderr)))
            if local and not debug:
                # The engine's threads print the traceback of whatever fails, and decoders warn of each odd file.
                around.enter_context(contextlib.redirect_stderr(io.StringIO()))
            select.wait_for(made.run())
        if local:
            _report(config, reports, time.monotonic() - started)
        elif not config.quiet:
            print(f"dedup: {select.finished_message(beam_options)}")
        return 0
    except Exception as error:
        remove_partial_files(config)
        if debug:
            traceback.print_exc()
        raise as_dedup_error(error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _report(config: DedupConfig, reports: Reports, seconds: float) -> None:
    """Prints the preview and the summary, and fails if copies could not be made."""
    if config.preview:
        with open(reports.preview, encoding="utf-8", errors="surrogateescape") as lines:
            shutil.copyfileobj(lines, sys.stdout)
    if not config.quiet:
        with storage.open_bytes(reports.counts) as file:  # which --counts may have put anywhere
            print(summary.text(config, json.load(file), seconds))
    if config.output_dir and not config.preview and (told := unplaced_message(reports.unplaced)):
        raise DedupError(told)


def _count_files(config: DedupConfig) -> int:
    """How many files will be read, which progress is told in parts of; and refuses what would take for ever.

    Raises:
      UsageError: near matching would grow with the square of the number of images: the numbers, and what to change.
    """
    known = list_inputs([config.reference], config.outputs) if config.reference else ()
    if config.json_metadata:
        new: Iterator[object] = list_rows(config.json_metadata, config.excluded_paths)
    else:
        new = list_inputs(config.inputs, config.excluded_paths)
    try:
        files = sum(1 for _ in itertools.chain(new, known))
    except OSError as error:  # a store's: folders that can't be listed are rejected
        raise DedupError(f"the input can't be listed: {error}") from error
    if config.near and not config.force_plan:
        try:
            choose(config.thresholds, files * most_codes(config.recipe), files).check()
        except PlanError as error:
            raise UsageError(str(error)) from error
    return files
