"""The code of the guide "Clean a training set" runs as it stands there, and the reference names every keyword and member."""

import inspect
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from beam_dedup import ContactSheet, DedupResult, dedup
from beam_dedup.notebook import api
from beam_dedup.samples import picture
from tests.docs.pages import DOCS, fenced, table
from tests.notebook.in_process import run_command

GUIDE = DOCS / "guides" / "clean-training-set.md"
REFERENCE = DOCS / "reference" / "python.md"


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the files of the guide: the second training image is a smaller first one."""
    for name, seed, size in (
        ("train/a.png", 1, (480, 360)),
        ("train/b.png", 1, (240, 180)),
        ("train/c.png", 2, (480, 360)),
        ("test/d.jpg", 2, (240, 180)),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        picture(seed).resize(size).save(path)
    images = [path.read_bytes() for path in sorted((tmp_path / "train").iterdir())]
    pd.DataFrame({"image": images, "label": ["cat", "dog", "cat"]}).to_parquet(tmp_path / "train.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_code_of_the_guide_runs_in_order(
    data_set: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "run_command", run_command)
    names: dict[str, Any] = {}
    for code in fenced(GUIDE, "python"):
        exec(compile(code, GUIDE.name, "exec"), names)
    printed = capsys.readouterr().out
    assert "3 images: 2 kept, 1 duplicate, 0 rejected" in printed
    assert list(names["duplicates"]["uri"]) == ["train/b.png"]
    assert isinstance(names["result"].show(), ContactSheet)
    clean = pd.read_parquet(data_set / "clean.parquet")
    assert list(clean["label"]) == ["cat", "cat"]
    assert list(names["conflicts"]["row"]) == [0]
    assert list(names["leaks"]["uri"]) == ["train/c.png"]


def test_the_reference_names_every_keyword_and_member() -> None:
    keywords = [name for names in table(REFERENCE, "keyword") for name in names.split(", ")]
    assert sorted(keywords) == sorted(set(inspect.signature(dedup).parameters) - {"images"})
    members = {re.split(r"\W", name)[0] for name in table(REFERENCE, "member")}
    public = {name for name in vars(DedupResult) if not name.startswith("_")}
    assert members == public | {"summary", "counts", "len"}
