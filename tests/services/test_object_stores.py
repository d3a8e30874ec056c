"""Runs `dedup` on the same files in a local directory and in object stores: the verdicts are equal."""

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
    """Returns the records of a file by their URIs. Removes `root` from all values."""
    text = path.read_text("utf-8").replace(json.dumps(root)[1:-1], "")
    return {record["uri"]: record for record in map(json.loads, text.splitlines())}


def local_records(folder: Path, out: Path, *arguments: object) -> Records:
    ended = dedup_apart(*arguments, "--records", out / "local.jsonl", "-o", "", "--quiet")
    assert ended.returncode == 0, ended.stderr
    return read(out / "local.jsonl", str(folder))


def store_records(bucket: Bucket, out: Path, *arguments: object) -> Records:
    ended = bucket.dedup(*arguments, "--records", out / "store.jsonl", "--quiet")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    return read(out / "store.jsonl", bucket.uri)


@pytest.mark.parametrize("mode", ["-e", "-n"])
def test_directory_in_a_store_equals_a_local_one(
    bucket: Bucket, samples: Path, tmp_path: Path, mode: str
) -> None:
    bucket.fill({f"in/{name}": data for name, data in files_of(samples).items()})
    bucket.fill({"in/photos/": b"", "inside-out.jpg": b"outside the directory in/"})
    local = local_records(samples, tmp_path, mode, "-i", samples)
    store = store_records(bucket, tmp_path, mode, "-i", "{b}/in")
    assert {uri.removeprefix("/in"): record for uri, record in store.items()}.keys() == local.keys()
    for record in store.values():
        for field in ("uri", "duplicate_of"):
            record[field] = record[field] and record[field].removeprefix("/in")
    assert sorted(store.values(), key=lambda record: record["uri"]) == list(local.values())


def test_archives_patterns_and_several_inputs_equal_local_ones(
    bucket: Bucket, samples: Path, tmp_path: Path
) -> None:
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
    in_store, in_folder = (
        [
            "-n",
            "-i",
            f"{root}/a/*.tar.gz",
            "-i",
            f"{root}/b*",
            "-i",
            f"{root}/c/**/*.jpg",
            "-i",
            f"{root}/d/again.tar",
        ]
        for root in ("{b}", folder)
    )
    found = store_records(bucket, tmp_path, *in_store)
    assert found == local_records(folder, tmp_path, *in_folder)
    assert {uri.partition("!")[0] for uri in found} == {
        "/a/one.tar.gz",
        "/b2/two",
        "/c/deep/x.jpg",
        "/c/y.jpg",
        "/d/again.tar",
    }


def test_unusual_names_are_read_and_copied(bucket: Bucket, tmp_path: Path) -> None:
    """Each name has its own picture, which exists twice; all are copied within the store and to a local directory."""
    names = [*ODD_NAMES, *(f"~again/{name}" for name in ODD_NAMES)]
    pictures = {name: encoded(number % len(ODD_NAMES)) for number, name in enumerate(names)}
    bucket.fill({f"in/{name}": data for name, data in pictures.items()})
    found = store_records(bucket, tmp_path, "-i", "{b}/in", "-d", "{b}/out", "-s")
    kept = {name for name in names if found[file_uri(f"/in/{name}")]["status"] == "kept"}
    assert len(found) == len(names) == 2 * len(kept)
    assert {pictures[name] for name in kept} == set(pictures.values())
    copies = {copy_name(name): pictures[name] for name in kept}
    placed = bucket.files("out")
    assert placed.items() >= copies.items()
    assert sorted(placed.values()) == sorted(pictures.values())
    assert store_records(bucket, tmp_path, "-i", "{b}/in", "-d", tmp_path / "out") == found
    assert files_of(tmp_path / "out") == copies


def test_known_images_in_a_store_are_witnesses(bucket: Bucket, tmp_path: Path) -> None:
    bucket.fill({"new/a.png": encoded(1), "new/b.png": encoded(2), "old/x.tar": tar({"c.png": encoded(2)})})
    found = store_records(bucket, tmp_path, "-i", "{b}/new", "--reference", "{b}/old/x.tar")
    assert {uri: record["duplicate_of"] for uri, record in found.items()} == {
        "/new/a.png": None,
        "/new/b.png": "/old/x.tar!c.png",
    }


@pytest.mark.processes
def test_worker_processes_reach_the_store(bucket: Bucket, tmp_path: Path) -> None:
    bucket.fill({"in/a.png": encoded(1), "in/b.png": encoded(1)})
    mode = ("--direct_running_mode=multi_processing", "-j", "2")
    found = store_records(bucket, tmp_path, "-n", "-i", "{b}/in", "-d", "{b}/out", *mode)
    assert [record["status"] for record in found.values()] == ["kept", "duplicate"]
    assert bucket.files("out") == {"a.png": encoded(1)}
