"""Checks the progress display of batch runs, and the tally behind it."""

import functools
import io
import threading
from pathlib import Path

import pytest
from rich.console import Console

from beam_dedup.batch import progress
from beam_dedup.execution import in_background
from transforms.tally import LISTED, PLACED, READ, Tally


def test_tally_sums_the_counts_of_threads(tmp_path: Path) -> None:
    tally = Tally(str(tmp_path))

    def work() -> None:
        for _ in range(50):
            tally.add(READ, 2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.total(READ) == 400
    assert tally.total(LISTED) == 0


def test_tally_counts_from_one_digit_to_several(tmp_path: Path) -> None:
    """The file of a count is overwritten without being truncated first."""
    tally = Tally(str(tmp_path))
    for count in (1, 8, 1, 90, 900, 0):
        tally.add(READ, count)
    assert tally.total(READ) == 1000
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_counts_rate_and_time_left(terminal: bool, tmp_path: Path) -> None:
    tally = Tally(str(tmp_path))
    tally.add(LISTED, 200)
    tally.add(READ, 50)
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=120)
    show = functools.partial(progress.show_progress, tally, live_seconds=0.02, log_seconds=0.02)
    with in_background(show, console):
        threading.Event().wait(0.5)
    text = shown.getvalue()
    assert "reading images" in text
    assert ("50/200" if terminal else "50 of 200 files read") in text
    assert "images/s" in text
    assert "left" in text


def test_phases(tmp_path: Path) -> None:
    tally = Tally(str(tmp_path))
    state = progress.ProgressState(tally)
    seen = [state.phase]
    for name, count in ((LISTED, 5), (READ, 3), (READ, 2), (PLACED, 2)):
        tally.add(name, count)
        state.update()
        seen.append(state.phase)
    assert seen == ["starting", "starting", "reading images", "finding duplicates", "copying, 2 done"]


def test_rate_does_not_fall_after_reading(tmp_path: Path) -> None:
    """The rate counts only the time of reading, not that of finding duplicates."""
    tally = Tally(str(tmp_path))
    tally.add(LISTED, 10)
    tally.add(READ, 5)
    state = progress.ProgressState(tally)
    tally.add(READ, 5)
    state.update()
    first = state.rate
    threading.Event().wait(0.05)
    state.update()
    assert state.rate == first
    assert state.time_left == ""
