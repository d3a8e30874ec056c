"""The labels of our steps are an interface with running jobs: a change of them is a decision, to be seen in a diff.

python -m tests.app.test_labels > tests/app/labels.txt
"""

from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor

from beam_dedup import pipeline
from beam_dedup.core.census import Planning
from beam_dedup.options import DedupConfig

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


def labels() -> list[str]:
    """Of the pipeline with everything in it that options can ask for."""
    found: set[str] = set()
    near = DedupConfig(("in",), near=True, reference="known", records="r", counts="c", output_dir="out")
    exact = DedupConfig(("in",), records="r/", output_json="", output_dir="out", preview=True)
    rows = DedupConfig(json_metadata="l")
    runs = ((near, Planning()), (near, Planning(spread=False)), (exact, Planning()), (rows, Planning()))
    for config, planning in runs:
        made = beam.Pipeline(options=PipelineOptions([]))
        pipeline.build(made, config, pipeline.Reports("counts", "preview", "unplaced"), planning)
        visitor = _Labels()
        made.visit(visitor)
        found |= visitor.found
    return sorted(found)


def test_labels_are_the_committed_ones() -> None:
    assert labels() == LABELS.read_text().splitlines()


def test_labels_are_words_of_ours() -> None:
    for label in labels():
        assert all(part.isalnum() and part[0].isupper() for part in label.split("/")), label


if __name__ == "__main__":
    print("\n".join(labels()))
