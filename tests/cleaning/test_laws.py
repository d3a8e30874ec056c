"""The laws of cleaning up, on random trees: no content is lost, whatever happens; undo gives back every file as it was."""

import os
import random
import shutil
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from beam_dedup.cleaning import steps
from beam_dedup.cli import main
from tests.cleaning.trees import (
    at_change,
    digests,
    killed_at,
    plain_tree,
    random_tree,
    record,
    snapshot,
    with_reflinks,
    with_second_device,
    without_inodes,
    write_records,
)

HOWS = ("trash", "move", "device", "hardlink", "symlink", "reflink", "delete")
SEEDS = range(25)


@pytest.fixture(autouse=True)
def trash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trash of the tests."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("sys.platform", "linux")
    with_reflinks(monkeypatch)
    return tmp_path / "data"


def clean(records: Path, how: str, *more: str) -> int:
    how = f"move:{records.parent / how}" if how in ("move", "device") else how
    return main(["clean", str(records), "--how", how, "--yes", "--quiet", *more])


def undo_all(folder: Path) -> set[int]:
    """Undoes all runs, and returns the exit codes."""
    return {
        main(["undo", str(journal), "--quiet"]) for journal in sorted(folder.glob("*.clean-*"), reverse=True)
    }


def files_in(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_content_is_lost_and_undo_restores_everything(
    how: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(f"clean {seed}")
    folder = tmp_path / "in"
    with_second_device(tmp_path / "device", monkeypatch)
    records = random_tree(folder, rng)
    before = snapshot(folder)
    clean(records, how)
    moved = snapshot(tmp_path / how) if how in ("move", "device") else {}
    left = [*snapshot(folder).values(), *moved.values()]
    assert {entry.content for entry in left if stat.S_ISREG(entry.kind)} == {
        entry.content for entry in before.values() if stat.S_ISREG(entry.kind)
    }
    undo_all(tmp_path)
    assert without_inodes(snapshot(folder)) == without_inodes(before)


@pytest.mark.parametrize("seed", SEEDS)
def test_near_duplicates_that_are_moved_come_back(seed: int, tmp_path: Path) -> None:
    rng = random.Random(f"near {seed}")
    folder = tmp_path / "in"
    records = random_tree(folder, rng)
    before = snapshot(folder)
    contents = digests(folder)
    clean(records, rng.choice(["trash", "move"]), "--near")
    assert digests(tmp_path) >= contents
    undo_all(tmp_path)
    assert without_inodes(snapshot(folder)) == without_inodes(before)


@pytest.mark.parametrize("how", HOWS)
def test_a_run_killed_at_any_change_loses_nothing_and_can_be_undone(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_killed_runs(how, tmp_path, monkeypatch)


def check_killed_runs(
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: Callable[[Path], Sequence[str]] = lambda _: (),
) -> None:
    """Kills a run before each change that it makes, one after the other, and checks the files after it and after undo.

    Args:
      options: returns further arguments of the run, given the directory that has the files in `in`.
    """
    number, made = 0, 0
    while made >= number:
        number += 1
        base = tmp_path / str(number)
        folder = base / "in"
        records = plain_tree(folder)
        monkeypatch.setenv("XDG_DATA_HOME", str(base / "data"))
        with_second_device(base / "device", monkeypatch)
        before, contents = snapshot(folder), digests(folder)
        more = options(base)
        with killed_at(number, monkeypatch) as count:
            clean(records, how, *more)
        made = count[0]
        assert digests(base) >= contents
        assert undo_all(base) in ({0}, set()), number
        assert without_inodes(snapshot(folder)) == without_inodes(before), number
        assert not files_in(base / "data", base / "move", base / "device"), number
    assert number > 8


@pytest.mark.parametrize("how", HOWS)
def test_an_undo_killed_at_any_change_can_be_repeated(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, made = 0, 0
    while made >= number:
        number += 1
        base = tmp_path / str(number)
        folder = base / "in"
        records = plain_tree(folder)
        monkeypatch.setenv("XDG_DATA_HOME", str(base / "data"))
        with_second_device(base / "device", monkeypatch)
        before, contents = snapshot(folder), digests(folder)
        clean(records, how)
        with killed_at(number, monkeypatch) as count:
            undo_all(base)
        made = count[0]
        assert digests(base) >= contents
        assert undo_all(base) in ({0}, set()), number
        assert without_inodes(snapshot(folder)) == without_inodes(before), number
        assert not files_in(base / "data", base / "move", base / "device"), number
        shutil.rmtree(base)
    assert number > 4 or how == "reflink"  # an equal file, which needs no undoing


@pytest.mark.parametrize("first", HOWS)
@pytest.mark.parametrize("second", HOWS)
def test_two_runs_that_rely_on_the_file_that_the_other_takes_lose_nothing(
    first: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run happens as a whole before each change that the first one makes."""
    number, made = 0, 0
    while made >= number:
        number += 1
        base = tmp_path / str(number)
        folder = base / "in"
        folder.mkdir(parents=True)
        a, b = folder / "a.jpg", folder / "b.jpg"
        a.write_bytes(b"same")
        b.write_bytes(b"same")
        to_a = write_records(base / "to-a.jsonl", record(a), record(b, a))
        to_b = write_records(base / "to-b.jsonl", record(b), record(a, b))
        with at_change(number, partial(clean, to_b, second), monkeypatch) as count:
            clean(to_a, first)
        made = count[0] if number > 1 else number
        left = [path for path in folder.iterdir() if path.is_file() and path.read_bytes() == b"same"]
        assert left, (number, snapshot(base))
    assert number > 3


def test_the_check_of_the_witness_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the laws are broken: these tests would see that."""
    monkeypatch.setattr(steps, "check_witness", lambda _: None)
    with pytest.raises(AssertionError):
        test_two_runs_that_rely_on_the_file_that_the_other_takes_lose_nothing(
            "delete", "delete", tmp_path, monkeypatch
        )


def test_content_stays_if_the_witness_vanishes_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, made = 0, 0
    while made >= number:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        witness, duplicate = folder / "a.jpg", folder / "b.jpg"
        witness.write_bytes(b"same")
        duplicate.write_bytes(b"same")
        records = write_records(tmp_path / f"r{number}.jsonl", record(witness), record(duplicate, witness))
        with at_change(number, partial(os.rename, witness, tmp_path / "gone"), monkeypatch) as count:
            clean(records, "trash")
        made = count[0]
        assert witness.exists() or duplicate.exists() or (tmp_path / "gone").exists()
    assert number > 4


@pytest.mark.parametrize("seed", SEEDS)
def test_no_sequence_of_runs_and_undos_loses_content(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run may meet another one in the middle, or be killed; their records contradict each other."""
    rng = random.Random(f"sequence {seed}")
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "kl":
        (folder / f"{name}.jpg").write_bytes(b"same")
    with_second_device(tmp_path / "device", monkeypatch)
    contents = digests(folder)

    def operation() -> None:
        journals = sorted(tmp_path.glob("j*"))
        if journals and rng.random() < 0.3:
            main(["undo", str(rng.choice(journals)), "--quiet"])
            return
        paths = [path for path in sorted(tmp_path.glob("*/**/*.jpg")) if path.is_file()]
        equal = [(rng.choice(paths), rng.choice(paths)) for _ in range(2) if paths]
        number = len(list(tmp_path.glob("r*")))
        records = write_records(tmp_path / f"r{number}", *(record(*pair) for pair in equal))
        clean(
            records,
            rng.choice([*HOWS, "delete", "delete", "delete"]),
            "--journal",
            str(tmp_path / f"j{number}"),
        )

    for _ in range(6):
        disturbed = rng.choice(
            [
                partial(killed_at, patch=monkeypatch),
                *2 * [partial(at_change, act=operation, patch=monkeypatch)],
            ]
        )
        with disturbed(rng.randint(1, 8)):
            operation()
        assert digests(tmp_path) >= contents, snapshot(tmp_path)
