"""The tables of the reference are complete and agree with the code. (tests/app/test_help.py compares options.md with the options.)"""

import json
import re
from pathlib import Path

import pytest

from beam_dedup import cli
from beam_dedup.core import codes, limits
from beam_dedup.core.algorithms import ALGORITHMS, Recipe, Views
from beam_dedup.core.imaging import dct, fingerprint, formats
from beam_dedup.core.limits import Limits
from beam_dedup.core.matching import planner
from beam_dedup.core.model import RECORD_FIELDS, Flag, Reason, Status
from beam_dedup.core.preference import KeepPolicy, RuleKind
from beam_dedup.core.reading.selection import DEFAULT_EXCLUDES, Exclusions
from beam_dedup.core.thresholds import DEFAULT_BIT_DISTANCE, DEFAULT_VERIFY
from beam_dedup.core.union import KEYS, POSITION_KEYS
from beam_dedup.runners import flink
from tests.app.cli_runs import ROOT
from tests.docs.pages import DOCS, one_line, table, text_of
from transforms import metrics, near_rounds
from transforms.count import as_counts
from transforms.stream.record import INTERVAL_SECONDS

RECORDS = DOCS / "reference" / "records.md"
COUNTERS = DOCS / "reference" / "counters.md"
EXIT_CODES = DOCS / "reference" / "exit-codes.md"
FINGERPRINTS = DOCS / "concepts" / "fingerprints.md"
FOLDERS = DOCS / "guides" / "folders.md"
ARCHIVES = DOCS / "guides" / "archives.md"
METADATA = DOCS / "guides" / "metadata.md"
FLINK = DOCS / "guides" / "flink.md"
STREAMING = DOCS / "guides" / "streaming.md"
DESIGN = DOCS / "design.md"


class TestGuides:
    def test_limits_of_archives_are_documented(self) -> None:
        usual = Limits()
        assert usual.max_member_bytes == 128 << 20
        assert "Limits: 128 MiB per member, 2 million members per archive." in one_line(ARCHIVES)
        assert usual.max_members == 2_000_000

    def test_rules_of_keep_are_documented(self) -> None:
        names = [
            name.removesuffix(" (default)").partition(":")[0]
            for names in table(FOLDERS, "`--keep`")
            for name in names.split(", ")
        ]
        assert len(set(names)) == len(names)
        assert set(names) == {*RuleKind, *KeepPolicy}

    def test_keys_of_unions_are_documented(self) -> None:
        documented = dict(table(METADATA, "field"))
        positions = ", ".join(f"`{latitude}` and `{longitude}`" for latitude, longitude in POSITION_KEYS)
        assert documented.pop("position") == f"{positions}: in degrees"
        assert {name: keys.lower() for name, keys in documented.items()} == {
            name: ", ".join(f"`{key}`" for key in keys) for name, keys in KEYS.items()
        }


class TestFingerprints:
    def test_bits_and_distances_of_each_algorithm(self) -> None:
        documented = {
            name.removesuffix(" *"): tuple(int(cell) for cell in row.split(" | ")[:3])
            for name, row in table(FINGERPRINTS, "algorithm").items()
        }
        assert documented == {
            name: (algorithm.bits, algorithm.default_k, algorithm.max_k)
            for name, algorithm in ALGORITHMS.items()
        }
        starred = {
            name.removesuffix(" *") for name in table(FINGERPRINTS, "algorithm") if name.endswith(" *")
        }
        assert starred == {name for name, algorithm in ALGORITHMS.items() if algorithm.is_heavy}

    def test_views_of_the_option(self) -> None:
        assert list(table(FINGERPRINTS, "`--views`")) == list(Views)

    def test_numbers_of_the_text(self) -> None:
        text = one_line(FINGERPRINTS)
        assert Recipe().name in text
        assert f"under {fingerprint.TINY_SIDE} pixels" in text
        assert f"up to {limits.MAX_PIXELS_HEAVY // 1_000_000} million pixels" in text
        assert f"more than {limits.MAX_PIXELS // 1_000_000} million pixels" in text
        assert f"JPEG: {limits.MAX_PIXELS_SCALED // 1_000_000} million" in text
        assert f"`-k` bits (default {DEFAULT_BIT_DISTANCE})" in text
        assert f"(default {DEFAULT_VERIFY} of 256" in text
        assert "3/4 of its rows" in text

    def test_decoded_formats(self) -> None:
        names = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}
        listed = [names.get(name, name) for name in formats.DECODED_FORMATS]
        assert f"{', '.join(listed[:-1])} and {listed[-1]} are decoded" in one_line(FINGERPRINTS)


class TestRecords:
    def test_fields(self) -> None:
        documented = [name for names in table(RECORDS, "field of a record") for name in names.split(", ")]
        assert documented == list(RECORD_FIELDS)
        for kind, row in ((Flag, "flags"), (Status, "status")):
            assert all(f"`{member}`" in table(RECORDS, "field of a record")[row] for member in kind)

    def test_reasons(self) -> None:
        assert table(RECORDS, "reason") == {reason.value: reason.meaning for reason in Reason}
        assert list(table(RECORDS, "reason")) == [reason.value for reason in Reason]

    def test_every_documented_reason_is_given_by_some_code(self) -> None:
        code = "".join(
            path.read_text("utf-8")
            for package in ("beam_dedup", "transforms")
            for path in (ROOT / package).rglob("*.py")
            if path.name != "model.py"
        )
        assert [reason.name for reason in Reason if not re.search(rf"Reason\.{reason.name}\b", code)] == []

    def test_flags(self) -> None:
        assert list(table(RECORDS, "flag")) == list(Flag)

    def test_views(self) -> None:
        documented = [name for names in table(RECORDS, "`view`") for name in names.split(", ")]
        assert documented == list(codes.VIEWS)

    def test_record_shown_is_that_of_the_sample(
        self, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "demo").mkdir()
        (tmp_path / "demo" / "pictures").symlink_to(samples)
        assert cli.main(["-n", "-i", "demo/pictures", "--records", "r.jsonl", "-o", "", "--quiet"]) == 0
        [block] = re.findall(r"```json\n(.*?)```", text_of(RECORDS), re.DOTALL)
        shown = json.loads(block)
        assert shown in [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
        assert list(shown) == list(RECORD_FIELDS)


class TestCounters:
    def test_beam_counters_and_gauges(self) -> None:
        documented = {*table(COUNTERS, "counter"), *table(COUNTERS, "gauge")}
        names = {
            value
            for name, value in vars(metrics).items()
            if name.isupper() and str(value).endswith(("_Count", "_ms", "_Bytes"))
        }
        assert documented == names
        assert metrics.rejected_for(Reason.EMPTY) == "Rejected_empty_Count"
        kept = metrics.names_for(Status.KEPT, None)
        assert set(kept) <= documented

    def test_names_of_the_counts_file(self) -> None:
        section = text_of(COUNTERS).partition("## The counts file")[2]
        every = as_counts({metrics.DESCRIBED: 1}, None, None, exclusions=Exclusions({"a": 1}, {"b": 1}))
        for name in (*every, metrics.SKIPPED):
            assert f"`{name}`" in section

    def test_default_excludes_of_the_guide(self) -> None:
        section = (
            text_of(DOCS / "guides" / "folders.md").partition("| left out | why |")[2].partition("\n\n")[0]
        )
        named = re.findall(r"`([^`]+)`", section)
        assert named == [pattern.removeprefix("**/") for pattern in DEFAULT_EXCLUDES]

    def test_counters_of_the_streaming_guide_exist(self) -> None:
        rejected = {metrics.rejected_for(reason) for reason in Reason}
        named = set(re.findall(r"`(\w+(?:_Count|_ms))`", text_of(STREAMING)))
        assert named <= rejected | {*table(COUNTERS, "counter"), *table(COUNTERS, "gauge")}


def test_exit_codes() -> None:
    documented = [int(code) for code in table(EXIT_CODES, "exit code")]
    assert documented == sorted(
        {cli.DONE, cli.FAILED, cli.WRONG_USAGE, cli.LEAKS, cli.INTERRUPTED, 128 + 1, 128 + 2, 128 + 15}
    )


def test_numbers_of_the_plan() -> None:
    for page in (FOLDERS, DESIGN):
        for number in (planner.GATHERED_CODES, planner.MAX_CANDIDATES):
            assert f"{number:,}" in text_of(page), page


def test_numbers_of_the_design() -> None:
    text = one_line(DESIGN)
    assert f"above {dct.DEAD_ZONE} grey levels" in text
    assert f"After {near_rounds.ROUNDS} rounds" in text
    assert f"{DEFAULT_VERIFY} of 256" in text
    assert [line for line in text_of(DESIGN).splitlines() if line.startswith("## ")] == [
        f"## {number}. {title}"
        for number, title in enumerate(
            (
                "Terms",
                "The definition",
                "Rank",
                "Finding all pairs within k without comparing all pairs",
                "Batch",
                "Streaming: the same result without a clock",
                "Output",
                "The command line",
                "Layout and direction of imports",
                "The index",
                "Cleaning up",
            ),
            1,
        )
    ]


def test_flags_that_a_stream_on_flink_is_given() -> None:
    text = one_line(FLINK)
    assert f"`--checkpointing_interval={flink.CHECKPOINT_MS}`" in text
    assert f"`--max_bundle_time_mills={flink.BUNDLE_MS}`" in text
    assert f"`{flink.STATE_BACKEND}`" in text


def test_interval_of_records_in_a_stream() -> None:
    assert INTERVAL_SECONDS == 10
    assert "one every ten seconds" in one_line(STREAMING)


def test_terms_of_the_glossary_are_sorted_and_unique() -> None:
    terms = list(table(DOCS / "glossary.md", "term"))
    assert terms == sorted(set(terms), key=str.lower)
