"""Writes tables of images, and Beam YAML pipelines that judge them."""

import glob
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.transforms.files import encoded

PROVIDERS = Path(__file__).parents[2] / "beam_dedup/beam_yaml/providers.yaml"

IMAGES = {
    "a.png": encoded(1),
    "b.png": encoded(2),
    "c.bmp": encoded(1, "BMP"),
    "d.png": encoded(2),
    "notes.jpg": b"no picture",
}
# Of each image by its URI: status, and URI of the kept image, of near mode.
EXPECTED = {
    "a.png": ("kept", None),
    "b.png": ("kept", None),
    "c.bmp": ("duplicate", "a.png"),
    "d.png": ("duplicate", "b.png"),
}

PIPELINE = """
pipeline:
  transforms:
    - type: ReadFromParquet
      config:
        path: {folder}/images.parquet
    - type: DeduplicateImages
      input: ReadFromParquet
      config:
        near: true
        error_handling:
          output: rejected
    - type: WriteToParquet
      input: DeduplicateImages
      config:
        path: {folder}/verdicts.parquet
    - type: MapToFields
      name: AsJson
      input: DeduplicateImages.rejected
      config:
        language: python
        fields:
          line:
            callable: |
              import json
              def line(row):
                return json.dumps({{"uri": row.element.uri, "label": row.element.label, "msg": row.msg}})
            output_type: string
    - type: WriteToText
      input: AsJson
      config:
        path: {folder}/rejected.json
providers:
  - include: {providers}
"""


def write_pipeline(folder: Path, text: str = PIPELINE) -> Path:
    """Writes the table of images and a pipeline that reads it. Returns the path of the pipeline."""
    columns = {
        "uri": list(IMAGES),
        "image": list(IMAGES.values()),
        "label": [*"xyzw", None],
        "number": list(range(len(IMAGES))),
    }
    pq.write_table(pa.table(columns), folder / "images.parquet")
    path = folder / "pipeline.yaml"
    path.write_text(text.format(folder=folder, providers=PROVIDERS))
    return path


def rows_of_parquet(folder: Path, name: str) -> list[dict[str, Any]]:
    """Returns the rows that a pipeline wrote."""
    return [row for path in glob.glob(f"{folder}/{name}*") for row in pq.read_table(path).to_pylist()]


def rows_of_json(folder: Path, name: str) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in glob.glob(f"{folder}/{name}*")
        for line in Path(path).read_text().splitlines()
    ]


def check_outputs(folder: Path) -> None:
    """Asserts that a run of `PIPELINE` wrote the right verdicts."""
    verdicts = rows_of_parquet(folder, "verdicts.parquet")
    assert {row["uri"]: (row["status"], row["duplicate_of"]) for row in verdicts} == EXPECTED
    assert {row["uri"]: (row["label"], row["number"]) for row in verdicts} == dict(
        zip(IMAGES, zip("xyzw", range(4), strict=True), strict=False)
    )
    assert rows_of_json(folder, "rejected.json") == [
        {"uri": "notes.jpg", "label": None, "msg": "not_an_image: first bytes: b'no picture'"}
    ]
