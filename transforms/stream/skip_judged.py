"""Skips images that were judged before the stream was stopped, although their references are read again.

References that are read again are those of archives, and of rejected images.
"""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.metrics import Metrics

from beam_dedup.core import blocks
from beam_dedup.core.arrivals import event_metadata, identity
from transforms import metrics
from transforms.fingerprint import Fingerprinted
from transforms.tally import JUDGED_BEFORE, Tally


def without_judged(read: Fingerprinted, path: str, tally: Tally | None = None) -> Fingerprinted:
    """Returns what was read, without images that were judged before.

    path, tally: as in `SkipJudgedFn`; a path of "" if there are none.
    """
    if not path:
        return read
    new, rejected = (SkipJudgedFn(schema, path, tally) for schema in (blocks.FINGERPRINTS, blocks.VERDICTS))
    return read._replace(
        fingerprints=read.fingerprints | "Skip" >> beam.ParDo(new).with_output_types(bytes),
        rejections=read.rejections | "SkipRejected" >> beam.ParDo(rejected).with_output_types(bytes),
    )


class SkipJudgedFn(beam.DoFn):
    """Passes blocks on without the images that were judged before; counts those as redelivered.

    Args:
      schema: of the blocks, with the columns `uri` and `metadata`.
      path: a .npy file with the sorted identities of images that were judged before.
      tally: where workers on this machine report progress.
    """

    def __init__(self, schema: pa.Schema, path: str, tally: Tally | None = None) -> None:
        self.schema = schema
        self.path = path
        self.tally = tally

    def setup(self) -> None:
        self._judged: npt.NDArray[Any] = np.load(self.path, mmap_mode="r")

    def process(self, block: bytes) -> Iterator[bytes]:
        table = blocks.load([block], self.schema)
        uris, metadata = (table[name].to_pylist() for name in ("uri", "metadata"))
        reasons = table["reason"].to_pylist() if "reason" in table.column_names else [None] * len(table)
        new = [not self._was_judged(*row) for row in zip(uris, metadata, reasons, strict=True)]
        if not all(new):
            Metrics.counter(metrics.NAMESPACE, metrics.REDELIVERED).inc(len(new) - sum(new))
            if self.tally:
                self.tally.add(JUDGED_BEFORE, len(new) - sum(new))
            table = table.filter(pa.array(new))
        if len(table):
            yield blocks.dump(table)

    def _was_judged(self, uri: bytes, metadata: bytes, reason: bytes | None) -> bool:
        generation = event_metadata(blocks.to_text(metadata))[0]
        wanted = np.array(identity(blocks.to_text(uri), generation, blocks.to_text(reason or b"")), "S16")
        at = int(np.searchsorted(self._judged, wanted))
        return at < len(self._judged) and bool(self._judged[at] == wanted)
