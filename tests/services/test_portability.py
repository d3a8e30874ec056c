"""Runs every composite on every runner, also with steps that fail.

Verdicts, counters and files equal those of one thread in this process.
"""

import functools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import fastavro
import pytest

import transforms
from beam_dedup.core.archives.members import file_uri
from beam_dedup.core.matching import shard_verdicts
from beam_dedup.core.reading import isolated_decoder
from tests.app.cli_runs import tree
from tests.services import runner_pipelines
from tests.services.runner_pipelines import Build, Inputs
from tests.stream_files import generation_of
from tests.transforms.pipelines import IN_MEMORY, PROCESSES, REPEATED, THREADS, Ran, run
from tests.transforms.test_failures import FailsOnce
from tests.verdicts_outside import Key, Outside, check_each_once
from transforms import metrics
from transforms import write as writing
from transforms.storage import placing

# The workers of remote runners are threads of this process, which raise when the runner closes the connection.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

LOCAL = {"threads": THREADS, "processes": PROCESSES, "bundles repeated": REPEATED}
REMOTE = ("prism", "flink")
CASES = (
    runner_pipelines.near,
    runner_pipelines.exact,
    runner_pipelines.metadata,
    runner_pipelines.single,
    runner_pipelines.rows,
    runner_pipelines.marked_near,
    runner_pipelines.marked_exact,
)

each_runner = pytest.mark.parametrize(
    "runner",
    [
        pytest.param("threads", marks=pytest.mark.slow),
        "bundles repeated",
        pytest.param("processes", marks=[pytest.mark.processes, pytest.mark.slow]),
        *(pytest.param(name, marks=[pytest.mark.service, pytest.mark.slow]) for name in REMOTE),
    ],
)


class Outcome:
    """All results of a pipeline, in a form that does not depend on their order."""

    def __init__(self, ran: Ran, outputs: Path) -> None:
        values = {name: sorted(map(repr, found)) for name, found in ran.values.items()}
        windows = {name: Counter(found) for name, found in ran.windows.items()}
        self.files = _files(outputs)
        self.rest = values, windows
        self.counters = ran.counters

    def check(self, other: "Outcome", retried: bool) -> None:
        """Checks that this outcome equals another one.

        Args:
          other: the expected outcome.
          retried: whether bundles were run more than once. The counter of copies may then be lower: copies that a failed
            attempt has written are not counted by the attempt that finds them.
        """
        assert self.files.keys() == other.files.keys()
        assert self.files == other.files
        assert self.rest == other.rest
        counters = dict(self.counters)
        if retried and metrics.COPIES in other.counters:  # absent from ours if all copies existed
            assert counters.get(metrics.COPIES, 0) <= other.counters[metrics.COPIES]
            counters[metrics.COPIES] = other.counters[metrics.COPIES]
        assert counters == other.counters


def _files(outputs: Path) -> dict[str, Any]:
    """Returns the files without the path of the output directory in them.

    Returns the sorted lines of all shards, and the records of an Avro file, which contains a random number.
    """
    found: dict[str, Any] = {"records/": []}
    for name, data in tree(outputs).items():
        if name.startswith("records/"):
            found["records/"] += data.splitlines()
        elif name.endswith(".avro"):
            with (outputs / name).open("rb") as file:
                found[name] = list(fastavro.reader(file))
        else:
            found[name] = data.replace(str(outputs).encode(), b"OUT")
    found["records/"].sort()
    return found


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return runner_pipelines.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def flags(runner: str, request: pytest.FixtureRequest) -> tuple[str, ...]:
    return LOCAL[runner] if runner in LOCAL else request.getfixturevalue(runner).flags


@pytest.fixture(scope="module")
def expected(
    inputs: Inputs, tmp_path_factory: pytest.TempPathFactory
) -> "functools._lru_cache_wrapper[Outcome]":
    """Returns the outcome of a case in one thread; each case runs once."""

    def outcome(case: Any) -> Outcome:
        return run_case(case, inputs, tmp_path_factory.mktemp("expected"), IN_MEMORY)

    return functools.lru_cache(outcome)


def run_case(case: Any, inputs: Inputs, outputs: Path, flags: tuple[str, ...]) -> Outcome:
    build: Build = case(inputs, outputs)
    return Outcome(run(build, *flags), outputs)


def test_pipelines_use_all_composites() -> None:
    names = {
        name
        for name in transforms.__all__
        if isinstance(made := getattr(transforms, name), type) and issubclass(made, beam.PTransform)
    }
    text = Path(runner_pipelines.__file__).read_text("utf-8")
    assert {name for name in names if f"{name}(" not in text} == set()


@each_runner
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_outcome_equals_that_of_one_thread(
    case: Any, runner: str, flags: tuple[str, ...], inputs: Inputs, tmp_path: Path, expected: Any
) -> None:
    found = run_case(case, inputs, tmp_path, flags)
    found.check(expected(case), runner == "bundles repeated")


def test_expected_outcomes_are_not_trivial(expected: Any) -> None:
    outcome = expected(runner_pipelines.near)
    files, (values, windows), counters = outcome.files, outcome.rest, outcome.counters
    assert set(files) > {
        "records.jsonl",
        "records.avro",
        "groups.json",
        "counts.json",
        "unplaced",
        "placements",
    }
    assert files["unplaced"].count(b"\n") == counters[metrics.UNPLACED] == 1
    assert counters[metrics.COPIES] > 10
    statuses = Counter(json.loads(line)["reason"] for line in files["records.jsonl"].splitlines())
    assert set(statuses) == {None, "exact", "near", "empty", "not_an_image"}
    assert values["images"] == [str(statuses.total())]
    assert counters[metrics.INITIAL] == statuses.total()
    assert counters[metrics.REJECTED] == 2
    assert len(expected(runner_pipelines.marked_near).rest[1]["verdicts"]) == 2, "windows"
    assert len(expected(runner_pipelines.exact).files["records/"]) > 40
    described = [
        json.loads(line)["flags"]
        for line in expected(runner_pipelines.metadata).files["records.jsonl"].splitlines()
    ]
    assert ["described"] in described
    assert windows["images"] == {None: 1}


@each_runner
def test_stream_verdicts_hold_on_every_runner(
    runner: str, flags: tuple[str, ...], inputs: Inputs, tmp_path: Path
) -> None:
    """Checks the rules that hold for any order of arrival; which images are kept depends on the order."""
    ran = run(runner_pipelines.stream(inputs, tmp_path), *flags)
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_bytes().splitlines()]
    judged: dict[Key, bytes] = {}
    for name, data in tree(Path(inputs.pictures)).items():
        path = f"{inputs.pictures}/{name}"
        uri, generation = file_uri(path), generation_of(path)
        members = runner_pipelines.ARCHIVES.get(name)
        if members is None:
            judged[Key(uri, generation)] = data
        else:
            judged |= {Key(f"{uri}!{member}", generation): data for member, data in members.items()}
    check_each_once(records, judged)
    Outside(judged.values()).check(records)
    assert len(ran.values["verdicts"]) == len(records)
    assert ran.counters[metrics.ADMITTED] == len(tree(Path(inputs.pictures)))
    assert ran.counters[metrics.REDELIVERED] > 0
    assert metrics.EXPIRED not in ran.counters


FAILURES = [
    pytest.param(isolated_decoder, "receive", 13, id="while it reads"),
    pytest.param(shard_verdicts, "verdicts", 1, id="while it judges"),
    pytest.param(placing, "whole_file", 9, id="while it copies"),
    pytest.param(writing, "whole_file", 1, id="before it writes a file"),
]


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.parametrize("runner", REMOTE)
@pytest.mark.parametrize(("module", "name", "good"), FAILURES)
def test_outcome_is_the_same_after_a_step_failed_once(
    module: Any,
    name: str,
    good: int,
    runner: str,
    flags: tuple[str, ...],
    inputs: Inputs,
    tmp_path: Path,
    expected: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flink retries the step. Prism fails the pipeline, and the user runs all of it again."""
    wanted = expected(runner_pipelines.near)
    function = FailsOnce(getattr(module, name), good)
    monkeypatch.setattr(module, name, function)
    if runner == "prism":
        with pytest.raises(Exception, match="the worker died"):
            run_case(runner_pipelines.near, inputs, tmp_path, flags)
    found = run_case(runner_pipelines.near, inputs, tmp_path, flags)
    assert function.calls > good + 1
    if runner == "prism":  # the second run does not count the copies of the first
        assert found.files == wanted.files
    else:
        found.check(wanted, retried=True)
