"""Tests a run whose processes have little memory: it reports the pictures that it could not decode."""

import functools
import json
import resource
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.app.cli_runs import dedup, records_in
from tests.pictures import encoded, photo

_LIMIT_BYTES = 300 << 20


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits the memory of decoder processes, like `ulimit -d`."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (_LIMIT_BYTES, _LIMIT_BYTES))

    monkeypatch.setattr(subprocess, "Popen", functools.partial(subprocess.Popen, preexec_fn=limit))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a picture twice, once in a file that takes more than 300 MiB to decode."""
    folder = tmp_path / "in"
    folder.mkdir()
    large = photo(1).convert("RGBA").resize((7700, 7700), Image.Resampling.NEAREST)
    (folder / "large.png").write_bytes(encoded(large, compress_level=1))
    (folder / "small.jpg").write_bytes(encoded(photo(1).resize((400, 400)), "JPEG", quality=95))
    (folder / "other.jpg").write_bytes(encoded(photo(2), "JPEG"))
    return folder


def run(tmp_path: Path, *arguments: object) -> dict[str, dict[str, object]]:
    records, counts = tmp_path / "r.jsonl", tmp_path / "c.json"
    assert dedup("-n", *arguments, "--records", records, "--counts", counts, "-j", 1) == 0
    return records_in(records)


@pytest.mark.usefixtures("little_memory")
def test_picture_that_takes_too_much_memory_is_flagged_counted_and_reported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(tmp_path, "-i", folder)
    assert found["large.png"]["flags"] == ["undecodable", "out_of_memory"]
    assert found["large.png"]["detail"] == "out of memory"
    assert found["small.jpg"]["flags"] == []
    assert json.loads((tmp_path / "c.json").read_text())["Out_Of_Memory_Count"] == 1
    assert (
        "Out_Of_Memory_Count    1  could not be decoded, and were compared by their bytes alone: "
        "allow each process 1 GiB (ulimit -d)\n"
    ) in capsys.readouterr().out


@pytest.mark.usefixtures("little_memory")
def test_known_picture_that_takes_too_much_memory_is_reported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new").mkdir()
    (folder / "small.jpg").rename(tmp_path / "new/small.jpg")
    found = run(tmp_path, "-i", tmp_path / "new", "--reference", folder)
    assert found["small.jpg"]["status"] == "kept"
    assert "Out_Of_Memory_Count    1  " in capsys.readouterr().out


def test_with_enough_memory_nothing_is_flagged(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(tmp_path, "-i", folder)
    assert sorted(str(one["status"]) for one in found.values()) == ["duplicate", "kept", "kept"]
    assert not any(one["flags"] for one in found.values())
    assert "Out_Of_Memory_Count" not in capsys.readouterr().out + (tmp_path / "c.json").read_text()
