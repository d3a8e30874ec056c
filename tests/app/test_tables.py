"""Tests of --image_column (images in Parquet files) and --path_field (lists of ImageFolder), from the command line."""

import csv
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup.cli import main
from beam_dedup.core.errors import UsageError
from beam_dedup.options import checks, parser
from tests.app.cli_runs import dedup, tree
from tests.app.stream_process import running_stream
from tests.core.archives.test_tfrecord import example, tfrecords
from tests.pictures import encoded, photo

A, B = encoded(photo(1)), encoded(photo(2), "JPEG")
IMAGES = [
    A,
    encoded(photo(1), compress_level=9),  # other bytes, the same picture
    B,
    B,
    encoded(photo(1).resize((160, 120))),
    encoded(photo(3))[:2000],  # truncated
    b"no image",
    b"",
    *(encoded(photo(seed, (120, 90))) for seed in range(10, 16)),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_parquet(path: str, images: Any, group: int = 4, **columns: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, **columns}), path, row_group_size=group)


def records(*arguments: object) -> dict[str, dict[str, Any]]:
    """Runs `dedup`. Returns the records by URI."""
    assert dedup(*arguments, "--records", "r.jsonl", "--quiet") == 0
    return {one["uri"]: one for one in map(json.loads, Path("r.jsonl").read_text().splitlines())}


def as_structs(images: list[bytes]) -> list[dict[str, Any]]:
    return [{"bytes": one, "path": None} for one in images]


class TestImageColumn:
    @pytest.mark.parametrize(("form", "flags"), [(list, ()), (as_structs, ("-n",))])
    def test_rows_get_the_verdicts_of_files(
        self, form: Callable[[list[bytes]], Any], flags: tuple[str, ...]
    ) -> None:
        # Numbers of two digits, so that rows and files have the same order.
        nothing = [b"no image either"] * 10
        for number, data in enumerate(nothing + IMAGES):
            path = Path(f"files/{number}")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        write_parquet("shards/x.parquet", form(nothing + IMAGES))
        files = records("-i", "files", "--keep", "first", *flags)
        rows = records("-i", "shards", "--image_column", "image", *flags)
        assert {name.replace("shards/x.parquet!", "files/") for name in rows} == files.keys()
        for name, row in rows.items():
            if row["duplicate_of"]:
                row["duplicate_of"] = row["duplicate_of"].replace("shards/x.parquet!", "files/")
            assert {**row, "uri": name.replace("shards/x.parquet!", "files/")} == files[
                row["uri"].replace("shards/x.parquet!", "files/")
            ]
        assert sum(row["status"] == "duplicate" for row in rows.values()) >= (3 if flags else 1)

    def test_copies_are_named_by_path_or_row(self) -> None:
        images = [
            {"bytes": A, "path": "cats/a.png"},
            {"bytes": B, "path": None},
            {"bytes": IMAGES[9], "path": "../../out.png"},
            {"bytes": B, "path": "again.jpg"},
        ]
        write_parquet("in/x!.parquet", images, group=2)
        write_parquet("in/y.parquet", [IMAGES[10]])
        for _ in range(2):  # a second run changes nothing
            records("-i", "in", "--image_column", "image", "-d", "out", "-s")
            key = hashlib.sha256(B).hexdigest()
            copies = tree(Path("out"))
            [escaped] = [name for name in copies if name.endswith("out.png")]
            assert ".." not in Path(escaped).parts
            assert copies == {
                "x!.parquet/cats/a.png": A,
                "x!.parquet/1.jpg": B,
                escaped: IMAGES[9],
                f"_duplicates/{key}/x!.parquet/again.jpg": B,
                "y.parquet/0.png": IMAGES[10],
            }

    def test_known_images_may_be_rows(self) -> None:
        write_parquet("known.parquet", [A])
        Path("in").mkdir()
        Path("in/a.png").write_bytes(A)
        found = records("-i", "in", "--reference", "known.parquet", "--image_column", "image")
        assert found["in/a.png"]["duplicate_of"] == "known.parquet!0"

    def test_rows_and_files_that_are_bad_affect_no_others(self) -> None:
        images = [A, None, encoded(photo(4, (900, 700))), IMAGES[9]]
        write_parquet(
            "in/a.parquet", images, label=[1, 2, 3, 4], caption=["a", "b", "c", None], raw=[b"x"] * 4
        )
        write_parquet("in/b.parquet", ["text"])
        write_parquet("in/c.parquet", [B])
        data = Path("in/c.parquet").read_bytes()
        Path("in/c.parquet").write_bytes(data[:-30])
        found = records("-n", "-i", "in", "--image_column", "image", "--max_bytes", str(len(A) + 1000))
        assert {name: one["reason"] for name, one in found.items()} == {
            "in/a.parquet!0": None,
            "in/a.parquet!1": "empty",
            "in/a.parquet!2": "too_large",
            "in/a.parquet!3": None,
            "in/b.parquet": "unsupported",
            "in/c.parquet": "damaged",
        }
        assert found["in/a.parquet!0"]["metadata"] == {"label": 1, "caption": "a"}
        assert found["in/a.parquet!3"]["metadata"] == {"label": 4}

    def test_error_without_the_option_suggests_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        write_parquet("x.parquet", [A])
        assert dedup("-i", "x.parquet") == 1
        error = capsys.readouterr().err
        assert "x.parquet is a Parquet file with bytes in the column 'image'" in error
        assert "add --image_column NAME" in error
        assert dedup("-i", "x.parquet", "--image_column", "img") == 1
        error = capsys.readouterr().err
        assert "no column is named 'img'; the file has image. Name another column by --image_column" in error

    def test_arrow_files_are_read_like_parquet_files(self, capsys: pytest.CaptureFixture[str]) -> None:
        table = pa.table({"image": as_structs([A, B, A, IMAGES[9]]), "label": [1, 2, 3, 4]})
        Path("in").mkdir()
        for name, new in (("a.arrow", pa.ipc.new_file), ("b.arrow", pa.ipc.new_stream)):
            with new(f"in/{name}", table.schema) as writer:
                writer.write_table(table, 2)
        found = records("-i", "in", "--image_column", "image", "-d", "out", "-n")
        duplicates = {name: one["duplicate_of"] for name, one in found.items() if one["duplicate_of"]}
        first = {"0": "0", "1": "1", "2": "0", "3": "3"}
        assert duplicates == {
            **{f"in/b.arrow!{row}": f"in/a.arrow!{of}" for row, of in first.items()},
            "in/a.arrow!2": "in/a.arrow!0",
        }
        assert found["in/b.arrow!3"]["metadata"] == {"label": 4}
        assert tree(Path("out")) == {"a.arrow/0.png": A, "a.arrow/1.jpg": B, "a.arrow/3.png": IMAGES[9]}
        assert dedup("-i", "in", "--image_column", "image", "-d", "shards", "--as", "parquet") == 0
        assert pq.read_table("shards/a.arrow.parquet").equals(table.take([0, 1, 3]))
        assert dedup("-i", "in") == 1
        error = capsys.readouterr().err
        assert "is an Arrow file with bytes in the column 'image'" in error
        assert "add --image_column NAME" in error

    def test_records_of_tfrecord_are_read_like_rows(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in").mkdir()
        images = [example(image=data, label=label) for label, data in enumerate([A, B, A])]
        Path("in/a.tfrecord").write_bytes(tfrecords(*images))
        found = records("-i", "in", "--image_column", "image", "-d", "out", "--as", "tar")
        assert {name: one["duplicate_of"] for name, one in found.items()} == {
            "in/a.tfrecord!0": None,
            "in/a.tfrecord!1": None,
            "in/a.tfrecord!2": "in/a.tfrecord!0",
        }
        with tarfile.open("out/a.tfrecord.tar") as archive:
            assert archive.getnames() == ["0.png", "0.json", "1.jpg", "1.json"]
        assert dedup("-i", "in") == 1
        assert "is a TFRecord file. If it holds images, add --image_column NAME" in capsys.readouterr().err

    def test_report_has_thumbnails_of_rows(self) -> None:
        write_parquet("in/x.parquet", [A, A])
        records("-i", "in", "--image_column", "image", "--report", "page")
        with_pictures = sum(map(len, tree(Path("page")).values()))
        for name, flags in (("again", ("--image_column", "image")), ("none", ())):
            assert main(["report", "r.jsonl", "-o", name, "--quiet", *flags]) == 0
            size = sum(map(len, tree(Path(name)).values()))
            assert (size > with_pictures - 500) == (name == "again")

    @pytest.mark.slow
    def test_stream_reads_rows(self, tmp_path: Path) -> None:
        Path("in").mkdir()
        write_parquet("elsewhere/x.parquet", as_structs([A, B, A]), label=[1, 2, 3])
        arguments = (
            "--watch",
            "-i",
            tmp_path / "in",
            "-d",
            tmp_path / "out",
            "--image_column",
            "image",
            "--quiet_time",
            "1s",
        )
        with running_stream(tmp_path, *arguments) as run:
            os.rename("elsewhere/x.parquet", "in/x.parquet")
            run.wait_for(3)
            run.wait_until(lambda: len(tree(Path("out"))) == 2)
            assert run.drain() == 130, run.log_tail()
            found = {one["uri"].rpartition("!")[2]: one for one in run.records()}
        assert [found[row]["status"] for row in "012"] == ["kept", "kept", "duplicate"]
        assert found["1"]["metadata"]["label"] == 2
        assert sorted(tree(Path("out"))) == ["x.parquet/0.png", "x.parquet/1.jpg"]


class TestPathField:
    def write_list(self, form: str) -> str:
        rows = [{"file_name": "a.png", "label": "cat"}, {"file_name": "sub/b.jpg", "label": "dog"}]
        path = Path(f"train/metadata.{form}")
        path.parent.mkdir(exist_ok=True)
        if form == "jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        elif form == "json":
            path.write_text(json.dumps(rows, indent=1))
        elif form == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            out = io.StringIO()
            writer = csv.DictWriter(out, ["file_name", "label"])
            writer.writeheader()
            writer.writerows(rows)
            path.write_text(out.getvalue())
        return str(path)

    @pytest.mark.parametrize(
        ("form", "flags"),
        [("json", ()), ("csv", ("--direct_running_mode=multi_threading",)), ("parquet", ("-n",))],
    )
    def test_paths_are_relative_to_the_list(self, form: str, flags: tuple[str, ...]) -> None:
        path = self.write_list(form)
        Path("train/sub").mkdir()
        Path("train/a.png").write_bytes(A)
        Path("train/sub/b.jpg").write_bytes(B)
        found = records("-l", path, "--path_field", "file_name", "-d", "out", *flags)
        assert {os.path.relpath(name): one["status"] for name, one in found.items()} == {
            "train/a.png": "kept",
            "train/sub/b.jpg": "kept",
        }
        assert [one["metadata"] for one in found.values()] == [{"label": "cat"}, {"label": "dog"}]
        assert tree(Path("out")) == {"a.png": A, "sub/b.jpg": B}

    def test_image_folder_with_splits_is_read_as_it_is(self) -> None:
        """Each split of an ImageFolder has a list of its own, and directories that name the labels."""
        for split, images in (("train", [A, B]), ("test", [B, IMAGES[9]])):
            rows = []
            for number, data in enumerate(images):
                path = Path(f"data/{split}/{'cat' if number else 'dog'}/{number}.png")
                path.parent.mkdir(parents=True)
                path.write_bytes(data)
                rows.append(
                    {"file_name": str(path.relative_to(f"data/{split}")), "caption": f"{split} {number}"}
                )
            Path(f"data/{split}/metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        found = records(
            "-l", "data/train/metadata.jsonl", "--path_field", "file_name", "--reference", "data/test"
        )
        assert {os.path.relpath(name): one["status"] for name, one in found.items()} == {
            "data/train/dog/0.png": "kept",
            "data/train/cat/1.png": "duplicate",
        }
        assert [one["metadata"]["caption"] for one in found.values()] == ["train 1", "train 0"]
        tree_of_all = records("-i", "data", "-d", "out")
        reasons = {name: one["reason"] for name, one in tree_of_all.items() if one["status"] != "kept"}
        assert reasons == {
            "data/train/cat/1.png": "exact",
            "data/train/metadata.jsonl": "not_an_image",
            "data/test/metadata.jsonl": "not_an_image",
        }
        assert tree(Path("out")) == {"test/cat/1.png": IMAGES[9], "test/dog/0.png": B, "train/dog/0.png": A}
        # The list of a split becomes the metadata of shards.
        list_of_train = ("-l", "data/train/metadata.jsonl", "--path_field", "file_name")
        assert dedup(*list_of_train, "-d", "shards", "--as", "parquet", "--quiet") == 0
        rows = pq.read_table("shards/images-00000-of-00001.parquet").to_pylist()
        assert [json.loads(row["metadata"])["caption"] for row in rows] == ["train 1", "train 0"]
        assert [row["image"] for row in rows] == [
            {"bytes": B, "path": "cat/1.png"},
            {"bytes": A, "path": "dog/0.png"},
        ]

    def test_errors_say_what_to_do(self, capsys: pytest.CaptureFixture[str]) -> None:
        path = self.write_list("jsonl")
        assert dedup("-l", path) == 1
        assert (
            "under the key __path__, or under another key that --path_field names" in capsys.readouterr().err
        )
        assert dedup("-l", path, "--path_field", "name") == 1
        assert (
            "under the key name; train/metadata.jsonl!1: no name; it has file_name, label"
            in capsys.readouterr().err
        )
        Path("in").mkdir()
        with pytest.raises(UsageError, match="--path_field applies only with -l"):
            checks.configure(parser.parse(["-i", "in", "--path_field", "x"])[0])
