"""What runs that stay are asked for: what is refused, in which words, and what holds without a flag."""

import os
from pathlib import Path

import pytest

from beam_dedup.cli import main
from beam_dedup.options import checks, parser
from beam_dedup.options.config import DedupConfig, StreamConfig

SUBSCRIPTION = "projects/p/subscriptions/s"
TOPIC = "projects/p/topics/t"
WATCH = ["--watch", "-i", "in"]
SUBSCRIBE = ["--subscription", SUBSCRIPTION]


def _without_watch(flag: str, value: str) -> tuple[list[str], str]:
    rule = "is for runs that stay: it needs --watch or --subscription"
    return ["-i", "in", flag, value], f"{flag} {rule} (got {flag} {value})"


def _of_batch(flag: str, value: list[str], why: str) -> dict[str, tuple[list[str], str]]:
    sentence = f"{flag} {why}: it can't be used with --watch or --subscription"
    return {
        f"{flag} in a watched folder": ([*WATCH, flag, *value], sentence),
        f"{flag} of a subscription": ([*SUBSCRIBE, flag, *value], sentence),
    }


def _no_duration(flag: str, value: str) -> tuple[list[str], str]:
    return [*WATCH, flag, value], f"{flag} is a number and a unit, as in 90m, 24h or 7d, got {value}"


def _no_such_time(flag: str, value: str) -> tuple[list[str], str]:
    return [*WATCH, flag, value], f"{flag} must be between 1m and 3650d, got {value}"


def _no_name(flag: str, value: str, example: str, given: list[str]) -> tuple[list[str], str]:
    return [*given, flag, value], f"{flag} is named as {example}, got {value}"


def _is_no_folder(flag: str, value: str) -> tuple[list[str], str]:
    return [
        *WATCH,
        flag,
        value,
    ], f"{flag} names a folder in runs that stay, for a file now and then; got {value}"


LIKE_SUBSCRIPTION, LIKE_TOPIC = "projects/P/subscriptions/S", "projects/P/topics/T"

WRONG = {
    "a topic without a stream": _without_watch("--verdict_topic", TOPIC),
    "a memory without a stream": _without_watch("--remember", "24h"),
    "a window without a stream": _without_watch("--window", "10m"),
    "a window that is none without a stream": _without_watch("--window", "0"),
    "a number without a stream": _without_watch("--expected_images", "5"),
    "a wrong number without a stream": _without_watch("--expected_images", "0"),
    "a folder and a subscription": (
        ["-i", "in", *SUBSCRIBE],
        "--subscription says what to read: it can't be used with -i or --watch",
    ),
    "watched and a subscription": (
        ["--watch", *SUBSCRIBE],
        "--subscription says what to read: it can't be used with -i or --watch",
    ),
    "nothing to watch": (
        ["-n", "--watch"],
        "--watch needs -i: name the folder that is watched, as in: dedup -n --watch -i incoming -d unique",
    ),
    "an empty name to watch": (["--watch", "-i", ""], "-i is missing"),
    "an empty subscription": (["--subscription", ""], "-i is missing"),
    "no such folder to watch": (["--watch", "-i", "nosuch"], "-i: there is no folder nosuch"),
    "metadata in a watched folder": (
        ["--watch", "-l", "lines"],
        "-l reads one file to its end: it can't be used with --watch or --subscription",
    ),
    "metadata of a subscription": (
        [*SUBSCRIBE, "-l", "lines"],
        "-l reads one file to its end: it can't be used with --watch or --subscription",
    ),
    **_of_batch("-o", ["g.json"], "lists all groups at the end of a run; the records tell the same"),
    **_of_batch("--reference", ["in"], "is for runs with an end; begin with a run over both"),
    **_of_batch("--preview", [], "tells at the end of a run what would be placed"),
    "a plan that is forced, but not of windows": (
        [*WATCH, "-n", "--force_plan"],
        "--force_plan is for runs with an end, and for windows: with --watch or --subscription it needs --window",
    ),
    **{
        f"keep {keep}": (
            [*WATCH, "--keep", keep],
            f"--keep {keep} would take back verdicts: with --watch or --subscription the first to arrive is kept",
        )
        for keep in ("largest", "oldest", "newest")
    },
    **{
        f"subscription {value!r}": _no_name("--subscription", value, LIKE_SUBSCRIPTION, [])
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
        f"topic {value!r}": _no_name("--verdict_topic", value, LIKE_TOPIC, WATCH)
        for value in ("t", "projects/p/subscriptions/t", "projects/p/topics/", f"{TOPIC} ")
    },
    **{
        f"{flag} {value!r}": _no_duration(flag, value)
        for flag in ("--remember", "--window")
        for value in ("soon", "90", "1w", "1h30m", "1 h", "1M", ".5h", "1.h", "1e3s", "0x9m", "24h ")
    },
    "a memory below zero": (
        [*WATCH, "--remember=-1h"],
        "--remember is a number and a unit, as in 90m, 24h or 7d, got -1h",
    ),
    **{
        f"{flag} of {value}": _no_such_time(flag, value)
        for flag in ("--remember", "--window")
        for value in ("0s", "59s", "59.999s", "0.99m", "0.016h", "3650.001d", "87601h", "9" * 400 + "d")
    },
    "a memory of windows": (
        [*WATCH, "--window", "1m", "--remember", "1m"],
        "--window judges each stretch by itself: with it nothing is remembered; leave out --remember",
    ),
    **{
        f"{count} images expected": (
            [*WATCH, "--expected_images", count],
            f"--expected_images must be between 1 and 10000000000, got {count}",
        )
        for count in ("0", "-1", "10000000001")
    },
    "images expected in words": (
        [*WATCH, "--expected_images", "1M"],
        "--expected_images: a whole number is needed, got '1M'",
    ),
    **{
        f"{flag} {value}": _is_no_folder(flag, value)
        for flag in ("--records", "--counts")
        for value in ("x.json", "a/x.jsonl", "x.avro")
    },
    "records and counts in one folder": (
        [*WATCH, "--records", "x", "--counts", "./x/"],
        "--records and --counts name the same file",
    ),
    "duplicates copied nowhere": ([*WATCH, "-s"], "it needs -d DIR"),
    "placed nowhere": ([*WATCH, "--place", "symlink"], "--place is about the output folder: it needs -d DIR"),
    "k in exact mode": ([*WATCH, "-k", "3"], "needs -n"),
    "no jobs": ([*WATCH, "-j", "0"], "-j must be between 1 and"),
    "an engine that needs an end": (
        [*WATCH, "--runner=DirectRunner"],
        "--runner=DirectRunner can't run a stream; leave out --runner to run it on this machine",
    ),
    "a misspelt flag": ([*WATCH, "--windows", "1m"], "unknown option --windows; did you mean --window?"),
    "copies over the watched folder": ([*WATCH, "--records=", "-d", "in"], "-d: the input in lies in in"),
    "copies around the watched folder": ([*WATCH, "--records=", "-d", "."], "-d: the input in lies in ."),
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
    """The current folder, with a folder `in` of one image, and a file `lines`."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.gif").write_bytes(b"GIF89a")
    (tmp_path / "lines").write_text('{"__path__": "in/a.gif"}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_sentence_and_nothing_is_written(
    case: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, sentence = WRONG[case]
    assert main(arguments) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.startswith("dedup: ")
    assert sentence in error
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


def test_defaults_of_a_watched_folder() -> None:
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


def test_a_run_with_an_end_has_none_of_it() -> None:
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
    assert windowed.remember_seconds == 24 * 3600, "for as long redelivered images are told"


@pytest.mark.parametrize("count", [1, 10**10])
def test_expected_images(count: int) -> None:
    assert _stream(*WATCH, "--expected_images", str(count)).expected_images == count


def test_the_plan_of_a_window_can_be_forced() -> None:
    """What a window would refuse is told to do so."""
    config = _configured(*WATCH, "-n", "--window", "1m", "--force_plan")
    assert config.force_plan


def test_a_topic_and_several_folders() -> None:
    config = _configured("--watch", "-i", "a", "-i", "./b/", "--verdict_topic", TOPIC)
    assert config.stream == StreamConfig(verdict_topic=TOPIC)
    assert config.inputs == ("a", "b")


@pytest.mark.parametrize("flag", ["--remember", "--window", "--verdict_topic", "--subscription"])
def test_what_is_empty_is_not_given(flag: str) -> None:
    """As parameters of a template are that nobody filled in."""
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
def test_records_and_counts_are_folders(given: list[str], records: str, counts: str) -> None:
    config = _configured(*WATCH, *given)
    assert (config.records, config.counts) == (records, counts)


def test_the_help_names_the_defaults() -> None:
    text = " ".join(parser.parser().format_help().split())
    assert "at the end of each its images are forgotten (default 24h)" in text
    assert "which the search is laid out for (default 1000000)" in text
    assert "always a folder (default image_records/)" in text
