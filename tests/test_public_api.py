"""`from beam_dedup import ...`: every public name is there, documented, and imported only when it is used."""

import ast
import importlib
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

import beam_dedup
from beam_dedup.samples import picture
from tests.app.cli_runs import records_in

SOURCE = Path(beam_dedup.__file__ or "")
HEAVY = ("apache_beam", "numpy", "pyarrow", "PIL", "transforms")


def for_type_checkers() -> dict[str, str]:
    """Returns the names that the TYPE_CHECKING block imports, each with its module."""
    found = {}
    for node in ast.parse(SOURCE.read_text("utf-8")).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                for alias in statement.names:
                    assert alias.asname is None
                    assert alias.name not in found
                    found[alias.name] = statement.module or ""
    return found


def in_new_process(code: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=SOURCE.parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    return ran.stdout.strip()


def test_table_and_type_checking_block_and_all_agree() -> None:
    assert for_type_checkers() == beam_dedup._MODULES
    assert sorted(beam_dedup.__all__) == sorted(beam_dedup._MODULES)
    assert len(set(beam_dedup.__all__)) == len(beam_dedup.__all__)


@pytest.mark.parametrize("name", beam_dedup.__all__)
def test_every_name_resolves_to_what_its_module_defines(name: str) -> None:
    module = importlib.import_module(beam_dedup._MODULES[name])
    assert getattr(beam_dedup, name) is getattr(module, name)
    defined_in = getattr(module.__dict__[name], "__module__", module.__name__)
    assert defined_in in (module.__name__, "builtins")  # not a name that this module imports from another


@pytest.mark.parametrize("name", beam_dedup.__all__)
def test_every_class_and_function_is_documented(name: str) -> None:
    value = getattr(beam_dedup, name)
    if callable(value) and value is not bytes:
        assert value.__doc__
        assert not value.__doc__.startswith(f"{name}(")  # the signature that dataclasses write themselves


def test_dir_lists_every_name_and_the_version() -> None:
    assert {*beam_dedup.__all__, "__version__"} <= set(dir(beam_dedup))


def test_an_unknown_name_is_an_attribute_error() -> None:
    unknown = "DeduplicateImage"
    with pytest.raises(AttributeError, match="module 'beam_dedup' has no attribute 'DeduplicateImage'"):
        getattr(beam_dedup, unknown)
    with pytest.raises(ImportError, match="cannot import name 'DeduplicateImage'"):
        exec(f"from beam_dedup import {unknown}")


def test_star_import_works_in_a_new_process() -> None:
    names = in_new_process("from beam_dedup import *; print(*(n for n in dir() if not n.startswith('__')))")
    assert set(names.split()) == set(beam_dedup.__all__)


@pytest.mark.parametrize(
    ("code", "imported"),
    [
        ("import beam_dedup", set()),
        ("import beam_dedup; beam_dedup.__version__; dir(beam_dedup)", set()),
        ("from beam_dedup import Thresholds", set()),
        ("from beam_dedup import Verdict", set()),
        ("from beam_dedup import VERDICTS", {"numpy", "pyarrow"}),
        ("from beam_dedup import dedup", {"numpy", "pyarrow", "PIL"}),
    ],
)
def test_a_name_imports_no_more_than_its_module_needs(code: str, imported: set[str]) -> None:
    found = in_new_process(f"{code}; import sys; print(*(name for name in {HEAVY} if name in sys.modules))")
    assert set(found.split()) == imported


def test_the_command_line_starts_without_beam() -> None:
    found = in_new_process("import beam_dedup.cli, sys; print('apache_beam' in sys.modules)")
    assert found == "False"


def examples() -> list[str]:
    """Returns the indented blocks of the package's docstring, as code."""
    blocks: list[list[str]] = [[]]
    for line in (beam_dedup.__doc__ or "").splitlines():
        if line.startswith("    ") or (not line and blocks[-1]):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [textwrap.dedent("\n".join(lines)) for lines in blocks if lines]


def test_the_batch_example_of_the_docstring_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    picture(1).save(folder / "a.jpg", quality=90)
    picture(2).save(folder / "b.jpg")
    picture(1).resize((240, 180)).save(folder / "c.png")
    monkeypatch.chdir(tmp_path)
    batch, _ = examples()
    exec(compile(batch, "beam_dedup/__init__.py", "exec"), {})
    records = records_in(tmp_path / "records.jsonl")
    assert {name: record["duplicate_of"] for name, record in records.items()} == {
        "a.jpg": None,
        "b.jpg": None,
        "c.png": "pictures/a.jpg",
    }
    assert sorted(path.name for path in (tmp_path / "unique").iterdir()) == ["a.jpg", "b.jpg"]
    assert "'Initial_Image_Count': 3, 'Final_Image_Count': 2" in capsys.readouterr().out


def test_the_streaming_example_of_the_docstring_builds_a_pipeline() -> None:
    _, stream = examples()
    names: dict[str, Any] = {}
    exec(compile(stream, "beam_dedup/__init__.py", "exec"), names)
    recorded = names["add_stream"](beam.Pipeline(options=PipelineOptions(["--streaming"])))
    assert recorded.element_type is bytes
    assert not recorded.is_bounded


def test_examples_import_only_from_the_package_and_beam() -> None:
    for example in examples():
        imported = {
            alias.name if isinstance(node, ast.Import) else node.module
            for node in ast.walk(ast.parse(example))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert {name for name in imported if not str(name).startswith("apache_beam")} == {"beam_dedup"}
