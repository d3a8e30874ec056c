"""Images that an earlier run has judged are read again, if their references are, but not judged again."""

import functools
import io
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from rich.console import Console

from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.stream.protocol import exact_plan
from beam_dedup.execution import in_background
from beam_dedup.stream.progress import show_progress
from tests.core.archives.made_archives import FILES, zipped
from tests.transforms.streams import run, scripted
from tests.waiting import soon
from transforms.batching import verdicts_in
from transforms.read_settings import ReadSettings
from transforms.stream.judge import JudgeArrivals
from transforms.stream.record import count_verdicts
from transforms.stream.steps import StreamSettings
from transforms.stream.windows import DeduplicateWindows, IntoWindows
from transforms.tally import Tally

DAY = 86400 * 10**6


@pytest.mark.parametrize("windows", [False, True])
def test_nothing_is_in_flight_when_all_is_judged(tmp_path: Path, windows: bool) -> None:
    """After a restart too, and however many images are in an archive."""
    (tmp_path / "a.zip").write_bytes(zipped(FILES))
    (tmp_path / "b.jpg").write_bytes(b"")
    references = [Arrival(str(tmp_path / name)).reference() for name in ("a.zip", "b.jpg")]
    tally = Tally(str(tmp_path))
    skipped = tmp_path / "skipped.npy"
    shown = []
    judged: list[str] = []
    for _ in range(2):
        identities = [Arrival(uri).identity for uri in judged]
        np.save(skipped, np.sort(np.array(identities, "S16")))
        settings = ReadSettings(tally=tally)
        judge: Any = (
            DeduplicateWindows(settings=settings, skipped=str(skipped))
            if windows
            else JudgeArrivals(StreamSettings(exact_plan(), DAY, 0), settings=settings, skipped=str(skipped))
        )
        into: Any = IntoWindows(3600.0) if windows else beam.Map(lambda images: images)

        def build(pipeline: beam.Pipeline, judge: Any = judge, into: Any = into) -> dict[str, Any]:
            return {"verdicts": pipeline | scripted([(1.0, [references])]) | "Into" >> into | judge}

        for block in run(build)["verdicts"]:
            count_verdicts(block, tally)
            judged += [verdict.ref.uri for verdict in verdicts_in(block)]
        shown.append(progress_line(tally))
    assert len(judged) == len(FILES) + 1
    for line in shown:
        assert f"{len(judged)} judged, " in line
        assert " 0 in flight, " in line


def progress_line(tally: Tally) -> str:
    shown = io.StringIO()
    show = functools.partial(show_progress, tally, log_seconds=0.02)
    with in_background(show, Console(file=shown)):
        assert soon(lambda: "\n" in shown.getvalue())
    return shown.getvalue().splitlines()[-1]
