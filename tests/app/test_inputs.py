"""Tests of -i: several directories, files, patterns, Nutch dumps, archives, and other file systems."""

import hashlib
import json
import os
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystem import FileMetadata

from beam_dedup import preflight
from beam_dedup.core.paths import collision_key
from tests.app.cli_runs import dedup, tree
from tests.core.archives.made_archives import record, response, tar, warc, zipped
from tests.core.short_reads import use_bad_disk
from tests.transforms.files import encoded, write
from tests.transforms.object_store import Store
from transforms.storage.listing import list_inputs

A, B, C = encoded(1), encoded(2), encoded(3)
SCHEME = "dedupsources"


def records(tmp_path: Path, *arguments: object) -> dict[str, dict[str, Any]]:
    """Runs dedup; returns the records by their URIs, relative to `tmp_path`."""
    file = tmp_path / "out/r.jsonl"
    assert (
        dedup(*arguments, "--records", file, "--counts", tmp_path / "out/c.json", "-j", "1", "--quiet") == 0
    )
    found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return {record["uri"].removeprefix(f"{tmp_path}/"): record for record in found}


def counts(tmp_path: Path) -> dict[str, Any]:
    """Returns the counts that `records` had written."""
    return dict(json.loads((tmp_path / "out/c.json").read_text()))


def listed(*inputs: object, exclude: tuple[str, ...] = ()) -> dict[str, str]:
    """Lists inputs; returns the paths of the files by their names."""
    found = list(list_inputs([str(path) for path in inputs], exclude))
    assert len({file.name for file in found}) == len({file.path for file in found}) == len(found)
    return {file.name: file.path for file in found}


class TestSeveralInputs:
    def test_names_begin_with_the_name_of_the_input(self, tmp_path: Path) -> None:
        write(tmp_path / "x/in/a.png", A)
        write(tmp_path / "y/in/a.png", B)
        write(tmp_path / "z/c.png", C)
        out = tmp_path / "placed"
        found = records(
            tmp_path, "-i", tmp_path / "x/in", "-i", tmp_path / "y/in", "-i", tmp_path / "z/c.png", "-d", out
        )
        assert found.keys() == {"x/in/a.png", "y/in/a.png", "z/c.png"}
        assert tree(out) == {"in/a.png": A, "in#2/a.png": B, "c.png": C}

    def test_one_input_has_no_prefix(self, tmp_path: Path) -> None:
        write(tmp_path / "a.png", A)
        assert listed(tmp_path / "a.png") == {"a.png": f"{tmp_path}/a.png"}

    def test_directory_linked_from_another_is_listed_once(self, tmp_path: Path) -> None:
        write(tmp_path / "x/a.png", A)
        (tmp_path / "y").mkdir()
        (tmp_path / "y/x").symlink_to(tmp_path / "x")
        assert listed(tmp_path / "x", tmp_path / "y") == {"x/a.png": f"{tmp_path}/x/a.png"}


class TestPatterns:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("a.png", "b.jpg", "p/a.png", "p/q/c.png", "[x].png"):
            write(tmp_path / name, name.encode())
        return tmp_path

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("*.png", {"[x].png", "a.png"}),
            ("**/*.png", {"[x].png", "a.png", "p/a.png", "p/q/c.png"}),
            ("[ab].*", {"a.png", "b.jpg"}),
            ("[x].png", {"[x].png"}),  # a file has this very name
            ("*", {"[x].png", "a.png", "b.jpg", "p/a.png", "p/q/c.png"}),
            ("**", {"[x].png", "a.png", "b.jpg", "p/a.png", "p/q/c.png"}),
            ("p/?.png", {"a.png"}),
        ],
    )
    def test_matching_files_are_listed(self, folder: Path, pattern: str, names: set[str]) -> None:
        assert listed(folder / pattern).keys() == names

    def test_relative_patterns(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        assert listed("p*") == {"p/a.png": "p/a.png", "p/q/c.png": "p/q/c.png"}
        assert listed("*.jpg") == {"b.jpg": "b.jpg"}

    def test_file_that_two_patterns_match_is_listed_once(self, folder: Path) -> None:
        found = listed(folder / "*.png", folder / "a.*", folder / "b.jpg")
        base = folder.name
        assert found.keys() == {f"{base}/[x].png", f"{base}/a.png", "b.jpg"}

    def test_outputs_are_not_listed(self, folder: Path) -> None:
        found = listed(folder / "*", exclude=(f"{folder}/p", f"{folder}/a.png"))
        assert found.keys() == {"[x].png", "b.jpg"}


class TestLinks:
    @pytest.mark.parametrize("mode", ["-e", "-n"])
    def test_links_are_flagged_duplicates_of_their_file(self, tmp_path: Path, mode: str) -> None:
        write(tmp_path / "in/real.png", A)
        write(tmp_path / "in/z/hard.png", B)
        os.link(tmp_path / "in/z/hard.png", tmp_path / "in/z/hard2.png")
        (tmp_path / "in/link.png").symlink_to("real.png")
        (tmp_path / "in/linked").symlink_to("z")
        (tmp_path / "ref").mkdir()
        (tmp_path / "ref/a.png").symlink_to("../in/z/hard.png")
        found = records(
            tmp_path,
            mode,
            "-i",
            f"{tmp_path}/in/**/*.png",
            "--reference",
            tmp_path / "ref",
            "--keep",
            "newest",
        )
        shown = {
            uri: (one["status"], one["reason"], one["flags"], Path(one["duplicate_of"] or "").name)
            for uri, one in found.items()
        }
        assert shown == {
            "in/real.png": ("kept", None, [], ""),
            "in/link.png": ("duplicate", "exact", ["link"], "real.png"),
            "in/z/hard.png": ("kept", None, [], ""),
            "in/z/hard2.png": ("duplicate", "exact", ["link"], "hard.png"),
        }


class TestNutch:
    def test_urls_are_in_the_records(self, tmp_path: Path) -> None:
        url = "http://example.com/a.png"
        name = f"{hashlib.md5(url.encode()).hexdigest()}_a.html"
        folder = tmp_path / "dump"
        write(folder / "a1/b2" / name, A)
        write(folder / "other.png", B)
        write(folder / "20240102_filenameToUrl.json", json.dumps({f"/was/there/a1/b2/{name}": url}).encode())
        write(folder / "deep/x_filenameToUrl.json", b"no map")
        found = records(tmp_path, "-i", folder)
        metadata = {uri: one["metadata"] for uri, one in found.items()}
        assert metadata == {
            f"dump/a1/b2/{name}": {"url": url},
            "dump/other.png": None,
            "dump/deep/x_filenameToUrl.json": None,
        }
        assert found["dump/deep/x_filenameToUrl.json"]["reason"] == "not_an_image"

    def test_map_is_read_to_its_end_however_little_a_read_returns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "a.png", A)
        write(tmp_path / "1_filenameToUrl.json", b'{"a.png": "http://x"}')
        use_bad_disk(monkeypatch, most=5)
        assert [(file.name, file.metadata) for file in list_inputs([str(tmp_path)])] == [
            ("a.png", '{"url": "http://x"}')
        ]

    def test_map_on_a_bad_sector_is_listed_and_so_rejected(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its first bytes may be a map by themselves."""
        write(tmp_path / "1_filenameToUrl.json", b'{"a.png": "http://x"}      ')
        use_bad_disk(monkeypatch, bad=22)
        assert [file.name for file in list_inputs([str(tmp_path)])] == ["1_filenameToUrl.json"]

    def test_map_applies_to_its_directory_and_below(self, tmp_path: Path) -> None:
        for folder in ("x", "y"):
            write(tmp_path / folder / "a.png", A)
        write(tmp_path / "x/1_filenameToUrl.json", b'{"a.png": "http://x"}')
        found = {file.name: file.metadata for file in list_inputs([str(tmp_path)])}
        assert found == {"x/a.png": '{"url": "http://x"}', "y/a.png": ""}


def encrypted(data: bytes) -> bytes:
    """Returns a zip whose only member is marked as encrypted."""
    made = bytearray(zipped({"a.png": data}, zipfile.ZIP_STORED))
    made[6] |= 1
    made[made.index(b"PK\x01\x02") + 8] |= 1
    return bytes(made)


class TestArchives:
    def test_unreadable_archives_and_members_are_rejected_with_a_reason(self, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        write(folder / "encrypted.zip", encrypted(A))
        write(folder / "nested.zip", zipped({"in.zip": zipped({"a.png": A}), "b.png": B}))
        write(folder / "empty.zip", zipped({}))
        write(folder / "cut.tar", tar({"c.png": C, "d.png": A})[:-9000])
        write(folder / "dump.cbor", b'\xd9\xd9\xf7\x79\x01\x02{"url":"http://a"')
        found = records(tmp_path, "-i", folder)
        reasons = {uri.removeprefix("in/"): one["reason"] for uri, one in found.items()}
        assert reasons.pop("cut.tar") == "damaged"
        assert reasons == {
            "encrypted.zip!a.png": "encrypted",
            "nested.zip!in.zip": "nested_archive",
            "nested.zip!b.png": None,
            "cut.tar!c.png": None,
            "dump.cbor": "lossy_dump",
        }
        assert "nutch dump" in found["in/dump.cbor"]["detail"]
        assert counts(tmp_path)["Initial_Image_Count"] == len(found)

    def test_skipped_pages_are_counted_and_reported(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        page = record("http://a.org/", response(b"<html>", "text/html"))
        image = record("http://a.org/b.png", response(A))
        write(tmp_path / "in/a.warc.gz", warc(page, image, page, compressed=True))
        assert dedup("-i", tmp_path / "in/a.warc.gz", "--counts", tmp_path / "c.json", "-j", "1") == 0
        assert json.loads((tmp_path / "c.json").read_text())["Skipped_Page_Count"] == 2
        assert (
            "Skipped_Page_Count     2  crawl records that are not images and do not claim to be"
            in capsys.readouterr().out
        )

    def test_reference_may_be_an_archive(self, tmp_path: Path) -> None:
        write(tmp_path / "known.tar", tar({"a.png": A}))
        write(tmp_path / "in/new.zip", zipped({"b.png": B, "again.png": A}))
        found = records(tmp_path, "-i", tmp_path / "in", "--reference", tmp_path / "known.tar")
        assert {uri: one["duplicate_of"] for uri, one in found.items()} == {
            "in/new.zip!again.png": f"{tmp_path}/known.tar!a.png",
            "in/new.zip!b.png": None,
        }

    def test_preview_names_the_members(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write(tmp_path / "in/a.zip", zipped({"b.png": B}))
        out = tmp_path / "placed"
        assert dedup("-i", tmp_path / "in", "-d", out, "--preview", "--quiet", "-j", "1") == 0
        assert capsys.readouterr().out == f"{tmp_path}/in/a.zip!b.png -> {out}/a.zip/b.png\n"
        assert not out.exists()

    def test_groups_name_files_by_their_paths(self, tmp_path: Path) -> None:
        write(tmp_path / "in/wow!.png", A)
        write(tmp_path / "in/z.zip", zipped({"a!.png": A}))
        assert dedup("-i", tmp_path / "in", "-o", tmp_path / "g.json", "--quiet", "-j", "1") == 0
        [group] = json.loads((tmp_path / "g.json").read_text()).values()
        assert [one["filename"] for one in group] == [
            f"{tmp_path}/in/wow!.png",
            f"{tmp_path}/in/z.zip!a!.png",
        ]


class ListedStore(Store):
    """A store that can be listed, one object after the other."""

    objects: dict[str, bytes] = {}  # noqa: RUF012, Beam creates an instance for each call

    @classmethod
    def scheme(cls) -> str:
        return SCHEME

    def _list(self, prefix: str) -> Iterator[FileMetadata]:
        for path in sorted(self.objects):
            if path.startswith(prefix):
                yield FileMetadata(path, len(self.objects[path]), 0.0)

    def exists(self, path: str) -> bool:
        return path in self.objects


class TestOtherFileSystems:
    @pytest.fixture
    def store(self) -> Iterator[str]:
        bucket = f"{SCHEME}://bucket"
        files = {"in/a.png": A, "in/p/b.zip": zipped({"x.png": A, "y.png": B}), "in/p/": b"", "in/c.png": C}
        ListedStore.objects.update({f"{bucket}/{name}": data for name, data in files.items()})
        ListedStore.objects[f"{bucket}/inner.png"] = A
        yield bucket
        ListedStore.objects.clear()

    @pytest.mark.parametrize(
        ("path", "names"),
        [
            ("in", {"a.png", "p/b.zip", "c.png"}),
            ("in/", {"a.png", "p/b.zip", "c.png"}),
            ("in/*.png", {"a.png", "c.png"}),
            ("in/**", {"a.png", "p/b.zip", "c.png"}),
            ("in/**/*.png", {"a.png", "c.png"}),
            ("in/**/*.zip", {"p/b.zip"}),
            ("i?", {"in/a.png", "in/p/b.zip", "in/c.png"}),
            ("in*", {"inner.png", "in/a.png", "in/p/b.zip", "in/c.png"}),
            ("in/a.png", {"a.png"}),
            ("nosuch", set()),
        ],
    )
    def test_prefixes_patterns_and_objects(self, store: str, path: str, names: set[str]) -> None:
        assert listed(f"{store}/{path}").keys() == names

    def test_outputs_are_not_listed(self, store: str) -> None:
        assert listed(f"{store}/in", exclude=(f"{store}/in/p",)).keys() == {"a.png", "c.png"}

    def test_images_are_copied_from_the_store_to_a_directory(self, store: str, tmp_path: Path) -> None:
        out = tmp_path / "placed"
        found = records(tmp_path, "-i", f"{store}/in", "-d", out)
        assert {uri.removeprefix(store): one["status"] for uri, one in found.items()} == {
            "/in/a.png": "kept",
            "/in/c.png": "kept",
            "/in/p/b.zip!x.png": "duplicate",
            "/in/p/b.zip!y.png": "kept",
        }
        assert tree(out) == {"a.png": A, "c.png": C, "p/b.zip/y.png": B}


class TestNames:
    """Names of copies, some of which collide on some file systems."""

    NAMES = ("A.png", "a.png", "\u00c5.png", "A\u030a.png", "nul.png", "b/../c.png")

    @pytest.fixture
    def archive(self, tmp_path: Path) -> Path:
        members = {name: encoded(seed) for seed, name in enumerate(self.NAMES)}
        return write(tmp_path / "in/all.tar", tar(members))

    def placed(self, out: Path, archive: Path, *flags: str) -> set[str]:
        assert dedup("-i", archive.parent, "-d", out, "-j", "1", "--quiet", *flags) == 0
        names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
        assert len(names) == len(self.NAMES)
        return names

    def test_names_are_kept_by_default(self, archive: Path, tmp_path: Path) -> None:
        assert {"all.tar/A.png", "all.tar/a.png", "all.tar/nul.png"} <= self.placed(tmp_path / "out", archive)

    def test_portable_names_do_not_collide(self, archive: Path, tmp_path: Path) -> None:
        names = self.placed(tmp_path / "out", archive, "--portable_names")
        assert len({collision_key(name) for name in names}) == len(names)
        assert "all.tar/a.png" in names
        assert "all.tar/nul.png" not in names

    def test_file_system_that_folds_names_gets_portable_names(
        self, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(preflight, "folds_names", lambda _: True)
        names = self.placed(tmp_path / "out", archive)
        assert len({collision_key(name) for name in names}) == len(names)


@pytest.mark.parametrize("fold", [str.lower, lambda name: unicodedata.normalize("NFD", name)])
def test_file_system_that_folds_names_is_detected(
    fold: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not preflight.folds_names(str(tmp_path / "not/there/yet"))
    assert not list(tmp_path.iterdir())
    assert not preflight.folds_names("gs://bucket/folder")
    monkeypatch.setattr(
        os.path,
        "exists",
        lambda path: fold(os.path.basename(path)) in map(fold, os.listdir(os.path.dirname(path))),
    )
    assert preflight.folds_names(str(tmp_path))
