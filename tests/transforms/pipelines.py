"""Runs composites in a pipeline, and returns their outputs."""

import collections
import os
import pickle
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.pvalue import PCollection
from apache_beam.runners import create_runner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.combiners import ToList
from apache_beam.transforms.window import GlobalWindow, GlobalWindows

from transforms import metrics

ROOT = Path(__file__).parents[2]

IN_MEMORY = ()
THREADS = ("--direct_running_mode=multi_threading", "--direct_num_workers=2")
PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
# Every bundle runs twice and the first result is dropped, as if the bundle had been retried.
REPEATED = ("--direct_runner_bundle_repeat=1",)


class Ran(NamedTuple):
    values: dict[str, list[Any]]  # elements of each collection, in any order
    # Where the window of each element starts; None in the global window.
    windows: dict[str, list[int | None]]
    counters: dict[str, int]  # of our namespace, committed


def run(build: Callable[[beam.Pipeline], Mapping[str, PCollection[Any]]], *flags: str) -> Ran:
    """Runs the pipeline that `build` adds to, and returns the elements of the collections that it returns.

    They are passed through files, so workers may be other processes.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Worker processes find the tests by PYTHONPATH.
        with mock.patch.dict(os.environ, PYTHONPATH=f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"):
            options = PipelineOptions([*flags])
            name = options.view_as(StandardOptions).runner
            runner = create_runner(name) if name else FnApiRunner()
            pipeline = beam.Pipeline(runner=runner, options=options)
            names = []
            for name, values in build(pipeline).items():
                names.append(name)
                _ = (
                    values
                    | f"Window {name}" >> beam.Map(with_window)
                    | f"Unwindow {name}" >> beam.WindowInto(GlobalWindows())
                    | f"List {name}" >> ToList()
                    | f"Dump {name}" >> beam.Map(dump, os.path.join(folder, name))
                )
            result = pipeline.run()
            result.wait_until_finish()
        found = {name: pickle.loads(Path(folder, name).read_bytes()) for name in names}
    counters: collections.Counter[str] = collections.Counter()
    for counter in result.metrics().query(MetricsFilter().with_namespace(metrics.NAMESPACE))["counters"]:
        counters[counter.key.metric.name] += counter.result or 0  # Prism has no value for some that are 0
    return Ran(
        {name: [value for _, value in pairs] for name, pairs in found.items()},
        {name: [start for start, _ in pairs] for name, pairs in found.items()},
        dict(counters),
    )


def with_window(value: Any, window: Any = beam.DoFn.WindowParam) -> tuple[int | None, bytes]:
    # Pickled, because Beam's coders refuse text that is not UTF-8.
    return None if isinstance(window, GlobalWindow) else int(window.start), pickle.dumps(value)


def dump(pairs: list[tuple[int | None, bytes]], path: str) -> None:
    Path(path).write_bytes(pickle.dumps([(start, pickle.loads(value)) for start, value in pairs]))
