"""`--quiet_time` from the command line."""

from pathlib import Path

import pytest

from beam_dedup.core.errors import UsageError
from beam_dedup.options import checks, parser
from beam_dedup.stream import pipeline
from transforms.stream.watch import WatchedSource

WATCH = ["--watch", "-i", "in"]


@pytest.mark.parametrize(
    ("arguments", "seconds"), [([], 10.0), (["--quiet_time", "90s"], 90.0), (["--quiet_time", "1.5m"], 90.0)]
)
def test_quiet_time_reaches_the_source(arguments: list[str], seconds: float) -> None:
    source = pipeline.unbounded_source(checks.configure(parser.parse([*WATCH, *arguments])[0]))
    assert isinstance(source, WatchedSource)
    assert source.times.quiet_seconds == seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*WATCH, "--quiet_time", "0.5s"], "--quiet_time must be between 1s and 1d; got 0.5s"),
        ([*WATCH, "--quiet_time", "2d"], "--quiet_time must be between 1s and 1d; got 2d"),
        ([*WATCH, "--quiet_time", "10"], "--quiet_time must be a number and a unit"),
        (["-i", "in", "--quiet_time", "10s"], "--quiet_time applies only to streaming"),
        (
            ["--subscription", "projects/p/subscriptions/s", "--quiet_time", "10s"],
            "--quiet_time applies only to --watch",
        ),
    ],
)
def test_quiet_time_that_does_not_fit_is_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match=message):
        checks.configure(parser.parse(arguments)[0])
