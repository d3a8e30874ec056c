"""Tests of wrong usage: one line on standard error, exit code 2, no traceback, nothing written."""

import json
import os
import shlex
import tempfile
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_dedup.batch import pipeline, run
from beam_dedup.cli import main
from beam_dedup.core.matching import planner
from beam_dedup.options import checks, parser
from beam_dedup.options.option_table import OPTIONS
from beam_dedup.runners import select
from beam_dedup.samples import picture
from tests.app.cli_runs import dedup_apart
from transforms.storage import files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with one image, next to the current directory, which is empty."""
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


# The arguments and a part of the message; {in} stands for the directory with the image, {up} for the one around it.
WRONG = {
    "missing directory": (
        ["-i", "nosuch"],
        '-i must name an existing directory, file or pattern; got "nosuch" (see dedup --help)',
    ),
    "pattern without matches": (
        ["-i", "{in}/*.png"],
        '-i must match a directory or file; nothing matches "{in}/*.png"',
    ),
    "device": (["-i", "/dev/null"], '-i must be a directory or a regular file; got "/dev/null"'),
    "unknown file system": (["-i", "nosuch://bucket/x"], "-i: nosuch://bucket/x can't be read"),
    "same input twice": (
        ["-i", "{in}", "-i", "{in}/../pictures"],
        '-i must not name a file twice; "{in}" and "{in}" overlap. Remove one of them',
    ),
    "input inside another": (
        ["-i", "{in}", "-i", "{in}/a.gif"],
        '-i must not name a file twice; "{in}" and "{in}/a.gif" overlap. Remove one of them',
    ),
    "split without a name": (
        ["--split", "{in}"],
        '--split must have the form NAME=INPUT, where NAME has letters, digits, _, - and .; got "{in}"',
    ),
    "split with a wrong name": (["--split", "a b={in}"], 'and .; got "a b={in}"'),
    "split that begins with a dot": (["--split", ".a={in}"], 'and .; got ".a={in}"'),
    "split without an input": (["--split", "a="], 'and .; got "a="'),
    "one split": (
        ["--split", "a={in}", "--split", "a={up}"],
        '--split needs between 2 and 62 splits to compare; got only "a". Name each, for example: ',
    ),
    "too many splits": (
        [part for number in range(63) for part in ("--split", f"s{number}={{in}}")],
        "--split needs between 2 and 62 splits to compare; got 63 names",
    ),
    "split of a missing directory": (
        ["--split", "a={in}", "--split", "b=nosuch"],
        '--split must name an existing directory, file or pattern; got "nosuch"',
    ),
    "splits that overlap": (
        ["--split", "a={in}", "--split", "b={in}/a.gif"],
        '--split must not name a file twice; "{in}" and "{in}/a.gif" overlap. Remove one of them',
    ),
    "split of the root directory": (
        ["--split", "a=/", "--split", "b=gs://bucket"],
        '--split must name a directory, file or pattern below the root; got "/"',
    ),
    "splits and an input": (
        ["--split", "a={in}", "--split", "b={up}", "-i", "{in}"],
        "--split must not be combined with -i; it names inputs itself. Replace -i by --split NAME=INPUT",
    ),
    "splits and a list": (
        ["--split", "a={in}", "--split", "b={up}", "-l", "{up}/text"],
        "--split must not be combined with -l, whose images are in no split. Remove one of them",
    ),
    "leak without splits": (
        ["-i", "{in}", "--leak", "fail"],
        '--leak requires --split; got --leak "fail". Add --split or remove --leak',
    ),
    "wrong leak": (
        ["--split", "a={in}", "--split", "b={up}", "--leak", "drop"],
        '--leak must be report, fail or drop_from=NAME; got "drop"',
    ),
    "leak that drops from no split": (
        ["--split", "a={in}", "--split", "b={up}", "--leak", "drop_from=c"],
        '--leak drop_from=NAME must name a split of --split; got "c". The splits are a, b',
    ),
    "assignment without records": (
        ["-i", "{in}", "--assign", "80/20"],
        "--assign requires --records, which have the splits. Add --records FILE or remove --assign",
    ),
    "assignment of splits": (
        ["--split", "a={in}", "--split", "b={up}", "--records", "r.jsonl", "--assign", "80/20"],
        "--assign must not be combined with --split, which names the splits of images. Remove one of them",
    ),
    **{
        f"assignment {shares}": (
            ["-i", "{in}", "--records", "r.jsonl", "--assign", shares],
            f'names with shares such as train=80,val=10,test=10; got "{shares}"',
        )
        for shares in (
            "80",
            "1/2/3/4",
            "80/0",
            "80/-20",
            "80/nan",
            "1e3/1",
            "80//20",
            "a=1",
            "a=1,a=2",
            "a=1,b",
            "=1,b=2",
            "a b=1,c=2",
        )
    },
    "seed without an assignment": (
        ["-i", "{in}", "--seed", "1"],
        "--seed applies only with --assign; got --seed 1 without it. Add --assign or remove --seed",
    ),
    "negative seed": (
        ["-i", "{in}", "--records", "r.jsonl", "--assign", "80/20", "--seed", "-1"],
        "--seed must be between 0 and 9223372036854775807; got -1",
    ),
    "reference as a pattern": (
        ["-i", "{in}", "--reference", "{in}/*"],
        '--reference must be a directory or a file, not a pattern; got "{in}/*"',
    ),
    "protected glob that is no glob": (
        ["-i", "{in}", "--protect", "a", "--protect", "[a"],
        '--protect must close each [ by a ], or escape it by a backslash; got "[a"',
    ),
    "protected URI with an empty part": (
        ["-i", "{in}", "--protect", "gs://b//a"],
        "--protect must have no empty part and no '.' or '..' between slashes; got \"gs://b//a\"",
    ),
    "rule that is none": (["-i", "{in}", "--keep", "smallest"], "--keep must be rules, each path:GLOB"),
    "rule with a glob that is none": (
        ["-i", "{in}", "--keep", "pixels,path:[a"],
        '--keep path: must close each [ by a ], or escape it by a backslash; got "[a"',
    ),
    "rules in a stream": (
        ["-i", "{in}", "--watch", "-d", "out", "--keep", "path:a,first"],
        "--keep must be first with --watch or --subscription, where the first image to arrive is kept; got path:a,first.",
    ),
    "protected glob that excludes": (["-i", "{in}", "--protect", "!a"], "--protect must not begin with !"),
    "no input": (["-n"], "-i or -l is required. Name the directory with the images"),
    "missing metadata file": (["-l", "nosuch"], '-l must name an existing file; got "nosuch"'),
    "metadata file is a directory": (["-l", "{in}"], '-l must name an existing file; got "{in}"'),
    "metadata file in an unknown file system": (
        ["-l", "nosuch://a/b"],
        "-l: nosuch://a/b can't be read",
    ),
    "metadata file and directory": (
        ["-i", "{in}", "-l", "{in}/../text"],
        "-l/--json_metadata: not allowed with argument -i/--dump_dir",
    ),
    "simhash in exact mode": (
        ["--algorithm", "simhash", "-l", "{in}/../text"],
        "--algorithm applies only with -n",
    ),
    "k too large for simhash": (
        ["-n", "--algorithm", "simhash", "-k", "9", "-l", "{in}/../text"],
        "-k must be between 0 and 8 with --algorithm simhash; got 9",
    ),
    "groups over the metadata file": (
        ["-l", "{in}/../text", "-o", "{in}/../text"],
        '-l and -o must name different paths; both name "{in}/../text"',
    ),
    "empty input": (["-i", ""], "-i or -l is required"),
    "both modes": (
        ["-e", "-n", "-i", "{in}"],
        "-n/--near_duplicates: not allowed with argument -e/--exact_duplicates",
    ),
    "k too large": (
        ["-n", "-k", "17", "-i", "{in}"],
        "-k must be between 0 and 16 with --algorithm dct; got 17",
    ),
    "k below zero": (
        ["-n", "-k", "-1", "-i", "{in}"],
        "-k must be between 0 and 16 with --algorithm dct; got -1",
    ),
    "k is a word": (
        ["-n", "-k", "few", "-i", "{in}"],
        'dedup: -k/--bit_distance: must be a whole number; got "few"',
    ),
    "k in exact mode": (
        ["-k", "3", "-i", "{in}"],
        "-k applies only with -n; got -k 3 without it. Add -n or remove -k",
    ),
    "verify in exact mode": (
        ["--verify", "3", "-i", "{in}"],
        "--verify applies only with -n; got --verify 3 without it. Add -n or remove --verify",
    ),
    "verify too large": (
        ["-n", "--verify", "257", "-i", "{in}"],
        "--verify must be between 0 and 256; got 257",
    ),
    "unknown algorithm": (
        ["-n", "--algorithm", "sift", "-i", "{in}"],
        '--algorithm: must be one of dct, phash, dhash, ahash, whash, colorhash, pdq, simhash; got "sift"',
    ),
    "algorithm in exact mode": (
        ["--algorithm", "phash", "-i", "{in}"],
        "--algorithm applies only with -n, which compares pictures. Add -n or remove --algorithm",
    ),
    "views in exact mode": (
        ["--views", "trim", "-i", "{in}"],
        "--views applies only with -n, which compares pictures. Add -n or remove --views",
    ),
    "turns in exact mode": (
        ["--turns", "-i", "{in}"],
        "--turns applies only with -n, which compares pictures. Add -n or remove --turns",
    ),
    "unknown views": (
        ["-n", "--views", "some", "-i", "{in}"],
        '--views: must be one of none, trim, centre, crops; got "some"',
    ),
    "k too large for colorhash": (
        ["-n", "--algorithm", "colorhash", "-k", "9", "-i", "{in}"],
        "-k must be between 0 and 2 with --algorithm colorhash; got 9",
    ),
    "verify with another algorithm": (
        ["-n", "--algorithm", "phash", "--verify", "40", "-i", "{in}"],
        "--verify applies only with --algorithm dct, which has long codes; got --verify 40 with --algorithm phash. Remove one of them",
    ),
    "turns with another algorithm": (
        ["-n", "--algorithm", "dhash", "--turns", "-i", "{in}"],
        "--turns applies only with --algorithm dct; got --algorithm dhash. Remove one of them",
    ),
    "views with another algorithm": (
        ["-n", "--algorithm", "dhash", "--views", "crops", "-i", "{in}"],
        "--views applies only with --algorithm dct; got --algorithm dhash. Remove one of them",
    ),
    "zero bytes": (
        ["--max_bytes", "0", "-i", "{in}"],
        "--max_bytes must be between 1 and 1099511627776; got 0",
    ),
    "bytes with a unit": (
        ["--max_bytes", "1M", "-i", "{in}"],
        '--max_bytes: must be a number of bytes, or a number and a unit such as 10MB or 2GiB; got "1M"',
    ),
    "part of a byte": (
        ["--max_bytes", "1.5", "-i", "{in}"],
        '--max_bytes: must be a number of bytes, or a number and a unit such as 10MB or 2GiB; got "1.5"',
    ),
    "size in an unknown unit": (
        ["--max_bytes", "1 parsec", "-i", "{in}"],
        '--max_bytes: must be a number of bytes, or a number and a unit such as 10MB or 2GiB; got "1 parsec"',
    ),
    "size out of range": (
        ["--max_bytes", "2TiB", "-i", "{in}"],
        "--max_bytes must be between 1 and 1099511627776; got 2199023255552",
    ),
    "zero pixels": (
        ["-n", "--max_pixels", "0", "-i", "{in}"],
        "--max_pixels must be between 1 and 250000000; got 0",
    ),
    "too many pixels": (
        ["-n", "--max_pixels", "250000001", "-i", "{in}"],
        "--max_pixels must be between 1 and 250000000; got 250000001",
    ),
    "pixels in exact mode": (
        ["--max_pixels", "9", "-i", "{in}"],
        "--max_pixels applies only with -n; got --max_pixels 9 without it. Add -n or remove --max_pixels",
    ),
    "zero timeout": (
        ["--decode_timeout", "0", "-i", "{in}"],
        "--decode_timeout must be between 0.1 and 86400.0; got 0.0",
    ),
    "timeout is nan": (
        ["--decode_timeout", "nan", "-i", "{in}"],
        "--decode_timeout must be between 0.1 and 86400.0; got nan",
    ),
    "timeout with a unit": (
        ["--decode_timeout", "2m", "-i", "{in}"],
        '--decode_timeout: must be a number; got "2m"',
    ),
    "zero jobs": (["-j", "0", "-i", "{in}"], "-j must be between 1 and 1024; got 0"),
    "s without d": (
        ["-s", "-i", "{in}"],
        "-s requires -d, the directory for copies. Add -d DIR or remove -s",
    ),
    "misspelt option of dedup": (
        ["-i", "{in}", "--recrods", "x"],
        "unknown option --recrods; did you mean --records?",
    ),
    "misspelt option of Beam": (
        ["-i", "{in}", "--runer=x"],
        "unknown option --runer; did you mean --runner?",
    ),
    "unknown short flag": (["-i", "{in}", "-z"], "unknown option -z"),
    "argument without a flag": (
        ["-i", "{in}", "word"],
        '"word" was not expected here; name each input with an -i of its own, and quote patterns',
    ),
    "wrong value for Beam": (["-i", "{in}", "--direct_running_mode=x"], "invalid choice: 'x'"),
    "records not writable": (
        ["-i", "{in}", "--records", "/dev/null/r"],
        "--records: can't write to",
    ),
    "copies not writable": (["-i", "{in}", "-d", "/dev/null/d"], "-d: can't write to"),
    "groups to a directory": (["-i", "{in}", "-o", "{in}"], "-o needs a file name"),
    "copies to a file": (["-i", "{in}", "-d", "{in}/a.gif"], "-d needs a directory"),
    "one file for two outputs": (
        ["-i", "{in}", "--records", "x", "--counts", "./x"],
        '--records and --counts must name different paths; both name "./x"',
    ),
    "output is the input": (["-i", "{in}", "-d", "{in}"], "lies in"),
    "output around the input": (["-i", "{in}", "-d", "{in}/.."], "lies in"),
    "unknown policy": (
        ["-i", "{in}", "--keep", "best"],
        'or one of first, largest, oldest, newest, pixels, bytes, taken, metadata; got "best"',
    ),
    "missing reference": (
        ["-i", "{in}", "--reference", "nosuch"],
        '--reference must name an existing directory, file or pattern; got "nosuch"',
    ),
    "reference is the input": (
        ["-i", "{in}", "--reference", "{in}"],
        '-i must not lie inside --reference, whose images are all known; got -i "{in}" and --reference "{in}"',
    ),
    "reference around the input": (
        ["-i", "{in}", "--reference", "{in}/.."],
        "-i must not lie inside --reference, whose images are all known",
    ),
    "place without d": (
        ["-i", "{in}", "--place", "symlink"],
        "--place requires -d, the directory for copies. Add -d DIR or remove --place",
    ),
    "preview without d": (
        ["-i", "{in}", "--preview"],
        "--preview requires -d, the directory for copies. Add -d DIR or remove --preview",
    ),
    "link to a bucket": (
        ["-i", "{in}", "-d", "gs://b/x", "--place", "symlink"],
        "--place symlink works only with local files, but -d is gs://b/x",
    ),
    "groups over a text": (
        ["-i", "{in}", "-o", "{in}/../text"],
        "already exists and was not written by -o",
    ),
    "groups over the counts": (["-i", "{in}", "-o", "{in}/../counts"], "already exists"),
    "groups to a device": (["-i", "{in}", "-o", "/dev/null"], "already exists and was not written by -o"),
    "records to a directory with records": (
        ["-i", "{in}", "--records", "{in}/../shards/"],
        "already contains records",
    ),
    "unknown runner": (
        ["-i", "{in}", "--runner", "NoRunner"],
        "--runner: Unexpected pipeline runner: NoRunner",
    ),
    "directory without -i": (["{in}"], '-i is required before an input; got "{in}". Try -i {in} ('),
    "records over an image": (
        ["-i", "{in}", "--records", "{in}/a.gif"],
        '--records must end in .jsonl, .ndjson, .json, .avro, .parquet or .csv, or in / for a directory; got "{in}/a.gif"',
    ),
    "records over a text": (
        ["-i", "{in}", "--records", "{in}/../text"],
        "already exists and was not written by --records",
    ),
    "records as a spreadsheet": (
        ["-i", "{in}", "--records", "r.xlsx"],
        '--records must end in .jsonl, .ndjson, .json, .avro, .parquet or .csv, or in / for a directory; got "r.xlsx"',
    ),
    "directory of Parquet": (
        ["-i", "{in}", "--records", "r.parquet/"],
        '--records: a directory receives JSON Lines, so its name must not end in .parquet or .csv; got "r.parquet/"',
    ),
    "records with an ending in capitals": (
        ["-i", "{in}", "--records", "R.AVRO"],
        '--records must end in .jsonl, .ndjson, .json, .avro, .parquet or .csv, or in / for a directory; got "R.AVRO"',
    ),
    "compressed records": (
        ["-i", "{in}", "--records", "r.jsonl.gz"],
        '--records must end in .jsonl, .ndjson, .json, .avro, .parquet or .csv, or in / for a directory; got "r.jsonl.gz"',
    ),
    "counts in a directory": (
        ["-i", "{in}", "--counts", "counts/"],
        '--counts must name a file, not a directory; got "counts/". Remove the / at its end',
    ),
    "groups as CSV": (["-i", "{in}", "-o", "g.csv"], '-o must end in .json; got "g.csv"'),
    "counts as JSON Lines": (
        ["-i", "{in}", "--counts", "c.jsonl"],
        '--counts must end in .json; got "c.jsonl"',
    ),
    "copies and records in one directory": (
        ["-i", "{in}", "-d", "x", "--records", "x"],
        '--records and -d must name different paths; both name "x"',
    ),
    "copies and records in one directory, with a slash": (
        ["-i", "{in}", "-d", "x", "--records", "./x/"],
        '--records and -d must name different paths; both name "x"',
    ),
    "copies and groups under one name": (
        ["-i", "{in}", "-d", "x", "-o", "x"],
        '-o and -d must name different paths; both name "x"',
    ),
    "copies below the records": (
        ["-i", "{in}", "-d", "r/x", "--records", "r"],
        '-d must not lie below --records, which names a file; got -d "r/x" and --records "r"',
    ),
    "counts below the groups": (
        ["-i", "{in}", "-o", "g", "--counts", "g/c/c.json"],
        '--counts must not lie below -o, which names a file; got --counts "g/c/c.json" and -o "g"',
    ),
    "records over the input": (
        ["-i", "{in}/../records", "--records", "{in}/../records"],
        '-i and --records must name different paths; both name "{in}/../records"',
    ),
    "copies and records in one prefix": (
        ["-i", "{in}", "-d", "gs://b/x", "--records", "gs://b/x/"],
        '--records and -d must name different paths; both name "gs://b/x"',
    ),
    "misspelt switch without an input": (["--versoin"], "unknown option --versoin; did you mean --version?"),
    "misspelt input": (["--dumpdir", "{in}"], "unknown option --dumpdir; did you mean --dump_dir?"),
    "misspelt dry run": (
        ["-i", "{in}", "-d", "x", "--dryrun"],
        "unknown option --dryrun; did you mean --preview?",
    ),
    "nearly Beam's dry run": (
        ["-i", "{in}", "-d", "x", "--dry_rnu"],
        "unknown option --dry_rnu; did you mean --preview?",
    ),
    "option of dedup before one of Beam": (
        ["-i", "{in}", "--output", "x"],
        "unknown option --output; did you mean --output_dir?",
    ),
    "part of an option": (["-i", "{in}", "--near"], "unknown option --near; did you mean --near_duplicates?"),
    "dashes for underscores": (
        ["-i", "{in}", "--num-jobs", "2"],
        "unknown option --num-jobs; did you mean --num_jobs?",
    ),
    "dry run without d": (["-i", "{in}", "--dry-run"], "--preview requires -d, the directory for copies"),
    "quiet and verbose": (
        ["-i", "{in}", "--quiet", "--verbose"],
        "--verbose: not allowed with argument --quiet",
    ),
    "misspelt directory": (
        ["-i", "{up}/pictrues"],
        'got "{up}/pictrues". Did you mean -i {up}/pictures? (see',
    ),
    "misspelt directory of a pattern": (
        ["-i", "{up}/picture/*.gif"],
        "Did you mean -i '{up}/pictures/*.gif'? (see",
    ),
    "directory in other letters": (
        ["-i", "{up}/PICTURES/a.gif"],
        "Did you mean -i {up}/pictures/a.gif? (see",
    ),
    "misspelt metadata file": (["-l", "{up}/txt"], "Did you mean -l {up}/text? (see"),
    "misspelt reference": (
        ["-i", "{in}", "--reference", "{up}/shard"],
        "Did you mean --reference {up}/shards? (see",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line_and_exit_code_2(
    case: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    *arguments, message = (
        text.replace("{in}", str(folder)).replace("{up}", str(folder.parent))
        for text in (*WRONG[case][0], WRONG[case][1])
    )
    assert main(arguments) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.startswith("dedup: ")
    assert message in error
    assert error.count("\n") == 1
    assert (folder / "a.gif").read_bytes() == b"GIF89a"
    assert (folder.parent / "text").read_text() == "{ a text"
    assert not list(folder.parent.glob("here/*"))


def test_suggested_paths_can_be_pasted(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("my $photos").mkdir()
    Path("-holiday").mkdir()
    for given, suggested in (
        ("my $photo", "-i 'my $photos'"),
        ("./-holidays", "-i ./-holiday"),
    ):
        assert main(["-i", given]) == 2
        assert f"Did you mean {suggested}? (see" in capfd.readouterr().err
        assert main(["-i", *shlex.split(suggested)[1:], "-o", ""]) == 0
        capfd.readouterr()
    assert main(["my $photos"]) == 2
    assert """got "my $photos". Try -i 'my $photos' (see""" in capfd.readouterr().err


def test_no_path_is_suggested_where_none_is_near(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("a\nb").mkdir()
    for given in ("zzz", "/zzz/yyy", "pictures/a.gif/b", "a\nc", "nosuch" * 1000):
        assert main(["-i", given]) == 2
        error = capfd.readouterr().err
        assert error.count("\n") == 1
        assert "Did you mean" not in error


@pytest.mark.parametrize("flag", ["--preview", "--dry-run", "--dry_run", "--dry_run=True"])
def test_dry_run_means_preview_and_never_copies(
    flag: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["-i", str(folder), "-d", "x", flag, "--quiet"]) == 0
    assert capfd.readouterr().out == f"{folder}/a.gif -> x/a.gif\n"
    assert not list(Path().iterdir())


def test_tilde_after_an_equals_sign_is_the_home_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell replaces it only at the start of a word."""
    monkeypatch.setenv("HOME", str(folder.parent))
    flags = ("--records=~/r.jsonl", "--counts=~/c.json", "--output_json=~/g.json", "--output_dir=~/d")
    assert main(["--dump_dir=~/pictures", *flags, "--quiet"]) == 0
    assert all((folder.parent / name).exists() for name in ("r.jsonl", "c.json", "g.json", "d/a.gif"))
    (folder.parent / "l.jsonl").write_text(json.dumps({"__path__": f"{folder}/a.gif"}))
    assert main(["--json_metadata=~/l.jsonl", "--output_json=", "--quiet"]) == 0
    assert main(["--dump_dir=~/pictures", "--reference=~/d", "--output_json=", "--quiet"]) == 0
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2), ("2B", 2), ("2kB", 2000), ("2 KiB", 2048), ("1.5MB", 1_500_000), ("1gib", 1 << 30)],
)
def test_sizes_may_have_a_unit(text: str, number: int) -> None:
    given, _ = parser.parse(["--max_bytes", text])
    assert given.max_bytes == number


def test_number_of_jobs_is_that_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    given, _ = parser.parse(["-i", "in"])
    assert checks.configure(given).jobs == 1


def test_a_path_with_a_line_break_stays_on_one_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", "no\nsuch"]) == 2
    assert '; got "no\\nsuch" (see' in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_missing_extra_is_named(
    folder: Path,
    arguments: list[str],
    message: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "_is_installed", lambda _: False)
    assert main([argument.replace("{in}", str(folder)) for argument in arguments]) == 2
    assert message.replace("{pip}", "run pip install '.") in capfd.readouterr().err


def test_hard_links_need_one_device(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == folder.stat().st_dev:
        pytest.skip("needs a second device, at /dev/shm")
    with tempfile.TemporaryDirectory(dir=shared_memory) as out:
        assert main(["-i", str(folder), "-d", out, "--place", "hardlink"]) == 2
    assert "on one device; use --place copy or symlink" in capfd.readouterr().err


@pytest.fixture
def refusing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory with more different pictures than the planner now accepts."""
    monkeypatch.setattr(planner, "MAX_CANDIDATES", 2)
    for seed in range(8):
        picture(seed, (60, 40)).save(folder / f"{seed}.png")
    return folder


def test_quadratic_plan_is_refused_before_an_image_is_read(
    refusing: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "build", lambda *_: pytest.fail("built"))
    assert main(["-n", "-i", str(refusing), "--records", "r"]) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert "use a smaller -k" in error
    assert "or run it anyway with --force_plan" in error
    assert not list(Path().iterdir())


def test_known_images_count_for_the_plan(refusing: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (refusing.parent / "new").mkdir()
    picture(9).save(refusing.parent / "new/a.png")
    assert main(["-n", "-i", str(refusing.parent / "new"), "--reference", str(refusing)]) == 2
    assert "--force_plan" in capfd.readouterr().err


@pytest.mark.parametrize("flags", [["--force_plan"], ["-e", "--quiet"]])
def test_quadratic_plan_runs_if_forced_or_in_exact_mode(refusing: Path, flags: list[str]) -> None:
    mode = [] if "-e" in flags else ["-n"]
    assert main([*mode, "-i", str(refusing), "--records", "r", *flags]) == 0
    assert Path("r").read_text().count('"kept"') == 9


def test_plan_that_turns_out_quadratic_while_running_is_one_line(
    refusing: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when many codes collide by chance, which no estimate can know beforehand."""
    monkeypatch.setattr(run, "count_files", lambda _: 9)
    assert main(["-n", "-i", str(refusing), "--records", "r", "--quiet"]) == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("dedup: ")
    assert "or run it anyway with --force_plan" in error
    assert not list(Path().iterdir())


def test_wrong_usage_in_a_process_of_its_own() -> None:
    ended = dedup_apart("-i", "nosuch")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


def test_no_flag_of_dedup_is_one_of_beam() -> None:
    beam_flags = {flag for part in PipelineOptions.__subclasses__() for flag in _flags(part)}
    flags = {flag for option in OPTIONS for flag in option.flags}
    assert {"--runner", "--streaming"} <= beam_flags
    assert not flags & beam_flags


def _flags(part: type[PipelineOptions]) -> set[str]:
    parser = select.BeamParser(add_help=False)
    if "_add_argparse_args" in part.__dict__:
        part._add_argparse_args(parser)
    return set(parser._option_string_actions)
