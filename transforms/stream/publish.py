"""Verdicts as messages of Pub/Sub."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection

from beam_dedup.core.arrivals import GENERATION, event_metadata
from beam_dedup.core.model import printable
from transforms import metrics
from transforms.batching import verdicts_in

try:
    import google.cloud.pubsub_v1 as pubsub_v1
except ImportError:  # an extra: said by the command line
    pubsub_v1 = None

_MOST_ATTRIBUTE_BYTES = 1024  # Pub/Sub takes no more
_PUBLISH_SECONDS = 60.0


@dataclasses.dataclass
class PublishVerdicts(beam.PTransform[PCollection[bytes], PCollection[None]]):
    """Publishes the record of each verdict as JSON, with the attributes `status`, `uri` and `generation`.

    At least once: an engine that goes back to a checkpoint publishes again what came after it. Attributes that would be longer
    than Pub/Sub takes are left out: the record has them.

    In: blocks of `blocks.VERDICTS`, recorded. topic: projects/P/topics/T.
    """

    topic: str

    def expand(self, verdicts: PCollection[bytes]) -> PCollection[None]:
        return verdicts | "Publish" >> beam.ParDo(_PublishFn(self.topic)).with_output_types(None)


class _PublishFn(beam.DoFn):
    """Publishes a block, and waits until Pub/Sub has it."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def setup(self) -> None:
        self._client = pubsub_v1.PublisherClient()

    def process(self, block: bytes) -> Iterator[None]:
        sent: list[Any] = []
        for verdict in verdicts_in(block):
            generation, _ = event_metadata(verdict.ref.metadata)
            attributes = {
                "status": verdict.status.value,
                "uri": printable(verdict.ref.uri),
                GENERATION: generation,
            }
            sent.append(
                self._client.publish(self.topic, verdict.json_line().encode(), **_that_fit(attributes))
            )
        for future in sent:
            future.result(timeout=_PUBLISH_SECONDS)
        Metrics.counter(metrics.NAMESPACE, metrics.PUBLISHED).inc(len(sent))
        yield from ()


def _that_fit(attributes: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in attributes.items()
        if value and len(value.encode()) <= _MOST_ATTRIBUTE_BYTES
    }
