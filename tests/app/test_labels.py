"""The labels of our steps are an interface with running jobs: a change of them is a decision, to be seen in a diff.

A stream that is updated while it runs finds its state by them (templates/dataflow/README.md tells what else it needs).

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
    """Collects the labels that we gave, not those inside Beam's own composites: these have line numbers in them."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def enter_composite_transform(self, node: AppliedPTransform) -> None:
        self.visit_transform(node)

    def visit_transform(self, node: AppliedPTransform) -> None:
        parent = node.parent.transform if node.parent else None
        if node.full_label and (parent is None or type(parent).__module__.startswith("transforms")):
            self.found.add(node.full_label)


def labels_in(made: beam.Pipeline) -> set[str]:
    visitor = _Labels()
    made.visit(visitor)
    return visitor.found


def _batches() -> Iterator[beam.Pipeline]:
    """Pipelines with everything in them that options can ask for."""
    near = DedupConfig(("in",), near=True, reference="known", records="r", counts="c", output_dir="out")
    exact = DedupConfig(("in",), records="r/", output_json="", output_dir="out", preview=True)
    rows = DedupConfig(json_metadata="l")
    runs = (
        (near, PlanSettings()),
        (near, PlanSettings(spread=False)),
        (exact, PlanSettings()),
        (rows, PlanSettings()),
    )
    for config, planning in runs:
        made = beam.Pipeline(options=PipelineOptions([]))
        reports = pipeline.Reports("counts", "preview", "unplaced")
        pipeline.build(made, config, reports, planning, settings=_read_settings(config))
        yield made


def _streams() -> Iterator[beam.Pipeline]:
    """The same of runs that stay."""
    told = {"subscription": "projects/p/subscriptions/s", "verdict_topic": "projects/p/topics/t"}
    watched = DedupConfig(("in",), output_dir="out", records="r/", counts="c/", stream=StreamConfig())
    subscribed = DedupConfig(output_dir="out", records="r/", stream=StreamConfig(**told))
    by_window = DedupConfig(output_dir="out", records="r/", stream=StreamConfig(**told, window_seconds=60.0))
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
    """Of both kinds of run; the kind stands before each."""
    kinds = {"batch": _batches(), "stream": _streams()}
    return sorted(
        {f"{kind}: {label}" for kind, runs in kinds.items() for made in runs for label in labels_in(made)}
    )


def test_labels_are_the_committed_ones() -> None:
    assert labels() == LABELS.read_text().splitlines()


def test_labels_are_words_of_ours() -> None:
    for label in labels():
        names = label.split(": ")[1].split("/")
        assert all(name.isalnum() and name[0].isupper() for name in names), label


if __name__ == "__main__":
    print("\n".join(labels()))
