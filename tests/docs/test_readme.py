"""The commands of the README run as they stand there, and print what it shows."""

import re
import shlex
from pathlib import Path

import pytest

from beam_dedup import cli
from tests.app.cli_runs import ROOT
from tests.docs.pages import README, text_of

TEXT = text_of(README)


def test_readme_has_at_most_150_lines() -> None:
    assert len(TEXT.splitlines()) <= 150


def test_summary_shown_is_that_of_the_samples(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = next(
        text for text in re.findall(r"```\n(.*?)```", TEXT, re.DOTALL) if "Initial_Image_Count" in text
    )
    assert cli.main(["-n", "-i", str(samples), "-d", str(tmp_path / "unique"), "-s", "-o", ""]) == 0
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown[: block.count("\n")] == block.splitlines()


def test_first_commands_run_with_the_samples_as_pictures(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    \.venv/bin/dedup (.*?)(?: +#.*)?$", TEXT, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        arguments = [str(samples) if part == "~/Pictures" else part for part in shlex.split(command)]
        assert cli.main([*arguments, "--quiet"]) == 0
    assert (tmp_path / "unique" / "_duplicates").is_dir()
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 42
    assert {"c.json", "image_locations.json"} <= {path.name for path in tmp_path.iterdir()}


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^    make (\w+)", TEXT, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()
