"""Applies a transform that `templates/java/expansion_service.py` serves, as a pipeline in Java does."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.external import ExternalTransform
from apache_beam.transforms.fully_qualified_named_transform import (
    PYTHON_FULLY_QUALIFIED_NAMED_TRANSFORM_URN,
    FullyQualifiedNamedTransform,
)

from tests.services.processes import HOST, answers, free_port, running
from tests.services.servers import ROOT
from tests.transforms.files import encoded

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, str(ROOT / "templates/java/expansion_service.py"), str(port)]
    path = os.pathsep.join((str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])))
    with running(command, lambda: answers(port), {"PYTHONPATH": path}):
        yield f"{HOST}:{port}"


def served(address: str, name: str, **options: object) -> ExternalTransform:
    transform = FullyQualifiedNamedTransform(name, (), options)
    _, payload = transform.to_runner_api_parameter(None)
    return ExternalTransform(PYTHON_FULLY_QUALIFIED_NAMED_TRANSFORM_URN, payload.SerializeToString(), address)


def test_rejected_images_go_to_the_output_that_a_row_names(address: str, tmp_path: Path) -> None:
    images = [encoded(1), encoded(2), encoded(1), b"no picture"]
    transform = served(
        address,
        "beam_dedup.beam_yaml.DeduplicateImages",
        near=True,
        error_handling=beam.Row(output="rejected"),
    )
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        rows = pipeline | beam.Create([beam.Row(uri=str(n), image=image) for n, image in enumerate(images)])
        judged = rows | transform
        for name in ("good", "rejected"):
            lines = judged[name] | f"Lines{name}" >> beam.Map(str)
            lines | f"Write{name}" >> beam.io.WriteToText(str(tmp_path / name), shard_name_template="")
    good = (tmp_path / "good").read_text().splitlines()
    assert len(good) == 3
    assert sum("status='kept'" in line for line in good) == 2
    [rejected] = (tmp_path / "rejected").read_text().splitlines()
    assert "not_an_image" in rejected


def test_other_transforms_are_not_served(address: str) -> None:
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    rows = pipeline | beam.Create([beam.Row(uri="a.png")])
    with pytest.raises(RuntimeError, match="not allowed by filter"):
        rows | served(address, "apache_beam.Map", fn="print")
