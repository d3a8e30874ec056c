"""Shows how far a run is: one live line on a terminal, a line now and then in a log."""

import contextlib
import threading
import time
from collections.abc import Iterator

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

_LIVE_SECONDS = 0.25
_LOG_SECONDS = 10.0


@contextlib.contextmanager
def shown(tally: Tally, console: Console) -> Iterator[None]:
    """Shows a tally's counts until the block ends."""
    stop = threading.Event()
    show = _show_live if console.is_terminal else _show_log
    thread = threading.Thread(target=show, args=(tally, console, stop), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class _State:
    """How far a run is, read from a tally again and again."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.started = time.monotonic()
        self.update()

    def update(self) -> None:
        self.listed, self.read, self.placed = (self.tally.total(name) for name in (LISTED, READ, PLACED))
        if self.reading or not self.read:
            self.seconds = time.monotonic() - self.started  # what follows the reading does not slow it down

    @property
    def reading(self) -> bool:
        return 0 < self.read < self.listed

    @property
    def rate(self) -> float:
        return self.read / self.seconds if self.read else 0.0

    @property
    def phase(self) -> str:
        if not self.read:
            return "starting"
        if self.reading:
            return "reading images"
        return f"copying, {self.placed:,} done" if self.placed else "judging"

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started


def _show_live(tally: Tally, console: Console, stop: threading.Event) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        TimeElapsedColumn(),
    )
    # Redirecting would undo, from this thread, what the run does to the same streams.
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as bar:
        task = bar.add_task("starting", total=None, rate="", left="")
        state = _State(tally)
        while not stop.wait(_LIVE_SECONDS):
            state.update()
            rate = f"{state.rate:,.0f} images/s" if state.read else ""
            bar.update(
                task,
                description=state.phase,
                completed=min(state.read, state.listed),
                total=state.listed or None,
                rate=rate,
                left=_left(state),
            )


def _left(state: _State) -> str:
    """The time that reading will take still; judging and copying can't be foretold."""
    if not state.reading:
        return ""
    seconds = round((state.listed - state.read) / state.rate)
    return f"{seconds // 60}:{seconds % 60:02} left"


def _show_log(tally: Tally, console: Console, stop: threading.Event) -> None:
    state = _State(tally)
    while not stop.wait(_LOG_SECONDS):
        state.update()
        parts = [f"{state.phase}: {state.read:,} of {state.listed:,} files read"]
        if state.read:
            parts.append(f"{state.rate:,.0f} images/s")
        if left := _left(state):
            parts.append(left)
        parts.append(f"{state.elapsed:,.0f} s so far")
        console.print(", ".join(parts), highlight=False, soft_wrap=True)
