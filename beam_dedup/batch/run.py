"""Runs a batch: checks, builds the pipeline, executes it, and reports the result."""

import contextlib
import functools
import itertools
import json
import os
import time
from collections.abc import Iterator

import apache_beam as beam

from beam_dedup import preflight
from beam_dedup.batch import leakage, pipeline, progress, remote_report, summary
from beam_dedup.batch.other_files import count_other_files
from beam_dedup.batch.pipeline import COUNT, Reports
from beam_dedup.batch.rejected import nothing_judged, nothing_read
from beam_dedup.batch.remote_report import CountsFile
from beam_dedup.core.errors import DedupError, PlanError, UsageError
from beam_dedup.core.imaging.views import most_codes
from beam_dedup.core.matching.planner import PlanSettings, choose
from beam_dedup.core.names import shown
from beam_dedup.core.overview import from_json
from beam_dedup.execution import executing
from beam_dedup.options.config import DedupConfig
from beam_dedup.output import sign_of_life, write
from beam_dedup.preflight import Prepared
from beam_dedup.review.report import ReportConfig, make_report
from beam_dedup.runners import select
from beam_dedup.runners.job_server import stopping_job_server
from beam_dedup.shutdown import scratch_directory
from beam_dedup.texts import excluded_text
from beam_dedup.unplaced import count_lines, unplaced_message
from transforms import metrics
from transforms.read import list_rows
from transforms.storage import files as storage
from transforms.storage.listing import list_inputs
from transforms.tally import LISTED, Tally

_CHUNK_CHARACTERS = 1 << 16  # of the preview that are printed at once


def run(prepared: Prepared, started: float) -> int:
    """Builds the pipeline, runs it to its end, and prints the summary.

    Args:
      prepared: the checked options.
      started: time.monotonic() when the command began.

    Returns:
      The exit code.

    Raises:
      UsageError: the plan is too expensive, or Beam has no such runner.
      DedupError: the run failed; the message gives the reason in one sentence.
    """
    config, options, local = prepared.config, prepared.beam_options, prepared.is_local
    here = prepared.has_workers_here
    # Counting lists all inputs once more; only the plan of near mode and the progress display need it.
    with contextlib.nullcontext() if config.quiet else sign_of_life("listing the input"):
        is_listed = config.near or not config.quiet or bool(config.splits)
        files_to_read = count_files(config) if local and is_listed else 0
    with scratch_directory(config) as scratch:
        tally = _tally(scratch, files_to_read) if local else None
        reports = _reports(config, scratch, here)
        counts_file = CountsFile(config.counts)
        template_only = select.makes_template(options)
        made = beam.Pipeline(runner=select.runner_for(options, config), options=options)
        planning = PlanSettings(spread=not local, force=config.force_plan)
        settings = select.read_settings(options, config, tally)
        pipeline.build(made, config, reports, planning, settings=settings)
        show = functools.partial(progress.show_progress, tally) if tally and not config.quiet else None
        servers = contextlib.nullcontext() if local else stopping_job_server()
        with executing(config, scratch, show, hide_stderr=local), servers:
            result = made.run()
            select.wait_for(result)
        if here:
            _report(config, reports, time.monotonic() - started, local=local)
        elif not template_only:
            remote_report.report(config, counts_file, result, time.monotonic() - started)
        elif not config.quiet:
            write(f"dedup: {select.finished_message(options)}\n")
    return 0


def _tally(scratch: str, files_to_read: int) -> Tally:
    tally = Tally(scratch)
    tally.add(LISTED, files_to_read)
    return tally


def _reports(config: DedupConfig, scratch: str, here: bool) -> Reports:
    """Returns where the pipeline writes what `_report` reads: only workers of this process can write there."""
    if not here:
        return Reports(config.counts)
    names = ("counts", "preview", "unplaced", "overview", "companions")
    counts, preview, unplaced, overview, companions = (os.path.join(scratch, name) for name in names)
    records = os.path.join(scratch, "records", "") if config.report else ""
    unlisted = os.path.join(scratch, "unlisted") if config.drop_list else ""
    return Reports(config.counts or counts, preview, unplaced, overview, records, companions, unlisted)


def _report(config: DedupConfig, reports: Reports, seconds: float, *, local: bool) -> None:
    """Prints the preview and the summary.

    On another runner, a run without images has failed: the local runner alone certainly reads what the user sees.

    Raises:
      DedupError: all inputs were rejected, copies could not be made, or somebody else wrote an output file
        during the run.
      LeakError: images leak between splits, and the run shall fail then.
    """
    with open(reports.overview, encoding="utf-8") as file:
        overview = from_json(json.load(file))
    if config.preview:
        with open(reports.preview, encoding="utf-8", errors="surrogateescape") as lines:
            while text := lines.read(_CHUNK_CHARACTERS):
                write(text)
    taken = preflight.taken_outputs(config)
    counts_path = storage.other_name(reports.counts) if "--counts" in taken else reports.counts
    with storage.open_bytes(counts_path) as counts_file:  # --counts may name an object in a bucket
        counts = json.load(counts_file)
    is_placing = bool(config.output_dir) and not config.preview
    if config.report:
        make_report(
            ReportConfig(
                records=reports.records,
                output=config.report,
                jobs=config.jobs,
                quiet=config.quiet,
                k=config.thresholds.k if config.near else None,
                verify=config.thresholds.verify if config.near else None,
                limits=config.read_limits,
            ),
            counts,
        )
    if not config.quiet:
        other_files = 0
        if is_placing and not config.shards:
            unplaced = count_lines(reports.unplaced)
            other_files = count_other_files(config, overview, unplaced, _count_in(reports.companions))
        write(f"{summary.text(config, counts, overview, seconds, other_files, local=local)}\n")
    problems = list(taken.values())
    if counts[metrics.INITIAL] == counts[metrics.REJECTED]:
        if counts[metrics.INITIAL]:
            problems.append(nothing_judged(config, overview))
        elif not local:
            excluded = excluded_text(summary.excluded_causes(counts))
            problems.append(nothing_read(config, elsewhere=False, excluded=excluded))
    if is_placing and (message := unplaced_message(reports.unplaced)):
        problems.append(message)
    if reports.unlisted and (message := _unlisted_message(config, reports.unlisted)):
        problems.append(message)
    if problems:
        raise DedupError("\n".join(problems))
    leakage.check(config, counts)


def _unlisted_message(config: DedupConfig, path: str) -> str:
    """Returns a sentence about the names that are missing in the drop list; "" if there are none."""
    count = _count_in(path)
    if not count:
        return ""
    names = "1 name contains" if count == 1 else f"{count:,} names contain"
    return (
        f"--drop_list: {shown(config.drop_list)} is not complete: {names} a line break or NUL. "
        "A list whose own name ends in .nul can contain line breaks"
    )


def _count_in(path: str) -> int:
    """Returns the number that a step of the pipeline wrote; 0 if there was no such step."""
    if not os.path.exists(path):
        return 0
    with open(path, encoding="utf-8") as file:
        return int(json.load(file)[COUNT])


def count_files(config: DedupConfig) -> int:
    """Returns the number of files to read, for the progress display, and checks the cost of the plan.

    Raises:
      UsageError: near matching would need comparisons that grow with the square of the number of images;
        the message gives the numbers and what to change.
      DedupError: an object store refused to list the input.
    """
    selection = config.selection
    known = list_inputs([config.reference], config.outputs, selection=selection) if config.reference else ()
    if config.json_metadata:
        new: Iterator[object] = list_rows(
            config.json_metadata,
            config.excluded_paths,
            config.allow,
            config.directory,
            selection,
            path_field=config.path_field,
        )
    else:
        new = list_inputs(
            config.inputs,
            config.excluded_paths,
            config.links_inside,
            selection,
            companions=config.companions,
            splits=config.splits,
        )
    try:
        files = sum(1 for _ in itertools.chain(new, known))
    except OSError as error:  # from a store: a local directory that can't be listed is rejected instead
        raise DedupError(f"the input can't be listed: {error}") from error
    if config.near and not config.force_plan:
        try:
            choose(config.thresholds, files * most_codes(config.recipe), files).check()
        except PlanError as error:
            raise UsageError(str(error)) from error
    return files
