"""Tests of --as from the command line: shards that `datasets` and WebDataset read, and the options that do not go with it."""

import json
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup.core.errors import UsageError
from beam_dedup.options import checks, parser
from tests.app.cli_runs import dedup, tree
from tests.core.archives.made_archives import tar
from tests.pictures import encoded, photo

IMAGES = [encoded(photo(seed % 4, (120, 90)), "JPEG") for seed in range(6)]  # the last two are duplicates
LABELS = ["cat", "dog"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(folder: str) -> Any:
    return datasets.load_dataset("parquet", data_dir=folder, split="train", cache_dir="cache")


def write_of_hugging_face(path: str) -> datasets.Dataset:
    """Writes a data set of images as `datasets` does."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=LABELS),
            "boxes": datasets.List(datasets.List(datasets.Value("float32"))),
        }
    )
    rows = {
        "image": [{"bytes": data, "path": f"{row}.jpg"} for row, data in enumerate(IMAGES)],
        "label": [row % 2 for row in range(6)],
        "boxes": [[[float(row)] * 4] for row in range(6)],
    }
    made = datasets.Dataset.from_dict(rows, features=features)
    Path(path).parent.mkdir(parents=True)
    made.to_parquet(path)
    return made


def test_datasets_shows_the_kept_images_with_their_columns(capsys: pytest.CaptureFixture[str]) -> None:
    before = write_of_hugging_face("in/train-00000-of-00001.parquet")
    arguments = (
        "-i",
        "in",
        "--image_column",
        "image",
        "-d",
        "out",
        "--as",
        "parquet",
        "--records",
        "r.jsonl",
    )
    for _ in range(2):
        assert dedup("-n", *arguments) == 0
        assert "Kept images: out" in capsys.readouterr().out
    assert list(tree(Path("out"))) == ["train-00000-of-00001.parquet"]
    found = load("out")
    assert found.features == before.features
    assert len(found) == 4
    for old, new in zip(before, found, strict=False):
        assert new["image"].tobytes() == old["image"].tobytes()
        assert {**new, "image": None} == {**old, "image": None}
    records = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert [one["status"] for one in records] == ["kept"] * 4 + ["duplicate"] * 2


def test_datasets_shows_images_of_files_and_archives() -> None:
    for row, data in enumerate(IMAGES):
        path = Path(f"in/{LABELS[row % 2]}/{row}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.with_suffix(".xmp").write_bytes(b"<x>%d" % row)
    assert dedup("-i", "in", "-d", "out", "--as", "parquet", "--quiet") == 0
    found = load("out")
    assert [one["companions"][0]["bytes"] for one in found] == [b"<x>0", b"<x>2", b"<x>1", b"<x>3"]
    assert {one["image"].size for one in found} == {(120, 90)}


def test_samples_of_web_dataset_stay_whole() -> None:
    files: dict[str, bytes] = {}
    for row, data in enumerate(IMAGES):
        files |= {f"{row}.jpg": data, f"{row}.json": b'{"n": %d}' % row, f"{row}.cls": b"%d" % (row % 2)}
    Path("in.tar").write_bytes(tar(files))
    assert dedup("-i", "in.tar", "-d", "out", "--as", "tar", "--quiet") == 0
    with tarfile.open("out/in.tar") as archive:
        assert archive.getnames() == list(files)[:12]
    found = datasets.load_dataset("webdataset", data_files="out/in.tar", split="train", cache_dir="cache")
    assert [one["json"] for one in found] == [{"n": row} for row in range(4)]
    # In Parquet the metadata are a column.
    assert dedup("-i", "in.tar", "-d", "rows", "--as", "parquet", "--quiet") == 0
    rows = pq.read_table("rows/in.tar.parquet")["metadata"].to_pylist()
    assert [json.loads(row) for row in rows] == [{"n": row, "cls": str(row % 2)} for row in range(4)]


def test_rows_become_samples() -> None:
    write_of_hugging_face("in/a.parquet")
    assert dedup("-i", "in", "--image_column", "image", "-d", "out", "--as", "tar", "--quiet") == 0
    with tarfile.open("out/a.parquet.tar") as archive:
        assert archive.getnames() == [f"{row}.{suffix}" for row in range(4) for suffix in ("jpg", "json")]
        file = archive.extractfile("1.json")
        assert file
        assert json.load(file) == {"label": 1, "boxes": [[1.0] * 4]}


def test_images_in_no_shard_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.tar").write_bytes(tar({"a.jpg": IMAGES[0]}))
    Path("out").mkdir()
    Path("out/in.tar").write_bytes(b"theirs")
    assert dedup("-i", "in.tar", "-d", "out", "--as", "tar") == 1
    assert "1 image could not be placed:\n  out/in.tar exists with other content" in capsys.readouterr().err
    assert Path("out/in.tar").read_bytes() == b"theirs"


def test_archives_of_one_name_become_shards_of_their_own() -> None:
    for number in range(2):
        Path(f"{number}").mkdir()
        Path(f"{number}/a.tar").write_bytes(tar({f"{number}.jpg": IMAGES[number]}))
        table = pa.table({"image": [{"bytes": IMAGES[number + 2], "path": f"{number}/0"}]})
        pq.write_table(table, f"{number}/b.parquet")
    inputs = [flag for n in range(2) for flag in ("-i", f"{n}/a.tar", "-i", f"{n}/b.parquet")]
    assert dedup(*inputs, "--image_column", "image", "-d", "out", "--as", "tar", "--quiet") == 0
    assert sorted(tree(Path("out"))) == ["a#2.tar", "a.tar", "b#2.parquet.tar", "b.parquet.tar"]


@pytest.mark.slow
def test_shards_are_read_again_without_a_duplicate() -> None:
    write_of_hugging_face("in/a.parquet")
    for form in ("parquet", "tar"):
        assert dedup("-i", "in", "--image_column", "image", "-d", form, "--as", form, "--quiet") == 0
        again = ("--image_column", "image", "--records", f"{form}.jsonl", "--quiet")
        assert dedup("-i", form, *again) == 0
        records = [json.loads(line) for line in Path(f"{form}.jsonl").read_text().splitlines()]
        assert [one["status"] for one in records] == ["kept"] * 4


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ((), "--as requires -d"),
        (("-d", "out", "-s"), "-s must not be combined with --as"),
        (("-d", "out", "--place", "symlink"), "--place must not be combined with --as"),
        (("-d", "out", "--preview"), "--preview must not be combined with --as"),
        (("-d", "out", "--watch"), "--as is not available with --watch"),
    ],
)
def test_options_that_do_not_go_with_shards_are_refused(flags: tuple[str, ...], error: str) -> None:
    options, _ = parser.parse(["-i", "in", "--as", "tar", *flags])
    with pytest.raises(UsageError, match=error):
        checks.configure(options)
