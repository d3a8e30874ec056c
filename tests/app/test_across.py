"""`--across` as users type it: images of one input are all kept or all duplicates, never duplicates of each other."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.cli import main
from tests.app.cli_runs import dedup, tree
from tests.core.archives.made_archives import zipped
from tests.pictures import encoded, photo

BEACH, CAT, DOG = (photo(seed) for seed in (1, 2, 3))
SMALL_CAT, SMALL_DOG = (encoded(one.resize((160, 120)), "JPEG", quality=80) for one in (CAT, DOG))

OLD_AND_NEW = {
    "old/a/beach.png": encoded(BEACH),
    "old/b/beach.png": encoded(BEACH),
    "old/cat.png": encoded(CAT),
    "old/small cat.jpg": SMALL_CAT,
    "new/beach.png": encoded(BEACH),
    "new/again/beach.png": encoded(BEACH),
    "new/cat.jpg": encoded(CAT.resize((200, 150)), "JPEG"),
    "new/dog.png": encoded(DOG),
    "new/dog2.png": encoded(DOG),
    "new/small dog.jpg": SMALL_DOG,
}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def judged(*arguments: object) -> dict[str, str | None]:
    """Returns the witness of each image, or None; no record is a rejection."""
    assert dedup(*arguments, "--across", "--records", "r.jsonl", "--quiet") == 0
    return {uri: record["duplicate_of"] for uri, record in records().items()}


def records() -> dict[str, dict[str, Any]]:
    found = {record["uri"]: record for record in map(json.loads, Path("r.jsonl").read_text().splitlines())}
    assert {record["status"] for record in found.values()} <= {"kept", "duplicate"}
    return found


def test_pictures_of_new_that_old_has_are_duplicates() -> None:
    write(OLD_AND_NEW)
    arguments = ("-n", "-i", "old", "-i", "new", "--keep", "path:old", "-d", "out", "-o", "groups.json")
    witnesses = judged(*arguments)
    assert {uri: witness for uri, witness in witnesses.items() if witness} == {
        "new/beach.png": "old/a/beach.png",
        "new/again/beach.png": "old/a/beach.png",
        "new/cat.jpg": "old/cat.png",
    }
    kept = {uri for uri, witness in witnesses.items() if not witness}
    assert tree(Path("out")) == {uri: OLD_AND_NEW[uri] for uri in kept}
    found = records()
    assert found["old/b/beach.png"]["group"] == found["old/a/beach.png"]["group"]
    assert found["new/cat.jpg"]["reason"] == "near"

    pairs = json.loads(Path("groups.json").read_text(), object_pairs_hook=list)
    groups = {key: [dict(member)["filename"] for member in members] for key, members in pairs}
    assert len(groups) == len(pairs), "each key once"
    assert sorted(name for names in groups.values() for name in names) == sorted(OLD_AND_NEW)
    digest = found["old/a/beach.png"]["digest"]
    assert groups[digest] == ["old/a/beach.png", "new/again/beach.png", "new/beach.png"]
    assert groups[f"{digest}-2"] == ["old/b/beach.png"]
    assert {names[0] for names in groups.values()} == kept, "each kept image has a group of its own"


def test_cleaning_removes_what_another_input_has() -> None:
    write(OLD_AND_NEW)
    judged("-n", "-i", "old", "-i", "new", "--keep", "path:old")
    assert main(["clean", "r.jsonl", "--near", "--yes"]) == 0
    left = {*tree(Path("old")), *(f"new/{name}" for name in tree(Path("new")))}
    assert "new/beach.png" not in left
    assert tree(Path("old")).keys() == {
        uri.removeprefix("old/") for uri in OLD_AND_NEW if uri.startswith("old")
    }
    assert tree(Path("new")).keys() == {"dog.png", "dog2.png", "small dog.jpg"}
    assert set(judged("-n", "-i", "old", "-i", "new").values()) == {None}


def test_each_option_is_one_input() -> None:
    """Whatever it stands for: a pattern, an archive, a file. A file that two patterns match counts to the first."""
    write({f"{folder}/a.png": encoded(BEACH) for folder in ("x1", "x2", "y")})
    write({"z.zip": zipped({"b.png": encoded(BEACH), "c.png": encoded(BEACH)}), "one.png": encoded(BEACH)})
    assert judged("-e", "-i", "x*", "-i", "z.zip", "-i", "*/a.png", "-i", "one.png") == {
        "one.png": None,
        "x1/a.png": "one.png",
        "x2/a.png": "one.png",
        "y/a.png": "one.png",
        "z.zip!b.png": "one.png",
        "z.zip!c.png": "one.png",
    }
    assert judged("-e", "-i", "x*", "-i", "*/a.png", "--keep", "path:x2") == {
        "x2/a.png": None,
        "x1/a.png": None,
        "y/a.png": "x2/a.png",
    }


def test_a_single_input_is_compared_with_the_reference() -> None:
    write(OLD_AND_NEW)
    witnesses = judged("-n", "-i", "new", "--reference", "old")
    assert witnesses == {
        "new/beach.png": "old/a/beach.png",
        "new/again/beach.png": "old/a/beach.png",
        "new/cat.jpg": "old/cat.png",
        "new/dog.png": None,
        "new/dog2.png": None,
        "new/small dog.jpg": None,
    }


def test_a_link_counts_to_the_input_of_its_file() -> None:
    """Otherwise the link could be kept, and the file that it needs be a duplicate."""
    write({"old/x.jpg": SMALL_CAT, "new/a.png": encoded(CAT)})
    os.symlink("../old/x.jpg", "new/link.jpg")
    assert judged("-n", "-i", "old", "-i", "new") == {
        "new/a.png": None,
        "old/x.jpg": "new/a.png",
        "new/link.jpg": "new/a.png",
    }


def test_hard_links_are_images_of_their_inputs() -> None:
    """Each name holds the bytes: if one of them is removed, the other remains."""
    write({"old/x.jpg": SMALL_CAT, "new/a.png": encoded(CAT)})
    os.link("old/x.jpg", "new/z.jpg")
    os.link("old/x.jpg", "old/y.jpg")
    assert judged("-n", "-i", "old", "-i", "new") == {
        "new/a.png": None,
        "new/z.jpg": None,
        "old/x.jpg": "new/z.jpg",
        "old/y.jpg": "new/z.jpg",
    }


def test_decisions_about_pictures_hold_in_all_inputs() -> None:
    write(OLD_AND_NEW)
    judged("-n", "-i", "old", "-i", "new")
    digests = [records()[uri]["digest"] for uri in ("old/cat.png", "new/cat.jpg")]
    shutil.copy("new/cat.jpg", "old/another cat.jpg")
    Path("d.jsonl").write_text(json.dumps({"decision": "different", "digests": digests}))
    witnesses = judged("-n", "-i", "old", "-i", "new", "--decisions", "d.jsonl", "--counts", "c.json")
    assert witnesses["old/cat.png"] is None
    assert witnesses["old/another cat.jpg"] == "new/cat.jpg"
    assert json.loads(Path("c.json").read_text())["Pinned_Count"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-i", "in"],
            "--across requires two inputs, which it compares; give -i twice, or -i and --reference.",
        ),
        (["-l", "rows.jsonl"], "--across requires two inputs, which it compares; give -i twice"),
        (["-l", "rows.jsonl", "--reference", "in"], "--across requires two inputs, which it compares"),
        (
            ["-i", "gs://bucket/x", "-i", "/"],
            '--across requires inputs with a name; got -i "/". Name another input',
        ),
    ],
)
def test_wrong_use_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    Path("rows.jsonl").write_text("")
    assert main([*arguments, "--across"]) == 2
    assert message in capsys.readouterr().err
