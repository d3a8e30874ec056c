"""Tests of the streaming options: which are refused, with which message, and which defaults apply."""

import os
from pathlib import Path

import pytest

from beam_dedup.cli import main
from beam_dedup.options import checks, parser
from beam_dedup.options.config import DedupConfig, StreamConfig

SUBSCRIPTION = "projects/p/subscriptions/s"
TOPIC = "projects/p/topics/t"
WATCH = ["--watch", "-i", "in"]
SUBSCRIBE = ["--subscription", SUBSCRIPTION, "--allow", "gs://bucket"]

Case = tuple[list[str], str]  # the arguments, and a part of the message


def _without_stream(flag: str, value: str) -> Case:
    shown = value if flag == "--expected_images" else f'"{value}"'
    message = (
        f"{flag} applies only to streaming; got {flag} {shown} without --watch or --subscription. "
        f"Add one of them or remove {flag}"
    )
    return ["-i", "in", flag, value], message


def _batch_only(flag: str, value: list[str], why: str) -> dict[str, Case]:
    message = f"{flag} is not available with --watch or --subscription ({why}). Remove {flag}"
    return {
        f"{flag} with a watched directory": ([*WATCH, flag, *value], message),
        f"{flag} with a subscription": ([*SUBSCRIBE, flag, *value], message),
    }


def _not_a_duration(flag: str, value: str) -> Case:
    return [*WATCH, flag, value], f'{flag} must be a number and a unit, such as 90m, 24h or 7d; got "{value}"'


def _duration_out_of_range(flag: str, value: str) -> Case:
    return [*WATCH, flag, value], f"{flag} must be between 1m and 3650d; got {value}"


def _wrong_name(flag: str, value: str, form: str, given: list[str]) -> Case:
    return [*given, flag, value], f'{flag} must have the form {form}; got "{value}"'


def _not_a_directory(flag: str, value: str) -> Case:
    rule = "must be a directory with --watch or --subscription (it receives one file per interval)"
    return [*WATCH, flag, value], f'{flag} {rule}; got "{value}". Try {flag} {flag.lstrip("-")}/'


SUBSCRIPTION_FORM, TOPIC_FORM = "projects/P/subscriptions/S", "projects/P/topics/T"

WRONG: dict[str, Case] = {
    **_batch_only("--split", ["a=in"], "the splits of a data set are compared when all of them are complete"),
    **_batch_only("--assign", ["80/20"], "a later image may join two components"),
    "topic without a stream": _without_stream("--verdict_topic", TOPIC),
    "remember without a stream": _without_stream("--remember", "24h"),
    "window without a stream": _without_stream("--window", "10m"),
    "wrong window without a stream": _without_stream("--window", "0"),
    "expected images without a stream": _without_stream("--expected_images", "5"),
    "wrong expected images without a stream": _without_stream("--expected_images", "0"),
    "directory and subscription": (
        ["-i", "in", *SUBSCRIBE],
        "--subscription must not be combined with -i or --watch; its messages name the images. Remove one of them",
    ),
    "watch and subscription": (
        ["--watch", *SUBSCRIBE],
        "--subscription must not be combined with -i or --watch; its messages name the images. Remove one of them",
    ),
    "watch without an input": (
        ["-n", "--watch"],
        "--watch requires -i. Name the directory to watch, for example: dedup -n --watch -i incoming -d unique",
    ),
    "watch an empty name": (["--watch", "-i", ""], "-i or -l is required"),
    "empty subscription": (["--subscription", ""], "-i or -l is required"),
    "watch a missing directory": (
        ["--watch", "-i", "nosuch"],
        '-i must name an existing directory, file or pattern; got "nosuch"',
    ),
    "metadata file and watch": (
        ["--watch", "-l", "lines"],
        "-l is not available with --watch or --subscription (it reads one file to its end). Remove -l",
    ),
    "metadata file and subscription": (
        [*SUBSCRIBE, "-l", "lines"],
        "-l is not available with --watch or --subscription (it reads one file to its end). Remove -l",
    ),
    **_batch_only(
        "-o",
        ["g.json"],
        "groups are complete only at the end of a batch run; the records hold the same facts",
    ),
    **_batch_only(
        "--reference", ["in"], "known images need a batch run; start with one run over both collections"
    ),
    **_batch_only(
        "--across", [], "images arrive without their inputs; batch runs compare the images of several inputs"
    ),
    **_batch_only("--preview", [], "it prints at the end of a batch run"),
    "forced plan without windows": (
        [*WATCH, "-n", "--force_plan"],
        "--force_plan requires --window with --watch or --subscription; no other plan of a stream is refused. Add --window or remove --force_plan",
    ),
    **{
        f"keep {keep}": (
            [*WATCH, "--keep", keep],
            f"--keep must be first with --watch or --subscription, where the first image to arrive is kept; got {keep}. Remove --keep",
        )
        for keep in ("largest", "oldest", "newest")
    },
    **{
        f"subscription {value!r}": _wrong_name("--subscription", value, SUBSCRIPTION_FORM, [])
        for value in (
            "s",
            "projects/p/topics/s",
            "projects//subscriptions/s",
            f"/{SUBSCRIPTION}",
            f"{SUBSCRIPTION}/",
            "projects/p/subscriptions/a b",
        )
    },
    **{
        f"topic {value!r}": _wrong_name("--verdict_topic", value, TOPIC_FORM, WATCH)
        for value in ("t", "projects/p/subscriptions/t", "projects/p/topics/", f"{TOPIC} ")
    },
    **{
        f"{flag} {value!r}": _not_a_duration(flag, value)
        for flag in ("--remember", "--window")
        for value in ("soon", "90", "1w", "1h30m", "1 h", "1M", ".5h", "1.h", "1e3s", "0x9m", "24h ")
    },
    "negative duration": (
        [*WATCH, "--remember=-1h"],
        '--remember must be a number and a unit, such as 90m, 24h or 7d; got "-1h"',
    ),
    **{
        f"{flag} of {value}": _duration_out_of_range(flag, value)
        for flag in ("--remember", "--window")
        for value in ("0s", "59s", "59.999s", "0.99m", "0.016h", "3650.001d", "87601h", "9" * 400 + "d")
    },
    "window and remember": (
        [*WATCH, "--window", "1m", "--remember", "1m"],
        "--window judges each window separately; --remember does not apply. Remove one of them",
    ),
    **{
        f"{count} images expected": (
            [*WATCH, "--expected_images", count],
            f"--expected_images must be between 1 and 10000000000; got {count}",
        )
        for count in ("0", "-1", "10000000001")
    },
    "expected images with a unit": (
        [*WATCH, "--expected_images", "1M"],
        '--expected_images: must be a whole number; got "1M"',
    ),
    **{
        f"{flag} {value}": _not_a_directory(flag, value)
        for flag in ("--records", "--counts")
        for value in ("x.json", "a/x.jsonl", "x.avro", "x.csv", "x.parquet")
    },
    "records and counts in one directory": (
        [*WATCH, "--records", "x", "--counts", "./x/"],
        '--records and --counts must name different paths; both name "./x/"',
    ),
    "s without d": (
        [*WATCH, "-s"],
        "-s requires -d, the directory for copies. Add -d DIR or remove -s",
    ),
    "place without d": (
        [*WATCH, "--place", "symlink"],
        "--place requires -d, the directory for copies. Add -d DIR or remove --place",
    ),
    "k in exact mode": ([*WATCH, "-k", "3"], "-k applies only with -n; got -k 3 without it"),
    "zero jobs": ([*WATCH, "-j", "0"], "-j must be between 1 and 1024; got 0"),
    "runner without streaming": (
        [*WATCH, "--runner=DirectRunner"],
        "--runner=DirectRunner can't run a stream; leave out --runner to run it on this machine",
    ),
    "misspelt option": ([*WATCH, "--windows", "1m"], "unknown option --windows; did you mean --window?"),
    "copies to the watched directory": ([*WATCH, "--records=", "-d", "in"], "-d: the input in lies in in"),
    "copies around the watched directory": ([*WATCH, "--records=", "-d", "."], "-d: the input in lies in ."),
    "records not writable": (
        [*WATCH, "--records", "/dev/null/r"],
        "--records: can't write to /dev/null/r/",
    ),
    "counts not writable": (
        [*WATCH, "--records", "", "--counts", "lines"],
        "--counts: can't write to lines/",
    ),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a directory `in` of one image, and a file `lines`."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.gif").write_bytes(b"GIF89a")
    (tmp_path / "lines").write_text('{"__path__": "in/a.gif"}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line_and_nothing_is_written(
    case: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, message = WRONG[case]
    assert main(arguments) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.startswith("dedup: ")
    assert message in error
    assert error.count("\n") == 1
    assert sorted(os.listdir(here)) == ["in", "lines"]
    assert os.listdir(here / "in") == ["a.gif"]


def _configured(*arguments: str) -> DedupConfig:
    given, rest = parser.parse(arguments)
    assert rest == []
    return checks.configure(given)


def _stream(*arguments: str) -> StreamConfig:
    stream = _configured(*arguments).stream
    assert stream
    return stream


def test_defaults_of_a_watched_directory() -> None:
    config = _configured(*WATCH)
    assert config.stream == StreamConfig(
        subscription="", verdict_topic="", remember_seconds=24 * 3600, window_seconds=0, expected_images=10**6
    )
    assert config.inputs == ("in",)
    assert (config.records, config.counts, config.output_json) == ("image_records/", "", "")


def test_defaults_of_a_subscription() -> None:
    config = _configured(*SUBSCRIBE)
    assert config.stream == StreamConfig(subscription=SUBSCRIPTION)
    assert config.inputs == ()
    assert config.records == "image_records/"


def test_batch_run_has_no_stream_settings() -> None:
    config = _configured("-i", "in")
    assert config.stream is None
    assert config.records == ""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60s", 60),
        ("1m", 60),
        ("60.0s", 60),
        ("1.5h", 5400),
        ("90m", 5400),
        ("24h", 86400),
        ("7d", 7 * 86400),
        ("0.5d", 43200),
        ("3650d", 3650 * 86400),
        ("87600h", 3650 * 86400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert _stream(*WATCH, "--remember", text).remember_seconds == seconds
    windowed = _stream(*WATCH, "--window", text)
    assert windowed.window_seconds == seconds
    assert windowed.remember_seconds == 24 * 3600, "redelivered images are recognised for that long"


@pytest.mark.parametrize("count", [1, 10**10])
def test_expected_images(count: int) -> None:
    assert _stream(*WATCH, "--expected_images", str(count)).expected_images == count


def test_plan_of_a_window_can_be_forced() -> None:
    config = _configured(*WATCH, "-n", "--window", "1m", "--force_plan")
    assert config.force_plan


def test_topic_and_several_directories() -> None:
    config = _configured("--watch", "-i", "a", "-i", "./b/", "--verdict_topic", TOPIC)
    assert config.stream == StreamConfig(verdict_topic=TOPIC)
    assert config.inputs == ("a", "b")


@pytest.mark.parametrize("flag", ["--remember", "--window", "--verdict_topic", "--subscription"])
def test_empty_value_counts_as_not_given(flag: str) -> None:
    """A template passes empty values for the parameters that nobody filled in."""
    assert _configured("-i", "in", f"{flag}=").stream is None
    assert _stream(*WATCH, f"{flag}=") == StreamConfig()


@pytest.mark.parametrize(
    ("given", "records", "counts"),
    [
        (["--records", "r", "--counts", "c"], "r/", "c/"),
        (["--records", "r/", "--counts", "c/"], "r/", "c/"),
        (["--records", "gs://b/r", "--counts", "gs://b/c.json"], "gs://b/r/", "gs://b/c.json/"),
        (["--records="], "", ""),
    ],
)
def test_records_and_counts_are_directories(given: list[str], records: str, counts: str) -> None:
    config = _configured(*WATCH, *given)
    assert (config.records, config.counts) == (records, counts)
