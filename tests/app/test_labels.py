"""Compares the labels of the steps with the committed list, so that a change of labels shows in a diff.

Labels are an interface with running jobs: a stream that is updated while it runs finds its state by them
(docs/guides/dataflow.md lists what else an update needs). After an intended change run

    python -m tests.app.test_labels > tests/app/labels.txt
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor

from beam_dedup.batch import pipeline
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.stream.protocol import StreamPlan
from beam_dedup.options.config import DedupConfig, StreamConfig
from beam_dedup.stream import pipeline as stream_pipeline
from beam_dedup.stream.pipeline import StreamContext
from transforms.read_settings import ReadSettings
from transforms.stream.plan import choose_stream_plan
from transforms.stream.pubsub import SubscriptionSource
from transforms.stream.record import RecordPaths
from transforms.stream.steps import StreamSettings
from transforms.stream.watch import WatchedSource

LABELS = Path(__file__).with_name("labels.txt")


class _Labels(PipelineVisitor):
    """Collects the labels of this project, not those inside Beam's composites, which contain line numbers."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def enter_composite_transform(self, node: AppliedPTransform) -> None:
        self.visit_transform(node)

    def visit_transform(self, node: AppliedPTransform) -> None:
        parent = node.parent.transform if node.parent else None
        if node.full_label and (parent is None or type(parent).__module__.startswith("transforms")):
            self.found.add(node.full_label)


def labels_in(built: beam.Pipeline) -> set[str]:
    """Returns the labels of this project in a pipeline."""
    visitor = _Labels()
    built.visit(visitor)
    return visitor.found


def _batches() -> Iterator[beam.Pipeline]:
    """Yields batch pipelines that together contain every step that options can ask for."""
    near = DedupConfig(
        ("in",),
        near=True,
        reference="known",
        records="r",
        counts="c",
        output_dir="out",
        union=True,
        components=True,
    )
    paired = dataclasses.replace(near, pairs="p.csv")
    exact = DedupConfig(
        ("in",), records="r/", output_json="", output_dir="out", preview=True, pairs="p", components=True
    )
    rows = DedupConfig(json_metadata="l", drop_list="d.txt")
    runs = (
        (near, PlanSettings()),
        (near, PlanSettings(spread=False)),
        (paired, PlanSettings()),
        (exact, PlanSettings()),
        (rows, PlanSettings()),
    )
    for config, planning in runs:
        made = beam.Pipeline(options=PipelineOptions([]))
        unlisted = "unlisted" if config.drop_list else ""
        reports = pipeline.Reports("counts", "preview", "unplaced", "overview", unlisted=unlisted)
        pipeline.build(made, config, reports, planning, settings=_read_settings(config))
        yield made


def _streams() -> Iterator[beam.Pipeline]:
    """Yields streaming pipelines that together contain every step that options can ask for."""
    messages = StreamConfig("projects/p/subscriptions/s", "projects/p/topics/t")
    windows = dataclasses.replace(messages, window_seconds=60.0)
    watched = DedupConfig(("in",), output_dir="out", records="r/", counts="c/", stream=StreamConfig())
    subscribed = DedupConfig(output_dir="out", records="r/", stream=messages)
    by_window = DedupConfig(output_dir="out", records="r/", stream=windows)
    for config in (watched, subscribed, by_window):
        for near in (False, True):
            yield _stream(dataclasses.replace(config, near=near), checkpointed=True)
            yield _stream(dataclasses.replace(config, near=near), checkpointed=False)


def _stream(config: DedupConfig, checkpointed: bool) -> beam.Pipeline:
    assert config.stream
    if config.stream.subscription:
        source: Any = SubscriptionSource(config.stream.subscription)
    else:
        source = WatchedSource(config.inputs, config.outputs)
    made = beam.Pipeline(options=PipelineOptions(["--streaming"]))
    folders = RecordPaths("run", config.records, config.counts)
    streaming = StreamSettings(_plan(config), 10**6, 0)
    setting = StreamContext(streaming, folders, _read_settings(config), checkpointed=checkpointed)
    stream_pipeline.build(made, config, setting, beam.io.Read(source))
    return made


def _read_settings(config: DedupConfig) -> ReadSettings:
    return ReadSettings(recipe=config.recipe if config.near else None)


def _plan(config: DedupConfig) -> StreamPlan:
    recipe = config.recipe if config.near else None
    return choose_stream_plan(recipe, config.thresholds, expected_images=1000, digest_shards=1)


def labels() -> list[str]:
    """Returns the labels of both kinds of run, each with its kind in front, for example "batch: Read"."""
    kinds = {"batch": _batches(), "stream": _streams()}
    return sorted(
        {f"{kind}: {label}" for kind, built in kinds.items() for one in built for label in labels_in(one)}
    )


def test_labels_are_the_committed_ones() -> None:
    assert labels() == LABELS.read_text().splitlines()


def test_labels_are_names_given_by_hand() -> None:
    for label in labels():
        names = label.split(": ")[1].split("/")
        assert all(name.isalnum() and name[0].isupper() for name in names), label


if __name__ == "__main__":
    print("\n".join(labels()))
