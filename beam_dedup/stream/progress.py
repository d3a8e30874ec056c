"""Shows what a run that stays is doing: one live line on a terminal, a line now and then in a log; and a summary."""

import contextlib
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from beam_dedup.options.config import DedupConfig
from transforms import metrics
from transforms.tally import LATENCY, PLACED, READ, Tally

_LIVE_SECONDS = 0.5
_LOG_SECONDS = 30.0


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


class _Line:
    """The line, from one look at a tally to the next."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._started = self._before = time.monotonic()
        self._judged = 0

    def text(self) -> str:
        now = time.monotonic()
        read, judged, kept, rejected, placed = (
            self._tally.total(name)
            for name in (READ, metrics.INITIAL, metrics.FINAL, metrics.REJECTED, PLACED)
        )
        rate = (judged - self._judged) / max(now - self._before, 1e-3)
        self._before, self._judged = now, judged
        parts = [
            f"{judged:,} judged",
            f"{kept:,} kept",
            f"{judged - kept - rejected:,} duplicates",
            f"{rejected:,} rejected",
            f"{max(0, read - judged):,} in flight",
            f"{rate:,.0f} images/s",
        ]
        if placed:
            parts.insert(4, f"{placed:,} placed")
        minutes, seconds = divmod(int(now - self._started), 60)
        return f"{', '.join(parts)}  {minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _show_live(tally: Tally, console: Console, stop: threading.Event) -> None:
    line = _Line(tally)
    with Live(
        Text("starting"),
        console=console,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        while not stop.wait(_LIVE_SECONDS):
            live.update(Text(line.text()), refresh=True)


def _show_log(tally: Tally, console: Console, stop: threading.Event) -> None:
    line = _Line(tally)
    while not stop.wait(_LOG_SECONDS):
        console.print(line.text(), highlight=False, soft_wrap=True)


def summary(tally: Tally, config: DedupConfig, seconds: float) -> str:
    """What was done, and where it is."""
    rows = [
        ("Images", metrics.INITIAL),
        ("Kept", metrics.FINAL),
        ("Exact duplicates", metrics.EXACT_DUPLICATES),
        ("Near duplicates", metrics.NEAR_DUPLICATES),
        ("Rejected", metrics.REJECTED),
        ("Redelivered", metrics.REDELIVERED),
    ]
    lines = [f"{name:17} {tally.total(counter):>9,}" for name, counter in rows]
    lines.append(f"Took {seconds:.1f} s")
    if times := tally.quantiles(LATENCY, 0.5, 0.95):
        half, most = (time / 1000 for time in times)
        lines.append(f"Judged within {half:.1f} s of arrival, half of them; 95 of 100 within {most:.1f} s")
    places = {"Records": config.records, "Counts": config.counts, "Copies": config.output_dir}
    lines += [f"{name}: {path}" for name, path in places.items() if path]
    return "\n".join(lines)
