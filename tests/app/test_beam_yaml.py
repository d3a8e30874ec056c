"""Runs Beam YAML pipelines with the transforms of this project."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml
from apache_beam.yaml import main, yaml_provider

from beam_dedup import beam_yaml
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import UsageError
from beam_dedup.core.preference import RuleKind
from beam_dedup.core.thresholds import Thresholds
from tests.app.yaml_pipelines import (
    EXPECTED,
    IMAGES,
    PROVIDERS,
    check_outputs,
    rows_of_parquet,
    write_pipeline,
)


def run(pipeline: Path, *flags: str) -> None:
    main.run([f"--yaml_pipeline_file={pipeline}", "--runner=FnApiRunner", *flags])


def test_verdicts_are_written_to_parquet_and_rejected_images_to_json(tmp_path: Path) -> None:
    run(write_pipeline(tmp_path))
    check_outputs(tmp_path)


URIS = """
pipeline:
  type: chain
  transforms:
    - type: ReadFromParquet
      config:
        path: {folder}/images.parquet
    - type: MapToFields
      config:
        language: python
        fields:
          path:
            expression: "'{folder}/' + uri"
            output_type: string
    - type: {{type}}
      config: {{config}}
    - type: WriteToParquet
      config:
        path: {folder}/out.parquet
providers:
  - include: {providers}
"""


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("DeduplicateImages", {"uri_field": "path", "near": True, "turns": True, "keep": "largest"}),
        ("FingerprintImages", {"uri_field": "path", "carry": []}),
    ],
)
def test_images_are_read_from_their_uris(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    for file, data in IMAGES.items():
        (tmp_path / file).write_bytes(data)
    path = write_pipeline(tmp_path, URIS)
    path.write_text(path.read_text().format(type=name, config=config))
    run(path)
    rows = {Path(row["uri"]).name: row for row in rows_of_parquet(tmp_path, "out.parquet")}
    assert rows.keys() == IMAGES.keys()
    assert rows["notes.jpg"]["reason"] == "not_an_image"
    if name == "DeduplicateImages":
        # `largest` prefers the copy with more bytes.
        largest = {"a.png": ("duplicate", f"{tmp_path}/c.bmp"), "c.bmp": ("kept", None)}
        kept = EXPECTED | {"d.png": ("duplicate", f"{tmp_path}/b.png")} | largest
        assert {one: (rows[one]["status"], rows[one]["duplicate_of"]) for one in kept} == kept
        assert {row["path"] for row in rows.values()} == {f"{tmp_path}/{file}" for file in IMAGES}
    else:
        assert rows["a.png"]["fingerprint"] == rows["c.bmp"]["fingerprint"] != rows["b.png"]["fingerprint"]
        assert "path" not in rows["a.png"]


def test_module_prints_the_path_of_the_providers(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_module("beam_dedup.beam_yaml", run_name="__main__")
    assert Path(capsys.readouterr().out.strip()) == PROVIDERS


def test_providers_have_the_transforms_with_documented_options() -> None:
    [provider] = yaml_provider.load_providers(str(PROVIDERS))
    declared = yaml.safe_load(PROVIDERS.read_text())[0]["transforms"]
    assert set(provider.provided_transforms()) == set(declared)
    for name, target in declared.items():
        assert target == f"{beam_yaml.__name__}.{name}"
        assert "A row names its image" in str(provider.description(name))
        options = provider.config_schema(name)
        assert options is not None
        assert [field.name for field in options.fields if not field.description] == []


def test_options_become_typed_settings() -> None:
    made = beam_yaml.DeduplicateImages(
        near=True, algorithm="phash", keep="taken,largest", carry=["a"], prefix="d_"
    )
    assert made.settings.recipe == Recipe("phash", "none", facts=True)
    assert made.thresholds == Thresholds(6, 256, 64)
    assert [rule.kind for rule in made.keep.rules] == [RuleKind.TAKEN, RuleKind.PIXELS, RuleKind.BYTES]  # type: ignore[union-attr]
    assert (made.carry, made.prefix) == (["a"], "d_")
    assert beam_yaml.DeduplicateImages().settings.recipe is None
    near = beam_yaml.DeduplicateImages(near=True, bit_distance=4, verify=40, views="crops", turns=True)
    assert (near.settings.recipe, near.thresholds) == (Recipe("dct", "crops", True), Thresholds(4, 40))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bit_distance": 3}, "bit_distance applies only with near: true; got bit_distance: 3"),
        ({"turns": True}, "algorithm and turns apply only with near: true"),
        ({"keep": "taken"}, "keep: taken needs near: true"),
        ({"near": True, "algorithm": "mhash"}, "algorithm must be one of dct, .*, got mhash"),
        ({"near": True, "algorithm": "simhash"}, "simhash hashes metadata"),
        ({"near": True, "views": "all"}, "views must be one of none, .*, got all"),
        ({"near": True, "bit_distance": 17}, "bit_distance must be between 0 and 16 with dct, got 17"),
        ({"near": True, "verify": -1}, "verify must be between 0 and 256 bits, got -1"),
        ({"near": True, "algorithm": "phash", "verify": 3}, "verify applies only with algorithm: dct"),
        ({"keep": "best"}, 'keep must be rules, .*; got "best"'),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        beam_yaml.DeduplicateImages(**options)
