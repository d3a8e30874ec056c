"""Checks that the last complete checkpoint is found, for a stream that resumes after it failed."""

import os
from pathlib import Path

import pytest

from beam_dedup.core.errors import DedupError
from beam_dedup.runners import last_checkpoint

JOB, OTHER = "0a" * 16, "1b" * 16


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Two jobs with checkpoints 2, 9 and 10 of one second; checkpoint 11 of the first is incomplete."""
    for seconds, job in ((1000, JOB), (2000, OTHER)):
        for number in (2, 9, 10):
            folder = tmp_path / job / f"chk-{number}"
            folder.mkdir(parents=True)
            (folder / "_metadata").write_bytes(b"x")
            os.utime(folder / "_metadata", (seconds, seconds))
        (tmp_path / job / "shared").mkdir()
    (tmp_path / JOB / "chk-11").mkdir()
    (tmp_path / "savepoint-0a0a0a-x").mkdir()
    (tmp_path / "savepoint-0a0a0a-x/_metadata").write_bytes(b"x")
    return tmp_path


def test_newest_checkpoint_of_all_jobs_is_found(checkpoints: Path) -> None:
    assert last_checkpoint.last_checkpoint(str(checkpoints)) == f"{checkpoints}/{OTHER}/chk-10"


def test_checkpoint_of_one_job_is_found(checkpoints: Path) -> None:
    assert last_checkpoint.last_checkpoint(f"{checkpoints}/", JOB) == f"{checkpoints}/{JOB}/chk-10"


def test_url_of_a_local_directory_is_accepted(checkpoints: Path) -> None:
    assert last_checkpoint.last_checkpoint(checkpoints.as_uri(), JOB) == f"{checkpoints}/{JOB}/chk-10"


@pytest.mark.parametrize("directory", ["", "empty", "missing"])
def test_missing_checkpoint_is_reported(directory: str, checkpoints: Path) -> None:
    (checkpoints / "empty").mkdir()
    with pytest.raises(DedupError, match=f"no complete checkpoint of job {'2c' * 16} in "):
        last_checkpoint.last_checkpoint(str(checkpoints / directory), "2c" * 16)


def test_program_prints_the_path_only(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert last_checkpoint.main([str(checkpoints), f"--job_id={JOB}"]) == 0
    assert capsys.readouterr() == (f"{checkpoints}/{JOB}/chk-10\n", "")


@pytest.mark.parametrize("arguments", [["/missing"], ["s4://bucket/x"], ["/missing", "--no_such_option"]])
def test_program_reports_errors_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert last_checkpoint.main(arguments) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("last_checkpoint: ")
    assert err.count("\n") == 1
