"""Shows the progress of a batch run: a live line on a terminal, otherwise one log line every 10 seconds."""

import threading
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
)

from transforms.tally import IMAGES, LISTED, PLACED, READ, Tally

LIVE_SECONDS = 0.25
LOG_SECONDS = 10.0
_BAR_WIDTH = 20
_WIDTH_WITH_BAR = 110  # columns of a terminal that has room for a bar beside the text


class ProgressState:
    """How far a run is, as last read from its tally.

    Attributes:
      listed: number of files to read; 0 if it is not known.
      read: number of files read so far.
      images: number of images read so far, in those files and in the archives that are being read.
      placed: number of copies made so far.
      seconds: time from the start until the last file was read (so far). The time after that does not
        count, so that finding duplicates and copying do not lower the rate.
    """

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.started = time.monotonic()
        self.update()

    def update(self) -> None:
        """Reads the tally again."""
        self.listed, self.read, self.images, self.placed = (
            self.tally.total(name) for name in (LISTED, READ, IMAGES, PLACED)
        )
        if self.reading or not self.has_begun:
            self.seconds = time.monotonic() - self.started

    @property
    def has_begun(self) -> bool:
        return bool(self.images or self.read)

    @property
    def reading(self) -> bool:
        return self.has_begun and self.read < self.listed

    @property
    def rate(self) -> float:
        """Images read per second."""
        return self.images / self.seconds if self.images else 0.0

    @property
    def phase(self) -> str:
        if not self.has_begun:
            return "starting"
        if self.reading:
            return "reading images"
        return f"copying, {self.placed:,} done" if self.placed else "finding duplicates"

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def time_left(self) -> str:
        """The time that reading will still take, as text; "" in other phases, which can't be predicted."""
        if not self.reading or not self.read:
            return ""
        return f"{clock(self.seconds / self.read * (self.listed - self.read))} left"

    @property
    def line(self) -> str:
        """All of it as one line."""
        parts = [f"{self.phase}: {self.read:,} of {self.listed:,} files read"]
        if self.images:
            parts.append(f"{self.images:,} images, {self.rate:,.0f} images/s")
        parts.append(f"{clock(self.elapsed)} elapsed")
        parts += filter(None, [self.time_left])
        return ", ".join(parts)


def clock(seconds: float) -> str:
    """Returns a time in hours, minutes and seconds.

    >>> clock(75.4), clock(3700)
    ('0:01:15', '1:01:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def show_progress(
    tally: Tally,
    console: Console,
    stop: threading.Event,
    *,
    live_seconds: float = LIVE_SECONDS,
    log_seconds: float = LOG_SECONDS,
) -> None:
    """Shows the counts of a tally until an event is set.

    Args:
      tally: counts what the workers have done.
      console: where to show it; a terminal gets a live line, anything else log lines.
      stop: ends the display.
      live_seconds: time between two updates of the live line.
      log_seconds: time between two log lines.
    """
    if console.is_terminal:
        _show_live(ProgressState(tally), console, stop, live_seconds)
    else:
        _show_log(ProgressState(tally), console, stop, log_seconds)


def _show_live(state: ProgressState, console: Console, stop: threading.Event, seconds: float) -> None:
    bar_column = (BarColumn(bar_width=_BAR_WIDTH),) if console.width >= _WIDTH_WITH_BAR else ()
    columns = (SpinnerColumn(), *bar_column, TextColumn("{task.description}"))
    # The streams are not redirected here: ending that in this thread would undo redirections by the run.
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task("starting", total=None)
        while not stop.wait(seconds):
            state.update()
            completed = min(state.read, state.listed)
            bar.update(task, description=state.line, completed=completed, total=state.listed or None)


def _show_log(state: ProgressState, console: Console, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        state.update()
        console.print(state.line, highlight=False, soft_wrap=True)
