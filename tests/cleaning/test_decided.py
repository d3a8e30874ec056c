"""Decisions of a person in `dedup clean`: what is never touched, what is taken too, and that nothing is lost."""

import hashlib
import json
import os
import random
import stat
from functools import partial
from pathlib import Path

import pytest

from beam_dedup.cli import main
from tests.cleaning import test_laws
from tests.cleaning.test_laws import HOWS, undo_all
from tests.cleaning.trees import (
    at_change,
    digest_of,
    digests,
    random_tree,
    record,
    snapshot,
    with_second_device,
    without_inodes,
    write_records,
)

MOVING = ("trash", "move", "device")
trash = test_laws.trash


def write_decisions(path: Path, *rows: tuple[str, str | list[str]]) -> Path:
    """Writes decisions about digests or lists of digests."""
    path.write_text(
        "".join(
            json.dumps({"decision": decision, "digest" if isinstance(about, str) else "digests": about})
            + "\n"
            for decision, about in rows
        )
    )
    return path


def clean(records: Path, how: str, decisions: Path, *more: str) -> int:
    return test_laws.clean(records, how, "--decisions", str(decisions), *more)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("seed", range(15))
def test_no_content_is_lost_and_undo_restores_everything(
    how: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(f"decided {seed}")
    folder = tmp_path / "in"
    with_second_device(tmp_path / "device", monkeypatch)
    records = random_tree(folder, rng)
    before, contents = snapshot(folder), digests(folder)
    known = sorted({json.loads(line)["digest"] for line in records.read_text().splitlines()})
    drop = [digest for digest in known if rng.random() < 0.4]
    keep = [digest for digest in known if digest not in drop and rng.random() < 0.3]
    decisions = write_decisions(
        tmp_path / "d.jsonl", *(("drop", one) for one in drop), *(("keep", one) for one in keep)
    )
    clean(records, how, decisions)
    assert digests(tmp_path) >= contents
    after = snapshot(folder)
    for name, entry in before.items():
        if stat.S_ISREG(entry.kind) and digest_of_content(entry.content) in keep:
            assert after[name] == entry
    if how not in MOVING:
        assert digests(folder) == contents
    undo_all(tmp_path)
    assert without_inodes(snapshot(folder)) == without_inodes(before)


def digest_of_content(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("how", MOVING)
def test_a_run_killed_at_any_change_loses_nothing_and_can_be_undone(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop_one(base: Path) -> tuple[str, str]:
        decisions = write_decisions(base / "d.jsonl", ("drop", digest_of(base / "in/p.jpg")))
        return "--decisions", str(decisions)

    test_laws.check_killed_runs(how, tmp_path, monkeypatch, drop_one)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("is_first", [True, False])
def test_run_that_drops_a_file_and_run_that_relies_on_it_lose_nothing(
    how: str, is_first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run happens as a whole before each change that the first one makes."""
    number, made = 0, 0
    while made >= number:
        number += 1
        base = tmp_path / str(number)
        folder = base / "in"
        folder.mkdir(parents=True)
        monkeypatch.setenv("XDG_DATA_HOME", str(base / "data"))
        a, b = make_files(folder, a=b"same", b=b"same")
        decisions = write_decisions(base / "d.jsonl", ("drop", digest_of(a)))
        dropping = write_records(base / "drop.jsonl", record(a))
        relying = write_records(base / "rely.jsonl", record(a), record(b, a))
        runs = [partial(clean, dropping, "trash", decisions), partial(test_laws.clean, relying, how)]
        first, second = runs if is_first else reversed(runs)
        with at_change(number, second, monkeypatch) as count:
            first()
        made = count[0] if number > 1 else number
        assert digest_of_content(b"same") in digests(base), (number, snapshot(base))
    assert number > 3


def make_files(folder: Path, **contents: bytes) -> list[Path]:
    paths = [folder / f"{name}.jpg" for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content)
    return paths


def test_dropped_files_go_to_the_trash_whatever_their_verdicts(
    tmp_path: Path, trash: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, copy, alone, rejected, other = make_files(
        tmp_path, kept=b"1", copy=b"1", alone=b"2", rejected=b"3", other=b"4"
    )
    dropped = {**record(rejected), "status": "rejected", "reason": "dropped"}
    records = write_records(
        tmp_path / "r.jsonl", record(kept), record(copy, kept), record(alone), dropped, record(other)
    )
    decisions = write_decisions(
        tmp_path / "d.jsonl", *(("drop", digest_of(path)) for path in (kept, alone, rejected))
    )
    assert main(["clean", str(records), "--decisions", str(decisions)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(": you decided to drop it\n") == 4
    assert "Would move 4 files to the trash (4 bytes)" in printed
    assert all(path.exists() for path in (kept, copy, alone, rejected))
    assert clean(records, "trash", decisions) == 0
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == ["other.jpg"]
    assert len(list(trash.rglob("*.jpg"))) == 4
    assert undo_all(tmp_path) == {0}
    assert [path.read_bytes() for path in (kept, copy, alone, rejected)] == [b"1", b"1", b"2", b"3"]


def test_of_near_duplicates_only_accepted_ones_are_taken(
    tmp_path: Path, trash: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Accepted are those that are the same as their own witness. Exact duplicates are taken in any case."""
    a, b, c, d, e, other = make_files(tmp_path, a=b"1", b=b"2", c=b"3", d=b"1", e=b"4", other=b"5")
    records = write_records(
        tmp_path / "r.jsonl",
        *(record(a), record(b, a, "near"), record(c, a, "near"), record(d, a), record(other)),
        record(e, other, "near"),
    )
    decisions = write_decisions(
        tmp_path / "d.jsonl",
        *(("same", [digest_of(a), digest_of(b)]), ("same", [digest_of(a), digest_of(e)])),
        ("same", [digest_of(b), digest_of(c)]),
    )
    assert main(["clean", str(records), "--yes", "--accepted", "--decisions", str(decisions)]) == 0
    assert "Left since you did not accept them (--accepted): 2 near duplicates" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == ["a.jpg", "c.jpg", "e.jpg", "other.jpg"]
    assert undo_all(tmp_path) == {0}
    assert clean(records, "trash", decisions, "--near", "--journal", str(tmp_path / "second.jsonl")) == 0
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == ["a.jpg", "other.jpg"]


@pytest.mark.parametrize("how", ["hardlink", "symlink", "reflink", "delete", "script"])
def test_dropped_files_are_left_if_no_copy_would_remain(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And files are not removed in reliance on one that is to be dropped."""
    a, b, c = make_files(tmp_path, a=b"1", b=b"2", c=b"3")
    records = write_records(tmp_path / "r.jsonl", record(a), record(b), record(c, a, "near"))
    decisions = write_decisions(tmp_path / "d.jsonl", ("drop", digest_of(a)))
    near = ["--near"] if how in ("delete", "script") else []
    code = main(["clean", str(records), "--how", how, "--yes", "--decisions", str(decisions), *near])
    printed = capsys.readouterr().out
    assert code == (0 if how == "script" else 1)
    assert f"{a}: you decided to drop it, but --how {how} would leave no copy. Try --how trash" in printed
    if near:
        witness = "its witness" if how == "script" else f"its witness {a}"
        assert f"{c}: {witness} is a duplicate or dropped itself" in printed
    assert all(path.exists() for path in (a, b, c))
    assert "\nremove " not in printed


def test_a_dropped_file_that_has_changed_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (a,) = make_files(tmp_path, a=b"1")
    records = write_records(tmp_path / "r.jsonl", record(a))
    decisions = write_decisions(tmp_path / "d.jsonl", ("drop", digest_of(a)))
    a.write_bytes(b"2")
    assert clean(records, "trash", decisions) == 1
    assert "its content has changed since it was judged" in capsys.readouterr().out
    assert a.read_bytes() == b"2"


def test_protected_files_are_not_dropped(tmp_path: Path) -> None:
    a, b = make_files(tmp_path, a=b"1", b=b"2")
    records = write_records(tmp_path / "r.jsonl", record(a), {**record(b), "flags": ["protected"]})
    decisions = write_decisions(tmp_path / "d.jsonl", ("drop", digest_of(a)), ("drop", digest_of(b)))
    assert clean(records, "trash", decisions, "--protect", str(a)) == 0
    assert a.exists()
    assert b.exists()


def test_kept_files_are_not_touched_though_the_records_call_them_duplicates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = make_files(tmp_path, a=b"1", b=b"1", c=b"3")
    records = write_records(tmp_path / "r.jsonl", record(a), record(b, a), record(c, a, "near"))
    decisions = write_decisions(tmp_path / "d.jsonl", ("keep", digest_of(b)), ("keep", digest_of(c)))
    arguments = ["clean", str(records), "--near", "--yes", "--decisions", str(decisions)]
    assert main(arguments) == 0
    assert "Left since you decided to keep them: 2 duplicates" in capsys.readouterr().out
    assert b.exists()
    assert c.exists()


@pytest.mark.parametrize("how", ["trash", "move"])
@pytest.mark.parametrize("is_dropped", [True, False])
def test_kept_files_are_not_touched_though_they_are_companions(
    how: str, is_dropped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    photo, raw, other = make_files(tmp_path / "in", photo=b"1", raw=b"2", other=b"3")
    raw = raw.rename(photo.with_suffix(".dng"))
    of_photo = record(photo) if is_dropped else record(photo, other, "near")
    records = write_records(
        tmp_path / "r.jsonl",
        {**of_photo, "companions": [str(raw)]},
        record(other),
        record(raw, other, "near"),
    )
    drop = [("drop", digest_of(photo))] if is_dropped else []
    decisions = write_decisions(tmp_path / "d.jsonl", ("keep", digest_of(raw)), *drop)
    assert clean(records, how, decisions, "--near") == 1
    assert not photo.exists()
    assert raw.exists()
    if how == "move" or is_dropped:
        assert f"{raw}: you decided to keep it\n" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["trash", "delete", "script"])
def test_duplicates_that_differ_from_their_witness_are_left_and_named(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = make_files(tmp_path, a=b"1", b=b"2", c=b"3")
    records = write_records(tmp_path / "r.jsonl", record(a), record(b, a, "near"), record(c, a, "near"))
    decisions = write_decisions(tmp_path / "d.jsonl", ("different", [digest_of(b), digest_of(a)]))
    code = main(["clean", str(records), "--how", how, "--near", "--yes", "--decisions", str(decisions)])
    printed = capsys.readouterr().out
    assert f"{b}: you decided that it is no duplicate of its witness {a}" in printed
    assert code == (0 if how == "script" else 1)
    assert b.exists()
    assert c.exists() == (how == "script")


def test_without_decisions_dropped_records_are_not_touched(tmp_path: Path) -> None:
    (a,) = make_files(tmp_path, a=b"1")
    records = write_records(tmp_path / "r.jsonl", {**record(a), "status": "rejected", "reason": "dropped"})
    assert test_laws.clean(records, "trash") == 0
    assert a.exists()


def test_undo_of_a_dropped_file_that_is_gone_says_so(
    tmp_path: Path, trash: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (a,) = make_files(tmp_path, a=b"1")
    records = write_records(tmp_path / "r.jsonl", record(a))
    clean(records, "trash", write_decisions(tmp_path / "d.jsonl", ("drop", digest_of(a))))
    [moved] = trash.rglob("*.jpg")
    os.unlink(moved)
    assert undo_all(tmp_path) == {1}
    assert f"{a}: it is no longer at {moved}\n" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"witness_digest": "aa" * 32}, {"target": "", "info": ""}])
def test_journal_of_a_dropped_file_is_checked(
    change: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (a,) = make_files(tmp_path, a=b"1")
    records = write_records(tmp_path / "r.jsonl", record(a))
    clean(records, "trash", write_decisions(tmp_path / "d.jsonl", ("drop", digest_of(a))))
    [journal] = tmp_path.glob("*.clean-*")
    first, step = journal.read_text().splitlines()
    journal.write_text(f"{first}\n{json.dumps({**json.loads(step), **change})}\n")
    assert undo_all(tmp_path) == {1}
    assert "line 2, is damaged: it has no witness" in capsys.readouterr().err


def test_wrong_decisions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = write_records(tmp_path / "r.jsonl")
    decisions = write_decisions(tmp_path / "d.jsonl", ("keep", "aa"))
    assert main(["clean", str(records), "--decisions", str(decisions)]) == 2
    assert 'd.jsonl", line 1: a digest must have 64 hexadecimal digits' in capsys.readouterr().err
