"""A batch on other engines: the answer is that of this machine, byte by byte."""

import json
from pathlib import Path

import pytest

from tests.app.cli_runs import dedup_apart, tree
from tests.services.servers import Service

pytestmark = [pytest.mark.service, pytest.mark.slow]

FLAGS = {"exact": ("-e",), "near": ("-n", "--views", "centre")}


@pytest.fixture(scope="module", params=sorted(FLAGS))
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def here(mode: str, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run on this machine writes."""
    return _written(samples, tmp_path_factory.mktemp("here"), FLAGS[mode])


@pytest.mark.parametrize("engine", ["flink", "prism"])
def test_the_answer_is_the_same(
    engine: str,
    mode: str,
    here: dict[str, bytes],
    samples: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    service: Service = request.getfixturevalue(engine)
    there = _written(samples, tmp_path, (*FLAGS[mode], *service.flags))
    assert there == here


def _written(samples: Path, folder: Path, flags: tuple[str, ...]) -> dict[str, bytes]:
    """All that a run writes: records sorted, counts without what only says where and when."""
    outputs = (
        "-o",
        folder / "groups.json",
        "--records",
        folder / "r.jsonl",
        "--counts",
        folder / "counts.json",
    )
    done = dedup_apart("-i", samples, "-d", folder / "unique", "-s", *outputs, *flags)
    assert done.returncode == 0, done.stderr
    written = tree(folder)
    written["r.jsonl"] = b"".join(sorted(written["r.jsonl"].splitlines(keepends=True)))
    counts = json.loads(written["counts.json"])
    assert counts["Initial_Image_Count"] > counts["Final_Image_Count"] > 0
    written["counts.json"] = json.dumps(counts, sort_keys=True).encode()
    return written
