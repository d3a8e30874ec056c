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
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from transforms.progress import LISTED, PLACED, READ, Tally

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


def _show_live(tally: Tally, console: Console, stop: threading.Event) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None, rate="")
        started = time.monotonic()
        while not stop.wait(_LIVE_SECONDS):
            _update(bar, task, tally, started)


def _update(bar: Progress, task: TaskID, tally: Tally, started: float) -> None:
    listed, read, placed = (tally.total(name) for name in (LISTED, READ, PLACED))
    rate = f"{read / (time.monotonic() - started):,.0f} images/s" if read else ""
    bar.update(
        task,
        description=_phase(listed, read, placed),
        completed=min(read, listed),
        total=listed or None,
        rate=rate,
    )


def _phase(listed: int, read: int, placed: int) -> str:
    if not listed:
        return "starting"
    if not read:
        return "listing files"
    if read < listed:
        return "reading images"
    return f"copying, {placed:,} done" if placed else "judging"


def _show_log(tally: Tally, console: Console, stop: threading.Event) -> None:
    started = time.monotonic()
    while not stop.wait(_LOG_SECONDS):
        listed, read, placed = (tally.total(name) for name in (LISTED, READ, PLACED))
        seconds = time.monotonic() - started
        line = f"{_phase(listed, read, placed)}: {read:,} of {listed:,} files"
        if read:
            line += f", {read / seconds:,.0f} a second"
            if read < listed:
                line += f", about {seconds * (listed - read) / read:,.0f} s left"
        console.print(line, highlight=False)
