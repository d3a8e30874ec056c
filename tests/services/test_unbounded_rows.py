"""Judges rows of an unbounded input, window by window, on a runner that executes streams."""

import collections
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows
from apache_beam.typehints.row_type import RowTypeConstraint

from beam_dedup import DeduplicateRows, ReadSettings, Recipe
from tests.pictures import encoded, photo
from tests.services.servers import Service
from tests.transforms.streams import scripted

# The workers are threads of this process, which raise when the runner closes the connection.
pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

ROW = RowTypeConstraint.from_fields([("uri", str), ("image", bytes)])
_judged: list[tuple[float, str, str]] = []


def as_row(pair: tuple[str, bytes]) -> Any:
    return beam.Row(uri=pair[0], image=pair[1])


def take(row: Any, window: Any = beam.DoFn.WindowParam) -> None:
    _judged.append((float(window.start), row.uri, row.status))


def test_each_window_of_unbounded_rows_is_judged_by_itself(prism: Service) -> None:
    first, copy, other = encoded(photo(1)), encoded(photo(1), "JPEG", quality=85), encoded(photo(2))
    events = [(1, [("a", first), ("b", copy)]), (11, [("c", other), ("d", first)]), (21, [("e", other)])]
    _judged.clear()
    with beam.Pipeline(options=PipelineOptions([*prism.flags, "--streaming"])) as pipeline:
        _ = (
            pipeline
            | scripted(events)
            | "Rows" >> beam.Map(as_row).with_output_types(ROW)
            | "Windows" >> beam.WindowInto(FixedWindows(10))
            | DeduplicateRows(settings=ReadSettings(recipe=Recipe()))
            | "Take" >> beam.Map(take)
        )
    assert collections.Counter(_judged) == collections.Counter(
        [(0, "a", "kept"), (0, "b", "duplicate"), (10, "c", "kept"), (10, "d", "kept"), (20, "e", "kept")]
    )
