"""Shows the progress of a batch run: a live line on a terminal, otherwise one log line every 10 seconds."""

import threading
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from transforms.tally import LISTED, PLACED, READ, Tally

LIVE_SECONDS = 0.25
LOG_SECONDS = 10.0


class ProgressState:
    """How far a run is, as last read from its tally.

    Attributes:
      listed: number of files to read; 0 if it is not known.
      read: number of files read so far.
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
        self.listed, self.read, self.placed = (self.tally.total(name) for name in (LISTED, READ, PLACED))
        if self.reading or not self.read:
            self.seconds = time.monotonic() - self.started

    @property
    def reading(self) -> bool:
        return 0 < self.read < self.listed

    @property
    def rate(self) -> float:
        """Images read per second."""
        return self.read / self.seconds if self.read else 0.0

    @property
    def phase(self) -> str:
        if not self.read:
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
        if not self.reading:
            return ""
        seconds = round((self.listed - self.read) / self.rate)
        return f"{seconds // 60}:{seconds % 60:02} left"


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
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        TimeElapsedColumn(),
    )
    # The streams are not redirected here: ending that in this thread would undo redirections by the run.
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task("starting", total=None, rate="", left="")
        while not stop.wait(seconds):
            state.update()
            rate = f"{state.rate:,.0f} images/s" if state.read else ""
            bar.update(
                task,
                description=state.phase,
                completed=min(state.read, state.listed),
                total=state.listed or None,
                rate=rate,
                left=state.time_left,
            )


def _show_log(state: ProgressState, console: Console, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        state.update()
        parts = [f"{state.phase}: {state.read:,} of {state.listed:,} files read"]
        if state.read:
            parts.append(f"{state.rate:,.0f} images/s")
        if state.time_left:
            parts.append(state.time_left)
        parts.append(f"{state.elapsed:,.0f} s elapsed")
        console.print(", ".join(parts), highlight=False, soft_wrap=True)
