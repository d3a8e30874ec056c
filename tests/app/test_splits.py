"""`--split` and `--leak` on the command line: which images leak, what is printed and written, and exit codes."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beam_dedup.batch import leakage
from beam_dedup.cli import DONE, LEAKS, WRONG_USAGE
from beam_dedup.core.errors import DedupError, LeakError
from beam_dedup.options.config import DedupConfig
from tests.app.cli_runs import dedup, tree
from tests.core.archives.made_archives import tar, zipped
from tests.pictures import encoded as encoded_picture
from tests.pictures import photo
from tests.transforms.files import encoded, write
from transforms import metrics
from transforms.count import as_counts

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
        "Leaking_Image_Count 5 images of 8 have a copy in another split train -> test 1 of 4: 1 by "
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


@pytest.mark.slow
def test_protected_image_that_leaks_is_rejected_too(data: tuple[str, ...], tmp_path: Path) -> None:
    records, _ = run(tmp_path, *data, "--leak", "drop_from=train", "--protect", "*.png")
    assert records["train/a.png"]["reason"] == "leaked"
    assert records["test/sub/2.png"]["status"] == "kept"


@pytest.mark.slow
def test_image_that_a_person_dropped_does_not_leak(data: tuple[str, ...], tmp_path: Path) -> None:
    records, _ = run(tmp_path, *data)
    decisions = tmp_path / "d.jsonl"
    decisions.write_text(json.dumps({"decision": "drop", "digest": records["test/1.png"]["digest"]}))
    records, counts = run(tmp_path, *data, "--decisions", decisions, "--leak", "drop_from=train")
    assert {one["reason"] for uri, one in records.items() if uri in ("train/a.png", "test/1.png")} == {
        "dropped"
    }
    assert numbers(counts) == {"train val": (1, 0), "val train": (1, 0)}


@pytest.mark.slow
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


def smaller(picture: Image.Image, part: float) -> bytes:
    size = round(picture.width * part), round(picture.height * part)
    return encoded_picture(picture.resize(size, Image.Resampling.BICUBIC))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Photos 1 to 3 in train, with a smaller copy of 3 there; an exact copy of 1 and smaller copies of 2 in test, besides 4 and 5."""
    one, two, three, four, five = map(photo, range(1, 6))
    for name, data in {
        "train/1.png": encoded_picture(one),
        "train/2.png": encoded_picture(two),
        "train/3.png": encoded_picture(three),
        "train/3s.png": smaller(three, 0.7),
        "test/1.png": encoded_picture(one),
        "test/2a.png": smaller(two, 0.7),
        "test/2b.png": smaller(two, 0.6),
        "test/4.png": encoded_picture(four),
        "test/5.png": encoded_picture(five),
    }.items():
        write(tmp_path / "in" / name, data)
    return tmp_path / "in"


def listed_pairs(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestNearLeaks:
    def test_planted_leaks_are_found_and_listed(
        self, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pairs = tmp_path / "p.jsonl"
        splits = ("--split", f"train={pictures}/train", "--split", f"test={pictures}/test")
        records, counts = run(tmp_path, "-n", *splits, "--leak", "fail", "--pairs", pairs, code=LEAKS)
        assert numbers(counts) == {"train test": (1, 1), "test train": (1, 2)}
        assert len(records) == 9
        captured = capsys.readouterr()
        printed = " ".join(captured.out.split())
        assert (
            "Leaking_Image_Count 5 images of 9 have a copy in another split "
            "train -> test 2 of 4: 1 by the same bytes, 1 by near pictures only "
            "test -> train 3 of 5: 1 by the same bytes, 2 by near pictures only"
        ) in printed
        assert captured.err.endswith("dedup: --leak fail: 5 images have copies in another split\n")
        rows = {
            (Path(row["uri_a"]).name, Path(row["uri_b"]).name, row["split_a"], row["split_b"])
            for row in listed_pairs(pairs)
        }
        in_order = {tuple(sorted(((a, s), (b, t)))) for a, b, s, t in rows}
        assert in_order == {
            (("1.png", "test"), ("1.png", "train")),
            (("2.png", "train"), ("2a.png", "test")),
            (("2.png", "train"), ("2b.png", "test")),
            (("2a.png", "test"), ("2b.png", "test")),
            (("3.png", "train"), ("3s.png", "train")),
        }
        assert len(rows) == len(listed_pairs(pairs)) == 5

    def test_no_train_image_leaks_after_those_that_do_are_dropped(
        self, pictures: Path, tmp_path: Path
    ) -> None:
        pairs = tmp_path / "p.jsonl"
        splits = ("--split", f"train={pictures}/train", "--split", f"test={pictures}/test")
        records, counts = run(
            tmp_path, "-n", *splits, "--leak", "drop_from=train", "--components", "--pairs", pairs
        )
        outcome = {uri.removeprefix("in/"): (one["status"], one["reason"]) for uri, one in records.items()}
        assert outcome == {
            "train/1.png": ("rejected", "leaked"),
            "train/2.png": ("rejected", "leaked"),
            "train/3.png": ("kept", None),
            "train/3s.png": ("duplicate", "near"),
            "test/1.png": ("kept", None),
            "test/2a.png": ("kept", None),
            "test/2b.png": ("duplicate", "near"),
            "test/4.png": ("kept", None),
            "test/5.png": ("kept", None),
        }
        assert records["in/train/2.png"]["detail"] == "near an image of test"
        assert numbers(counts) == {"train test": (1, 1), "test train": (1, 2)}
        assert len(listed_pairs(pairs)) == 5, "pairs are those before images were rejected"
        component = {uri.removeprefix("in/"): one["component"] for uri, one in records.items()}
        assert component["train/1.png"] is component["train/2.png"] is None
        two = {records[f"in/test/2{letter}.png"]["digest"] for letter in "ab"}
        assert component["test/2a.png"] == component["test/2b.png"] == min(two)

    @pytest.mark.slow
    def test_decisions_change_leaks(self, pictures: Path, tmp_path: Path) -> None:
        splits = ("--split", f"train={pictures}/train", "--split", f"test={pictures}/test")
        records, _ = run(tmp_path, *splits)
        digest = {uri.removeprefix("in/"): one["digest"] for uri, one in records.items()}
        lines = [
            {
                "decision": "different",
                "digests": [digest["train/2.png"], digest["test/2a.png"], digest["test/2b.png"]],
            },
            {"decision": "same", "digests": [digest["train/3.png"], digest["test/4.png"]]},
        ]
        decisions = tmp_path / "d.jsonl"
        decisions.write_text("\n".join(map(json.dumps, lines)))
        _, counts = run(tmp_path, "-n", *splits, "--decisions", decisions)
        assert numbers(counts) == {"train test": (1, 1), "test train": (1, 1)}


class TestAssign:
    def test_images_of_one_component_are_in_one_split(
        self, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pairs = tmp_path / "p.jsonl"
        found = {}
        for seed in (0, 1):
            command = ("-n", "-i", pictures, "--assign", "a=2,b=1,c=1", "--seed", seed, "--pairs", pairs)
            records, counts = run(tmp_path, *command)
            found[seed] = {one["digest"]: one["assigned"] for one in records.values()}
            assert all(found[seed][one["digest"]] == one["assigned"] for one in records.values())
            assert all(
                found[seed][row["digest_a"]] == found[seed][row["digest_b"]] for row in listed_pairs(pairs)
            )
            images = counts["Assigned"].pop("images")
            assert counts["Assigned"] == {"seed": seed, "shares": {"a": 2, "b": 1, "c": 1}}
            assert images == {
                name: sum(one["assigned"] == name for one in records.values()) for name in ("a", "b", "c")
            }
            assert all(one["component"] for one in records.values())
        assert found[0] != found[1]
        assert "share 50.0%, seed 1" in capsys.readouterr().out

    def test_without_near_matching_equal_bytes_are_in_one_split(self, pictures: Path, tmp_path: Path) -> None:
        write(pictures / "none.txt", b"no image")
        records, _ = run(tmp_path, "-i", pictures, "--assign", "50/50")
        assert records["in/train/1.png"]["assigned"] == records["in/test/1.png"]["assigned"]
        assert {one["assigned"] for one in records.values()} == {"train", "test", None}
        assert records["in/none.txt"]["assigned"] is None
        assert all(one["component"] == one["digest"] for one in records.values())


class TestOtherRunners:
    """Workers elsewhere leave a file of counts, or only Beam's counters."""

    CONFIG = DedupConfig(inputs=("a", "b"), splits=("train", "test"), leak="fail")

    def test_leaks_are_known_from_counters(self) -> None:
        counters = {metrics.INITIAL: 9, metrics.FINAL: 9}
        leakage.check(self.CONFIG, as_counts(counters, None, None))
        counts = as_counts(counters | {metrics.LEAKING: 2}, None, None)
        with pytest.raises(LeakError, match="2 images have copies in another split"):
            leakage.check(self.CONFIG, counts)
        leakage.check(dataclasses.replace(self.CONFIG, leak="report"), counts)
        assert [row[:2] for row in leakage.table(self.CONFIG, counts)] == [("Leaking_Image_Count", "2")]

    def test_run_fails_if_leaks_are_not_known(self) -> None:
        with pytest.raises(DedupError, match="does not know whether images leak"):
            leakage.check(self.CONFIG, None)
