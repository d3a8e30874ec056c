"""The README tells the truth: its commands and its code run, its tables are what the code says."""

import re
import shlex
from pathlib import Path

import pytest

from beam_dedup import cli
from beam_dedup.core import limits
from beam_dedup.core.algorithms import ALGORITHMS, Recipe, Views
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import RECORD_FIELDS, Flag, Reason, Status
from beam_dedup.options import parser
from beam_dedup.samples import picture
from tests.app.cli_runs import ROOT, records_in
from transforms import metrics

README = (ROOT / "README.md").read_text("utf-8")


def table(heading: str) -> dict[str, str]:
    """The rows of the table with this first heading: first column without code marks -> second column."""
    lines = README[README.index(f"| {heading} |") :].splitlines()[2:]
    rows = [
        line.strip("| ").split(" | ", 1) for line in lines[: next(i for i, x in enumerate(lines) if not x)]
    ]
    return {first.replace("`", ""): second for first, second in rows}


def test_options() -> None:
    documented = {tuple(names.split(", ")): text for names, text in table("option").items()}
    actions = {tuple(action.option_strings): action for action in parser.build_parser()._actions}
    assert documented.keys() == actions.keys()
    for names, text in documented.items():
        default = actions[names].default
        if isinstance(default, str) and default:
            assert f"default `{default}`" in text


def test_limits() -> None:
    usual = Limits()
    text = table("option")
    assert f"default {usual.max_bytes}." in text["--max_bytes"]
    assert f"may have {usual.max_member_bytes} at most" in text["--max_bytes"]
    assert f"default {usual.max_pixels}, which is also the most" in text["--max_pixels"]
    assert f"default {usual.decode_seconds:g}" in text["--decode_timeout"]
    for most, share in ((limits.MAX_PIXELS, 1), (limits.MAX_PIXELS, 2), (limits.MAX_PIXELS, 4)):
        assert f"up to {most // share // 1_000_000}" in text["--max_pixels"]
    assert f"up to {limits.MAX_PIXELS_HEAVY // 1_000_000} million pixels" in README
    assert usual.max_member_bytes == 128 << 20
    assert "A member may have 128 MiB, an archive 2 million members." in README
    assert usual.max_members == 2_000_000


def test_algorithms() -> None:
    """Bits, default and largest k of each."""
    documented = {
        name.removesuffix(" *"): tuple(int(cell) for cell in row.split(" | ")[:3])
        for name, row in table("algorithm").items()
    }
    assert documented == {
        name: (algorithm.bits, algorithm.default_k, algorithm.max_k) for name, algorithm in ALGORITHMS.items()
    }
    assert list(table("`--views`")) == list(Views)


def test_record_fields() -> None:
    documented = [name for names in table("field of a record") for name in names.split(", ")]
    assert documented == list(RECORD_FIELDS)
    for kind, row in ((Flag, "flags"), (Status, "status")):
        assert all(f"`{member}`" in table("field of a record")[row] for member in kind)


def test_reasons() -> None:
    assert table("reason") == {reason.value: reason.meaning for reason in Reason}
    assert list(table("reason")) == [reason.value for reason in Reason]


def test_every_reason_is_somebodys() -> None:
    """The list is closed on the other side, too: what is documented does come."""
    code = "".join(
        path.read_text("utf-8")
        for package in ("beam_dedup", "transforms")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "model.py"
    )
    assert [reason.name for reason in Reason if not re.search(rf"Reason\.{reason.name}\b", code)] == []


def test_counters() -> None:
    documented = set(table("counter"))
    names = {
        value
        for name, value in vars(metrics).items()
        if name.isupper() and str(value).endswith(("_Count", "_ms"))
    }
    assert documented == names
    assert metrics.rejected_for(Reason.EMPTY) == "Rejected_empty_Count"
    kept = metrics.names_for(Status.KEPT, None)
    assert set(kept) <= documented


def test_every_reason_and_number_of_the_text() -> None:
    from beam_dedup.core.imaging import fingerprint
    from beam_dedup.core.matching import planner

    for number in (planner.GATHERED_CODES, planner.MAX_CANDIDATES):
        assert f"{number:,}" in README
    assert Recipe().name in README
    assert f"under {fingerprint.TINY_SIDE} pixels" in README
    for path in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / path).exists(), path


def test_the_summary_shown(samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = next(
        text for text in re.findall(r"```\n(.*?)```", README, re.DOTALL) if "Initial_Image_Count" in text
    )
    assert cli.main(["-n", "-i", str(samples), "-o", ""]) == 0
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown[: block.count("\n")] == block.splitlines()


def test_the_commands(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand there, with the samples for ~/Pictures."""
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    \.venv/bin/dedup (.*?)(?: +#.*)?$", README, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        arguments = [str(samples) if part == "~/Pictures" else part for part in shlex.split(command)]
        assert cli.main([*arguments, "--quiet"]) == 0
    assert (tmp_path / "unique" / "_duplicates").is_dir()
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 42
    assert {"c.json", "image_locations.json"} <= {path.name for path in tmp_path.iterdir()}


def test_the_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_pipeline_of_15_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 15
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture(1).save(folder / "a.jpg", quality=90)
    picture(2).save(folder / "b.jpg")
    picture(1).resize((240, 180)).save(folder / "c.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    records = records_in(tmp_path / "records.jsonl")
    assert {name: record["duplicate_of"] for name, record in records.items()} == {
        "a.jpg": None,
        "b.jpg": None,
        "c.png": "pictures/a.jpg",
    }
