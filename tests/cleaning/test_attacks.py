"""Other processes swap files between any two changes, and strangers write journals: no content is lost, no file overwritten."""

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.cleaning import steps
from beam_dedup.cli import main
from tests.cleaning.trees import (
    at_change,
    digests,
    killed_at,
    record,
    snapshot,
    with_reflinks,
    with_second_device,
    write_records,
)

HOWS = ("trash", "move", "device", "hardlink", "symlink", "reflink", "delete")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory; the trash is in it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    with_reflinks(monkeypatch)
    return tmp_path


def pair_in(base: Path) -> tuple[Path, Path]:
    """Makes two equal files and their records. Returns the witness and the duplicate."""
    folder = base / "in"
    folder.mkdir(parents=True)
    witness, duplicate = folder / "a.jpg", folder / "b.jpg"
    for path in (witness, duplicate):
        path.write_bytes(b"same")
    write_records(base / "r.jsonl", record(witness), record(duplicate, witness))
    return witness, duplicate


def clean(base: Path, how: str, *more: str) -> int:
    how = f"move:{base / how}" if how in ("move", "device") else how
    return main(
        [
            "clean",
            str(base / "r.jsonl"),
            "--how",
            how,
            "--journal",
            str(base / "j"),
            "--yes",
            "--quiet",
            *more,
        ]
    )


def undo(base: Path) -> int:
    return main(["undo", str(base / "j"), "--quiet"])


def rows(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.read_text().splitlines()]


def forge(journal: Path, **changed: Any) -> None:
    first, step = rows(journal)
    journal.write_text("".join(json.dumps(row) + "\n" for row in (first, {**step, **changed})))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", ["a.jpg", "b.jpg"])
@pytest.mark.parametrize("command", [clean, undo])
def test_a_file_that_another_process_saves_is_not_lost(
    how: str, name: str, command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "a.jpg" and how in ("delete", "symlink"):
        pytest.skip("the other process itself overwrites the only file that is to stay")
    number, made = 0, 0
    while made >= number:
        number += 1
        base = tmp_path / str(number)
        pair_in(base)
        monkeypatch.setenv("XDG_DATA_HOME", str(base / "data"))
        with_second_device(base / "device", monkeypatch)
        (base / "new").write_bytes(b"new")
        if command is undo:
            clean(base, how)

        def save(base: Path = base) -> None:
            (base / "new").rename(base / "in" / name)

        with at_change(number, save, monkeypatch) as count:
            command(base, how) if command is clean else command(base)
        made = count[0]
        contents = [path.read_bytes() for path in base.rglob("*") if path.is_file()]
        assert b"same" in contents, (number, snapshot(base))
        assert b"new" in contents, (number, snapshot(base))
    assert number > 2 or (command is undo and how == "reflink")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("command", [clean, undo])
def test_temporary_files_that_become_links_are_not_followed(
    how: str, command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, made = 0, 0
    while made >= number:
        number += 1
        base = tmp_path / str(number)
        pair_in(base)
        with_second_device(base / "device", monkeypatch)
        (base / "victim").write_bytes(b"victim")
        if command is undo:
            clean(base, how)

        def swap(base: Path = base) -> None:
            for path in list(base.rglob(".dedup-*")):
                path.rename(base / f"was{path.name}")
                path.symlink_to(base / "victim")

        with at_change(number, swap, monkeypatch) as count:
            command(base, how) if command is clean else command(base)
        made = count[0]
        assert (base / "victim").read_bytes() == b"victim", number


@pytest.mark.parametrize("how", ["delete", "hardlink", "symlink"])
@pytest.mark.parametrize("which", [0, 1])
def test_content_changed_with_its_time_set_back_is_seen(
    how: str, which: int, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pair_in(workplace)[which]
    real = steps.take

    def changed_before(step: steps.Step, how: steps.How) -> None:
        before = path.stat()
        path.write_bytes(b"else")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        real(step, how)

    monkeypatch.setattr(steps, "take", changed_before)
    assert clean(workplace, how) == 1
    assert {file.read_bytes() for file in (workplace / "in").iterdir()} == {b"same", b"else"}


def test_a_hard_link_that_was_edited_is_not_overwritten(workplace: Path) -> None:
    witness, duplicate = pair_in(workplace)
    assert clean(workplace, "hardlink") == 0
    duplicate.write_bytes(b"edited")  # both names
    witness.unlink()
    witness.write_bytes(b"same")  # from a backup
    assert undo(workplace) == 1
    assert duplicate.read_bytes() == b"edited"


def test_directory_that_became_a_link_is_not_followed_by_undo(workplace: Path) -> None:
    pair_in(workplace)
    assert clean(workplace, "trash") == 0
    (workplace / "in").rename(workplace / "old")
    (workplace / "victim").mkdir()
    (workplace / "in").symlink_to("victim")
    assert undo(workplace) == 1
    assert not list((workplace / "victim").iterdir())


def test_move_does_not_leave_its_directory_through_links(workplace: Path) -> None:
    _, duplicate = pair_in(workplace)
    (workplace / "in/sub").mkdir()
    other = workplace / "in/sub/c.jpg"
    other.write_bytes(b"same")
    write_records(
        workplace / "r.jsonl",
        record(workplace / "in/a.jpg"),
        *(record(path, workplace / "in/a.jpg") for path in (duplicate, other)),
    )
    (workplace / "move").mkdir()
    (workplace / "victim").mkdir()
    (workplace / "move/sub").symlink_to(workplace / "victim")
    assert clean(workplace, "move") == 1
    assert not list((workplace / "victim").iterdir())
    assert other.exists()
    assert (workplace / "move/b.jpg").exists()


def test_move_to_the_same_place_changes_nothing(workplace: Path) -> None:
    pair_in(workplace)
    before = snapshot(workplace / "in")
    assert clean(workplace, f"move:{workplace}/in") == 1
    assert snapshot(workplace / "in") == before


class TestForgedJournal:
    @pytest.fixture
    def journal(self, workplace: Path) -> Path:
        """A journal of one file that went to the trash."""
        pair_in(workplace)
        (workplace / "victim").write_bytes(b"victim")
        assert clean(workplace, "trash") == 0
        return workplace / "j"

    def test_it_can_not_name_a_file_to_delete(self, journal: Path, workplace: Path) -> None:
        forge(journal, info=str(workplace / "victim"))
        assert undo(workplace) == 1
        assert (workplace / "victim").read_bytes() == b"victim"

    def test_it_can_not_name_the_description_of_another_file(self, journal: Path, workplace: Path) -> None:
        info = Path(rows(journal)[1]["info"])
        info.write_text("[Trash Info]\nPath=/other/b.jpg\n")
        assert undo(workplace) == 0
        assert info.exists()

    def test_a_copy_that_is_the_file_itself_is_not_deleted(self, journal: Path, workplace: Path) -> None:
        path = workplace / "in/b.jpg"
        (workplace / "link").symlink_to("in")
        for target in (path, workplace / "link/b.jpg"):
            os.rename(rows(journal)[1]["target"], path) if not path.exists() else None
            forge(journal, target=str(target), info="")
            undo(workplace)
            assert path.read_bytes() == b"same"

    @pytest.mark.parametrize(
        "changed",
        [
            {"token": "/../../x"},
            {"token": "ab\n"},
            {"path": "in/b.jpg"},
            {"path": "/x\0"},
            {"path": 3},
            {"target": "relative"},
            {"owner": [0]},
            {"owner": 3},
            {"mode": "0"},
            {"number": "1/../../x"},
            {"digest": "00"},
            {"state": {}},
            {"state": {"device": "x", "inode": 1, "size_bytes": 1, "mtime_ns": 1}},
            {"more": 1},
        ],
    )
    def test_it_is_refused(
        self, changed: dict[str, Any], journal: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        forge(journal, **changed)
        before = snapshot(workplace)
        assert undo(workplace) == 1
        assert "j, line 2, is damaged" in capsys.readouterr().err
        assert snapshot(workplace) == before


def test_journal_in_use_is_refused(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair_in(workplace)
    assert clean(workplace, "trash") == 0
    with (workplace / "j").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert undo(workplace) == 2
    assert "is in use by another dedup" in capsys.readouterr().err
    assert undo(workplace) == 0


def test_copy_stays_while_another_run_takes_the_restored_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undo removes the copy that a second run relies on, while that run deletes the file that undo has restored."""
    number, made = 0, 0
    while made >= number:
        number += 1
        base = tmp_path / str(number)
        _, duplicate = pair_in(base)
        with_second_device(base / "device", monkeypatch)
        clean(base, "device")
        (base / "in/a.jpg").write_bytes(b"else")
        copy = base / "device/b.jpg"
        other = base / "other"
        other.mkdir()
        duplicate.write_bytes(b"same")
        write_records(other / "r.jsonl", record(copy), record(duplicate, copy))
        duplicate.unlink()

        def delete(other: Path = other) -> None:
            clean(other, "delete")

        with at_change(number, delete, monkeypatch) as count:
            undo(base)
        made = count[0] if number > 1 else number
        assert b"same" in [path.read_bytes() for path in base.rglob("*") if path.is_file()], number
    assert number > 3


def test_setuid_is_dropped_if_the_owner_can_not_be_kept(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, duplicate = pair_in(workplace)
    duplicate.chmod(0o4755)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    assert clean(workplace, "delete") == 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "fchown", refused)
        assert undo(workplace) == 0
    assert duplicate.stat().st_mode & 0o7777 == 0o755


def test_full_disk_ends_the_run_and_what_was_done_is_reported(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from beam_dedup.cleaning import clean as module
    from beam_dedup.cleaning.journal import Journal

    witness, duplicate = pair_in(workplace)
    other = workplace / "in/c.jpg"
    other.write_bytes(b"same")
    write_records(workplace / "r.jsonl", record(witness), record(duplicate, witness), record(other, witness))
    monkeypatch.setattr(module, "STEPS_AT_ONCE", 1)
    real = Journal.plan

    def full(journal: Journal, planned: list[steps.Step]) -> None:
        if planned[0].number > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(journal, planned)

    monkeypatch.setattr(Journal, "plan", full)
    assert main(["clean", "r.jsonl", "--journal", "j", "--yes"]) == 1
    captured = capsys.readouterr()
    assert "Moved 1 file to the trash" in captured.out
    assert "dedup undo j" in captured.out
    assert "the journal j can't be written: No space left on device" in captured.err
    assert other.exists()
    assert undo(workplace) == 0
    assert digests(workplace / "in") == digests(workplace / "in")
    assert duplicate.exists()


def test_trash_of_another_user_is_not_used(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, duplicate = pair_in(workplace)
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    (workplace / "data").mkdir()
    assert main(["clean", "r.jsonl", "--yes"]) == 1
    assert "it belongs to another user" in capsys.readouterr().out
    assert duplicate.exists()


def test_relative_data_directory_is_not_used(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair_in(workplace)
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    monkeypatch.setenv("HOME", str(workplace / "home"))
    assert clean(workplace, "trash") == 0
    assert (workplace / "home/.local/share/Trash/files/b.jpg").exists()


def test_killed_undo_leaves_no_second_name(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, duplicate = pair_in(workplace)
    clean(workplace, "trash")
    for number in range(1, 9):
        with killed_at(number, monkeypatch):
            undo(workplace)
        assert undo(workplace) == 0
        assert duplicate.stat().st_nlink == 1
        (workplace / "j").unlink()
        clean(workplace, "trash")


def test_file_that_two_records_name_is_taken_once(workplace: Path) -> None:
    witness, duplicate = pair_in(workplace)
    (workplace / "link").symlink_to("in")
    spellings = (duplicate, duplicate, Path("in/b.jpg"), workplace / "link/b.jpg")
    write_records(workplace / "r.jsonl", record(witness), *(record(path, witness) for path in spellings))
    assert clean(workplace, "trash") == 0
    assert undo(workplace) == 0


def test_link_to_the_witness_does_not_hinder_others(workplace: Path) -> None:
    witness, duplicate = pair_in(workplace)
    link = workplace / "in/link.jpg"
    link.symlink_to("a.jpg")
    write_records(workplace / "r.jsonl", record(witness), record(link, witness), record(duplicate, witness))
    assert clean(workplace, "trash") == 0
    assert sorted(os.listdir("in")) == ["a.jpg", "link.jpg"]


def test_file_that_another_record_keeps_is_left(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    witness, duplicate = pair_in(workplace)
    write_records(workplace / "r.jsonl", record(witness), record(duplicate, witness), record(duplicate))
    assert clean(workplace, "trash") == 1
    assert "another record keeps it" in capsys.readouterr().out
    assert duplicate.exists()


@pytest.mark.parametrize("name", ["x\0.jpg", "\ud800.jpg"])
@pytest.mark.parametrize("how", ["trash", "script", "move"])
def test_names_that_no_file_can_have_are_left(name: str, how: str, workplace: Path) -> None:
    witness, _ = pair_in(workplace)
    forged = {**record(witness, witness), "uri": str(workplace / "in" / name)}
    write_records(workplace / "r.jsonl", record(witness), forged)
    assert clean(workplace, how) == (0 if how == "script" else 1)


@pytest.mark.parametrize("name", ["x\0.jpg", "\ud800.jpg"])
@pytest.mark.parametrize(("pattern", "code"), [("in/[!a]*", 0), ("?*.jpg/", 1), ("in/a*", 1)])
def test_protect_matches_names_that_no_file_can_have(
    pattern: str, code: int, name: str, workplace: Path
) -> None:
    witness, _ = pair_in(workplace)
    forged = {**record(witness, witness), "uri": str(workplace / "in" / name)}
    write_records(workplace / "r.jsonl", record(witness), forged)
    assert clean(workplace, "trash", "--protect", pattern) == code


def test_names_in_messages_can_not_forge_lines(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = workplace / "in\nTo undo it: rm -rf ."
    pair_in(folder)
    witness, duplicate = folder / "in/a.jpg", folder / "in/b.jpg"
    write_records(workplace / "r.jsonl", record(witness), record(duplicate, witness))
    real = steps.check_witness

    def gone(step: steps.Step) -> None:
        witness.unlink()
        real(step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "check_witness", gone)
        assert clean(workplace, "trash") == 1
    assert "\nTo undo" not in capsys.readouterr().out


@pytest.mark.parametrize("witness", ["gs://b/x.jpg", "z.zip!x.jpg"])
def test_witness_that_is_no_local_file_is_named(
    witness: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, duplicate = pair_in(workplace)
    write_records(workplace / "r.jsonl", {**record(duplicate, duplicate), "duplicate_of": witness})
    assert clean(workplace, "trash") == 1
    assert f"its witness {witness} is no local file" in capsys.readouterr().out


@pytest.mark.parametrize(
    "pattern",
    [
        "in",
        "in/",
        "in/b.jpg",
        "./in/*",
        "{base}/in",
        "*/b.jpg",
        "i?/b*",
        "./",
        "{base}/**/b.jpg",
        "[[:lower:]]n/",
    ],
)
def test_protect_takes_relative_patterns_and_directories(pattern: str, workplace: Path) -> None:
    _, duplicate = pair_in(workplace)
    assert clean(workplace, "trash", "--protect", pattern.format(base=workplace)) == 0
    assert duplicate.exists()


def test_protect_sees_through_links_of_directories(workplace: Path) -> None:
    witness, duplicate = pair_in(workplace)
    (workplace / "link").symlink_to("in")
    write_records(workplace / "r.jsonl", record(witness), record(workplace / "link/b.jpg", witness))
    assert clean(workplace, "trash", "--protect", "*/in/*") == 0
    assert duplicate.exists()
