"""Every composite on every engine: verdicts, counters and files are those of one thread in this process, also when steps die."""

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
from tests.transforms.test_failures import Dies
from tests.verdicts_outside import Key, Outside, check_each_once
from transforms import metrics
from transforms import write as writing
from transforms.storage import placing

# Workers of engines that run elsewhere are threads of this process: theirs is the last word when the engine hangs up.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

HERE = {"threads": THREADS, "processes": PROCESSES, "bundles repeated": REPEATED}
ELSEWHERE = ("prism", "flink")
CASES = (
    runner_pipelines.near,
    runner_pipelines.exact,
    runner_pipelines.metadata,
    runner_pipelines.single,
    runner_pipelines.marked_near,
    runner_pipelines.marked_exact,
)

each_engine = pytest.mark.parametrize(
    "engine",
    [
        pytest.param("threads", marks=pytest.mark.slow),
        "bundles repeated",
        pytest.param("processes", marks=[pytest.mark.processes, pytest.mark.slow]),
        *(pytest.param(name, marks=[pytest.mark.service, pytest.mark.slow]) for name in ELSEWHERE),
    ],
)


class Answer:
    """All that a pipeline leaves, in a form that is the same if it is."""

    def __init__(self, ran: Ran, outputs: Path) -> None:
        values = {name: sorted(map(repr, found)) for name, found in ran.values.items()}
        windows = {name: Counter(found) for name, found in ran.windows.items()}
        self.files = _files(outputs)
        self.rest = values, windows
        self.counters = ran.counters

    def check(self, other: "Answer", retried: bool) -> None:
        """retried: copies were written by an attempt that failed, and so not counted in that which found them there."""
        assert self.files.keys() == other.files.keys()
        assert self.files == other.files
        assert self.rest == other.rest
        counters = dict(self.counters)
        if (
            retried and metrics.COPIES in other.counters
        ):  # it may be that all were there: then nothing was counted
            assert counters.get(metrics.COPIES, 0) <= other.counters[metrics.COPIES]
            counters[metrics.COPIES] = other.counters[metrics.COPIES]
        assert counters == other.counters


def _files(outputs: Path) -> dict[str, Any]:
    """Files without where they are; of shards their lines; of Avro, which has a random number in it, the records."""
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
def flags(engine: str, request: pytest.FixtureRequest) -> tuple[str, ...]:
    return HERE[engine] if engine in HERE else request.getfixturevalue(engine).flags


@pytest.fixture(scope="module")
def expected(
    inputs: Inputs, tmp_path_factory: pytest.TempPathFactory
) -> "functools._lru_cache_wrapper[Answer]":
    """What one thread makes of a case."""

    def answer(case: Any) -> Answer:
        return done(case, inputs, tmp_path_factory.mktemp("expected"), IN_MEMORY)

    return functools.lru_cache(answer)


def done(case: Any, inputs: Inputs, outputs: Path, flags: tuple[str, ...]) -> Answer:
    build: Build = case(inputs, outputs)
    return Answer(run(build, *flags), outputs)


def test_all_composites_are_run() -> None:
    names = {
        name
        for name in transforms.__all__
        if isinstance(made := getattr(transforms, name), type) and issubclass(made, beam.PTransform)
    }
    text = Path(runner_pipelines.__file__).read_text("utf-8")
    assert {name for name in names if f"{name}(" not in text} == set()


@each_engine
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_answer_is_the_same(
    case: Any, engine: str, flags: tuple[str, ...], inputs: Inputs, tmp_path: Path, expected: Any
) -> None:
    found = done(case, inputs, tmp_path, flags)
    found.check(expected(case), engine == "bundles repeated")


def test_there_is_something_to_compare(expected: Any) -> None:
    answer = expected(runner_pipelines.near)
    files, (values, windows), counters = answer.files, answer.rest, answer.counters
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


@each_engine
def test_a_stream(engine: str, flags: tuple[str, ...], inputs: Inputs, tmp_path: Path) -> None:
    """Which images are kept depends on the order; what must hold does not."""
    ran = run(runner_pipelines.stream(inputs, tmp_path), *flags)
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_bytes().splitlines()]
    wanted: dict[Key, bytes] = {}
    for name, data in tree(Path(inputs.pictures)).items():
        path = f"{inputs.pictures}/{name}"
        uri, generation = file_uri(path), generation_of(path)
        members = runner_pipelines.ARCHIVES.get(name)
        if members is None:
            wanted[Key(uri, generation)] = data
        else:
            wanted |= {Key(f"{uri}!{member}", generation): data for member, data in members.items()}
    check_each_once(records, wanted)
    Outside(wanted.values()).check(records)
    assert len(ran.values["verdicts"]) == len(records)
    assert ran.counters[metrics.ADMITTED] == len(tree(Path(inputs.pictures)))
    assert ran.counters[metrics.REDELIVERED] > 0
    assert metrics.EXPIRED not in ran.counters


DYING = [
    pytest.param(isolated_decoder, "receive", 13, id="while it reads"),
    pytest.param(shard_verdicts, "verdicts", 1, id="while it judges"),
    pytest.param(placing, "whole_file", 9, id="while it copies"),
    pytest.param(writing, "whole_file", 1, id="before it writes a file"),
]


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.parametrize("engine", ELSEWHERE)
@pytest.mark.parametrize(("module", "name", "good"), DYING)
def test_a_step_that_dies_once_leaves_no_trace(
    module: Any,
    name: str,
    good: int,
    engine: str,
    flags: tuple[str, ...],
    inputs: Inputs,
    tmp_path: Path,
    expected: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flink runs it again by itself. Prism gives up, and the user runs all of it again."""
    wanted = expected(runner_pipelines.near)
    function = Dies(getattr(module, name), good)
    monkeypatch.setattr(module, name, function)
    if engine == "prism":
        with pytest.raises(Exception, match="the worker died"):
            done(runner_pipelines.near, inputs, tmp_path, flags)
    found = done(runner_pipelines.near, inputs, tmp_path, flags)
    assert function.calls > good + 1
    if engine == "prism":  # what was there is not placed again
        assert found.files == wanted.files
    else:
        found.check(wanted, retried=True)
