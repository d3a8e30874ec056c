"""Links are names, not images: the file itself is preferred, and deleting all duplicates deletes no last copy."""

import hashlib
import json
import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.links import file_name
from beam_dedup.core.matching import shard_verdicts
from beam_dedup.core.model import Fingerprint, Flag, ImageRef, Status, Verdict
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.reading.reader import read_images
from tests.core.archives.made_archives import tar, zipped
from tests.transforms.files import encoded, write
from transforms.read import list_rows
from transforms.storage.listing import list_inputs

A, B, C = encoded(1), encoded(2), encoded(3)


def read(paths: Iterable[str], known: bool = False, link: bool = False) -> list[Fingerprint]:
    found = [
        image
        for path in paths
        for image in read_images(ImageRef(path, path, known=known, link=link), path, None, lambda _: None)
    ]
    return [image for image in found if isinstance(image, Fingerprint)]


def paths_of(*inputs: Path | str, exclude: tuple[str, ...] = ()) -> list[str]:
    return [file.path for file in list_inputs([str(path) for path in inputs], exclude)]


def judge(
    images: Sequence[Fingerprint],
    keep: KeepPolicy | Preference = KeepPolicy.FIRST,
    known: Sequence[Fingerprint] = (),
) -> dict[str, Verdict]:
    """Judges images by their bytes. Returns the verdicts by URI."""
    table = tables.ranked(tables.fingerprints_table([*images, *known]), keep)
    settled = shard_verdicts.group_images(table, pictures=False)
    verdicts = tables.verdicts_of(
        shard_verdicts.verdicts(settled, blocks.MARKS.empty_table(), Preference.of(keep))
    )
    return {verdict.ref.uri: verdict for verdict in verdicts}


def shown(verdicts: dict[str, Verdict], folder: Path) -> dict[str, tuple[str, bool]]:
    """Returns the witness, and whether the flag `link` is set, by URI; all URIs relative to a directory."""
    return {
        uri.removeprefix(f"{folder}/"): (
            verdict.witness.uri.removeprefix(f"{folder}/") if verdict.witness else "",
            Flag.LINK in verdict.flags,
        )
        for uri, verdict in verdicts.items()
    }


@pytest.mark.parametrize("keep", KeepPolicy)
def test_file_is_kept_and_its_links_are_flagged_duplicates(tmp_path: Path, keep: KeepPolicy) -> None:
    write(tmp_path / "in/real.png", A)
    (tmp_path / "in/link.png").symlink_to("real.png")
    (tmp_path / "in/a").mkdir()
    (tmp_path / "in/a/up.png").symlink_to("../link.png")
    assert shown(judge(read(paths_of(tmp_path / "in")), keep), tmp_path / "in") == {
        "real.png": ("", False),
        "link.png": ("real.png", True),
        "a/up.png": ("real.png", True),
    }


def test_further_hard_links_are_flagged_and_equal_files_are_not(tmp_path: Path) -> None:
    write(tmp_path / "b.png", A)
    os.link(tmp_path / "b.png", tmp_path / "c.png")
    write(tmp_path / "d.png", A)
    (tmp_path / "a.png").symlink_to("c.png")
    assert shown(judge(read(paths_of(tmp_path))), tmp_path) == {
        "b.png": ("", False),
        "c.png": ("b.png", True),
        "d.png": ("b.png", False),
        "a.png": ("b.png", True),
    }


def test_link_to_a_file_outside_the_input_comes_after_an_equal_file(tmp_path: Path) -> None:
    write(tmp_path / "outside.png", A)
    write(tmp_path / "only.png", B)
    write(tmp_path / "in/z.png", A)
    (tmp_path / "in/a.png").symlink_to("../outside.png")
    (tmp_path / "in/only.png").symlink_to("../only.png")
    assert shown(judge(read(paths_of(tmp_path / "in"))), tmp_path / "in") == {
        "z.png": ("", False),
        "a.png": ("z.png", True),
        "only.png": ("", True),
    }


def test_members_of_a_linked_archive_are_flagged_duplicates(tmp_path: Path) -> None:
    write(tmp_path / "z.zip", zipped({"a.png": A, "copy.png": A}))
    (tmp_path / "link.zip").symlink_to("z.zip")
    write(tmp_path / "y.tar", tar({"b.png": B}))
    os.link(tmp_path / "y.tar", tmp_path / "zz.tar")
    assert shown(judge(read(paths_of(tmp_path))), tmp_path) == {
        "z.zip!a.png": ("", False),
        "z.zip!copy.png": ("z.zip!a.png", False),
        "link.zip!a.png": ("z.zip!a.png", True),
        "link.zip!copy.png": ("z.zip!a.png", True),
        "y.tar!b.png": ("", False),
        "zz.tar!b.png": ("y.tar!b.png", True),
    }


def test_file_is_preferred_to_links_of_another_input(tmp_path: Path) -> None:
    write(tmp_path / "z/real.png", A)
    write(tmp_path / "z/hard.png", B)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/link.png").symlink_to("../z/real.png")
    os.link(tmp_path / "z/hard.png", tmp_path / "a/hard.png")
    assert shown(judge(read(paths_of(tmp_path / "a", tmp_path / "z"))), tmp_path) == {
        "z/real.png": ("", False),
        "a/link.png": ("z/real.png", True),
        "a/hard.png": ("", False),
        "z/hard.png": ("a/hard.png", True),
    }


def test_directory_of_another_input_is_listed_by_its_own_path(tmp_path: Path) -> None:
    write(tmp_path / "z/real.png", A)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/link").symlink_to("../z")
    assert paths_of(tmp_path / "a", tmp_path / "z") == [f"{tmp_path}/z/real.png"]
    assert paths_of(tmp_path / "a/*", tmp_path / "z") == [f"{tmp_path}/z/real.png"]


def test_reference_is_no_witness_of_the_file_that_it_links_to(tmp_path: Path) -> None:
    write(tmp_path / "in/real.png", A)
    write(tmp_path / "in/link.png", B)
    write(tmp_path / "in/same.png", C)
    (tmp_path / "ref").mkdir()
    (tmp_path / "ref/a.png").symlink_to("../in/real.png")
    (tmp_path / "in/link.png").rename(tmp_path / "ref/b.png")
    (tmp_path / "in/link.png").symlink_to("../ref/b.png")
    os.link(tmp_path / "in/same.png", tmp_path / "ref/same.png")
    known = read(paths_of(tmp_path / "ref"), known=True)
    assert shown(judge(read(paths_of(tmp_path / "in")), known=known), tmp_path) == {
        "in/real.png": ("", False),
        "in/link.png": ("ref/b.png", True),
        "in/same.png": ("ref/same.png", True),
    }


def test_rows_of_a_metadata_file_that_name_one_file(tmp_path: Path) -> None:
    write(tmp_path / "z/real.png", A)
    (tmp_path / "a").symlink_to("z")
    (tmp_path / "b.png").symlink_to("z/real.png")
    names = ("a/real.png", "b.png", "z/real.png")
    lines = [json.dumps({"__path__": f"{tmp_path}/{name}"}) for name in names]
    write(tmp_path / "list.jsonl", "\n".join(lines).encode())
    images = read([row.uri for row in list_rows(str(tmp_path / "list.jsonl"))])
    assert shown(judge(images), tmp_path) == {
        "z/real.png": ("", False),
        "a/real.png": ("z/real.png", True),
        "b.png": ("z/real.png", True),
    }


def test_input_behind_a_link_has_no_flags(tmp_path: Path) -> None:
    write(tmp_path / "real/a.png", A)
    write(tmp_path / "real/b.png", A)
    (tmp_path / "link").symlink_to("real")
    assert shown(judge(read(paths_of(tmp_path / "link"))), tmp_path / "link") == {
        "a.png": ("", False),
        "b.png": ("a.png", False),
    }


def test_identity_is_that_of_device_and_inode(tmp_path: Path) -> None:
    file = write(tmp_path / "real/a", A)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "b").symlink_to("real/a")
    names = [file_name(str(tmp_path / path), file.stat()) for path in ("real/a", "link/a", "b")]
    assert [name.is_link for name in names] == [False, False, True]
    assert [name.identity[0] for name in names] == [0, 1, 2]
    assert len({name.identity[1:25] for name in names}) == 1
    assert names[0].identity[25:] == names[1].identity[25:] == names[2].identity[33:]
    assert len({names[0].member(member).identity for member in ("x", "y", "\ud800")}) == 3


class TestPatterns:
    @pytest.mark.parametrize("pattern", ["**/*.png", "*/*.png", "**", "*", "?/*"])
    def test_linked_directory_is_listed_once_by_its_own_path(self, tmp_path: Path, pattern: str) -> None:
        write(tmp_path / "d/a.png", A)
        (tmp_path / "a").symlink_to("d")
        (tmp_path / "z").symlink_to("d")
        assert paths_of(tmp_path / pattern) == [f"{tmp_path}/d/a.png"]

    def test_files_that_match_only_behind_a_link_are_listed(self, tmp_path: Path) -> None:
        write(tmp_path / "d/e/a.png", A)
        (tmp_path / "link").symlink_to("d/e")
        assert paths_of(tmp_path / "**/l*/*.png") == [f"{tmp_path}/link/a.png"]
        assert paths_of(tmp_path / "*/*.png") == [f"{tmp_path}/link/a.png"]

    def test_circular_links_end(self, tmp_path: Path) -> None:
        write(tmp_path / "a.png", A)
        for name in "xyz":
            (tmp_path / name).symlink_to(".")
        assert paths_of(tmp_path / "**/*.png") == [f"{tmp_path}/a.png"]
        assert paths_of(tmp_path / "**/nothing") == []

    def test_patterns_with_different_names_find_all_files_of_one_directory(self, tmp_path: Path) -> None:
        for name in ("a.png", "b.jpg", "c.gif"):
            write(tmp_path / "d" / name, A)
        (tmp_path / "link").symlink_to("d")
        found = paths_of(tmp_path / "l*/*.gif", tmp_path / "d/*.png", tmp_path / "*/b.*", tmp_path / "li*")
        assert sorted(found) == [f"{tmp_path}/{name}" for name in ("d/a.png", "d/b.jpg", "link/c.gif")]

    def test_directory_is_found_by_name_where_its_parent_cannot_be_listed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "u1/public/a.png", A)
        scan = os.scandir

        def refuse(path: str) -> object:
            if path.endswith("u1"):
                raise PermissionError(13, "Permission denied", path)
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
        assert paths_of(tmp_path / "*/public/*.png") == [f"{tmp_path}/u1/public/a.png"]
        assert paths_of(tmp_path / "*/*/*.png") == [f"{tmp_path}/u1"], "it is rejected when it is opened"


def random_tree(chance: random.Random, folder: Path) -> None:
    """Makes directories, files of few different contents, hard links, and links of every kind."""
    directories = [folder / name for name in ("in", "in/a", "in/b", "in/b/c", "more", "ref", "out")]
    for directory in directories:
        directory.mkdir(parents=True)
    files: list[Path] = []
    for number in range(14):
        path = chance.choice(directories) / f"{chance.choice('klmnop')}{number}.png"
        kind = chance.choice(("file", "file", "hard", "link", "link", "directory", "broken"))
        if kind == "hard" and files:
            os.link(chance.choice(files), path, follow_symlinks=False)
        elif kind == "link" and files:
            target = chance.choice(files)
            path.symlink_to(target if chance.random() < 0.5 else os.path.relpath(target, path.parent))
        elif kind == "directory":
            path.symlink_to(chance.choice(directories))
            continue
        elif kind == "broken":
            path.symlink_to(chance.choice(("nowhere", path.name)))
            continue
        else:
            write(path, chance.choice((A, B, C)))
        files.append(path)


def digests_below(*folders: Path) -> set[bytes]:
    """Returns the digests of all files below some directories, links followed, as anybody can see them."""
    return {
        hashlib.sha256(path.read_bytes()).digest()
        for folder in folders
        for path in (Path(file) for file in paths_of(folder))
        if path.is_file()
    }


@pytest.mark.parametrize("seed", range(100))
def test_deleting_all_duplicates_deletes_no_last_copy(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    random_tree(chance, tmp_path)
    inputs = chance.choice([("in",), ("in", "more"), ("more", "in"), ("in/**/*.png",), ("in/*", "more/*")])
    reference = (str(tmp_path / "ref"),) if chance.random() < 0.5 else ()
    known = read(paths_of(*reference), known=True)
    images = read(paths_of(*(tmp_path / path for path in inputs), exclude=reference))
    verdicts = judge(images, chance.choice(list(KeepPolicy)), known)
    assert verdicts.keys() == {image.ref.uri for image in images}
    by_file: dict[bytes, list[Verdict]] = {}
    for image in images:
        by_file.setdefault(image.identity[:25][1:], []).append(verdicts[image.ref.uri])
    kept = {uri for uri, verdict in verdicts.items() if verdict.status == Status.KEPT}
    before = digests_below(tmp_path / "in", tmp_path / "more", tmp_path / "ref")
    for names in by_file.values():
        assert sum(Flag.LINK not in verdict.flags for verdict in names) <= 1, "of the names, one is the file"
        if len(kept_names := [verdict for verdict in names if verdict.status == Status.KEPT]) == 1:
            is_link = [os.path.islink(verdict.ref.uri) for verdict in (*kept_names, *names)]
            assert not is_link[0] or all(is_link), "the file itself is kept, not a link to it"
        assert len(kept_names) <= 1
    for uri, verdict in verdicts.items():
        if verdict.witness:
            assert verdict.witness.uri in kept | {image.ref.uri for image in known}
            os.unlink(uri)
    for verdict in verdicts.values():
        witness = verdict.witness.uri if verdict.witness else verdict.ref.uri
        assert hashlib.sha256(Path(witness).read_bytes()).digest() == verdict.digest
    assert digests_below(tmp_path / "in", tmp_path / "more", tmp_path / "ref") == before


def protected_paths(paths: Sequence[str], glob: str) -> tuple[dict[str, str], set[str]]:
    """Returns the witness of each image, "" for a kept one, and the protected images; by base names."""
    verdicts = judge(read(paths), Preference(protect=(glob,))).values()
    witnesses = {
        os.path.basename(verdict.ref.uri): os.path.basename(verdict.witness.uri) if verdict.witness else ""
        for verdict in verdicts
    }
    protected = {os.path.basename(v.ref.uri) for v in verdicts if Flag.PROTECTED in v.flags}
    return witnesses, protected


def test_file_to_which_a_protected_link_leads_is_protected(tmp_path: Path) -> None:
    """Otherwise cleaning would move the file away, and the protected name would lead nowhere."""
    write(tmp_path / "in/real.png", A)
    write(tmp_path / "in/equal.png", A)
    (tmp_path / "in/between.png").symlink_to("real.png")
    (tmp_path / "in/link.png").symlink_to("between.png")
    witnesses, protected = protected_paths(paths_of(tmp_path / "in"), "link.png")
    assert protected == {"link.png", "between.png", "real.png"}
    assert witnesses == {"link.png": "", "between.png": "", "real.png": "", "equal.png": "real.png"}


def test_file_behind_a_protected_linked_directory_is_protected(tmp_path: Path) -> None:
    write(tmp_path / "far/real.png", A)
    write(tmp_path / "equal.png", A)
    (tmp_path / "safe").symlink_to("far")
    images = [*paths_of(tmp_path / "far"), str(tmp_path / "safe/real.png"), str(tmp_path / "equal.png")]
    verdicts = judge(read(images), Preference(protect=("safe",)))
    kept = {uri for uri, verdict in verdicts.items() if verdict.status == Status.KEPT}
    assert kept == {images[0], images[1]}


def test_other_hard_link_of_a_protected_file_is_its_duplicate(tmp_path: Path) -> None:
    """The protected name does not depend on the other one."""
    write(tmp_path / "a.png", A)
    os.link(tmp_path / "a.png", tmp_path / "safe.png")
    witnesses, protected = protected_paths(paths_of(tmp_path), "safe.png")
    assert protected == {"safe.png"}
    assert witnesses == {"safe.png": "", "a.png": "safe.png"}
