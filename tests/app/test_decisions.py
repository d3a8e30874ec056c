"""`--decisions` on the command line: verdicts, counts, copies, and wrong files."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beam_dedup.cli import main
from tests.app.cli_runs import dedup, records_in, tree
from tests.pictures import encoded, photo

Decide = Callable[..., Path]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """a and its smaller copies, b with an exact and a near copy, c, and a picture that can't be decoded."""
    folder = tmp_path / "in"
    folder.mkdir()
    a, b, c = (photo(number) for number in (1, 2, 3))
    for name, picture in {
        "a.png": a,
        "a1.png": a.resize((a.width * 2 // 3, a.height * 2 // 3), Image.Resampling.BICUBIC),
        "a2.png": a.resize((a.width * 3 // 4, a.height * 3 // 4), Image.Resampling.BICUBIC),
        "b.png": b,
        "b1.png": b,
        "b2.png": b.resize((b.width // 2, b.height // 2), Image.Resampling.BICUBIC),
        "c.png": c,
    }.items():
        (folder / name).write_bytes(encoded(picture, "PNG"))
    (folder / "s.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return folder


@pytest.fixture
def decide(pictures: Path, tmp_path: Path) -> Decide:
    """Writes decisions: pairs of a decision and names of files."""

    def write(*rows: tuple[str, ...]) -> Path:
        lines = []
        for decision, *names in rows:
            digests = [hashlib.sha256((pictures / name).read_bytes()).hexdigest() for name in names]
            about: dict[str, Any] = {"digests": digests} if len(names) > 1 else {"digest": digests[0]}
            lines.append(json.dumps({"decision": decision, **about, "uris": names}))
        path = tmp_path / "decisions.jsonl"
        path.write_text("\n".join(lines))
        return path

    return write


def judged(records: Path) -> dict[str, tuple[str, str | None, str | None]]:
    """Returns status, reason, and the base name of the witness of each image."""
    return {
        name: (one["status"], one["reason"], one["duplicate_of"] and Path(one["duplicate_of"]).name)
        for name, one in records_in(records).items()
    }


KEPT = ("kept", None, None)


def test_decisions_change_verdicts_counts_and_copies(
    pictures: Path, decide: Decide, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions = decide(
        ("different", "a.png", "a1.png"), ("same", "c.png", "s.svg"), ("keep", "b2.png"), ("drop", "b.png")
    )
    records, counts, unique = (tmp_path / name for name in ("r.jsonl", "c.json", "unique"))
    command = ("-n", "-i", pictures, "--records", records, "--counts", counts, "-d", unique)
    assert dedup(*command, "--decisions", decisions) == 0
    found = judged(records)
    assert found.pop("a2.png")[:2] == ("duplicate", "near")  # of a or of a1
    assert found == {
        "a.png": KEPT,
        "a1.png": KEPT,
        "b.png": ("rejected", "dropped", None),
        "b1.png": ("rejected", "dropped", None),
        "b2.png": KEPT,
        "c.png": KEPT,
        "s.svg": ("duplicate", "near", "c.png"),
    }
    of_svg = records_in(records)["s.svg"]
    assert (of_svg["distance"], of_svg["long_distance"], of_svg["view"]) == (None, None, "base")
    counted = json.loads(counts.read_text())
    assert (counted["Pinned_Count"], counted["Rejected"]) == (1, {"dropped": 2})
    assert counted["Initial_Image_Count"] == 8
    assert counted["Final_Image_Count"] == 4
    assert sorted(tree(unique)) == ["a.png", "a1.png", "b2.png", "c.png"]
    printed = capsys.readouterr().out
    assert "Pinned_Count           1  pairs that would match, but that you declared different" in printed
    assert "dropped              2  a person decided to drop it" in printed


def test_a_pair_declared_different_stays_apart_and_a_new_similar_picture_is_found(
    pictures: Path, decide: Decide, tmp_path: Path
) -> None:
    decisions = decide(("different", "a.png", "a1.png", "a2.png"))
    records = tmp_path / "r.jsonl"
    assert dedup("-n", "-i", pictures, "--records", records, "--decisions", decisions) == 0
    found = judged(records)
    assert [found[name] for name in ("a.png", "a1.png", "a2.png")] == [KEPT] * 3
    new = photo(1)
    (pictures / "z.png").write_bytes(
        encoded(new.resize((new.width * 4 // 5, new.height * 4 // 5), Image.Resampling.BICUBIC), "PNG")
    )
    assert dedup("-n", "-i", pictures, "--records", records, "--decisions", decisions) == 0
    assert judged(records)["z.png"][:2] == ("duplicate", "near")


def test_known_images_take_part(pictures: Path, decide: Decide, tmp_path: Path) -> None:
    reference = tmp_path / "known"
    reference.mkdir()
    for name in ("a.png", "b2.png", "c.png"):
        (pictures / name).rename(reference / name)
    (pictures / "a.png").write_bytes((reference / "a.png").read_bytes())
    for name in ("b2.png", "c.png"):
        (pictures / name).write_bytes((reference / name).read_bytes())
    decisions = decide(("different", "a.png", "a1.png"), ("same", "c.png", "s.svg"), ("drop", "b2.png"))
    for name in ("a.png", "b2.png", "c.png"):
        (pictures / name).unlink()
    records = tmp_path / "r.jsonl"
    arguments = ("-n", "-i", pictures, "--reference", reference, "--records", records)
    assert dedup(*arguments, "--decisions", decisions) == 0
    found = judged(records)
    assert found["a1.png"] == KEPT
    assert found["a2.png"][:2] == ("duplicate", "near")
    assert found["s.svg"] == ("duplicate", "near", "c.png")
    assert found["b.png"] == KEPT  # its known witness is dropped
    assert set(found) == {"a1.png", "a2.png", "b.png", "b1.png", "s.svg"}


@pytest.mark.parametrize("mode", ["-n", "-e"])
def test_protected_images_are_kept_though_they_are_to_be_dropped(
    mode: str, pictures: Path, decide: Decide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does cleaning with the records of that run touch them, or the file to which a protected link leads."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (pictures / "best").mkdir()
    (pictures / "best/link.png").symlink_to(pictures / "c.png")
    decisions = decide(("drop", "b.png"), ("drop", "c.png"))
    records = tmp_path / "r.jsonl"
    command = (mode, "-i", pictures, "--protect", "b.png", "--protect", "best", "--records", records)
    assert dedup(*command, "--decisions", decisions) == 0
    found = records_in(records)
    assert judged(records)["b.png"] == KEPT
    assert found["b.png"]["flags"] == ["protected"]
    assert judged(records)["b1.png"] == ("rejected", "dropped", None)
    assert main(["clean", str(records), "--decisions", str(decisions), "--yes"]) == 0
    assert (pictures / "b.png").exists()
    assert (pictures / "c.png").exists()
    assert not (pictures / "b1.png").exists()


def test_exact_mode_drops_images_and_ignores_pairs(pictures: Path, decide: Decide, tmp_path: Path) -> None:
    decisions = decide(("same", "a.png", "c.png"), ("keep", "b1.png"), ("drop", "a1.png"))
    records, counts = tmp_path / "r.jsonl", tmp_path / "c.json"
    command = ("-e", "-i", pictures, "--records", records, "--counts", counts)
    assert dedup(*command, "--decisions", decisions) == 0
    found = judged(records)
    assert found["a1.png"] == ("rejected", "dropped", None)
    assert found["b1.png"] == ("duplicate", "exact", "b.png")
    assert found["c.png"] == KEPT
    assert "Pinned_Count" not in json.loads(counts.read_text())


def test_decisions_in_the_input_are_not_read_as_an_image(
    pictures: Path, decide: Decide, tmp_path: Path
) -> None:
    inside = decide(("drop", "c.png")).rename(pictures / "decisions.jsonl")
    records = tmp_path / "r.jsonl"
    assert dedup("-n", "-i", pictures, "--records", records, "--decisions", inside) == 0
    assert "decisions.jsonl" not in judged(records)


def test_if_all_images_are_dropped_the_run_fails(
    pictures: Path, decide: Decide, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions = decide(*(("drop", path.name) for path in pictures.iterdir()))
    assert dedup("-e", "-i", pictures, "--decisions", decisions, "--quiet") == 1
    assert "a person decided to drop it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"decision": "keep", "digest": "1"}\n', 'd.jsonl", line 1: a digest must have 64 hexadecimal'),
        ("\n\nno\n", 'd.jsonl", line 3: it must be one JSON object'),
        (None, "--decisions must name an existing file; got"),
    ],
)
def test_wrong_files_end_the_run_before_it_begins(
    content: str | None, message: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, records = tmp_path / "d.jsonl", tmp_path / "r.jsonl"
    if content is not None:
        path.write_text(content)
    assert dedup("-n", "-i", pictures, "--records", records, "--decisions", path) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not records.exists()


@pytest.mark.parametrize("path", ["gs://bucket/d.jsonl", "/dev/null", "."])
def test_decisions_must_be_a_local_regular_file(
    path: str, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dedup("-n", "-i", pictures, "--decisions", path) == 2
    assert "--decisions" in capsys.readouterr().err


def test_decisions_are_refused_with_streams(
    pictures: Path, decide: Decide, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dedup("-n", "--watch", "-i", pictures, "--decisions", decide(("drop", "a.png"))) == 2
    assert "--decisions is not available with --watch or --subscription" in capsys.readouterr().err


def test_an_output_must_not_replace_the_decisions(
    pictures: Path, decide: Decide, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions = decide(("drop", "a.png"))
    assert dedup("-n", "-i", pictures, "--decisions", decisions, "--records", decisions) == 2
    assert "--decisions and --records must name different paths" in capsys.readouterr().err
