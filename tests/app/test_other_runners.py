"""Checks batches on other runners: relative paths, empty inputs and the summary. Beam's runners in this process stand for others."""

import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from apache_beam.metrics.execution import MetricKey, MetricResult
from apache_beam.metrics.metricbase import MetricName
from apache_beam.runners.runner import PipelineResult

from beam_dedup import preflight
from beam_dedup.absolute_paths import absolute
from beam_dedup.batch import remote_report
from beam_dedup.batch.remote_report import CountsFile
from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.options.config import DedupConfig, StreamConfig
from beam_dedup.runners import job_metrics
from beam_dedup.samples import picture
from tests.app.cli_runs import dedup, tree

# Their workers are known to be in this process. The second flag keeps Beam from looking for Prism.
HERE = ("--runner=DirectRunner", "--allow_unsafe_triggers")
# The same local runner, but by a name of which `dedup` does not know where its workers are.
ELSEWHERE = ("--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",)

OUTPUTS = ("-d", "out", "-s", "-o", "g.json", "--records", "r.jsonl", "--counts", "c.json")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: two equal pictures, another one, a text, rows that name the pictures, an empty directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/sub", "known", "empty"):
        Path(name).mkdir(parents=True)
    picture(1).save("in/a.png")
    picture(1).save("in/sub/b.png")
    picture(2).save("in/c.png")
    picture(2).save("known/d.png")
    Path("in/notes.jpg").write_text("no picture")
    paths = ("in/a.png", "in/sub/b.png", str(tmp_path / "in/a.png"), "in/c.png")
    Path("rows.jsonl").write_text(
        "".join(json.dumps({"__path__": path}) + "\n" for path in paths[:2] + paths[3:])
    )
    Path("twice.jsonl").write_text("".join(json.dumps({"__path__": path}) + "\n" for path in paths))
    return tmp_path


def outputs_of(*arguments: object) -> dict[str, bytes]:
    """Runs `dedup`, and moves its outputs away. Returns their contents."""
    assert dedup("-n", *arguments, *OUTPUTS) == 0
    done = Path(tempfile.mkdtemp(dir="."))
    for name in ("out", "g.json", "r.jsonl", "c.json"):
        shutil.move(name, done)
    return tree(done)


def test_workers_of_this_process_write_the_outputs_of_the_local_runner() -> None:
    found = outputs_of("-i", "in", *HERE)
    assert found == outputs_of("-i", "in")
    assert found["r.jsonl"].startswith(b'{"uri": "in/a.png"')


@pytest.mark.parametrize(
    "arguments",
    [("-i", "in"), ("-i", "in/*"), ("-i", "in", "--reference", "known"), ("-l", "rows.jsonl")],
    ids=["directory", "pattern", "reference", "rows"],
)
def test_paths_are_absolute_for_workers_elsewhere_and_copies_have_the_same_names(
    arguments: tuple[str, ...], folder: Path
) -> None:
    local, found = outputs_of(*arguments), outputs_of(*arguments, *ELSEWHERE)
    assert found.keys() == local.keys()
    differ = {name for name in local if found[name] != local[name]}
    assert differ == {"r.jsonl", "g.json"}
    relative = found["r.jsonl"].replace(f'"{folder}/'.encode(), b'"')
    assert sorted(relative.splitlines()) == sorted(local["r.jsonl"].splitlines())
    assert json.loads(found["g.json"].replace(f'"{folder}/'.encode(), b'"')) == json.loads(local["g.json"])


def records(path: str) -> list[dict[str, Any]]:
    return sorted(map(json.loads, Path(path).read_text().splitlines()), key=lambda record: record["uri"])


def test_rows_with_one_path_in_two_forms_are_one_image_elsewhere() -> None:
    assert dedup("-l", "twice.jsonl", "--records", "r.jsonl", *ELSEWHERE) == 0
    assert Counter(record["reason"] for record in records("r.jsonl")) == {None: 2, "exact": 1, "malformed": 1}


@pytest.mark.parametrize(
    ("flags", "is_absolute"),
    [
        ((), False),
        (("--runner=FnApiRunner",), False),
        (("--runner=DirectRunner",), False),
        (("--runner=PrismRunner",), False),
        (("--runner=FlinkRunner",), False),
        (("--runner=PortableRunner", "--environment_type=LOOPBACK"), False),
        (("--runner=PortableRunner",), True),
        (("--runner=PortableRunner", "--environment_type=EXTERNAL"), True),
        (("--runner=PrismRunner", "--environment_type=EXTERNAL"), True),
        (("--runner=DirectRunner", "--environment_type=DOCKER"), True),
        (("--runner=FlinkRunner", "--flink_master=host:8081"), True),
        (("--runner=SparkRunner",), True),
    ],
)
def test_paths_become_absolute_unless_the_workers_are_in_this_process(
    flags: tuple[str, ...], is_absolute: bool, folder: Path
) -> None:
    config = DedupConfig(
        ("in", "in/*.png"), reference="known", records="r/", counts="c.json", output_dir="out", near=True
    )
    found = preflight.prepare(config, flags).config
    start = f"{folder}/" if is_absolute else ""
    assert found.inputs == (f"{start}in", f"{start}in/*.png")
    assert found.reference == f"{start}known"
    assert found.outputs == tuple(
        f"{start}{name}" for name in ("image_locations.json", "r/", "c.json", "out")
    )


def test_wildcards_in_the_current_directory_are_no_pattern(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("[a]*/in").mkdir(parents=True)
    Path("[a]*/in/x.gif").write_bytes(b"GIF89a")
    monkeypatch.chdir("[a]*")
    assert absolute("in") == f"{folder}/[a]*/in"
    assert absolute("in/*.gif") == f"{folder}/[[]a][*]/in/*.gif"
    assert dedup("-i", "in/*.gif", "--records", "r.jsonl", *ELSEWHERE) == 0
    assert [record["uri"] for record in records("r.jsonl")] == [f"{folder}/[a]*/in/x.gif"]


def test_remote_and_absolute_paths_stay() -> None:
    assert [absolute(path) for path in ("", "gs://b/a", "/a/", "/a//b")] == ["", "gs://b/a", "/a/", "/a//b"]


class TestSummary:
    @pytest.mark.parametrize("runner", [HERE, ELSEWHERE])
    @pytest.mark.parametrize("counts", [(), ("--counts", "c.json")])
    def test_counts_are_printed(
        self, runner: tuple[str, ...], counts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert dedup("-n", "-i", "in", *counts, *runner) == 0
        output = capsys.readouterr().out
        assert output.startswith("4 images: 2 kept, 1 duplicate, 1 rejected\n")
        assert "\nInitial_Image_Count    4\n" in output
        assert "\n  not_an_image         1 " in output
        assert "(-j" not in output

    def test_quiet_prints_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert dedup("-i", "in", "--quiet", *ELSEWHERE) == 0
        assert capsys.readouterr() == ("", "")

    def test_unknown_counts_are_no_zeros(self, capsys: pytest.CaptureFixture[str]) -> None:
        for metrics in ([], [counter("Final_Image_Count", 3)]):
            remote_report.report(DedupConfig(("in",)), CountsFile(""), Result(metrics), 1.0)
            output = capsys.readouterr().out
            assert output.startswith("dedup: the job is done. Its counts are not known here")
            assert "--counts" in output

    def test_runner_that_does_not_answer_does_not_fail_the_run(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        remote_report.report(DedupConfig(("in",)), CountsFile(""), Result(None), 1.0)
        assert "not known here" in capsys.readouterr().out

    def test_counts_file_of_an_earlier_run_is_not_read(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The workers have other disks, on which they wrote the file."""
        config = DedupConfig(("in",), counts="c.json", output_json="")
        Path("c.json").write_text(json.dumps({"Initial_Image_Count": 7}))
        remote_report.report(config, CountsFile("c.json"), Result([]), 1.0)
        assert "not known here" in capsys.readouterr().out

    def test_counters_are_summed_over_steps_and_committed_ones_count(self) -> None:
        found = [counter("Initial_Image_Count", 8, "a", attempted=9), counter("Initial_Image_Count", 1, "b")]
        found += [
            counter("Final_Image_Count", None, "a", attempted=4),
            counter("Initial_Image_Count", 5, "a", "other"),
        ]
        assert job_metrics.counters(Result(found)) == {"Initial_Image_Count": 9, "Final_Image_Count": 4}

    def test_missing_copies_are_an_error(self) -> None:
        found = [counter("Initial_Image_Count", 3), counter("Unplaced_Copy_Count", 2)]
        with pytest.raises(DedupError, match=r"^2 images could not be placed in out;"):
            remote_report.report(DedupConfig(("in",), output_dir="out"), CountsFile(""), Result(found), 1.0)


class TestNothingToJudge:
    @pytest.mark.parametrize("runner", [HERE, ELSEWHERE])
    def test_empty_directory_is_refused_before_the_job_is_submitted(
        self, runner: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert dedup("-i", "in", "-i", "empty", *runner) == 2
        assert "dedup: -i: there are no files in empty" in capsys.readouterr().err

    def test_empty_directory_stays_no_failure_of_the_local_runner(self) -> None:
        assert dedup("-i", "empty") == 0

    @pytest.mark.parametrize("runner", [HERE, ELSEWHERE])
    def test_job_that_read_nothing_has_failed(
        self, runner: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("rows.jsonl").write_text("\n\n")
        assert dedup("-l", "rows.jsonl", *runner) == 1
        [line] = [line for line in capsys.readouterr().err.splitlines() if "loading" not in line]
        assert line.startswith("dedup: no image was read: nothing was found in ")
        assert "rows.jsonl" in line

    @pytest.mark.parametrize("runner", [HERE, ELSEWHERE])
    def test_job_that_rejected_everything_has_failed(
        self, runner: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("empty/a.jpg").write_text("no picture")
        assert dedup("-i", "empty", *runner) == 1
        assert "could be judged" in capsys.readouterr().err

    def test_input_that_workers_do_not_find_is_named(self) -> None:
        found = [
            counter(name, 1) for name in ("Initial_Image_Count", "Rejected_Count", "Rejected_not_found_Count")
        ]
        config = DedupConfig((os.path.abspath("in"),), output_json="")
        with pytest.raises(
            DedupError, match=rf"no image of {Path.cwd()}/in could be judged: .*\(1 not_found\)"
        ):
            remote_report.report(config, CountsFile(""), Result(found), 1.0)

    def test_stream_may_begin_with_an_empty_directory(self) -> None:
        config = DedupConfig(("empty",), output_json="")
        with pytest.raises(UsageError):
            preflight.prepare(config, ELSEWHERE)
        stream = DedupConfig(("empty",), output_json="", stream=StreamConfig())
        assert preflight.prepare(stream, ELSEWHERE).config.inputs == (os.path.abspath("empty"),)


class _Found(NamedTuple):
    counters: list[MetricResult] | None

    def query(self) -> dict[str, Any]:
        assert self.counters is not None, "the job server does not answer"
        return {"counters": self.counters, "gauges": []}


class Result(PipelineResult):
    """The result of a finished job with some counters; None if its metrics can't be had."""

    def __init__(self, counters: list[MetricResult] | None) -> None:
        super().__init__("DONE")
        self._counters = counters

    def metrics(self) -> _Found:
        return _Found(self._counters)


def counter(
    name: str,
    committed: int | None,
    step: str = "Step",
    namespace: str = "beam_dedup",
    *,
    attempted: int | None = None,
) -> MetricResult:
    return MetricResult(MetricKey(step, MetricName(namespace, name)), committed, attempted)
