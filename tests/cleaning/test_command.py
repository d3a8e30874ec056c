"""`dedup clean` and `dedup undo` as users type them: previews, choices, messages and exit codes."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from beam_dedup.cleaning import steps
from beam_dedup.cli import main
from beam_dedup.core.path_globs import glob_paths, matches
from beam_dedup.options.preference_checks import checked_glob
from tests.app.cli_runs import dedup
from tests.cleaning.trees import digest_of, record, snapshot, write_records
from tests.core.archives.made_archives import zipped
from tests.pictures import encoded, photo


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory; the trash is in it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pair(workplace: Path) -> Path:
    """Records of in/a.jpg, and of in/b.jpg with the same bytes."""
    (workplace / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (workplace / "in" / name).write_bytes(b"same")
    return write_records(
        workplace / "r.jsonl", record(Path("in/a.jpg")), record(Path("in/b.jpg"), Path("in/a.jpg"))
    )


def journals(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.clean-*.jsonl"))


def test_without_yes_nothing_is_changed(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(pair.parent)
    assert main(["clean", "r.jsonl"]) == 0
    assert snapshot(pair.parent) == before
    text = capsys.readouterr().out
    assert f"{pair.parent}/in/b.jpg: the same as {pair.parent}/in/a.jpg" in text
    assert "Would move 1 file to the trash (4 bytes)" in text
    assert "add --yes" in text


def test_records_of_a_run_are_cleaned_and_undone(
    samples: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(samples, workplace / "in")
    before = snapshot(workplace / "in")
    assert dedup("-n", "-i", "in", "--records", "r.jsonl", "--quiet") == 0
    records = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    duplicates = {one["uri"] for one in records if one["status"] == "duplicate"}
    assert main(["clean", "r.jsonl", "--near", "--yes"]) == 0
    assert {f"in/{name}" for name in before} - {
        f"in/{name}" for name in snapshot(workplace / "in")
    } == duplicates
    [journal] = journals(workplace)
    assert f"dedup undo r.jsonl.clean-{journal.name.split('clean-')[1]}" in capsys.readouterr().out
    assert main(["undo", str(journal)]) == 0
    assert snapshot(workplace / "in") == before
    assert main(["undo", str(journal)]) == 0
    assert f"Restored 0 files; {len(duplicates)} had not been changed" in capsys.readouterr().out


def test_near_duplicates_are_left_unless_asked_for(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pair.parent / "in/c.jpg").write_bytes(b"near")
    with pair.open("a") as file:
        file.write(json.dumps(record(Path("in/c.jpg"), Path("in/a.jpg"), "near")) + "\n")
    assert main(["clean", "r.jsonl", "--yes"]) == 0
    assert "1 near duplicate. To include them, add --near" in capsys.readouterr().out
    assert (pair.parent / "in/c.jpg").exists()
    assert (
        main(["clean", "r.jsonl", "--near", "--yes", "--how", "move:away", "--journal", "j"]) == 1
    )  # b.jpg is gone
    assert (pair.parent / "away/c.jpg").read_bytes() == b"near"


@pytest.mark.parametrize("name", ["r.avro", "r.parquet", "r.csv", "records/"])
def test_all_forms_of_records_are_read(name: str, samples: Path, workplace: Path) -> None:
    shutil.copytree(samples, workplace / "in")
    assert dedup("-e", "-i", "in", "--records", name, "--quiet") == 0
    count = len(snapshot(workplace / "in"))
    assert main(["clean", name, "--yes", "--journal", "j"]) == 0
    assert len(snapshot(workplace / "in")) == count - 5


def test_names_are_those_of_files_not_of_uris(workplace: Path) -> None:
    folder = workplace / "in"
    folder.mkdir()
    for name in (b"a!b%21.jpg", b"c!\n.jpg", b"d\xff.jpg"):
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(b"GIF89a")
    assert dedup("-e", "-i", "in", "--records", "r.jsonl", "--quiet") == 0
    assert main(["clean", "r.jsonl", "--yes"]) == 0
    assert len(list(folder.iterdir())) == 1
    assert main(["undo", str(journals(workplace)[0])]) == 0
    assert len(list(folder.iterdir())) == 3


def test_members_of_archives_and_objects_are_not_touched(workplace: Path) -> None:
    data = encoded(photo(1), "JPEG")
    (workplace / "in").mkdir()
    (workplace / "in/z.zip").write_bytes(zipped({"a.jpg": data, "b.jpg": data}))
    assert dedup("-e", "-i", "in", "--records", "r.jsonl", "--quiet") == 0
    remote = {**record(workplace / "in/z.zip"), "uri": "gs://b/x.jpg", "status": "duplicate"}
    with open("r.jsonl", "a") as file:
        file.write(json.dumps({**remote, "reason": "exact", "duplicate_of": "gs://b/y.jpg"}) + "\n")
    before = snapshot(workplace / "in")
    assert main(["clean", "r.jsonl", "--yes"]) == 0
    assert snapshot(workplace / "in") == before
    assert not journals(workplace)


def test_duplicates_elsewhere_are_counted(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = record(Path("x"), Path("a.jpg"), digest="aa" * 32)
    uris = ("z.zip!a.jpg", "z.zip!b.jpg", "gs://bucket/c.jpg", "s3://bucket/z.zip!d.jpg", "s3://b/e.jpg")
    write_records(Path("r.jsonl"), *({**one, "uri": uri} for uri in (*uris, uris[0])))
    assert main(["clean", "r.jsonl"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Left in archives, which are not changed: 2 duplicates",
        "Left in object stores, which are not changed: 3 duplicates",
        "Nothing to do",
    ]


def test_protected_files_are_not_touched(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(pair.parent / "in")
    assert main(["clean", "r.jsonl", "--yes", "--protect", "*/in/b.*"]) == 0
    assert snapshot(pair.parent / "in") == before
    assert "Left since protected: 1 file" in capsys.readouterr().out


@pytest.mark.parametrize(
    "patterns",
    [
        ["raw"],
        ["raw/*.jpg"],
        ["x/**/*.jpg", "[é-ü]?.jpg"],
        ["**/raw/", "c.jpg/"],
        ["./in/x"],
        ["{base}/in/*.jpg"],
        ["*/*/raw"],
        [r"\[1\]", "nosuch"],
        ["*.jpg"],
    ],
)
def test_protect_means_the_same_in_a_run_and_in_clean(patterns: list[str], workplace: Path) -> None:
    names = (
        "0.jpg",
        "c.jpg",
        "raw/a.jpg",
        "x/raw/b.jpg",
        "x/y/raw/c/d.jpg",
        "x/[1]/e.jpg",
        "x/éa.jpg",
        "x/ab.jpg",
    )
    paths = [Path("in", name) for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"same")
    write_records(workplace / "r.jsonl", record(paths[0]), *(record(path, paths[0]) for path in paths[1:]))
    given = [one.format(base=workplace) for one in patterns]
    expected = [path for path in paths if path == paths[0] or is_protected_in_a_run(path, given, workplace)]
    assert len(expected) > 1
    assert main(["clean", "r.jsonl", "--yes", *(text for one in given for text in ("--protect", one))]) == 0
    assert [path for path in paths if path.exists()] == expected


def is_protected_in_a_run(path: Path, patterns: list[str], directory: Path) -> bool:
    """Returns whether `dedup --protect` matches an image of `-i in`."""
    uris, names = (pa.array([os.fsencode(one)], pa.binary()) for one in (path, path.relative_to("in")))
    checked = [checked_glob("--protect", pattern, str(directory)) for pattern in patterns]
    return bool(matches(glob_paths(uris, names, str(directory)), checked)[0])


def replace_witness_by_link() -> None:
    Path("in/a.jpg").unlink()
    Path("in/a.jpg").symlink_to("b.jpg")


def replace_duplicate_by_pipe() -> None:
    Path("in/b.jpg").unlink()
    os.mkfifo("in/b.jpg")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path("in/a.jpg").unlink, "its witness {a}: it does not exist"),
        (partial(Path("in/a.jpg").write_bytes, b"else"), "its witness {a} has changed since it was judged"),
        (partial(Path("in/b.jpg").write_bytes, b"else"), "its content has changed since it was judged"),
        (Path("in/b.jpg").unlink, "it does not exist"),
        (replace_witness_by_link, "its witness {a}: it is a link"),
        (replace_duplicate_by_pipe, "it is no regular file"),
    ],
)
def test_what_has_changed_is_left_and_named(
    change: Callable[[], object], message: str, pair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change()
    names = sorted(os.listdir("in"))
    assert main(["clean", "r.jsonl", "--yes"]) == 1
    out = capsys.readouterr().out
    assert f"  {pair.parent}/in/b.jpg: {message.format(a=pair.parent / 'in/a.jpg')}\n" in out
    assert "Nothing was changed" in out
    assert sorted(os.listdir("in")) == names


@pytest.mark.parametrize("how", ["hardlink", "symlink"])
def test_links_to_the_witness_are_no_failure(
    how: str, pair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They free nothing, and there is nothing to do about them: links of the user, or of an earlier `dedup clean`."""
    shutil.copy("in/a.jpg", "in/c.jpg")
    with pair.open("a") as file:
        file.write(json.dumps(record(Path("in/c.jpg"), Path("in/a.jpg"))) + "\n")
    Path("in/c.jpg").unlink()
    if how == "symlink":
        Path("in/c.jpg").symlink_to("a.jpg")
    else:
        Path("in/c.jpg").hardlink_to("in/a.jpg")
    line = "Left since to remove a link to the kept file frees nothing: {}\n"
    assert main(["clean", "r.jsonl", "--how", how]) == 0
    out = capsys.readouterr().out
    assert line.format("1 link") in out
    assert "Would replace 1 file" in out
    assert main(["clean", "r.jsonl", "--how", how, "--yes"]) == 0
    assert line.format("1 link") in capsys.readouterr().out
    assert main(["clean", "r.jsonl", "--how", how, "--yes", "--journal", "again.jsonl"]) == 0
    assert capsys.readouterr().out == line.format("2 links") + "Nothing was changed\n"
    assert sorted(os.listdir("in")) == ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize("target", ["nosuch.jpg", "other.jpg"])
def test_a_link_to_another_file_is_named(target: str, pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/other.jpg").write_bytes(b"same")
    Path("in/b.jpg").unlink()
    Path("in/b.jpg").symlink_to(target)
    assert main(["clean", "r.jsonl", "--yes"]) == 1
    assert f"  {pair.parent}/in/b.jpg: it is a link\n" in capsys.readouterr().out


def test_witness_that_is_a_duplicate_itself_is_left(pair: Path) -> None:
    write_records(pair, *(record(Path(f"in/{x}.jpg"), Path(f"in/{y}.jpg")) for x, y in ("ab", "ba")))
    assert main(["clean", "r.jsonl", "--yes"]) == 1
    assert sorted(os.listdir("in")) == ["a.jpg", "b.jpg"]


def test_links_have_the_content_of_the_witness(pair: Path) -> None:
    assert main(["clean", "r.jsonl", "--yes", "--how", "hardlink"]) == 0
    assert os.path.samefile("in/a.jpg", "in/b.jpg")
    assert main(["undo", str(journals(pair.parent)[0])]) == 0
    assert not os.path.samefile("in/a.jpg", "in/b.jpg")
    assert main(["clean", "r.jsonl", "--yes", "--how", "symlink", "--journal", "j"]) == 0
    assert os.readlink("in/b.jpg") == f"{pair.parent}/in/a.jpg"


def test_files_move_to_another_device_and_back(pair: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == pair.stat().st_dev:
        pytest.skip("needs a second writable file system at /dev/shm, which Linux has")
    target = other / f"dedup-test-{os.getpid()}"
    before = snapshot(pair.parent / "in")
    try:
        assert main(["clean", "r.jsonl", "--yes", "--how", f"move:{target}"]) == 0
        assert (target / "b.jpg").read_bytes() == b"same"
        assert (target / "b.jpg").stat().st_mtime_ns == before["b.jpg"].mtime_ns
        assert os.listdir("in") == ["a.jpg"]
        assert main(["undo", str(journals(pair.parent)[0])]) == 0
        assert os.listdir(target) == []
    finally:
        shutil.rmtree(target, ignore_errors=True)
    after = snapshot(pair.parent / "in")
    assert (after["b.jpg"].content, after["b.jpg"].mode, after["b.jpg"].mtime_ns) == (
        before["b.jpg"].content,
        before["b.jpg"].mode,
        before["b.jpg"].mtime_ns,
    )


def test_file_system_without_reflinks_is_named(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["clean", "r.jsonl", "--yes", "--how", "reflink"])
    assert sorted(os.listdir("in")) == ["a.jpg", "b.jpg"]
    assert Path("in/b.jpg").read_bytes() == b"same"
    assert code == 0 or "the file system has no reflinks" in capsys.readouterr().out


def test_undo_overwrites_nothing(pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clean", "r.jsonl", "--yes"]) == 0
    Path("in/b.jpg").write_bytes(b"new")
    assert main(["undo", str(journals(pair.parent)[0])]) == 1
    assert "another file has its name" in capsys.readouterr().out
    assert Path("in/b.jpg").read_bytes() == b"new"
    Path("in/b.jpg").unlink()
    assert main(["undo", str(journals(pair.parent)[0])]) == 0
    assert Path("in/b.jpg").read_bytes() == b"same"


def test_undo_finds_equal_bytes_after_the_trash_was_emptied(pair: Path) -> None:
    os.chmod("in/b.jpg", 0o640)
    before = snapshot(pair.parent / "in")["b.jpg"]
    assert main(["clean", "r.jsonl", "--yes"]) == 0
    shutil.rmtree(pair.parent / "data")
    assert main(["undo", str(journals(pair.parent)[0])]) == 0
    after = snapshot(pair.parent / "in")["b.jpg"]
    assert (after.content, after.mode, after.mtime_ns) == (before.content, before.mode, before.mtime_ns)


class TestScript:
    def written(self, capsys: pytest.CaptureFixture[str], *more: str) -> str:
        assert main(["clean", "r.jsonl", "--how", "script", *more]) == 0
        text = capsys.readouterr().out
        Path("script.sh").write_text(text)
        return text

    def test_it_deletes_duplicates_and_nothing_else(
        self, pair: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        hostile = "in/-rf $(touch x) 'y' `z`.jpg"
        Path(hostile).write_bytes(b"same")
        with pair.open("a") as file:
            file.write(json.dumps(record(Path(hostile), Path("in/a.jpg"))) + "\n")
        self.written(capsys)
        done = subprocess.run(["sh", "script.sh"], check=False, env={**os.environ, "DRY_RUN": "1"})
        assert done.returncode == 0
        assert len(os.listdir("in")) == 3
        assert subprocess.run(["sh", "script.sh"], check=False).returncode == 0
        assert os.listdir("in") == ["a.jpg"]
        assert not os.path.exists("x")

    @pytest.mark.usefixtures("pair")
    def test_it_checks_both_files_by_itself(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.written(capsys)
        Path("in/a.jpg").write_bytes(b"else")
        done = subprocess.run(["sh", "script.sh"], check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert "the content of its witness has changed" in done.stderr
        assert sorted(os.listdir("in")) == ["a.jpg", "b.jpg"]

    @pytest.mark.usefixtures("pair")
    def test_two_scripts_that_rely_on_the_file_that_the_other_deletes_lose_nothing(
        self, workplace: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.written(capsys)
        write_records(
            workplace / "r.jsonl", record(Path("in/b.jpg")), record(Path("in/a.jpg"), Path("in/b.jpg"))
        )
        assert main(["clean", "r.jsonl", "--how", "script"]) == 0
        Path("other.sh").write_text(capsys.readouterr().out)
        # The other script runs when this one has compared the files.
        text = Path("script.sh").read_text()
        Path("script.sh").write_text(text.replace("rm ", "sh other.sh; rm "))
        subprocess.run(["sh", "script.sh"], check=False, capture_output=True)
        assert os.listdir("in") == ["a.jpg"]

    def test_near_duplicates_are_checked_against_the_digest_of_their_witness(
        self, pair: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("in/b.jpg").write_bytes(b"near")
        write_records(pair, record(Path("in/a.jpg")), record(Path("in/b.jpg"), Path("in/a.jpg"), "near"))
        self.written(capsys, "--near")
        assert subprocess.run(["sh", "script.sh"], check=False).returncode == 0
        assert os.listdir("in") == ["a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clean"], ""),
        (["clean", "gone.jsonl"], "RECORDS: gone.jsonl is no file or directory; name what --records wrote"),
        (["clean", "gs://b/r.jsonl"], 'RECORDS must be a local file; got "gs://b/r.jsonl"'),
        (["clean", "empty"], "RECORDS: the directory empty contains no file records-*"),
        (["clean", "r.jsonl", "--how", "burn"], "--how must be one of trash, move:DIRECTORY, hardlink"),
        (["clean", "r.jsonl", "--how", "move"], "--how must be one of"),
        (["clean", "r.jsonl", "--how", "hardlink", "--near"], "--near can't be combined with --how hardlink"),
        (
            ["clean", "r.jsonl", "--how", "symlink", "--accepted", "--decisions", "d"],
            "--accepted can't be combined with --how symlink",
        ),
        (["clean", "r.jsonl", "--accepted"], "--accepted requires --decisions, the file that says what you"),
        (["clean", "r.jsonl", "--directory", "gone"], '--directory must be a directory; got "gone"'),
        (
            ["clean", "r.jsonl", "--yes", "--journal", "r.jsonl"],
            "--journal: r.jsonl can't be created: File exists",
        ),
        (
            ["clean", "r.jsonl", "--protect", "a", "--protect", "[b"],
            '--protect must close each [ by a ], or escape it by a backslash; got "[b"',
        ),
        (["clean", "r.jsonl", "--protect", "!a"], "--protect must not begin with !"),
        (["clean", "r.jsonl", "--yess"], "unrecognized arguments: --yess"),
        (["undo", "gone"], "JOURNAL: gone can't be read: No such file or directory"),
        (["undo", "r.jsonl"], "JOURNAL: r.jsonl is no journal of dedup clean"),
    ],
)
def test_wrong_usage_is_named(
    arguments: list[str], message: str, pair: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    code = main(arguments)
    if not message:
        assert code == 0
        return
    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert f"(see dedup {arguments[0]} --help)" in error


BAD_FLAGS: tuple[object, ...] = (5, [[]], {})


@pytest.mark.parametrize(
    "line",
    ["[]", "{}", "no", '{"uri": 3}', "\x00", json.dumps({"uri": "a", "status": "duplicate"}), "[" * 9999]
    + [json.dumps({**record(Path("nothing"), digest="aa"), "flags": flags}) for flags in BAD_FLAGS],
)
def test_damaged_records_end_the_command(line: str, pair: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair.write_text(pair.read_text() + line + "\n")
    assert main(["clean", "r.jsonl", "--yes"]) == 1
    assert "r.jsonl, line 3, is no record of dedup" in capsys.readouterr().err
    assert sorted(os.listdir("in")) == ["a.jpg", "b.jpg"]


def test_a_journal_that_is_cut_off_serves_as_far_as_it_goes(pair: Path) -> None:
    assert main(["clean", "r.jsonl", "--yes"]) == 0
    [journal] = journals(pair.parent)
    journal.write_text(journal.read_text() + '{"number": 2, "pa')
    assert main(["undo", str(journal)]) == 0
    assert sorted(os.listdir("in")) == ["a.jpg", "b.jpg"]


def test_a_signal_ends_the_run_between_two_files(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "in").mkdir()
    names = [Path(f"in/{number}.jpg") for number in range(9)]
    for path in names:
        path.write_bytes(b"same")
    write_records(workplace / "r.jsonl", record(names[0]), *(record(path, names[0]) for path in names[1:]))
    real = steps.take

    def interrupted(step: steps.Step, how: steps.How) -> None:
        real(step, how)
        if step.number == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(steps, "take", interrupted)
    assert main(["clean", "r.jsonl", "--yes"]) == 143
    assert len(os.listdir("in")) == 6
    assert "nothing is half done" in capsys.readouterr().err
    assert main(["undo", str(journals(workplace)[0])]) == 0
    assert {digest_of(path) for path in names} == {digest_of(names[0])}


@pytest.mark.parametrize("name", ["clean", "undo"])
def test_help_fits_a_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: dedup {name} ")
    assert "Exit codes" in text
    assert max(map(len, text.splitlines())) <= 80
