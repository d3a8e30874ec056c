"""A flex template: its parameters are our options, in the form in which Dataflow hands them over."""

import json
import re
from typing import Any

import pytest
from google.cloud.dataflow_v1beta3 import TemplateMetadata

from beam_dedup.core.errors import UsageError
from beam_dedup.dataflow import launcher, metadata
from beam_dedup.options import checks, parser
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


def value_for(name: str) -> str:
    kind = PARAMETERS[name]["paramType"]
    if kind == "BOOLEAN":
        return "true"
    if kind == "ENUM":
        return str(PARAMETERS[name]["enumOptions"][-1]["value"])
    return "90m" if name in DURATIONS else VALUES[kind]


def fits(name: str, value: str) -> bool:
    return all(re.search(regex, value) for regex in PARAMETERS[name].get("regexes", ()))


class TestMetadata:
    def test_the_committed_file_is_what_the_options_say(self) -> None:
        assert metadata.metadata() == METADATA, (
            "python -m beam_dedup.dataflow.metadata > templates/dataflow/metadata.json"
        )

    def test_every_option_is_a_parameter_or_said_to_be_none(self) -> None:
        ours = {action.dest for action in parser.parser()._actions}
        assert launcher.NOT_OF_JOBS.keys() <= ours
        assert {*PARAMETERS, *launcher.NOT_OF_JOBS} == {*ours, launcher.IMAGE}

    def test_dataflow_knows_every_word_of_it(self) -> None:
        """By the types of its own client; one that it doesn't know is an error."""
        known = TemplateMetadata.from_json(COMMITTED.read_text("utf-8"))
        assert [one.name for one in known.parameters] == list(PARAMETERS)
        assert all(one.param_type and one.label and one.help_text for one in known.parameters)
        assert known.streaming

    @pytest.mark.parametrize("name", [name for name in PARAMETERS if name != launcher.IMAGE])
    def test_a_value_that_fits_is_taken_by_dedup(self, name: str) -> None:
        value = value_for(name)
        assert fits(name, value)
        given, rest = parser.parse(launcher.flags([IMAGE, f"--{name}={value}"]))
        parsed = getattr(given, name)
        assert parsed in (True, 7, 7.0, value, [value]), parsed
        assert rest == [IMAGE, "--runner=DataflowRunner"]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("dump_dir", "/home/me/pictures"),
            ("output_dir", "unique"),
            ("bit_distance", "eight"),
            ("near_duplicates", "yes"),
            ("keep", "smallest"),
            ("remember", "a day"),
            ("subscription", "s"),
            ("decode_timeout", "-1"),
            ("sdk_container_image", ""),
        ],
    )
    def test_patterns_stop_what_dedup_would_refuse_or_workers_would_not_find(
        self, name: str, value: str
    ) -> None:
        assert not fits(name, value)

    def test_help_names_parameters_and_not_flags(self) -> None:
        for one in PARAMETERS.values():
            assert not re.search(r"(?<![\w-])--?[a-z]", one["helpText"]), one["helpText"]


class TestParameters:
    def test_flags_without_a_value(self) -> None:
        assert "--near_duplicates" in launcher.flags([IMAGE, "--near_duplicates=true"])
        assert "--near_duplicates" in launcher.flags([IMAGE, "--near_duplicates=TRUE"])
        assert "--near_duplicates" not in launcher.flags([IMAGE, "--near_duplicates=false"])

    def test_several_inputs(self) -> None:
        for separator in (",", ", ", "\n"):
            made = launcher.flags([IMAGE, f"--dump_dir=gs://a/b{separator}s3://c"])
            assert parser.parse(made)[0].dump_dir == ["gs://a/b", "s3://c"]
        assert parser.parse(launcher.flags([IMAGE, "--dump_dir=gs://a/b,c\n"]))[0].dump_dir == ["gs://a/b,c"]

    def test_an_empty_value_is_none(self) -> None:
        given, _ = parser.parse(launcher.flags([IMAGE, "--remember=", "--bit_distance=", "--dump_dir="]))
        assert (given.remember, given.bit_distance, given.dump_dir) == (None, None, None)

    def test_options_of_dataflow_go_through(self) -> None:
        made = launcher.flags(
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
        assert made == [
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

    def test_no_file_is_written_where_the_launcher_happens_to_run(self) -> None:
        made = launcher.flags([IMAGE, "--subscription=projects/p/subscriptions/s"])
        config = checks.configure(parser.parse(made)[0])
        assert not config.output_files

    @pytest.mark.parametrize(
        ("argument", "told"),
        [
            ("gs://bucket", "'gs://bucket' is no parameter of a template: each is --name=value"),
            ("-n", "'-n' is no parameter of a template: each is --name=value"),
            ("--near_duplicates=yes", "near_duplicates is true or false, got 'yes'"),
            ("--update=1", "update is true or false, got '1'"),
            ("--dump_dir", "dump_dir needs a value, as in --dump_dir=..."),
            ("--num_jobs=2", "num_jobs can't be used in a template: it is for the cores of one machine"),
            ("--help=true", "help can't be used in a template: it tells a reader what there is"),
        ],
    )
    def test_what_is_refused(self, argument: str, told: str) -> None:
        with pytest.raises(UsageError, match=re.escape(told)):
            launcher.flags([IMAGE, argument])

    def test_a_job_whose_workers_would_lack_the_program_is_refused(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert launcher.main(["--dump_dir=gs://bucket"]) == 2
        assert "sdk_container_image is missing" in capsys.readouterr().err

    def test_a_name_that_nobody_knows_is_refused_and_the_nearest_told(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert launcher.main([IMAGE, "--dump_dir=gs://bucket", "--max_num_worker=3"]) == 2
        assert "unknown option --max_num_worker; did you mean --max_num_workers?" in capsys.readouterr().err

    def test_files_of_the_launcher_are_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert launcher.main([IMAGE, "--dump_dir=gs://bucket", "--records=r.jsonl"]) == 2
        assert (
            "--records: r.jsonl is on this machine, where workers of Dataflow can't reach it"
            in capsys.readouterr().err
        )
