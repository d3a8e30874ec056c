"""Tests of the Dataflow flex template: its metadata, and how its parameters become command line flags."""

import json
import re
from typing import Any

import pytest
from google.cloud.dataflow_v1beta3 import TemplateMetadata

from beam_dedup.core.errors import UsageError
from beam_dedup.dataflow import launcher, metadata
from beam_dedup.options import checks, parser
from beam_dedup.options.option_table import OPTIONS
from tests.app.cli_runs import ROOT

COMMITTED = ROOT / "templates/dataflow/metadata.json"
METADATA = json.loads(COMMITTED.read_text("utf-8"))
PARAMETERS: dict[str, dict[str, Any]] = {one["name"]: one for one in METADATA["parameters"]}
IMAGE = "--sdk_container_image=r/dedup:1"
VALUES = {
    "NUMBER": "7",
    "PUBSUB_SUBSCRIPTION": "projects/p/subscriptions/s",
    "PUBSUB_TOPIC": "projects/p/topics/t",
    "TEXT": "gs://bucket/a b/c.jsonl",
}
DURATIONS = ("remember", "window")
SPLIT_VALUES = {"split": "train=gs://bucket/a b", "leak": "drop_from=train", "assign": "80/10/10"}


def value_for(name: str) -> str:
    """Returns a valid value of a parameter."""
    kind = PARAMETERS[name]["paramType"]
    if kind == "BOOLEAN":
        return "true"
    if kind == "ENUM":
        return str(PARAMETERS[name]["enumOptions"][-1]["value"])
    if name in ("max_bytes", "min_size"):
        return "2GiB"
    if name == "keep":
        return "oldest"
    if name in SPLIT_VALUES:
        return SPLIT_VALUES[name]
    return "90m" if name in DURATIONS else VALUES[kind]


def fits(name: str, value: str) -> bool:
    """Returns whether a value matches the patterns of a parameter."""
    return all(re.search(regex, value) for regex in PARAMETERS[name].get("regexes", ()))


class TestMetadata:
    def test_committed_metadata_is_the_generated_one(self) -> None:
        assert metadata.metadata() == METADATA, (
            "python -m beam_dedup.dataflow.metadata > templates/dataflow/metadata.json"
        )

    def test_every_option_is_a_parameter_or_excluded(self) -> None:
        names = {option.name for option in OPTIONS}
        assert launcher.EXCLUDED_OPTIONS.keys() <= names
        assert {*PARAMETERS, *launcher.EXCLUDED_OPTIONS} == {*names, launcher.IMAGE}

    def test_dataflow_knows_every_key_of_the_metadata(self) -> None:
        """Reads it with the types of Dataflow's own client, which refuse unknown keys."""
        known = TemplateMetadata.from_json(COMMITTED.read_text("utf-8"))
        assert [one.name for one in known.parameters] == list(PARAMETERS)
        assert all(one.param_type and one.label and one.help_text for one in known.parameters)
        assert known.streaming

    @pytest.mark.parametrize("name", [name for name in PARAMETERS if name != launcher.IMAGE])
    def test_value_that_fits_is_accepted_by_dedup(self, name: str) -> None:
        value = value_for(name)
        assert fits(name, value)
        given, rest = parser.parse(launcher.command_line([IMAGE, f"--{name}={value}"]))
        parsed = getattr(given, name)
        assert parsed in (True, 7, 7.0, 2 << 30, value, [value]), parsed
        assert rest == [IMAGE, "--runner=DataflowRunner"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("dump_dir", "/home/me/pictures"),
            ("output_dir", "unique"),
            ("bit_distance", "eight"),
            ("near_duplicates", "yes"),
            ("keep", "smallest"),
            ("keep", "largest,"),
            ("remember", "a day"),
            ("subscription", "s"),
            ("decode_timeout", "-1"),
            ("max_bytes", "1M"),
            ("sdk_container_image", ""),
        ],
    )
    def test_patterns_reject_wrong_and_local_values(self, name: str, value: str) -> None:
        assert not fits(name, value)

    def test_help_names_parameters_instead_of_flags(self) -> None:
        for one in PARAMETERS.values():
            assert not re.search(r"(?<![\w-])--?[a-z]", one["helpText"]), one["helpText"]


class TestParameters:
    def test_switches(self) -> None:
        assert "--near_duplicates" in launcher.command_line([IMAGE, "--near_duplicates=true"])
        assert "--near_duplicates" in launcher.command_line([IMAGE, "--near_duplicates=TRUE"])
        assert "--near_duplicates" not in launcher.command_line([IMAGE, "--near_duplicates=false"])

    def test_several_inputs(self) -> None:
        for separator in (",", ", ", "\n"):
            flags = launcher.command_line([IMAGE, f"--dump_dir=gs://a/b{separator}s3://c"])
            assert parser.parse(flags)[0].dump_dir == ["gs://a/b", "s3://c"]
        assert parser.parse(launcher.command_line([IMAGE, "--dump_dir=gs://a/b,c\n"]))[0].dump_dir == [
            "gs://a/b,c"
        ]

    def test_empty_value_counts_as_not_given(self) -> None:
        given, _ = parser.parse(
            launcher.command_line([IMAGE, "--remember=", "--bit_distance=", "--dump_dir="])
        )
        assert (given.remember, given.bit_distance, given.dump_dir) == (None, None, None)

    def test_options_of_dataflow_are_passed_on(self) -> None:
        flags = launcher.command_line(
            [
                IMAGE,
                "--runner=DataflowRunner",
                "--project=p-project",
                "--experiments=a",
                "--experiments=b=c",
                "--enable_streaming_engine",
                "--update=true",
                "--no_auth=false",
                "--use_public_ips=false",
                '--labels={"goog-dataflow-provided": "x=y"}',
            ]
        )
        assert flags == [
            IMAGE,
            "--runner=DataflowRunner",
            "--project=p-project",
            "--experiments=a",
            "--experiments=b=c",
            "--enable_streaming_engine",
            "--update",
            "--no_use_public_ips",
            '--labels={"goog-dataflow-provided": "x=y"}',
            "--output_json=",
        ]

    def test_no_file_is_written_to_the_current_directory_of_the_launcher(self) -> None:
        flags = launcher.command_line(
            [IMAGE, "--subscription=projects/p/subscriptions/s", "--allow=gs://b,gs://c/in/"]
        )
        config = checks.configure(parser.parse(flags)[0])
        assert not config.output_files
        assert config.allow == ("gs://b", "gs://c/in/")

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ("gs://bucket", 'a parameter must have the form --name=value; got "gs://bucket"'),
            ("-n", 'a parameter must have the form --name=value; got "-n"'),
            ("--near_duplicates=yes", 'near_duplicates must be true or false; got "yes"'),
            ("--update=1", 'update must be true or false; got "1"'),
            ("--dump_dir", "dump_dir requires a value. Write --dump_dir=..."),
            ("--num_jobs=2", "num_jobs is not available in a template (it sets the processes of one machine"),
            ("--help=true", "help is not available in a template (it prints text for a reader). Remove help"),
        ],
    )
    def test_wrong_parameter_is_refused(self, argument: str, message: str) -> None:
        with pytest.raises(UsageError, match=re.escape(message)):
            launcher.command_line([IMAGE, argument])

    def test_job_without_a_worker_image_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert launcher.main(["--dump_dir=gs://bucket"]) == 2
        assert "sdk_container_image is required, since workers need an image" in capsys.readouterr().err

    def test_unknown_parameter_is_refused_with_the_nearest_name(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert launcher.main([IMAGE, "--dump_dir=gs://bucket", "--max_num_worker=3"]) == 2
        assert "unknown option --max_num_worker; did you mean --max_num_workers?" in capsys.readouterr().err

    def test_local_files_are_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert launcher.main([IMAGE, "--dump_dir=gs://bucket", "--records=r.jsonl"]) == 2
        assert (
            "--records: r.jsonl is on this machine, where workers of Dataflow can't reach it"
            in capsys.readouterr().err
        )
