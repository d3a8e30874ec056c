"""Tests of the two layers of help, and of the reference that is made from the same option table."""

import re
import shlex
import subprocess
import sys

import pytest

from beam_dedup.cli import main
from beam_dedup.core import limits
from beam_dedup.core.algorithms import ALGORITHMS
from beam_dedup.core.limits import Limits
from beam_dedup.core.preference import KeepPolicy, RuleKind
from beam_dedup.options import checks, help_text, parser, reference
from beam_dedup.options.config import StreamConfig
from beam_dedup.options.defaults import (
    DEFAULT_EXPECTED,
    DEFAULT_OUTPUT_JSON,
    DEFAULT_QUIET_TIME,
    DEFAULT_RECORDS,
    DEFAULT_REMEMBER,
)
from beam_dedup.options.option import MAX_HELP, Group, Option
from beam_dedup.options.option_table import OPTIONS, find
from tests.app.cli_runs import ROOT
from transforms.stream import watch
from transforms.stream.watch import ScanTimes

each_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)


def option(flag: str) -> Option:
    found = find(flag)
    assert found
    return found


def details(flag: str) -> str:
    return " ".join(option(flag).paragraphs)


class TestTable:
    @each_option
    def test_help_is_one_short_imperative_sentence(self, option: Option) -> None:
        assert len(option.help) <= MAX_HELP
        assert option.help[0].isupper()
        assert option.help.endswith(".")
        assert ". " not in option.help
        first_word = option.help.split()[0]
        assert not first_word.endswith("s"), "an imperative, not the third person"

    @each_option
    def test_examples_parse(self, option: Option) -> None:
        for example in option.examples:
            program, *arguments = shlex.split(example)
            assert program == "dedup"
            if parser.help_topic(arguments) is None:
                _, rest = parser.parse(arguments)
                assert rest == []

    def test_options_are_listed_by_group_in_the_order_of_the_help(self) -> None:
        groups = [option.group for option in OPTIONS]
        assert groups == sorted(groups, key=list(Group).index)
        assert set(groups) == set(Group)

    def test_flags_are_unique(self) -> None:
        flags = [flag for option in OPTIONS for flag in option.flags]
        assert len(flags) == len(set(flags))
        assert all(option.flags[-1].startswith("--") for option in OPTIONS)

    def test_rules_of_keep_are_those_of_the_core(self) -> None:
        described = re.findall(r"^ *- (`.*?`):", option("--keep").details, re.MULTILINE)
        words = [word.strip("`").partition(":")[0] for line in described for word in line.split(", ")]
        assert set(words) == {*RuleKind, *KeepPolicy}
        assert len(set(words)) == len(words)

    def test_algorithms_are_described_with_their_numbers(self) -> None:
        text = details("--algorithm")
        for algorithm in ALGORITHMS.values():
            numbers = (
                f"{algorithm.bits} bits, `-k` {algorithm.default_k} by default and {algorithm.max_k} at most"
            )
            assert f"`{algorithm.name}`: {numbers}" in text
        assert f"up to {limits.MAX_PIXELS_HEAVY // 10**6} million pixels" in text

    def test_defaults_are_those_that_apply(self) -> None:
        defaults = {
            "-k": ALGORITHMS["dct"].default_k,
            "-o": DEFAULT_OUTPUT_JSON,
            "--remember": DEFAULT_REMEMBER,
            "--quiet_time": DEFAULT_QUIET_TIME,
            "--expected_images": DEFAULT_EXPECTED,
            "--max_bytes": Limits().max_bytes,
            "--max_pixels": Limits().max_pixels,
            "--decode_timeout": f"{Limits().decode_seconds:g}",
        }
        for flag, default in defaults.items():
            assert option(flag).default.startswith(str(default))
            assert f"(default {default})" in option(flag).help
        assert DEFAULT_RECORDS in option("--records").default

    def test_limits_are_those_that_apply(self) -> None:
        usual = Limits()
        assert f"{usual.max_member_bytes} bytes ({usual.max_member_bytes >> 20} MiB)" in details(
            "--max_bytes"
        )
        assert f"{usual.max_members // 10**6} million members" in details("--max_bytes")
        for divisor in (1, 2, 4):
            assert f"up to {limits.MAX_PIXELS // divisor // 10**6} million" in details("--max_pixels")
        assert f"From 1 to {limits.MAX_PIXELS_SCALED}" in details("--max_pixels")
        assert f"From 1 to {checks.MAX_EXPECTED_IMAGES}" in details("--expected_images")
        assert f"From 1 to {checks.MAX_JOBS}" in details("-j")
        assert f"waits {watch.PATIENCE:g} times as long" in details("--quiet_time")
        assert (checks.MIN_QUIET_SECONDS, checks.MAX_QUIET_SECONDS) == (1, 86400)
        assert "from 1s to 1d" in details("--quiet_time")
        assert StreamConfig().quiet_seconds == ScanTimes().quiet_seconds == 10
        assert DEFAULT_QUIET_TIME == "10s"
        least, most = checks.MIN_TIMEOUT_SECONDS, checks.MAX_TIMEOUT_SECONDS
        assert f"From {least:g} to {most:g}" in details("--decode_timeout")


class TestShortHelp:
    @pytest.mark.parametrize("columns", [60, 80, 100, 200])
    def test_lines_fit_the_terminal(self, columns: int) -> None:
        lines = help_text.short_help(columns).splitlines()
        widest = max(map(len, lines))
        assert widest <= max(80, min(columns, help_text.MAX_WIDTH))
        assert not [line for line in lines if line != line.rstrip()]

    def test_lines_fit_80_columns_as_printed(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        assert main(["--help"]) == 0
        shown = capsys.readouterr().out
        assert shown == help_text.short_help(80)
        assert max(map(len, shown.splitlines())) <= 80

    def test_every_option_is_listed_under_its_heading(self) -> None:
        shown = help_text.short_help(80)
        for number, group in enumerate(Group):
            following = [f"{other}:" for other in list(Group)[number + 1 :]] + ["Examples:"]
            block = shown.partition(f"\n{group}:\n")[2].partition(f"\n{following[0]}\n")[0]
            text = " ".join(block.split())
            for option in OPTIONS:
                assert (f"{help_text.heading(option)} {option.help}" in text) == (option.group is group)

    def test_it_names_examples_exit_codes_and_where_details_are(self) -> None:
        shown = help_text.short_help(80)
        for command, _ in help_text.EXAMPLES:
            assert f"\n  {command}\n" in shown
        for code in ("0", "1", "2", "130"):
            assert f"\n  {code} " in shown
        assert "dedup --help OPTION" in shown.partition("Details:")[2]
        assert help_text.REFERENCE in shown.partition("Details:")[2]
        assert (ROOT / help_text.REFERENCE).is_file()

    def test_help_imports_neither_beam_nor_arrays(self) -> None:
        """Those take seconds; the help takes a tenth of one."""
        code = (
            "import sys; from beam_dedup.cli import main; main(['--help']); "
            "print({'apache_beam', 'numpy', 'pyarrow'} & sys.modules.keys(), file=sys.stderr)"
        )
        ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert ended.stderr == "set()\n"


class TestOptionHelp:
    @pytest.mark.parametrize("columns", [80, 100])
    @each_option
    def test_lines_fit_the_terminal(self, option: Option, columns: int) -> None:
        commands = {f"    {example}" for example in option.examples}
        lines = set(help_text.option_help(option.name, columns).splitlines()) - commands
        assert max(map(len, lines)) <= columns

    @pytest.mark.parametrize(
        "arguments",
        [["--help", "-k"], ["-h", "--bit_distance"], ["--help", "bit_distance"], ["--help=k"], ["--help=-k"]],
    )
    def test_details_of_one_option_are_printed(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("-k, --bit_distance BITS\n")
        assert " ".join(option("-k").paragraphs[0].split()) in " ".join(shown.split())
        assert f"Default: {option('-k').default}" in shown
        assert "--verify BITS" not in shown

    @pytest.mark.parametrize(
        ("topic", "message"),
        [
            ("--view", 'got "--view"; the nearest is --views'),
            ("--runner", 'got "--runner"'),
            ("", 'got ""'),
        ],
    )
    def test_unknown_option_is_wrong_usage(
        self, topic: str, message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for arguments in (["--help", topic], [f"--help={topic}"]):
            assert main(arguments) == 2
            error = capsys.readouterr().err
            assert f"--help must be followed by an option of dedup; {message}" in error
            assert "dedup --beam_help" in error
            assert error.count("\n") == 1

    def test_help_among_other_arguments_is_the_short_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["-n", "--help"]) == 0
        assert "Examples:" in capsys.readouterr().out


def test_committed_reference_is_the_generated_one() -> None:
    committed = (ROOT / help_text.REFERENCE).read_text("utf-8")
    assert committed == reference.reference(), (
        "python -m beam_dedup.options.reference > docs/reference/options.md"
    )
