"""Runs a Beam YAML pipeline on other runners."""

from pathlib import Path

import pytest
from apache_beam.yaml import main

from tests.app.yaml_pipelines import check_outputs, write_pipeline
from tests.services.servers import Service

# The workers are threads of this process, which raise when the runner closes the connection.
pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.mark.parametrize("runner", ["flink", "prism"])
def test_verdicts_are_written_to_parquet_and_rejected_images_to_json(
    runner: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    service: Service = request.getfixturevalue(runner)
    main.run([f"--yaml_pipeline_file={write_pipeline(tmp_path)}", *service.flags])
    check_outputs(tmp_path)
