"""`--split` and `--leak` on the command line: which images leak, what is printed and written, and exit codes."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.cli import DONE, LEAKS, WRONG_USAGE
from tests.app.cli_runs import dedup, tree
from tests.core.archives.made_archives import tar, zipped
from tests.transforms.files import encoded, write

A, B, C, D = (encoded(number) for number in range(1, 5))

Records = dict[str, dict[str, Any]]


def records_of(path: Path) -> Records:
    """Returns the records by URI, relative to the directory of the file."""
    found = map(json.loads, path.read_text("utf-8").splitlines())
    return {record["uri"].removeprefix(f"{path.parent}/"): record for record in found}


def run(tmp_path: Path, *arguments: object, code: int = DONE) -> tuple[Records, dict[str, Any]]:
    """Runs dedup, and returns its records and counts."""
    records, counts = tmp_path / "r.jsonl", tmp_path / "c.json"
    assert dedup(*arguments, "--records", records, "--counts", counts) == code
    return records_of(records), json.loads(counts.read_text())


def numbers(counts: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Returns the exact and near leaks between each two splits that have any."""
    return {
        f"{split} {other}": (kinds["exact"], kinds["near"])
        for split, fields in counts["Leakage"].items()
        for other, kinds in fields["to"].items()
        if any(kinds.values())
    }


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, ...]:
    """A data set with archives and patterns: A is in train and twice in test, B in train and val, C and D leak nowhere."""
    write(tmp_path / "train/a.png", A)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/t.tar").write_bytes(tar({"x/b.png": B, "x/c.png": C, "c2.png": C}))
    write(tmp_path / "test/1.png", A)
    write(tmp_path / "test/sub/2.png", A)
    write(tmp_path / "test/note.txt", b"no image")
    (tmp_path / "v.zip").write_bytes(zipped({"val/b.png": B, "d.png": D}))
    inputs = ("train=train", "train=more/*.tar", "test=test", "val=v.zip")
    return tuple(
        part
        for name, _, path in (text.partition("=") for text in inputs)
        for part in ("--split", f"{name}={tmp_path / path}")
    )


SPLITS = {
    "train/a.png": "train",
    "more/t.tar!x/b.png": "train",
    "more/t.tar!x/c.png": "train",
    "more/t.tar!c2.png": "train",
    "test/1.png": "test",
    "test/sub/2.png": "test",
    "test/note.txt": "test",
    "v.zip!val/b.png": "val",
    "v.zip!d.png": "val",
}
LEAKING = {"train test": (1, 0), "test train": (2, 0), "train val": (1, 0), "val train": (1, 0)}


def test_leaks_are_counted_and_change_no_verdict(
    data: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records, counts = run(tmp_path, *data)
    assert {uri: record["split"] for uri, record in records.items()} == SPLITS
    assert numbers(counts) == LEAKING
    assert counts["Leaking_Image_Count"] == 5
    assert {split: (one["images"], one["leaking"]) for split, one in counts["Leakage"].items()} == {
        "train": (4, 2),
        "test": (2, 2),
        "val": (2, 1),
    }
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "Leaking_Image_Count 5 of 8 compared, have a copy in another split train -> test 1 of 4: 1 "
        in printed
    )
    assert "test -> train 2 of 2: 2 by the same bytes val -> train" in printed
    assert "val -> test" not in printed
    inputs = [part if part != "--split" else "-i" for part in data]
    plain, counts = run(tmp_path, *(part.partition("=")[2] or part for part in inputs))
    assert "Leakage" not in counts
    assert "Leaking_Image_Count" not in counts
    assert all(record["split"] is None for record in plain.values())
    assert plain == {uri: {**record, "split": None} for uri, record in records.items()}


def test_leaks_fail_the_run_after_all_is_written(
    data: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    records, counts = run(tmp_path, *data, "--leak", "fail", "-d", out, code=LEAKS)
    assert len(records) == len(SPLITS)
    assert numbers(counts) == LEAKING
    assert len(tree(out)) == 4
    captured = capsys.readouterr()
    assert "train -> test" in captured.out
    assert captured.err.endswith(
        "dedup: --leak fail: 5 images have copies in another split. Add --pairs FILE to list them\n"
    )


def test_run_without_leaks_does_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "train/a.png", A)
    write(tmp_path / "train/b.png", A)
    write(tmp_path / "test/c.png", C)
    _, counts = run(
        tmp_path,
        *("--split", f"train={tmp_path}/train", "--split", f"test={tmp_path}/test", "--leak", "fail"),
    )
    assert counts["Leaking_Image_Count"] == 0
    assert "Leaking_Image_Count    0  images of 3 have a copy in another split\n" in capsys.readouterr().out


def test_leaking_images_of_one_split_are_rejected_before_all_are_judged(
    data: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop = tmp_path / "drop.txt"
    records, counts = run(tmp_path, *data, "--leak", "drop_from=train", "--drop_list", drop)
    outcome = {uri: (record["status"], record["reason"]) for uri, record in records.items()}
    assert outcome == {
        "train/a.png": ("rejected", "leaked"),
        "more/t.tar!x/b.png": ("rejected", "leaked"),
        "more/t.tar!c2.png": ("kept", None),
        "more/t.tar!x/c.png": ("duplicate", "exact"),
        "test/1.png": ("kept", None),
        "test/sub/2.png": ("duplicate", "exact"),
        "test/note.txt": ("rejected", "not_an_image"),
        "v.zip!val/b.png": ("kept", None),
        "v.zip!d.png": ("kept", None),
    }
    assert records["train/a.png"]["detail"] == "the same bytes as an image of test"
    assert numbers(counts) == LEAKING
    assert counts["Rejected"] == {"not_an_image": 1, "leaked": 2}
    assert drop.read_text().replace(f"{tmp_path}/", "").split() == [
        "more/t.tar!x/b.png",
        "more/t.tar!x/c.png",
        "test/sub/2.png",
        "train/a.png",
    ]
    assert (
        "images of 8 have a copy in another split, before those of train were rejected"
        in capsys.readouterr().out
    )


def test_protected_image_that_leaks_is_rejected_too(data: tuple[str, ...], tmp_path: Path) -> None:
    records, _ = run(tmp_path, *data, "--leak", "drop_from=train", "--protect", "*.png")
    assert records["train/a.png"]["reason"] == "leaked"
    assert records["test/sub/2.png"]["status"] == "kept"


def test_image_that_a_person_dropped_does_not_leak(data: tuple[str, ...], tmp_path: Path) -> None:
    records, _ = run(tmp_path, *data)
    decisions = tmp_path / "d.jsonl"
    decisions.write_text(json.dumps({"decision": "drop", "digest": records["test/1.png"]["digest"]}))
    records, counts = run(tmp_path, *data, "--decisions", decisions, "--leak", "drop_from=train")
    assert {one["reason"] for uri, one in records.items() if uri in ("train/a.png", "test/1.png")} == {
        "dropped"
    }
    assert numbers(counts) == {"train val": (1, 0), "val train": (1, 0)}


def test_known_image_is_in_no_split(data: tuple[str, ...], tmp_path: Path) -> None:
    write(tmp_path / "known/train/d.png", D)
    records, counts = run(tmp_path, *data, "--reference", tmp_path / "known")
    assert records["v.zip!d.png"]["status"] == "duplicate"
    assert numbers(counts) == LEAKING


class TestSharedFiles:
    def test_patterns_of_one_directory_are_two_splits(self, tmp_path: Path) -> None:
        write(tmp_path / "in/train_a.png", A)
        write(tmp_path / "in/test_a.png", A)
        records, counts = run(
            tmp_path, "--split", f"train={tmp_path}/in/train*", "--split", f"test={tmp_path}/in/test*"
        )
        assert {uri: record["split"] for uri, record in records.items()} == {
            "in/train_a.png": "train",
            "in/test_a.png": "test",
        }
        assert numbers(counts) == {"train test": (1, 0), "test train": (1, 0)}

    @pytest.mark.parametrize("other", ["in/*.png", "in/sub", "*/a?.png"])
    @pytest.mark.parametrize("quiet", [False, True])
    def test_file_of_two_splits_is_refused(
        self, other: str, quiet: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write(tmp_path / "in/sub/a1.png", A)
        write(tmp_path / "in/a1.png", B)
        arguments = ("--split", f"train={tmp_path}/in/[as]*", "--split", f"test={tmp_path}/{other}")
        records = tmp_path / "r.jsonl"
        assert dedup(*arguments, "--records", records, *(["--quiet"] if quiet else [])) == WRONG_USAGE
        assert "dedup: --split: inputs of two splits must not share files; " in capsys.readouterr().err
        assert not records.exists()

    def test_link_into_another_split_leaks(self, tmp_path: Path) -> None:
        write(tmp_path / "train/a.png", A)
        write(tmp_path / "test/b.png", B)
        write(tmp_path / "test/deep/c.png", C)
        os.symlink(tmp_path / "test/b.png", tmp_path / "train/b.png")
        os.symlink(tmp_path / "test/deep", tmp_path / "train/deep")
        records, counts = run(
            tmp_path, "--split", f"train={tmp_path}/train", "--split", f"test={tmp_path}/test"
        )
        assert {uri: record["split"] for uri, record in records.items()} == {
            "train/a.png": "train",
            "train/b.png": "train",
            "train/deep/c.png": "train",
            "test/b.png": "test",
            "test/deep/c.png": "test",
        }
        assert numbers(counts) == {"train test": (2, 0), "test train": (2, 0)}
