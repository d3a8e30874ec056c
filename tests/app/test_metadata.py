"""Tests of -l: images named by a file, with their metadata."""

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup.samples import picture
from tests.app.cli_runs import dedup, records_in, tree
from tests.core.archives.made_archives import zipped

TAKEN = {
    "Content-Type": "image/jpeg",
    "Make": "NIKON CORPORATION",
    "Model": "NIKON D700",
    "Image Width": "4256 pixels",
    "Image Height": "2832 pixels",
    "F-Number": "f/2.8",
    "Exposure Time": "1/250 sec",
    "ISO Speed Ratings": "200",
    "Focal Length": "50 mm",
    "Date/Time Original": "2019:07:06 13:05:11",
    "GPS Latitude": "48 51 29",
    "Image Description": "the harbour in the evening",
}
OTHER = TAKEN | {
    "Date/Time Original": "2020:01:02 03:04:05",
    "GPS Latitude": "52 31 12",
    "Image Description": "two dogs",
}
Rows = Mapping[str, Mapping[str, Any]]  # the metadata of each image by its path


def write_lines(path: Path, rows: Rows) -> Path:
    """Writes the rows as JSON Lines; returns the path."""
    lines = (json.dumps({"__path__": name, **metadata}) for name, metadata in rows.items())
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def judged(folder: Path, rows: Rows, *flags: object) -> dict[str, dict[str, Any]]:
    """Runs dedup on the rows; returns the records by the base names of their URIs."""
    lines = write_lines(folder / "rows.jsonl", rows)
    assert dedup("-l", lines, "--records", folder / "r.jsonl", "--quiet", *flags) == 0
    return records_in(folder / "r.jsonl")


def reasons(records: Mapping[str, Mapping[str, Any]]) -> dict[str, str | None]:
    return {name: record["reason"] for name, record in records.items()}


@pytest.mark.parametrize("mode", [[], ["-n"], ["-n", "--direct_running_mode=multi_processing", "-j", "2"]])
def test_images_that_can_be_opened_are_judged_like_those_of_a_directory(
    mode: list[str], samples: Path, tmp_path: Path
) -> None:
    paths = sorted(str(samples / name) for name in tree(samples))
    lines = write_lines(tmp_path / "l", {path: {"number": number} for number, path in enumerate(paths)})
    for flags in (("-i", samples), ("-l", lines)):
        records = tmp_path / f"r{flags[0]}.jsonl"
        assert dedup(*flags, *mode, "--records", records, "--quiet") == 0
    of_folder, of_rows = (
        [json.loads(line) for line in (tmp_path / f"r{flag}.jsonl").read_text().splitlines()]
        for flag in ("-i", "-l")
    )
    assert [one.pop("metadata")["number"] for one in of_rows] == list(range(len(paths)))
    assert [one.pop("metadata") for one in of_folder] == [None] * len(paths)
    assert of_rows == of_folder


def test_images_that_cannot_be_opened_are_compared_by_their_metadata(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "here.jpg")
    sha256 = hashlib.sha256((tmp_path / "here.jpg").read_bytes()).hexdigest()
    rows: Rows = {
        str(tmp_path / "a/copy of here.jpg"): {"X-TIKA:digest:SHA256": sha256},
        str(tmp_path / "here.jpg"): {"width": 320},
        "/gone/md5 1": {"md5": "0" * 32, "width": 1},
        "/gone/md5 2": {"X-Parsed-By": "x", "X-TIKA:digest:MD5": "0" * 32},
        "/gone/taken": TAKEN,
        "/gone/taken again": {**TAKEN, "File Name": "other.tmp", "File Modified Date": "today"},
        "/gone/taken and found": {**TAKEN, "Make": "x"},
        "/gone/other": OTHER,
        "/gone/nothing": {"Content-Type": "image/jpeg", "File Name": "x"},
        "/gone/little": {"Content-Type": "image/jpeg", "Image Width": 640},
        "/gone/little more": {"Content-Type": "image/jpeg", "Image Width": 640, "Image Height": 480},
        "/gone/\x00name": {"serial": "1"},
        str(tmp_path): {"serial": "2"},
    }
    expected = {
        "copy of here.jpg": "exact",
        "here.jpg": None,
        "md5 1": None,
        "md5 2": "exact",
        "taken": None,
        "taken again": "exact",
        "taken and found": None,
        "other": None,
        "nothing": "not_found",
        "little": None,
        "little more": None,
        "\x00name": None,
        tmp_path.name: None,
    }
    assert reasons(judged(tmp_path, rows)) == expected
    found = judged(tmp_path, rows, "-n")
    assert reasons(found) == {**expected, "taken and found": "near"}
    copy, near = found["copy of here.jpg"], found["taken and found"]
    assert (copy["duplicate_of"], copy["digest"]) == (str(tmp_path / "here.jpg"), sha256), (
        "the image that can be opened is kept"
    )
    assert (copy["flags"], copy["detail"]) == (["described"], "not_found: No such file or directory")
    assert (near["duplicate_of"], near["algorithm"], len(near["fingerprint"])) == (
        "/gone/taken",
        "simhash/1",
        16,
    )
    assert 0 < near["distance"] <= 3
    assert near["metadata"] == {**TAKEN, "Make": "x"}
    assert (found["here.jpg"]["flags"], found["here.jpg"]["algorithm"]) == ([], "dct/2")
    assert found["nothing"]["metadata"] == {"Content-Type": "image/jpeg", "File Name": "x"}
    exact_only = judged(tmp_path, rows, "-n", "--algorithm", "colorhash")
    assert reasons(exact_only) == expected


def test_k_limits_near_duplicates_by_metadata_too(tmp_path: Path) -> None:
    rows = {"/gone/taken": TAKEN, "/gone/taken and found": {**TAKEN, "Make": "x"}}
    assert reasons(judged(tmp_path, rows, "-n", "-k", 0))["taken and found"] is None


def test_simhash_compares_all_images_by_their_metadata(tmp_path: Path) -> None:
    """The pictures are not even decoded."""
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.jpg")
    (tmp_path / "damaged.jpg").write_bytes((tmp_path / "2.jpg").read_bytes()[:300])
    (tmp_path / "text").write_text("no image")
    rows = {
        str(tmp_path / "0.jpg"): TAKEN,
        str(tmp_path / "1.jpg"): {**TAKEN, "Make": "x"},
        str(tmp_path / "2.jpg"): OTHER,
        str(tmp_path / "damaged.jpg"): {**OTHER, "Make": "x"},
        str(tmp_path / "text"): TAKEN,
        "/gone": {**TAKEN, "ISO Speed Ratings": "z"},
    }
    found = judged(tmp_path, rows, "-n", "--algorithm", "simhash")
    assert reasons(found) == {
        "0.jpg": None,
        "1.jpg": "near",
        "2.jpg": None,
        "damaged.jpg": "near",
        "text": "not_an_image",
        "gone": "near",
    }
    assert {one["duplicate_of"] for name, one in found.items() if name in ("1.jpg", "gone")} == {
        str(tmp_path / "0.jpg")
    }
    assert {one["algorithm"] for one in found.values()} == {"simhash/1", None}
    assert [one["flags"] for one in found.values()] == [["described"], [], [], [], [], []]
    assert reasons(judged(tmp_path, rows, "-n", "--algorithm", "simhash", "-k", 0))["1.jpg"] is None


def test_malformed_lines_are_rejected_by_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(1).save(tmp_path / "a.jpg")
    lines = tmp_path / "rows.jsonl"
    lines.write_text(
        f'{{"__path__": "{tmp_path}/a.jpg"}}\n'
        "{\n"
        "\n"
        f'{{"__path__": "{tmp_path}/./b/../a.jpg"}}\n'
        '{"path": "b.jpg"}\n'
        '{"__path__": "\\ud800"}\n'
        f'{{"__path__": "{tmp_path}/b.jpg", "deep": {"[" * 400}{"]" * 400}}}\n'
    )
    counts, groups = tmp_path / "c.json", tmp_path / "g.json"
    assert dedup("-l", lines, "--records", tmp_path / "r.jsonl", "--counts", counts, "-o", groups) == 0
    found = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(one["uri"].removeprefix(f"{tmp_path}/"), one["reason"]) for one in found] == [
        ("a.jpg", None),
        ("rows.jsonl!2", "malformed"),
        ("rows.jsonl!4", "malformed"),
        ("rows.jsonl!5", "malformed"),
        ("rows.jsonl!6", "malformed"),
        ("rows.jsonl!7", "malformed"),
    ]
    assert [one["detail"].partition(":")[0] for one in found[1:]] == [
        "not JSON",
        "an earlier row has the same __path__",
        "no __path__; it has path",
        "no file can have this __path__",
        "not JSON",
    ]
    assert json.loads(counts.read_text())["Rejected"] == {"malformed": 5}
    assert list(map(len, json.loads(groups.read_text()).values())) == [1]
    assert "malformed" in capsys.readouterr().out


def test_unknown_scheme_rejects_only_its_line(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.jpg")
    rows: dict[str, dict[str, Any]] = {
        "hdfs://namenode/dump/1.jpg": {},
        "azfs://account/container/2.jpg": {},
        "abfs://container/3.jpg": {},
        "nonsense://4.jpg": {},
        "file://server/share/5.jpg": {},
        "hdfs://namenode/dump/6.jpg": {"md5": "0" * 32},
        "azfs://account/container/7.jpg": {"md5": "0" * 32},
        str(tmp_path / "a.jpg"): {},
    }
    found = judged(tmp_path, rows)
    assert reasons(found) == {
        **{f"{number}.jpg": "unreadable" for number in (1, 2, 3, 4, 5)},
        "6.jpg": "exact",
        "7.jpg": None,
        "a.jpg": None,
    }


def test_file_uri_is_the_path_of_a_local_file(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a é.jpg")
    uris: list[Rows] = [{(tmp_path / "a é.jpg").as_uri(): {}}, {f"file:{tmp_path}/a%20é.jpg": {}}]
    for rows in uris:
        [record] = judged(tmp_path, rows).values()
        assert (record["uri"], record["status"]) == (str(tmp_path / "a é.jpg"), "kept")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gzip"])
def test_rows_in_gzip_or_utf16_and_numbers_that_json_cannot_store_are_read(
    encoding: str, tmp_path: Path
) -> None:
    text = '{"__path__": "/gone/é.png", "exif:FNumber": NaN, "md5": "%s"}\n' % ("0" * 32)
    lines = tmp_path / "rows.jsonl"
    lines.write_bytes(gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding))
    assert dedup("-l", lines, "--records", tmp_path / "r.jsonl", "--quiet") == 0
    [record] = records_in(tmp_path / "r.jsonl").values()
    assert (record["uri"], record["status"]) == ("/gone/é.png", "kept")
    assert record["metadata"] == {"md5": "0" * 32}


TIKA = {
    "Content-Type": "image/png",
    "X-TIKA:Parsed-By": ["a.DefaultParser", "a.ImageParser"],
    "tiff:ImageWidth": "1920",
    "tiff:ImageLength": "1080",
    "tiff:BitsPerSample": "8 8 8",
    "Compression CompressionTypeName": "deflate",
}


@pytest.mark.parametrize("mode", ["-e", "-n"])
@pytest.mark.parametrize(
    "different",
    [
        [{}, {}, {}],
        [{"X-TIKA:digest:SHA256": [digit * 64]} for digit in "ab"],
        [{"X-TIKA:digest:SHA256:BASE32": letter * 52 + "===="} for letter in "AB"],
        [{"X-TIKA:digest:SHA3_256": digit * 64} for digit in "ab"],
        [{"tk:digest:MD5": digit * 32} for digit in "ab"],
    ],
    ids=["nothing", "lists", "base32", "sha3", "Tika 4"],
)
def test_images_about_which_little_is_known_are_not_exact_duplicates(
    mode: str, different: list[dict[str, Any]], tmp_path: Path
) -> None:
    rows = {f"/gone/{number}.png": {**TIKA, **one} for number, one in enumerate(different)}
    found = judged(tmp_path, rows, mode)
    assert [one["status"] for one in found.values()] == ["kept"] * len(different)
    assert len({one["digest"] for one in found.values()}) == len(different)


@pytest.mark.parametrize("form", ["avro", "parquet"])
def test_avro_and_parquet_are_read_like_lines(form: str, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.jpg")
    rows = [
        {"__path__": f"{tmp_path}/a.jpg", "serial": "1", "title": "x"},
        {"__path__": "/gone/b", "serial": "2", "title": "x"},
        {"__path__": "/gone/c", "serial": "2", "title": "x"},
        {"__path__": None, "serial": "3", "title": "x"},
    ]
    path = tmp_path / f"rows.{form}"
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        fields = [{"name": name, "type": ["null", "string"]} for name in ("__path__", "serial", "title")]
        with path.open("wb") as file:
            fastavro.writer(file, {"type": "record", "name": "Image", "fields": fields}, rows)
    assert dedup("-l", path, "--records", tmp_path / "r.jsonl", "--quiet") == 0
    found = records_in(tmp_path / "r.jsonl")
    assert reasons(found) == {"a.jpg": None, "b": None, "c": "exact", f"{path.name}!4": "malformed"}
    assert [one["metadata"] for one in found.values()] == [
        {"serial": "2", "title": "x"},
        {"serial": "2", "title": "x"},
        {"serial": "1", "title": "x"},
        None,
    ]


def test_images_that_can_be_opened_are_copied_inside_the_output_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here/sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    for number, path in enumerate(("sub/a.jpg", "../b.jpg")):
        picture(number).save(path)
    (tmp_path / "c.zip").write_bytes(zipped({"d.jpg": (tmp_path / "b.jpg").read_bytes(), "e.gif": b"GIF89a"}))
    shutil.copy("sub/a.jpg", "sub/same.jpg")
    rows: dict[str, dict[str, Any]] = {
        "sub/a.jpg": {},
        f"{tmp_path}/here/sub/same.jpg": {},
        "../b.jpg": {},
        f"{tmp_path}/c.zip": {"source": "mine"},
        "../../../../gone": {"serial": "1"},
    }
    lines = write_lines(tmp_path / "rows.jsonl", rows)
    before = tree(tmp_path)
    assert dedup("-l", lines, "-d", tmp_path / "out", "-s", "--counts", tmp_path / "c.json") == 0
    assert tree(tmp_path).items() >= before.items()
    placed = tree(tmp_path / "out")
    inside = str(tmp_path).lstrip("/")
    kept = {name: data for name, data in placed.items() if not name.startswith("_duplicates")}
    assert set(kept) == {"%2E%2E/b.jpg", f"{inside}/c.zip/e.gif", f"{inside}/here/sub/same.jpg"}
    assert {name.split("/", 2)[2] for name in set(placed) - set(kept)} == {
        "sub/a.jpg",
        f"{inside}/c.zip/d.jpg",
    }
    counts = json.loads((tmp_path / "c.json").read_text())
    assert (counts["Final_Image_Count"], counts["Described_Image_Count"]) == (4, 1)
    assert "Described_Image_Count  1  could not be opened" in " ".join(capsys.readouterr().out.split(" " * 4))


def test_rows_of_known_images_and_of_links_to_them_are_not_judged(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    picture(1).save(tmp_path / "known/a.jpg")
    shutil.copy(tmp_path / "known/a.jpg", tmp_path / "b.jpg")
    os.symlink("known/a.jpg", tmp_path / "link.jpg")
    rows: dict[str, dict[str, Any]] = {
        str(tmp_path / name): {} for name in ("known/a.jpg", "b.jpg", "link.jpg")
    }
    found = judged(tmp_path, rows, "--reference", tmp_path / "known")
    assert {name: one["duplicate_of"] for name, one in found.items()} == {
        "b.jpg": str(tmp_path / "known/a.jpg")
    }


def test_http_addresses_are_not_fetched(tmp_path: Path) -> None:
    rows = {"http://127.0.0.1:9/a.jpg": {"serial": "1"}, "https://127.0.0.1:9/b.jpg": {}}
    found = judged(tmp_path, rows)
    assert reasons(found) == {"a.jpg": None, "b.jpg": "unreadable"}
    assert "http://127.0.0.1:9/a.jpg" in found["a.jpg"]["detail"] or "scheme" in found["a.jpg"]["detail"]


def test_empty_metadata_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows").touch()
    assert dedup("-l", tmp_path / "rows", "-n") == 0
    assert f"Initial_Image_Count    0  no rows in {tmp_path}/rows" in capsys.readouterr().out
