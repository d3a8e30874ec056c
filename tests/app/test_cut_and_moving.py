"""Runs batches with truncated files and with animations."""

from pathlib import Path

import pytest

from tests.app.cli_runs import dedup, records_in
from tests.pictures import encoded, photo


@pytest.mark.parametrize("keep", ["first", "largest", "oldest", "newest"])
def test_truncated_copy_is_never_kept_instead_of_the_complete_one(keep: str, tmp_path: Path) -> None:
    folder, records = tmp_path / "in", tmp_path / "records.jsonl"
    folder.mkdir()
    whole = encoded(photo(), "JPEG", quality=90)
    larger = encoded(photo().resize((640, 480)), "PNG")
    (folder / "m.jpg").write_bytes(whole)
    (folder / "a.png").write_bytes(larger[: len(larger) * 95 // 100])
    (folder / "b.jpg").write_bytes(whole[: len(whole) * 95 // 100])
    (folder / "z.jpg").write_bytes(whole[: len(whole) // 3])
    assert dedup("-n", "-i", folder, "--keep", keep, "--records", records, "--quiet") == 0
    found = records_in(records)
    assert {name: record["status"] for name, record in found.items()} == {
        "m.jpg": "kept",
        "a.png": "duplicate",
        "b.jpg": "duplicate",
        "z.jpg": "kept",  # too short to be compared
    }
    assert found["z.jpg"]["flags"] == ["undecodable", "truncated"]
    assert found["b.jpg"]["flags"] == ["truncated"]


def test_still_picture_is_not_a_duplicate_of_an_animation(tmp_path: Path) -> None:
    folder, records = tmp_path / "in", tmp_path / "records.jsonl"
    folder.mkdir()
    frames = [photo(seed) for seed in range(4)]
    for name, count, image_format in (("a.gif", 4, "GIF"), ("b.webp", 4, "WEBP"), ("c.gif", 3, "GIF")):
        data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:count], duration=100)
        (folder / name).write_bytes(data)
    (folder / "still.png").write_bytes(encoded(frames[0]))
    assert dedup("-n", "-i", folder, "--records", records, "--quiet") == 0
    found = records_in(records)
    assert {name: record["status"] for name, record in found.items()} == {
        "a.gif": "kept",
        "b.webp": "duplicate",
        "c.gif": "kept",
        "still.png": "kept",
    }
    assert found["b.webp"]["detail"] == "4 frames, 400 ms"
