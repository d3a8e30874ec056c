"""Runs batches on other runners: the outputs equal those of the local runner byte by byte."""

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
def local_outputs(mode: str, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The outputs of the local runner."""
    return _outputs(samples, tmp_path_factory.mktemp("local"), FLAGS[mode])


@pytest.mark.parametrize("runner", ["flink", "prism"])
def test_outputs_equal_those_of_the_local_runner(
    runner: str,
    mode: str,
    local_outputs: dict[str, bytes],
    samples: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    service: Service = request.getfixturevalue(runner)
    assert _outputs(samples, tmp_path, (*FLAGS[mode], *service.flags)) == local_outputs


def _outputs(samples: Path, folder: Path, flags: tuple[str, ...]) -> dict[str, bytes]:
    """Runs `dedup`. Returns all files that it writes, with sorted records and with the keys of the counts sorted."""
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
