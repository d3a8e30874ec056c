"""A kept image that is gone before it is copied is made up for by an equal file."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.cli import main
from beam_dedup.core.archives.members import member_uri
from beam_dedup.core.model import BASE_VIEW, ImageRef, Reason, Status, Verdict, Witness
from tests.core.archives.made_archives import zipped
from tests.pictures import encoded, photo
from tests.transforms.files import write
from tests.transforms.test_place import contents, duplicate, kept, place, source
from transforms import PlaceCopies
from transforms import place as place_module
from transforms.stand_ins import MissingCopies
from transforms.storage.placing import PlaceMode, PlacingError, place_file


def equal(path: Path, name: str, of: Verdict) -> Verdict:
    """Returns the verdict on an exact duplicate."""
    return duplicate_of(of, kept(path, name))


def duplicate_of(of: Verdict, verdict: Verdict) -> Verdict:
    witness = Witness(of.ref.uri, of.digest, 0, None, BASE_VIEW)
    return dataclasses.replace(verdict, status=Status.DUPLICATE, reason=Reason.EXACT, witness=witness)


@pytest.mark.parametrize("how", list(PlaceMode))
def test_equal_file_of_the_same_block_is_placed_instead(how: PlaceMode, tmp_path: Path) -> None:
    """The first that still is there, under the name of the kept one. Nothing is reported as missing."""
    gone, gone_too, there, other = source(tmp_path, b"1", b"1", b"1", b"2")
    first = kept(gone, "gone")
    verdicts = [
        first,
        equal(gone_too, "gone too", first),
        equal(there, "a/there", first),
        kept(other, "other"),
    ]
    gone.unlink()
    gone_too.unlink()
    done = place(verdicts, PlaceCopies(str(tmp_path / "out"), how=how))
    assert contents(tmp_path / "out") == {"gone": b"1", "other": b"2"}
    assert (done.made, done.unplaced) == (2, {})
    assert place(verdicts, PlaceCopies(str(tmp_path / "out"), how=how)).made == 0


def test_equal_files_are_not_placed_if_the_kept_one_is(tmp_path: Path) -> None:
    paths = source(tmp_path, b"1", b"1", b"1")
    first = kept(paths[0], "0")
    verdicts = [first, *(equal(path, path.name, first) for path in paths[1:])]
    place(verdicts, PlaceCopies(str(tmp_path / "out")))
    assert contents(tmp_path / "out") == {"0": b"1"}
    place(verdicts, PlaceCopies(str(tmp_path / "out"), duplicates=True))
    key = first.digest.hex()
    assert contents(tmp_path / "out") == dict.fromkeys(
        ("0", f"_duplicates/{key}/1", f"_duplicates/{key}/2"), b"1"
    )


def test_near_duplicate_does_not_stand_in(tmp_path: Path) -> None:
    gone, near = source(tmp_path, b"1", b"2")
    first = kept(gone, "gone")
    verdicts = [first, duplicate(near, "near", first)]
    gone.unlink()
    done = place(verdicts, PlaceCopies(str(tmp_path / "out")))
    assert list(done.unplaced.values()) == [f"{gone} vanished after it was read"]


def test_image_without_any_file_is_reported_once(tmp_path: Path) -> None:
    gone, gone_too = source(tmp_path, b"1", b"1")
    first = kept(gone, "gone")
    verdicts = [first, equal(gone_too, "gone too", first)]
    gone.unlink()
    gone_too.unlink()
    done = place(verdicts, PlaceCopies(str(tmp_path / "out")))
    assert done.unplaced == {str(tmp_path / "out/gone"): f"{gone} vanished after it was read"}


@pytest.mark.parametrize("gone_kind", ["file", "member"])
def test_members_of_archives_stand_in_and_are_made_up_for(gone_kind: str, tmp_path: Path) -> None:
    file, archive = write(tmp_path / "a.jpg", b"1"), write(tmp_path / "a.zip", zipped({"m.jpg": b"1"}))
    of_file = kept(file, "a.jpg")
    of_member = dataclasses.replace(of_file, ref=ImageRef(member_uri(str(archive), "m.jpg"), "a.zip!/m.jpg"))
    if gone_kind == "file":
        file.unlink()
        verdicts = [of_file, duplicate_of(of_file, of_member)]
    else:
        archive.unlink()
        verdicts = [of_member, duplicate_of(of_member, of_file)]
    done = place(verdicts, PlaceCopies(str(tmp_path / "out")))
    assert contents(tmp_path / "out") == {verdicts[0].ref.name: b"1"}
    assert not done.unplaced


def test_stand_in_takes_no_name_that_is_a_directory(tmp_path: Path) -> None:
    """Its own name is not among those that were compared before placing."""
    gone, there, other = source(tmp_path, b"1", b"1", b"2")
    first = kept(gone, "gone")
    verdicts = [first, equal(there, "img", first), kept(other, "img/1")]
    gone.unlink()
    done = place(verdicts, PlaceCopies(str(tmp_path / "out")))
    assert contents(tmp_path / "out") == {"gone": b"1", "img/1": b"2"}
    assert not done.unplaced


def test_equal_file_of_a_later_block_is_placed_instead(tmp_path: Path) -> None:
    """Once: what comes still later is a duplicate like others. A restart between them changes nothing."""
    gone, there, at_once, later = source(tmp_path, *[b"1"] * 4)
    (tmp_path / "state").mkdir()
    first = kept(gone, "gone")
    blocks = [
        [first],
        [equal(there, "there", first), equal(at_once, "there", first)],
        [equal(later, "later", first)],
    ]
    gone.unlink()
    done = [
        place(block, PlaceCopies(str(tmp_path / "out"), missing=str(tmp_path / "state"))) for block in blocks
    ]
    assert [len(one.unplaced) for one in done] == [1, 0, 0]
    assert contents(tmp_path / "out") == {"there": b"1"}
    assert not list((tmp_path / "state").iterdir())


def test_notes_are_kept_per_digest(tmp_path: Path) -> None:
    missing = MissingCopies(str(tmp_path))
    missing.note(b"\1" * 32)
    missing.note(b"\1" * 32)
    assert MissingCopies(str(tmp_path)).is_noted(b"\1" * 32)
    assert not missing.is_noted(b"\2" * 32)
    missing.forget(b"\1" * 32)
    missing.forget(b"\1" * 32)
    assert not missing.is_noted(b"\1" * 32)
    assert not MissingCopies().is_noted(b"\1" * 32)


def test_pipe_or_directory_with_the_name_of_a_note_is_left_alone(tmp_path: Path) -> None:
    missing, digests = MissingCopies(str(tmp_path)), (b"\1" * 32, b"\2" * 32)
    (tmp_path / f"missing-{digests[0].hex()}").mkdir()
    os.mkfifo(tmp_path / f"missing-{digests[1].hex()}")
    for digest in digests:
        missing.note(digest)
        assert not missing.is_noted(digest)
        missing.forget(digest)


@pytest.mark.parametrize("mode", ["-e", "-n"])
def test_batch_run_makes_up_for_an_image_that_vanishes(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b!", "c"):
        write(tmp_path / f"in/{name}.png", encoded(photo(1)))
    write(tmp_path / "in/d.png", encoded(photo(2)))

    def vanished(source: str, *rest: Any) -> bool:
        if source.endswith("/a.png"):
            raise PlacingError("vanished after it was read")
        return place_file(source, *rest)

    monkeypatch.setattr(place_module, "place_file", vanished)
    arguments = [
        mode,
        "-i",
        str(tmp_path / "in"),
        "-d",
        str(tmp_path / "out"),
        "-o",
        "",
        "-j",
        "1",
        "--quiet",
    ]
    assert main(arguments) == 0
    assert contents(tmp_path / "out") == {"a.png": encoded(photo(1)), "d.png": encoded(photo(2))}
    assert capfd.readouterr().err == ""
