"""One folder, the same verdicts: here and in the object stores, by the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.core.archives.members import file_uri
from beam_dedup.core.paths import copy_name
from tests.app.cli_runs import dedup_apart
from tests.core.archives.made_archives import tar, zipped
from tests.services.buckets import Bucket, files_of
from tests.transforms.files import encoded, write

pytestmark = [pytest.mark.service, pytest.mark.slow]

Records = dict[str, dict[str, Any]]

ODD_NAMES = [
    "a b.png",
    "é/日本.png",
    "#1.png",
    "what?.png",
    "[x].png",
    "50%.png",
    "%20.png",
    "a+b&c=d;e.png",
    'it\'s "it".png',
    "wow!.png",
    "🙂.png",
    "a//b.png",
    "../up.png",
    "\\back.png",
]


def read(path: Path, root: str) -> Records:
    """The records of a file by the rest of their URIs; in them, too, there is no root."""
    text = path.read_text("utf-8").replace(json.dumps(root)[1:-1], "")
    return {record["uri"]: record for record in map(json.loads, text.splitlines())}


def records_here(folder: Path, out: Path, *arguments: object) -> Records:
    ended = dedup_apart(*arguments, "--records", out / "here.jsonl", "-o", "", "--quiet")
    assert ended.returncode == 0, ended.stderr
    return read(out / "here.jsonl", str(folder))


def records_there(bucket: Bucket, out: Path, *arguments: object) -> Records:
    ended = bucket.dedup(*arguments, "--records", out / "there.jsonl", "--quiet")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    return read(out / "there.jsonl", bucket.uri)


@pytest.mark.parametrize("mode", ["-e", "-n"])
def test_a_folder(bucket: Bucket, samples: Path, tmp_path: Path, mode: str) -> None:
    bucket.fill({f"in/{name}": data for name, data in files_of(samples).items()})
    bucket.fill({"in/photos/": b"", "inside-out.jpg": b"in no folder of this name"})
    here = records_here(samples, tmp_path, mode, "-i", samples)
    there = records_there(bucket, tmp_path, mode, "-i", "{b}/in")
    assert {uri.removeprefix("/in"): record for uri, record in there.items()}.keys() == here.keys()
    for record in there.values():
        for field in ("uri", "duplicate_of"):
            record[field] = record[field] and record[field].removeprefix("/in")
    assert sorted(there.values(), key=lambda record: record["uri"]) == list(here.values())


def test_archives_patterns_and_several_inputs(bucket: Bucket, samples: Path, tmp_path: Path) -> None:
    files = files_of(samples)
    names = sorted(files)
    folder = tmp_path / "in"
    content = {
        "a/one.tar.gz": tar({name: files[name] for name in names[::3]}),
        "b2/two": zipped({name: files[name] for name in names[1::3]}),
        "c/deep/x.jpg": files["photos/photo-01.jpg"],
        "c/y.jpg": files["photos/photo-05.jpg"],
        "c/z.png": files["formats/photo-08.png"],
        "d/again.tar": tar({"again.jpg": files["photos/photo-05.jpg"]}),
    }
    bucket.fill(content)
    for name, data in content.items():
        write(folder / name, data)
    there, here = (
        [
            "-n",
            "-i",
            f"{at}/a/*.tar.gz",
            "-i",
            f"{at}/b*",
            "-i",
            f"{at}/c/**/*.jpg",
            "-i",
            f"{at}/d/again.tar",
        ]
        for at in ("{b}", folder)
    )
    found = records_there(bucket, tmp_path, *there)
    assert found == records_here(folder, tmp_path, *here)
    assert {uri.partition("!")[0] for uri in found} == {
        "/a/one.tar.gz",
        "/b2/two",
        "/c/deep/x.jpg",
        "/c/y.jpg",
        "/d/again.tar",
    }


def test_odd_names(bucket: Bucket, tmp_path: Path) -> None:
    """Each is of a picture of its own, and there twice; all are copied within the store, and out of it."""
    names = [*ODD_NAMES, *(f"~again/{name}" for name in ODD_NAMES)]
    pictures = {name: encoded(number % len(ODD_NAMES)) for number, name in enumerate(names)}
    bucket.fill({f"in/{name}": data for name, data in pictures.items()})
    found = records_there(bucket, tmp_path, "-i", "{b}/in", "-d", "{b}/out", "-s")
    kept = {name for name in names if found[file_uri(f"/in/{name}")]["status"] == "kept"}
    assert len(found) == len(names) == 2 * len(kept)
    assert {pictures[name] for name in kept} == set(pictures.values())
    copies = {copy_name(name): pictures[name] for name in kept}
    placed = bucket.files("out")
    assert placed.items() >= copies.items()
    assert sorted(placed.values()) == sorted(pictures.values())
    assert records_there(bucket, tmp_path, "-i", "{b}/in", "-d", tmp_path / "out") == found
    assert files_of(tmp_path / "out") == copies


def test_known_images(bucket: Bucket, tmp_path: Path) -> None:
    bucket.fill({"new/a.png": encoded(1), "new/b.png": encoded(2), "old/x.tar": tar({"c.png": encoded(2)})})
    found = records_there(bucket, tmp_path, "-i", "{b}/new", "--reference", "{b}/old/x.tar")
    assert {uri: record["duplicate_of"] for uri, record in found.items()} == {
        "/new/a.png": None,
        "/new/b.png": "/old/x.tar!c.png",
    }


@pytest.mark.processes
def test_worker_processes_know_where_the_store_is(bucket: Bucket, tmp_path: Path) -> None:
    bucket.fill({"in/a.png": encoded(1), "in/b.png": encoded(1)})
    mode = ("--direct_running_mode=multi_processing", "-j", "2")
    found = records_there(bucket, tmp_path, "-n", "-i", "{b}/in", "-d", "{b}/out", *mode)
    assert [record["status"] for record in found.values()] == ["kept", "duplicate"]
    assert bucket.files("out") == {"a.png": encoded(1)}
