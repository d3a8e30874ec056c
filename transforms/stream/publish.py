"""Publishes verdicts as Pub/Sub messages."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection

from beam_dedup.core.arrivals import GENERATION, event_metadata
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.model import Verdict, json_text, printable
from transforms import metrics
from transforms.batching import verdicts_in

try:
    import google.cloud.pubsub_v1 as pubsub_v1
except ImportError:  # an optional dependency: the command line reports that it is missing
    pubsub_v1 = None

_MOST_ATTRIBUTE_BYTES = 1024  # the limit of Pub/Sub
_MOST_DATA_BYTES = 9_000_000  # below the limit of Pub/Sub, which includes the attributes
_PUBLISH_SECONDS = 60.0


@dataclasses.dataclass
class PublishVerdicts(beam.PTransform[PCollection[VerdictBlock], PCollection[None]]):
    """Publishes the record of each verdict as JSON, with the attributes `status`, `uri` and `generation`.

    In: blocks of `blocks.VERDICTS` whose records are written; unbounded. Out: nothing.

    Messages are published at least once: a runner that goes back to a checkpoint publishes the later ones
    again. An attribute that exceeds the limit of Pub/Sub (1,024 bytes) is left out; the record contains its
    value. A record of more than 9 MB is published without its metadata, since Pub/Sub accepts at most 10 MB.

    Attributes:
      topic: projects/P/topics/T.
    """

    topic: str

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[None]:
        return verdicts | "Publish" >> beam.ParDo(_PublishFn(self.topic)).with_output_types(None)


class _PublishFn(beam.DoFn):
    """Publishes the records of a block, and waits until Pub/Sub has accepted them."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def setup(self) -> None:
        self._client = pubsub_v1.PublisherClient()

    def process(self, block: VerdictBlock) -> Iterator[None]:
        sent: list[Any] = [
            self._client.publish(self.topic, message_data(verdict), **attributes_of(verdict))
            for verdict in verdicts_in(block)
        ]
        for future in sent:
            future.result(timeout=_PUBLISH_SECONDS)
        Metrics.counter(metrics.NAMESPACE, metrics.PUBLISHED).inc(len(sent))
        yield from ()


def message_data(verdict: Verdict, most_bytes: int = _MOST_DATA_BYTES) -> bytes:
    """Returns the record of a verdict as JSON, without the metadata if it would have more than `most_bytes`."""
    data = verdict.json_line().encode()
    return data if len(data) <= most_bytes else json_text({**verdict.record(), "metadata": None}).encode()


def attributes_of(verdict: Verdict) -> dict[str, str]:
    """Returns the attributes of the message about a verdict, without those that are empty or too long."""
    generation, _ = event_metadata(verdict.ref.metadata)
    attributes = {
        "status": verdict.status.value,
        "uri": printable(verdict.ref.uri),
        GENERATION: printable(generation),
    }
    return {
        name: value
        for name, value in attributes.items()
        if value and len(value.encode()) <= _MOST_ATTRIBUTE_BYTES
    }
