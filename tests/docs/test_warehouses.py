"""The pipelines of docs/guides/warehouses.md are built. Running them needs BigQuery, or Java and a catalogue."""

from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.transforms import managed

from tests.docs.pages import DOCS, fenced

CODE = "\n".join(fenced(DOCS / "guides/warehouses.md", "python"))


class Image(NamedTuple):
    id: int
    image: bytes


def test_sink_of_iceberg_is_one_of_beam() -> None:
    compile(CODE, "warehouses.md", "exec")
    assert "beam.managed.Write(beam.managed.ICEBERG" in CODE
    assert managed.ICEBERG in managed.Write._WRITE_TRANSFORMS


def test_rows_of_verdicts_are_written_to_bigquery() -> None:
    names: dict[str, Any] = {}
    exec(CODE, names)
    pipeline = beam.Pipeline()
    rows = pipeline | "Rows" >> beam.Create([Image(1, b"GIF89a")]).with_output_types(Image)
    names["judge_into_bigquery"](rows, "project:my_data.verdicts", "gs://bucket/temporary")
    steps = [step.full_label for step in pipeline._current_transform().parts]
    assert [name.partition("/")[0] for name in steps] == ["Rows", "Deduplicate", "Fields", "Write"]
