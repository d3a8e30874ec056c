"""Every command of the documentation is one that exists, with options that exist; those that need no service are run."""

import gzip
import hashlib
import importlib.util
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup import cli
from beam_dedup.core.paths import is_remote
from beam_dedup.options import checks, parser
from beam_dedup.options.config import DedupConfig
from beam_dedup.runners import select
from tests.app.cli_runs import ROOT
from tests.core.archives import made_archives
from tests.core.archives.test_tfrecord import example, tfrecords
from tests.docs.pages import PAGES, command_lines, dedup_commands, fenced, name_of, text_of

HELP = ("-h", "--help")
EVERY = [(name_of(page), command) for page in PAGES for command in dedup_commands(page)]
CLEANING = [(page, command) for page, command in EVERY if command[0] in cli.COMMANDS]
COMMANDS = [
    (page, command)
    for page, command in EVERY
    if command[0] not in cli.COMMANDS and not command[0].startswith(HELP)
]


def configured(command: list[str]) -> tuple[DedupConfig, list[str]]:
    """Returns the configuration of a command, and its arguments for Beam."""
    options, rest = parser.parse(command)
    return checks.configure(options), rest


def is_run(command: list[str]) -> bool:
    """Returns whether a command ends by itself and needs neither a store nor another runner."""
    config, rest = configured(command)
    paths = (*config.inputs, config.json_metadata, config.reference, *config.outputs)
    return not rest and not config.stream and not any(map(is_remote, paths))


RUN = [one for one in COMMANDS if is_run(one[1])]


def command_id(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


@pytest.fixture
def workplace(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with every input that the pages name."""
    monkeypatch.chdir(tmp_path)
    for name in ("Pictures", "crawl", "old", "new", "collection"):
        shutil.copytree(samples / "formats", tmp_path / name)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a.tar").write_bytes(made_archives.tar(made_archives.FILES))
    features = {"image/encoded": made_archives.PNG}
    (tmp_path / "shards" / "a.tfrecord").write_bytes(tfrecords(example(**features)))
    (tmp_path / "collection.tar").write_bytes(made_archives.tar(made_archives.FILES))
    (tmp_path / "photos.zip").write_bytes(made_archives.zipped(made_archives.FILES))
    response = made_archives.response(made_archives.JPEG, "image/jpeg")
    warc = made_archives.warc(made_archives.record("http://example.com/a.jpg", response))
    (tmp_path / "crawl.warc.gz").write_bytes(gzip.compress(warc))
    row = {"__path__": "gone.jpg", "Date/Time Original": "2019:07:06 13:05:11"}
    (tmp_path / "crawl.jsonl").write_text(json.dumps(row) + "\n")
    for name in ("shards/a.parquet", "test.parquet"):
        pq.write_table(pa.table({"image": [made_archives.JPEG, made_archives.PNG]}), tmp_path / name)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").write_bytes(made_archives.PNG)
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\na.png,cat\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "b.jpg").write_bytes(made_archives.JPEG)
    for name in ("train", "test"):
        shutil.copytree(tmp_path / name, tmp_path / "data" / name)
    for name in ("a", "b"):
        (tmp_path / f"{name}.tar").write_bytes(made_archives.tar({f"{name}.png": made_archives.PNG}))
    decision = {"decision": "drop", "digest": hashlib.sha256(b"unwanted").hexdigest()}
    (tmp_path / "decisions.jsonl").write_text(json.dumps(decision) + "\n")
    return tmp_path


def test_documentation_has_commands() -> None:
    assert len(COMMANDS) > 25
    assert len(RUN) > 12


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=command_id)
def test_options_of_a_command_are_accepted(page: str, command: list[str]) -> None:
    config, rest = configured(command)
    options = select.beam_options(rest)
    assert select.is_local(options) == (not any(part.startswith("--runner") for part in rest)), page
    if config.stream:
        select.check_stream_runner(options)


@pytest.mark.parametrize(("page", "command"), CLEANING, ids=command_id)
def test_command_that_cleans_up_runs(page: str, command: list[str], workplace: Path, tmp_path: Path) -> None:
    """Each is run in a directory with records and, for `undo`, a journal."""
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "in" / name).write_bytes(b"GIF89a")
    assert (
        cli.main(["-e", "-i", "in", "--records", "r.jsonl", "--counts", "c.json", "-o", "", "--quiet"]) == 0
    )
    if command[0] == "undo":
        assert (
            cli.main(["clean", "r.jsonl", "--how", "symlink", "--yes", "--quiet", "--journal", command[1]])
            == 0
        )
    shell_starts = command.index(">") if ">" in command else None
    arguments = [part.replace("/backup", str(workplace / "backup")) for part in command[:shell_starts]]
    assert cli.main([*arguments, "--quiet"]) == 0, page


@pytest.mark.parametrize(
    ("page", "command"), [one for one in EVERY if one not in COMMANDS + CLEANING], ids=command_id
)
def test_help_is_shown(page: str, command: list[str]) -> None:
    assert cli.main(command) == 0, page


@pytest.mark.parametrize(("page", "command"), RUN, ids=command_id)
def test_local_command_runs(page: str, command: list[str], workplace: Path) -> None:
    arguments = [str(workplace / part[2:]) if part.startswith("~/") else part for part in command]
    assert cli.main([*arguments, "--quiet"]) == 0, page
    config, _ = configured(command)
    for path in config.output_files.values():
        assert (workplace / path).exists()
    assert (workplace / config.output_dir).is_dir() or config.preview


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^ {4}|`)make ([a-z][a-z-]*)", text_of(page), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_modules_scripts_and_files_of_commands_exist(page: Path) -> None:
    text = "\n".join(command_lines(page)) + "\n".join(re.findall(r"`([^`\n]+)`", text_of(page)))
    for module in re.findall(r"python3? -m ((?:beam_dedup|benchmarks|tests)[\w.]*)", text):
        assert importlib.util.find_spec(module), module
    for path in re.findall(
        r"(?<![\w/.])(?:benchmarks|templates|tests|beam_dedup|transforms|docs)/[\w./-]+", text
    ):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_extras_exist(page: Path) -> None:
    setup = (ROOT / "setup.py").read_text()
    named = re.findall(r"pip install '(?:\.|beam-dedup)\[([\w,]+)\]'", text_of(page))
    for extra in ",".join(named).split(",") if named else []:
        assert re.search(rf'^        "{extra}": \[', setup, re.MULTILINE), extra


def test_python_versions_are_those_of_setup() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.py").read_text())
    for page in ("README.md", "CONTRIBUTING.md"):
        assert f"Python {', '.join(versions[:-1])} or {versions[-1]}" in (ROOT / page).read_text()


def test_version_of_the_changelog_is_that_of_the_package() -> None:
    from beam_dedup import __version__

    headings = re.findall(r"^## \[(.*?)\](.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert headings[1][0] == __version__
    assert re.fullmatch(r" - \d{4}-\d\d-\d\d", headings[1][1])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_json_blocks_are_json(page: Path) -> None:
    for block in fenced(page, "json"):
        json.loads(block)
