"""Shows the progress and the summary of a stream.

Progress is a live line on a terminal, otherwise one log line every 30 seconds.
"""

import threading
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from beam_dedup.options.config import DedupConfig
from beam_dedup.texts import excluded_text
from transforms import metrics
from transforms.tally import FOUND, JUDGED_BEFORE, LATENCY, PLACED, Tally

LIVE_SECONDS = 0.5
LOG_SECONDS = 30.0


def show_progress(
    tally: Tally,
    console: Console,
    stop: threading.Event,
    *,
    live_seconds: float = LIVE_SECONDS,
    log_seconds: float = LOG_SECONDS,
) -> None:
    """Shows the counts of a tally until an event is set. See `beam_dedup.batch.progress.show_progress`."""
    show(_Line(tally).text, console, stop, live_seconds, log_seconds)


def show(
    text: Callable[[], str], console: Console, stop: threading.Event, live_seconds: float, log_seconds: float
) -> None:
    """Shows a text until an event is set: as a live line on a terminal, else as log lines. "" shows nothing new."""
    if console.is_terminal:
        _show_live(text, console, stop, live_seconds)
    else:
        _show_log(text, console, stop, log_seconds)


def clock(seconds: float) -> str:
    """Returns a time in hours, minutes and seconds.

    >>> clock(75.4), clock(3700)
    ('0:01:15', '1:01:40')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class _Line:
    """The progress line. Its rate is that since the line was last made."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._started = self._before = time.monotonic()
        self._judged = 0

    def text(self) -> str:
        now = time.monotonic()
        found, skipped, judged, kept, rejected, placed = (
            self._tally.total(name)
            for name in (FOUND, JUDGED_BEFORE, metrics.INITIAL, metrics.FINAL, metrics.REJECTED, PLACED)
        )
        rate = (judged - self._judged) / max(now - self._before, 1e-3)
        self._before, self._judged = now, judged
        parts = [
            f"{judged:,} judged",
            f"{kept:,} kept",
            f"{judged - kept - rejected:,} duplicates",
            f"{rejected:,} rejected",
            f"{max(0, found - skipped - judged):,} in flight",
            f"{rate:,.0f} images/s",
        ]
        if placed:
            parts.insert(4, f"{placed:,} placed")
        return f"{', '.join(parts)}, {clock(now - self._started)} elapsed"


def _show_live(text: Callable[[], str], console: Console, stop: threading.Event, seconds: float) -> None:
    # The streams are not redirected here: ending that in this thread would undo redirections by the run.
    with Live(
        Text("starting"),
        console=console,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        while not stop.wait(seconds):
            if line := text():
                live.update(Text(line), refresh=True)


def _show_log(text: Callable[[], str], console: Console, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        if line := text():
            console.print(line, highlight=False, soft_wrap=True)


def summary(tally: Tally, config: DedupConfig, seconds: float) -> str:
    """Returns the summary of a stream: its counts, its times, and where its outputs are.

    Args:
      tally: counts what the workers have done.
      config: names the outputs.
      seconds: duration of the run.
    """
    rows = [
        ("Images", metrics.INITIAL),
        ("Kept", metrics.FINAL),
        ("Exact duplicates", metrics.EXACT_DUPLICATES),
        ("Near duplicates", metrics.NEAR_DUPLICATES),
        ("Rejected", metrics.REJECTED),
        ("Redelivered", metrics.REDELIVERED),
    ]
    lines = [f"{name:17} {tally.total(counter):>9,}" for name, counter in rows]
    excluded = {
        "directories": {"": tally.total(metrics.EXCLUDED_DIRECTORIES)},
        "files": {"": tally.total(metrics.EXCLUDED)},
    }
    if text := excluded_text(excluded):
        lines.append(f"Not read: {text}, by options and defaults")
    lines.append(f"Total time: {seconds:.1f} s")
    if times := tally.quantiles(LATENCY, 0.5, 0.95):
        median, most = (time / 1000 for time in times)
        lines.append(f"Time from arrival to verdict: median {median:.1f} s, 95th percentile {most:.1f} s")
    outputs = {"Records": config.records, "Counts": config.counts, "Copies": config.output_dir}
    lines += [f"{name}: {path}" for name, path in outputs.items() if path]
    return "\n".join(lines)
