"""Checks the progress display of batch runs, and the tally behind it."""

import functools
import io
import re
import threading
from pathlib import Path

import apache_beam as beam
import pytest
from rich.console import Console

from beam_dedup.batch import progress
from beam_dedup.core import blocks
from beam_dedup.core.model import ImageRef
from beam_dedup.core.reading import decoder_process
from beam_dedup.core.reading.isolated_decoder import IsolatedDecoder
from beam_dedup.execution import in_background
from tests.core.archives import made_archives
from tests.waiting import soon
from transforms import FingerprintImages, ReadImages, ReadSettings
from transforms.tally import IMAGES, LISTED, PLACED, READ, Tally


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


TIMES = r"[\d,]+ images/s, \d:\d\d:\d\d elapsed, \d:\d\d:\d\d left"


@pytest.mark.parametrize(("terminal", "width"), [(True, 120), (True, 100), (False, 120)])
def test_progress_shows_counts_rate_and_times(terminal: bool, width: int, tmp_path: Path) -> None:
    tally = Tally(str(tmp_path))
    tally.add(LISTED, 200)
    tally.add(READ, 50)
    tally.add(IMAGES, 1234)
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=width)
    show = functools.partial(progress.show_progress, tally, live_seconds=0.02, log_seconds=0.02)
    with in_background(show, console):
        assert soon(lambda: re.search(TIMES, shown.getvalue()))
    text = shown.getvalue()
    assert "reading images: 50 of 200 files read, 1,234 images, " in text
    assert ("━" in text) == (terminal and width >= 120)


def test_phases(tmp_path: Path) -> None:
    tally = Tally(str(tmp_path))
    state = progress.ProgressState(tally)
    seen = [state.phase]
    for name, count in ((LISTED, 5), (IMAGES, 3), (READ, 3), (READ, 2), (PLACED, 2)):
        tally.add(name, count)
        state.update()
        seen.append(state.phase)
    assert seen == [
        "starting",
        "starting",
        "reading images",
        "reading images",
        "finding duplicates",
        "copying, 2 done",
    ]


def test_members_of_an_archive_count_before_it_is_read_to_its_end(tmp_path: Path) -> None:
    tally = Tally(str(tmp_path))
    tally.add(LISTED, 1)
    tally.add(IMAGES, 500)
    state = progress.ProgressState(tally)
    assert re.fullmatch(
        r"reading images: 0 of 1 files read, 500 images, [\d,]+ images/s, 0:00:00 elapsed", state.line
    )


def test_members_are_reported_while_an_archive_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder replies after a second, although the archive goes on."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        f"if {decoder_process.__name__!r} in sys.orig_argv:\n"
        "    from beam_dedup.core.reading import reader as inputs\n"
        "    real = inputs.fingerprint\n"
        "    def slow(ref, *rest):\n"
        "        time.sleep(0.7)\n"
        "        return real(ref, *rest)\n"
        "    inputs.fingerprint = slow\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    archive = tmp_path / "a.zip"
    archive.write_bytes(made_archives.zipped({f"{number}.gif": b"GIF89a%d" % number for number in range(6)}))
    reported: list[int] = []
    decoder = IsolatedDecoder(None)
    try:
        result = decoder.read([ImageRef(str(archive), "a.zip")], on_images=reported.append)
    finally:
        decoder.close()
    assert sum(reported) == 6
    assert len(reported) >= 3
    assert len(blocks.load(result.fingerprints, blocks.FINGERPRINTS)) == 6


def test_images_are_counted_while_a_run_reads(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.zip").write_bytes(
        made_archives.zipped({f"{number}.gif": b"GIF89a%d" % number for number in range(6)})
    )
    (tmp_path / "in" / "b.gif").write_bytes(b"GIF89a")
    (tmp_path / "tally").mkdir()
    tally = Tally(str(tmp_path / "tally"))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        images = pipeline | ReadImages(str(tmp_path / "in"))
        images | FingerprintImages(settings=ReadSettings(recipe=None, tally=tally))
    assert (tally.total(READ), tally.total(IMAGES)) == (2, 7)


def test_rate_does_not_fall_after_reading(tmp_path: Path) -> None:
    """The rate counts only the time of reading, not that of finding duplicates."""
    tally = Tally(str(tmp_path))
    tally.add(LISTED, 10)
    tally.add(READ, 5)
    tally.add(IMAGES, 5)
    state = progress.ProgressState(tally)
    tally.add(READ, 5)
    tally.add(IMAGES, 5)
    state.update()
    first = state.rate
    threading.Event().wait(0.05)
    state.update()
    assert state.rate == first
    assert state.time_left == ""
