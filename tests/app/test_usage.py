"""Wrong usage: one sentence, the exit code, no traceback, nothing written."""

import tempfile
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_dedup.batch import pipeline, run
from beam_dedup.cli import main
from beam_dedup.core.algorithms import ALGORITHMS
from beam_dedup.core.limits import Limits
from beam_dedup.core.matching import planner
from beam_dedup.options import parser
from beam_dedup.runners import select
from beam_dedup.samples import picture
from tests.app.cli_runs import dedup_apart
from transforms.storage import files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one image, beside the current one."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.gif").write_bytes(b"GIF89a")
    (tmp_path / "here").mkdir()
    (tmp_path / "text").write_text("{ a text")
    (tmp_path / "counts").write_text('{\n  "Initial_Image_Count": 1}')
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "records-00000-of-00001.jsonl").touch()
    monkeypatch.chdir(tmp_path / "here")
    return folder


WRONG = {
    "no such folder": (["-i", "nosuch"], "there is no folder nosuch"),
    "no such pattern": (["-i", "{in}/*.png"], "-i: there is no folder or file that matches {in}/*.png"),
    "a device": (["-i", "/dev/null"], "-i needs a folder or a file"),
    "a file system that nobody has": (["-i", "nosuch://bucket/x"], "-i: nosuch://bucket/x can't be read"),
    "the same twice": (["-i", "{in}", "-i", "{in}/../pictures"], "hold the same files"),
    "one within the other": (
        ["-i", "{in}", "-i", "{in}/a.gif"],
        "-i: {in} and {in}/a.gif hold the same files",
    ),
    "a pattern of known images": (
        ["-i", "{in}", "--reference", "{in}/*"],
        "--reference takes a folder or a file",
    ),
    "no input": (["-n"], "-i is missing"),
    "no such metadata": (["-l", "nosuch"], "-l: there is no file nosuch"),
    "metadata are a folder": (["-l", "{in}"], "-l: there is no file {in}"),
    "metadata in a file system that nobody has": (["-l", "nosuch://a/b"], "-l: nosuch://a/b can't be read"),
    "metadata and a folder": (["-i", "{in}", "-l", "{in}/../text"], "not allowed with"),
    "simhash in exact mode": (["--algorithm", "simhash", "-l", "{in}/../text"], "it needs -n"),
    "k too large for simhash": (
        ["-n", "--algorithm", "simhash", "-k", "9", "-l", "{in}/../text"],
        "-k must be between 0 and 8 with simhash, got 9",
    ),
    "groups over the metadata": (["-l", "{in}/../text", "-o", "{in}/../text"], "is there already"),
    "an empty name": (["-i", ""], "-i is missing"),
    "both modes": (["-e", "-n", "-i", "{in}"], "not allowed with"),
    "k too large": (["-n", "-k", "17", "-i", "{in}"], "-k must be between 0 and 16 with dct, got 17"),
    "k below zero": (["-n", "-k", "-1", "-i", "{in}"], "-k must be between 0 and 16 with dct, got -1"),
    "k no number": (["-n", "-k", "few", "-i", "{in}"], "'few'"),
    "k in exact mode": (["-k", "3", "-i", "{in}"], "needs -n"),
    "verify in exact mode": (["--verify", "3", "-i", "{in}"], "needs -n"),
    "verify too large": (
        ["-n", "--verify", "257", "-i", "{in}"],
        "--verify must be between 0 and 256, got 257",
    ),
    "algorithm unknown": (["-n", "--algorithm", "sift", "-i", "{in}"], "invalid choice: 'sift'"),
    "algorithm in exact mode": (
        ["--algorithm", "phash", "-i", "{in}"],
        "--algorithm says how pictures are compared: it needs -n",
    ),
    "views in exact mode": (
        ["--views", "trim", "-i", "{in}"],
        "--views says how pictures are compared: it needs -n",
    ),
    "turns in exact mode": (["--turns", "-i", "{in}"], "--turns says how pictures are compared: it needs -n"),
    "views unknown": (["-n", "--views", "some", "-i", "{in}"], "invalid choice: 'some'"),
    "k too large for it": (
        ["-n", "--algorithm", "colorhash", "-k", "9", "-i", "{in}"],
        "-k must be between 0 and 2 with colorhash, got 9",
    ),
    "verify of a short code": (
        ["-n", "--algorithm", "phash", "--verify", "40", "-i", "{in}"],
        "--verify can't be used with --algorithm phash",
    ),
    "turns of another": (
        ["-n", "--algorithm", "dhash", "--turns", "-i", "{in}"],
        "--turns can't be used with",
    ),
    "views of another": (
        ["-n", "--algorithm", "dhash", "--views", "crops", "-i", "{in}"],
        "--views can't be used with --algorithm dhash: only dct has",
    ),
    "no bytes": (
        ["--max_bytes", "0", "-i", "{in}"],
        "--max_bytes must be between 1 and 1099511627776, got 0",
    ),
    "bytes no number": (
        ["--max_bytes", "1M", "-i", "{in}"],
        "--max_bytes: a whole number is needed, got '1M'",
    ),
    "no pixels": (
        ["-n", "--max_pixels", "0", "-i", "{in}"],
        "--max_pixels must be between 1 and 250000000, got 0",
    ),
    "more pixels than there is memory for": (
        ["-n", "--max_pixels", "250000001", "-i", "{in}"],
        "--max_pixels must be between 1 and 250000000, got 250000001",
    ),
    "pixels in exact mode": (
        ["--max_pixels", "9", "-i", "{in}"],
        "--max_pixels says which pictures are decoded",
    ),
    "no time": (
        ["--decode_timeout", "0", "-i", "{in}"],
        "--decode_timeout must be between 0.1 and 86400.0, got 0.0",
    ),
    "time no number": (["--decode_timeout", "nan", "-i", "{in}"], "--decode_timeout must be between 0.1 and"),
    "time a word": (
        ["--decode_timeout", "2m", "-i", "{in}"],
        "--decode_timeout: a number is needed, got '2m'",
    ),
    "no jobs": (["-j", "0", "-i", "{in}"], "-j must be between 1 and"),
    "s without d": (["-s", "-i", "{in}"], "needs -d"),
    "unknown flag of ours": (
        ["-i", "{in}", "--recrods", "x"],
        "no option --recrods; the nearest is --records",
    ),
    "unknown flag of Beam": (["-i", "{in}", "--runer=x"], "no option --runer; the nearest is --runner"),
    "unknown short flag": (["-i", "{in}", "-z"], "no option -z"),
    "a word": (["-i", "{in}", "word"], "'word' was not expected"),
    "wrong value for Beam": (["-i", "{in}", "--direct_running_mode=x"], "invalid choice: 'x'"),
    "records not writable": (
        ["-i", "{in}", "--records", "/dev/null/r"],
        "--records: nothing can be written to",
    ),
    "copies not writable": (["-i", "{in}", "-d", "/dev/null/d"], "-d: nothing can be written to"),
    "groups are a folder": (["-i", "{in}", "-o", "{in}"], "-o needs a file name"),
    "copies are a file": (["-i", "{in}", "-d", "{in}/a.gif"], "-d needs a folder"),
    "one file for two": (
        ["-i", "{in}", "--records", "x", "--counts", "./x"],
        "--records and --counts name the same file",
    ),
    "output is the input": (["-i", "{in}", "-d", "{in}"], "lies in"),
    "output around the input": (["-i", "{in}", "-d", "{in}/.."], "lies in"),
    "policy unknown": (["-i", "{in}", "--keep", "best"], "invalid choice: 'best'"),
    "reference missing": (["-i", "{in}", "--reference", "nosuch"], "--reference: there is no folder nosuch"),
    "reference is the input": (["-i", "{in}", "--reference", "{in}"], "all is known"),
    "reference around the input": (["-i", "{in}", "--reference", "{in}/.."], "all is known"),
    "place without d": (["-i", "{in}", "--place", "symlink"], "--place is about the output folder"),
    "preview without d": (["-i", "{in}", "--preview"], "--preview is about the output folder"),
    "link to a bucket": (
        ["-i", "{in}", "-d", "gs://b/x", "--place", "symlink"],
        "--place symlink links files of this machine, but -d is gs://b/x",
    ),
    "groups over a text": (
        ["-i", "{in}", "-o", "{in}/../text"],
        "is there already and is no file of this kind",
    ),
    "groups over the counts": (["-i", "{in}", "-o", "{in}/../counts"], "is there already"),
    "groups to a device": (["-i", "{in}", "-o", "/dev/null"], "is there already and is no file of this kind"),
    "records in a folder of records": (
        ["-i", "{in}", "--records", "{in}/../shards/"],
        "holds records already",
    ),
    "no such runner": (
        ["-i", "{in}", "--runner", "NoRunner"],
        "--runner: Unexpected pipeline runner: NoRunner",
    ),
    "a folder without -i": (["{in}"], "did you mean -i {in}?"),
    "records over an image": (
        ["-i", "{in}", "--records", "{in}/a.gif"],
        "is there already and is no file of this kind",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(case: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments, sentence = WRONG[case]
    assert main([argument.replace("{in}", str(folder)) for argument in arguments]) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.startswith("dedup: ")
    assert sentence.replace("{in}", str(folder)) in error
    assert error.count("\n") == 1
    assert (folder / "a.gif").read_bytes() == b"GIF89a"
    assert (folder.parent / "text").read_text() == "{ a text"
    assert not list(folder.parent.glob("here/*"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["-i", "gs://b/x"],
            "-i: gs://b/x can't be read: gs:// needs packages that are not installed: {pip}[gcp]' in the checkout",
        ),
        (
            ["-i", "{in}", "-d", "s3://b"],
            "-d: s3://b can't be written: s3:// needs packages that are not installed: {pip}[aws]' in the checkout",
        ),
    ],
)
def test_a_file_system_that_is_not_installed(
    folder: Path,
    arguments: list[str],
    sentence: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "_is_installed", lambda _: False)
    assert main([argument.replace("{in}", str(folder)) for argument in arguments]) == 2
    assert sentence.replace("{pip}", "run pip install '.") in capfd.readouterr().err


def test_hard_links_need_one_device(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == folder.stat().st_dev:
        pytest.skip("needs a second device: /dev/shm is none here")
    with tempfile.TemporaryDirectory(dir=shared_memory) as out:
        assert main(["-i", str(folder), "-d", out, "--place", "hardlink"]) == 2
    assert "on one device; use --place copy or symlink" in capfd.readouterr().err


@pytest.fixture
def refusing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, with more different pictures in it than are allowed."""
    monkeypatch.setattr(planner, "MAX_CANDIDATES", 2)
    for seed in range(8):
        picture(seed, (60, 40)).save(folder / f"{seed}.png")
    return folder


def test_a_run_that_would_take_for_ever_is_refused_before_an_image_is_read(
    refusing: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "build", lambda *_: pytest.fail("built"))
    assert main(["-n", "-i", str(refusing), "--records", "r"]) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert "use a smaller -k" in error
    assert "--force_plan does it all the same" in error
    assert not list(Path().iterdir())


def test_known_images_count_when_it_is_asked_how_long_a_run_takes(
    refusing: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (refusing.parent / "new").mkdir()
    picture(9).save(refusing.parent / "new/a.png")
    assert main(["-n", "-i", str(refusing.parent / "new"), "--reference", str(refusing)]) == 2
    assert "--force_plan" in capfd.readouterr().err


@pytest.mark.parametrize("flags", [["--force_plan"], ["-e", "--quiet"]])
def test_unless_it_is_forced_or_no_pictures_are_compared(refusing: Path, flags: list[str]) -> None:
    mode = [] if "-e" in flags else ["-n"]
    assert main([*mode, "-i", str(refusing), "--records", "r", *flags]) == 0
    assert Path("r").read_text().count('"kept"') == 9


def test_a_plan_that_turns_out_too_dear_when_the_pictures_are_known_is_one_sentence_too(
    refusing: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when many of them are alike by chance: nobody can know beforehand."""
    monkeypatch.setattr(run, "_count_files", lambda _: 9)
    assert main(["-n", "-i", str(refusing), "--records", "r", "--quiet"]) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("dedup: ")
    assert "--force_plan does it all the same" in error
    assert not list(Path().iterdir())


def test_wrong_usage_as_a_user_sees_it() -> None:
    ended = dedup_apart("-i", "nosuch")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


def test_no_name_of_ours_is_one_of_beams() -> None:
    beams = {name for part in PipelineOptions.__subclasses__() for name in _names(part)}
    ours = set(parser.parser()._option_string_actions)
    assert {"--runner", "--streaming"} <= beams
    assert not ours & beams


def _names(part: type[PipelineOptions]) -> set[str]:
    parser = select._BeamParser(add_help=False)
    if "_add_argparse_args" in part.__dict__:
        part._add_argparse_args(parser)
    return set(parser._option_string_actions)


def test_limits_in_the_help_are_those_that_hold() -> None:
    text = " ".join(parser.parser().format_help().split())
    dct, *others = ALGORITHMS.values()
    assert f"0 to {dct.max_k} of the {dct.bits} of their short codes (default {dct.default_k})" in text
    assert ", ".join(f"{other.name} ({other.default_k}, {other.max_k})" for other in others) in text
    for value in (Limits().max_bytes, Limits().max_pixels, f"{Limits().decode_seconds:g}"):
        assert f"(default {value}" in text
