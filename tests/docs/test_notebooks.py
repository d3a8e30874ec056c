"""The notebooks of the documentation are valid, have no outputs, and run as they stand there."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.app.cli_runs import ROOT
from tests.docs.pages import DOCS, name_of

NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))
EXAMPLE = DOCS / "guides" / "clean-training-set.ipynb"


def test_the_example_is_found() -> None:
    assert EXAMPLE in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_is_valid_and_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook, relax_add_props=False)
    assert notebook.nbformat == 4
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert {cell.execution_count for cell in cells} == {None}
    assert not any(cell.metadata for cell in notebook.cells)


@pytest.mark.slow
def test_the_example_runs_beside_the_newest_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel, where Beam finds IPython and an event loop runs."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    notebook = nbformat.read(EXAMPLE, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    errors = [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert all(output.text.startswith("\r") for output in errors)  # progress, if the machine is slow
    texts = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]
    assert "42 images: 17 kept, 23 duplicates, 2 rejected" in texts[1]
    [shown] = cells[3].outputs
    assert shown.data["text/html"].count("<img") >= 10
    assert shown.data["text/plain"] == "<ContactSheet: 5 of 13 groups of duplicates>"
    assert "rows," in texts[4]
    assert "duplicates are labelled" in texts[5]
    assert "web/photo-06-360.jpg" in cells[6].outputs[-1].data["text/html"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("dedup-")] == []
