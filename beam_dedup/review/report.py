"""Makes the review page of a run: reads its records, makes thumbnails, and writes the page."""

import contextlib
import dataclasses
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from beam_dedup.core import strict_json
from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.names import shown
from beam_dedup.core.threads import cores
from beam_dedup.output import log
from beam_dedup.review.groups import read_review
from beam_dedup.review.thumbnails import ThumbnailMaker
from beam_dedup.review.writer import write_page

_LIVE_SECONDS, _LOG_SECONDS = 0.5, 10.0
_CLEAR_LINE = "\r\x1b[K"
_MAX_COUNTS_BYTES = 1 << 20
MAX_DECODE_SECONDS = 30.0  # for one thumbnail: a person waits


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """The options of `dedup report`; the command line documents each.

    Attributes:
      k, verify: the thresholds of the run; None if they are not known.
      limits: on reading pictures.
    """

    records: str
    output: str
    files: str = ""
    counts: str = ""
    directory: str = ""
    jobs: int = 0
    quiet: bool = False
    k: int | None = None
    verify: int | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)


def make_report(config: ReportConfig, counts: Mapping[str, Any] | None = None) -> str:
    """Writes the page and returns the path of its index.html.

    Args:
      config: the options.
      counts: what the run counted; None reads the file that the options name, if they do.

    Raises:
      UsageError: there are no records, or the counts are none.
      DedupError: a file can't be read or written.
    """
    if counts is None and config.counts:
        counts = read_counts(config.counts)
    review = read_review(config.records, config.files, config.k, config.verify)
    if review.left_out and not config.quiet:
        log(f"the page leaves out {review.left_out:,} duplicates; choose fewer records with --files")
    directory = os.path.abspath(config.directory or os.curdir)
    seconds = min(config.limits.decode_seconds, MAX_DECODE_SECONDS)
    limits = dataclasses.replace(config.limits, decode_seconds=seconds)
    total = sum(len(group.pictures) for group in review.groups)
    with (
        ThumbnailMaker(directory, config.jobs or cores(), limits) as maker,
        _progress(total, config.quiet) as progress,
    ):
        return write_page(config.output, review, maker, directory, counts, progress.add)


def read_counts(path: str) -> Mapping[str, Any]:
    """Returns what `--counts` wrote.

    Raises:
      UsageError: it is something else.
      DedupError: it can't be read.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_COUNTS_BYTES).decode("utf-8")
        counts = strict_json.parse(text, replace_unbounded=True)
    except OSError as error:
        raise DedupError(f"can't read {shown(path)}: {error.strerror}") from error
    except ValueError:
        counts = None
    if not isinstance(counts, dict):
        raise UsageError(f"--counts must be a file that --counts of a run wrote; {shown(path)} is none")
    return counts


class _Progress:
    """Shows how many pictures are done."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        self._done += count

    @property
    def line(self) -> str:
        return f"making thumbnails: {self._done:,} of {self._total:,}"


@contextlib.contextmanager
def _progress(total: int, quiet: bool) -> Iterator[_Progress]:
    """Shows progress on stderr until the block ends: a live line on a terminal, else a line every 10 seconds."""
    progress, ended = _Progress(total), threading.Event()
    is_terminal = sys.stderr is not None and sys.stderr.isatty()

    def show() -> None:
        while not ended.wait(_LIVE_SECONDS if is_terminal else _LOG_SECONDS):
            if is_terminal:
                print(f"{_CLEAR_LINE}dedup: {progress.line}", end="", file=sys.stderr, flush=True)
            else:
                log(progress.line)
        if is_terminal:
            print(_CLEAR_LINE, end="", file=sys.stderr, flush=True)

    if quiet:
        yield progress
        return
    thread = threading.Thread(target=show, name="progress", daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        ended.set()
        thread.join()
