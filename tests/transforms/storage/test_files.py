"""Tests remote files, in an object store in memory."""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.model import Flag, ImageRef, Reason
from tests.transforms import image_blocks
from tests.transforms.files import encoded, ref, write
from tests.transforms.object_store import SCHEME, uri
from tests.transforms.pipelines import run
from transforms import (
    CheckConservation,
    DeduplicateImages,
    PlaceCopies,
    ReadMetadata,
    UnbatchVerdicts,
    metrics,
)
from transforms.read_settings import ReadSettings
from transforms.storage import files
from transforms.storage.placing import PlaceMode, place_file


def test_a_failed_upload_leaves_no_object(store: dict[str, bytes]) -> None:
    store[uri("older")] = b"older"
    for name in ("older", "newer"):
        with contextlib.suppress(RuntimeError), files.whole_file(uri(name)) as file:
            file.write(b"half")
            raise RuntimeError
    assert store == {uri("older"): b"older"}


def test_a_file_is_uploaded_when_it_is_whole(store: dict[str, bytes]) -> None:
    with files.whole_file(uri("a/b")) as file:
        file.write(b"all")
        assert not store
    assert store == {uri("a/b"): b"all"}


@pytest.mark.parametrize("source_is_remote", [True, False])
@pytest.mark.parametrize("target_is_remote", [True, False])
def test_local_and_remote_files_are_copied_to_local_and_remote_paths(
    store: dict[str, bytes], tmp_path: Path, source_is_remote: bool, target_is_remote: bool
) -> None:
    store[uri("a")] = b"data"
    local = write(tmp_path / "a", b"data")
    target = uri("b/c") if target_is_remote else str(tmp_path / "b/c")
    source = uri("a") if source_is_remote else str(local)
    assert place_file(source, target, hashlib.sha256(b"data").digest(), PlaceMode.COPY)
    assert (store[target] if target_is_remote else Path(target).read_bytes()) == b"data"


def test_a_metadata_file_and_the_images_it_names_may_be_remote(store: dict[str, bytes]) -> None:
    store[uri("a.png")] = encoded(1)
    metadata = {"serial": "1", "title": "The harbour"}
    names = [uri("a.png"), uri("gone"), uri("gone as well"), "nosuch://a/b", uri("unknown")]
    rows = [{"__path__": name, **({} if name.endswith("unknown") else metadata)} for name in names]
    store[uri("rows")] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        listed = pipeline | ReadMetadata(uri("rows"))
        done = listed | DeduplicateImages(settings=ReadSettings(recipe=Recipe()))
        return {
            "verdicts": done.verdicts | UnbatchVerdicts(),
            "read": listed | CheckConservation(done.verdicts, done.read_tally),
        }

    values = run(build).values
    assert values["read"] == [5]
    verdicts = {verdict.ref.uri: verdict for verdict in values["verdicts"]}
    assert {name: verdicts[name].reason for name in names} == {
        uri("a.png"): None,
        uri("gone"): None,
        uri("gone as well"): Reason.EXACT,
        "nosuch://a/b": Reason.EXACT,
        uri("unknown"): Reason.NOT_FOUND,
    }
    assert verdicts[uri("gone")].flags == (Flag.DESCRIBED,)
    assert verdicts["nosuch://a/b"].detail.startswith("unreadable: ")


@pytest.mark.parametrize("processes", [1, 3])
def test_images_may_be_remote(store: dict[str, bytes], tmp_path: Path, processes: int) -> None:
    """Or local. A missing object, and an object that is no image, is rejected; known ones are only counted."""
    for name, seed in (("a.png", 1), ("b/a.png", 1), ("c.png", 2)):
        store[uri(name)] = encoded(seed)
    store[uri("empty")] = b""
    store[uri("text")] = b"no image"
    images = [ImageRef(uri(name), name) for name in ("a.png", "b/a.png", "c.png", "gone", "empty", "text")]
    images.append(ref(write(tmp_path / "d.png", encoded(1, compress_level=1))))
    known = [ImageRef(uri(name), name, known=True) for name in ("gone as well", "text")]

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        mine = pipeline | "Known" >> beam.Create([known])
        deduplicate = DeduplicateImages(
            settings=ReadSettings(recipe=Recipe(), decoder_processes=processes), known=mine
        )
        done = image_blocks.references(pipeline, images) | deduplicate
        placed = done.verdicts | PlaceCopies(f"{SCHEME}://out/", True)
        return {"verdicts": done.verdicts | UnbatchVerdicts(), "placed": placed.copies}

    ran = run(build)
    verdicts = {verdict.ref.name: verdict for verdict in ran.values["verdicts"]}
    assert {name: verdict.reason for name, verdict in verdicts.items()} == {
        "a.png": Reason.NEAR,
        "b/a.png": Reason.NEAR,
        "c.png": None,
        "gone": Reason.NOT_FOUND,
        "empty": Reason.EMPTY,
        "text": Reason.NOT_AN_IMAGE,
        "d.png": None,
    }
    assert verdicts["gone"].detail
    assert verdicts["c.png"].size_bytes == len(store[uri("c.png")])
    assert ran.counters[metrics.KNOWN_REJECTED] == 2
    placed = {path: data for path, data in store.items() if path.startswith(f"{SCHEME}://out/")}
    assert sorted(placed) == sorted(copy.path for copy in ran.values["placed"])
    assert [os.path.basename(path) for path in sorted(placed)] == ["a.png", "a.png", "c.png", "d.png"]
    assert placed[f"{SCHEME}://out/d.png"] == (tmp_path / "d.png").read_bytes()
    assert {data for path, data in placed.items() if "_duplicates" in path} == {encoded(1)}
