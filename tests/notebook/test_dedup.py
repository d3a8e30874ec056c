"""`beam_dedup.dedup` gives the verdicts of the command line, for paths and for tables of several libraries."""

import concurrent.futures
import inspect
import io
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup import DedupError, DedupResult, UsageError, cli, dedup
from beam_dedup.core.limits import Limits
from beam_dedup.core.record_tables import RECORDS
from beam_dedup.notebook import api, process, run_process, status, tables
from beam_dedup.notebook.result import Source
from beam_dedup.options.option_table import find
from beam_dedup.samples import picture
from tests.app import cli_runs
from tests.notebook import in_process as in_process_runs
from tests.pictures import encoded
from tests.waiting import soon

TABLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "batch": pa.RecordBatch.from_pydict,
    "duckdb": lambda columns: duckdb.from_arrow(pa.table(columns)),
}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets `dedup` run the command line in this process, which has loaded Beam."""
    monkeypatch.setattr(api, "run_command", in_process_runs.run_command)


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if `dedup` starts a run."""

    def run(*_: object) -> str:
        raise AssertionError("a run was started")

    monkeypatch.setattr(api, "run_command", run)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory for the temporary files of this process and of those that it starts."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def twelve_images() -> list[bytes]:
    """Returns different pictures, the last two of which resemble the third and equal the second one."""
    pictures = [encoded(picture(seed), "JPEG") for seed in range(10)]
    return [*pictures, encoded(picture(2).resize((240, 180)), "PNG"), pictures[1]]


def verdicts(result: DedupResult) -> list[tuple[int, str, str | None]]:
    """Returns the row, the status and the witness of each record."""
    return [
        (one["row"], one["status"], one["duplicate_of"])
        for one in result.to_arrow().select(["row", "status", "duplicate_of"]).to_pylist()
    ]


EXPECTED = [
    *((row, "kept", None) for row in range(10)),
    (10, "duplicate", "row 2"),
    (11, "duplicate", "row 1"),
]


def test_records_equal_those_of_the_command_and_nothing_is_left_behind(
    samples: Path, tmp_path: Path, temporary: Path
) -> None:
    """In a thread, where signal handlers can't be set."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    expected = tmp_path / "expected.parquet"
    options = ["--keep=largest", "--views=crops", "-k", "6", "--exclude=web/"]
    assert cli_runs.dedup("-n", "-i", samples, "--records", expected, *options) == 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        result = pool.submit(dedup, samples, keep="largest", views="crops", k=6, exclude=["web/"]).result()
    assert result.to_arrow().equals(pq.read_table(expected))
    assert result.counts["Initial_Image_Count"] == len(result) > 30
    assert result.summary.splitlines()[0] in repr(result)
    assert str(temporary) not in result.summary
    assert list(temporary.iterdir()) == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


@pytest.mark.usefixtures("in_process")
def test_rows_of_bytes_are_judged_in_their_order(temporary: Path) -> None:
    """The first row is kept, also if its number sorts last as text."""
    images = twelve_images()
    table = pd.DataFrame({"label": [f"label {row}" for row in range(12)], "image": images})
    result = dedup(table)
    assert verdicts(result) == EXPECTED
    records = result.to_arrow().to_pylist()
    assert [record["uri"] for record in records] == [f"row {row}" for row in range(12)]
    assert [json.loads(record["metadata"])["label"] for record in records] == [
        f"label {row}" for row in range(12)
    ]
    assert list(temporary.iterdir()) == []
    assert list(result.groups()) == ["row 2", "row 1"]
    sheet = result.show()
    assert sheet.html.count("<img") == 4
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_structs_of_bytes_and_path_are_images_and_labels_that_differ_are_reported() -> None:
    images = twelve_images()
    rows: list[dict[str, Any]] = [{"bytes": data, "path": f"{row}.jpg"} for row, data in enumerate(images)]
    rows[0]["bytes"] = None
    result = dedup(pl.DataFrame({"image": rows, "label": list("abcdefghijkl")}), union=True)
    assert verdicts(result) == [(0, "rejected", None), *EXPECTED[1:]]
    kept = result.to_arrow().to_pylist()[1]
    assert kept["label_conflict"] is True
    assert [(one["uri"], one["label"]) for one in kept["also"]["images"]] == [("row 11", "l")]


@pytest.mark.usefixtures("in_process")
def test_rows_with_paths_have_the_records_of_their_files(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(samples)
    paths = sorted(str(path) for path in Path().rglob("*.jpg"))
    table = pd.DataFrame(
        {
            "file": [*reversed(paths), "gone.jpg", None, f"./{paths[0]}"],
            "label": ["x"] * (len(paths) + 3),
        },
        index=pd.Index(range(len(paths) + 3)) + 100,
    )
    result = dedup(table, path_field="file")
    listed = tmp_path / "list.jsonl"
    listed.write_text("".join(json.dumps({"__path__": path, "label": "x"}) + "\n" for path in paths))
    expected = tmp_path / "expected.parquet"
    assert cli_runs.dedup("-n", "-l", listed, "--records", expected) == 0
    records = result.to_arrow().to_pylist()
    assert [record["row"] for record in records] == list(range(len(paths) + 3))
    assert [record["uri"] for record in records[: len(paths)]] == list(reversed(paths))
    assert [(record["uri"], record["reason"]) for record in records[len(paths) :]] == [
        ("gone.jpg", None),  # compared by its metadata
        (f"row {len(paths) + 1}", "malformed"),
        (f"row {len(paths) + 2}", "malformed"),
    ]
    found = result.to_arrow().drop_columns("row").slice(0, len(paths)).sort_by("uri")
    assert found.equals(pq.read_table(expected))
    frame = result.to_pandas()
    clean = table.iloc[frame.loc[frame.status == "kept", "row"]]
    assert len(clean) == result.counts["Final_Image_Count"]


@pytest.mark.usefixtures("in_process")
def test_many_paths_and_patterns_are_inputs_and_integers_stay_integers_in_pandas(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(samples)
    result = dedup([Path("photos"), "web/*.jpg"], near=False, num_jobs=1)
    frame = result.to_pandas()
    assert set(frame.uri.str.split("/").str[0]) == {"photos", "web"}
    assert str(frame.dtypes["width"]) == "Int32"
    assert str(frame.dtypes["size_bytes"]) == "Int64"
    assert str(frame.dtypes["label_conflict"]) == "boolean"
    assert "row" not in frame


def test_pandas_is_needed_for_its_own_tables_only(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.Table.from_pylist([], RECORDS)
    result = DedupResult(table, {}, "no images", Source("", Limits()))
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert result.to_arrow() is table
    with pytest.raises(DedupError, match="Try pip install pandas, or use to_arrow"):
        result.to_pandas()


@pytest.mark.parametrize("kind", TABLES)
def test_tables_of_every_library_are_converted(kind: str) -> None:
    given = TABLES[kind]({"image": [b"x", b"y"], "label": ["a", "b"]})
    assert tables.is_table(given)
    table = tables.arrow_table(given)
    assert table.to_pydict() == {"image": [b"x", b"y"], "label": ["a", "b"]}
    assert tables.find_column(table, None, None) == ("image", True)


class OnlyToArrow:
    def to_arrow(self) -> pa.Table:
        return pa.table({"path": ["a.jpg"]})


class OnlyInterchange:
    def __dataframe__(self, **_: object) -> object:
        return pa.table({"path": ["a.jpg"]}).__dataframe__()


class OnlyWithFormat:
    """As a data set of Hugging Face."""

    def with_format(self, type: str) -> pa.Table:  # noqa: A002
        assert type == "arrow"
        return pa.table({"path": ["a.jpg"]})


@pytest.mark.parametrize("given", [OnlyToArrow(), OnlyInterchange(), OnlyWithFormat()])
def test_tables_with_other_interfaces_are_converted(given: Any) -> None:
    assert tables.arrow_table(given).to_pydict() == {"path": ["a.jpg"]}


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "images must name at least one path; got none"),
        ("", {}, 'images must name paths; got ""'),
        (5, {}, "images must be paths or a table; got int"),
        (["a", None], {}, "images must be paths or a table; got NoneType"),
        ({"a": 1}, {}, "images must be paths or a table; got dict"),
        (pl.DataFrame({"a": ["x"]}).lazy(), {}, "images must be paths or a table; got LazyFrame"),
        (pd.Series(["a"]), {}, "images must be paths or a table; got a Series of one column"),
        ("nowhere", {}, 'images must name an existing directory, file or pattern; got "nowhere"'),
        (".", {"k": 99}, "k must be between 0 and 16 with algorithm dct; got 99"),
        (".", {"k": "x"}, 'k: must be a whole number; got "x"'),
        (
            ".",
            {"near": False, "k": 3},
            "k applies only with near=True; got k 3 without it. Add near=True or remove k",
        ),
        (".", {"keep": "biggest"}, "keep must be rules"),
        (".", {"algorithm": "phash", "turns": True}, "turns applies only with algorithm dct"),
        (".", {"num_jobs": 0}, "num_jobs must be between 1 and 1024; got 0"),
        (".", {"decisions": "nofile"}, 'decisions must name an existing file; got "nofile"'),
        (
            ".",
            {"path_field": "x"},
            'path_field applies only to a table; got "x" with paths. Remove path_field',
        ),
        (
            pa.table({"a": [1]}),
            {},
            "the table must have a column with the bytes of images, or with their paths",
        ),
        (pa.table({"a": pa.array([], pa.string())}), {}, "the table must have at least one row"),
        (pa.table({"a": ["x"], "b": ["y"]}), {}, "path_field is required, since 2 columns hold text: a, b"),
        (
            pa.table({"a": [b"x"], "b": [b"y"]}),
            {},
            "image_column is required, since 2 columns hold bytes: a, b",
        ),
        (
            pa.table({"a": ["x"]}),
            {"image_column": "a"},
            "image_column must hold bytes, or structs with the field",
        ),
        (
            pa.table({"a": [b"x"]}),
            {"path_field": "a"},
            'path_field must hold text; "a" holds large_binary. Try image_co',
        ),
        (
            pa.table({"a": ["x"]}),
            {"path_field": "b"},
            'path_field must be a column of the table; got "b". It has a',
        ),
        (
            pa.table([["x"], ["y"]], ["a", "a"]),
            {},
            'each column must have a name of its own; "a" occurs twice',
        ),
        (pa.table({"a": ["x"]}), {"min_size": 3}, "min_size applies only with images"),
        (pd.DataFrame({"a": [Path("x")]}), {}, "the DataFrame can't be converted to an Arrow table"),
    ],
)
def test_wrong_arguments_are_refused_before_a_run_in_the_words_of_python(
    images: Any, options: dict[str, Any], message: str, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(temporary)
    with pytest.raises(UsageError) as raised:
        dedup(images, **options)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    assert str(temporary) not in str(raised.value)
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_a_table_without_images_is_an_error_that_names_no_temporary_file(temporary: Path) -> None:
    with pytest.raises(DedupError, match="no image could be judged") as raised:
        dedup(pa.table({"image": [b"nothing", b"at all"]}))
    assert str(temporary) not in str(raised.value)
    assert list(temporary.iterdir()) == []


def test_process_is_that_of_the_command_line() -> None:
    assert run_process.__name__ == process.MODULE
    assert (process.DONE, process.WRONG_USAGE) == (cli.DONE, cli.WRONG_USAGE)


def test_every_keyword_is_an_option_and_is_documented() -> None:
    names = set(inspect.signature(dedup).parameters) - {"images", "near", "k", "path_field", "progress"}
    for name in names:
        option = find(name)
        assert option is not None
        assert option.name == name
    for name in inspect.signature(dedup).parameters:
        assert f"      {name}: " in (dedup.__doc__ or "")


def test_progress_replaces_one_line_on_a_terminal_and_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, expected in (
        (Terminal(), f"\rlong\\u001b line\rshort{10 * ' '}\r{5 * ' '}\r"),
        (io.StringIO(), "long\\u001b line\nshort\n"),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        assert status.is_shown(None) is stream.isatty()
        with status.StatusLine(True) as line:
            line.show("long\x1b line")
            line.show("short")
        assert stream.getvalue() == expected


CALL = """
import sys
from beam_dedup import dedup
try:
    dedup(sys.argv[1])
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def many_images(tmp_path: Path) -> Path:
    """Images that take at least some seconds to read."""
    folder = tmp_path / "many"
    folder.mkdir()
    data = encoded(picture(1, (1200, 900)), "JPEG")
    for number in range(300):
        (folder / f"{number}.jpg").write_bytes(data + b"%d" % number)
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_interrupted_or_killed_call_leaves_no_process_and_no_file(
    number: signal.Signals, many_images: Path, temporary: Path
) -> None:
    """As the interrupt of a notebook, and the end of its kernel."""
    command = [sys.executable, "-c", CALL, str(many_images)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cli_runs.ROOT) as caller:
        children: list[psutil.Process] = []

        def decodes() -> bool:
            children[:] = psutil.Process(caller.pid).children(recursive=True)
            return len(children) > 1  # the run, and a decoder process

        assert soon(decodes)
        caller.send_signal(number)
        output, _ = caller.communicate(timeout=120)
    assert output == ("interrupted\n" if number == signal.SIGINT else "")
    assert caller.returncode == (0 if number == signal.SIGINT else -number)
    assert soon(lambda: not any(child.is_running() for child in children))
    assert soon(lambda: not list(temporary.iterdir()))
