"""Writes images into Parquet files that `datasets.load_dataset("parquet", ...)` shows as images.

Rows of tables keep their columns, types and schema metadata. Other images become rows with three columns: `image`, a
struct of `bytes` and `path`; `metadata`, as JSON; and `companions`, a list of structs of `path` and `bytes`.
"""

import contextlib
import json
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Reason, printable
from beam_dedup.core.paths import beside
from beam_dedup.core.shards.contents import Sample

GROUP_ROWS = 1000  # the most rows of a row group
GROUP_BYTES = 1 << 25  # 32 MiB; a row group with more gets no further rows

_FILE = {"bytes": pa.binary(), "path": pa.string()}
_FEATURES = {
    "image": {"_type": "Image"},
    "metadata": {"dtype": "string", "_type": "Value"},
    "companions": {
        "_type": "List",
        "feature": {
            "bytes": {"dtype": "binary", "_type": "Value"},
            "path": {"dtype": "string", "_type": "Value"},
        },
    },
}
SAMPLES = pa.schema(
    {
        "image": pa.struct(_FILE),
        "metadata": pa.string(),
        "companions": pa.list_(pa.struct(_FILE)),
    },
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


class ParquetShard:
    """Writes a Parquet file, in row groups of a bounded size.

    Args:
      file: the file to write.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: pq.ParquetWriter | None = None
        self._schema = SAMPLES
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0  # waiting
        self.size_bytes = 0  # of the contents

    def add(self, content: Sample | pa.RecordBatch) -> None:
        """Adds an image, or rows of a table. All rows of a file have the same schema.

        Raises:
          ImageError: the columns can't be written as Parquet.
        """
        batch = row_of(content) if isinstance(content, Sample) else content
        self._schema = batch.schema
        for begin in range(0, batch.num_rows, GROUP_ROWS):
            self._wait(batch.slice(begin, GROUP_ROWS))

    def close(self) -> None:
        """Writes the rest of the file. Raises the same as `add`."""
        self._flush()
        with self._parquet_errors():
            if self._writer:
                self._writer.close()

    def _wait(self, batch: pa.RecordBatch) -> None:
        if self._rows + batch.num_rows > GROUP_ROWS:
            self._flush()
        self._waiting.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        self.size_bytes += batch.nbytes
        if self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        with self._parquet_errors():
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._file, self._schema)
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema))
        self._waiting, self._rows, self._bytes = [], 0, 0

    @contextlib.contextmanager
    def _parquet_errors(self) -> Iterator[None]:
        """Reports what Parquet can't hold as ImageError. Errors of the system, and out of memory, are raised as they are."""
        try:
            yield
        except Exception as error:
            self._abandon()
            # pyarrow raises OSError for its own errors, too, but without a number.
            is_of_system = isinstance(error, OSError) and error.errno is not None
            if is_of_system or isinstance(error, MemoryError):
                raise
            raise ImageError(Reason.UNSUPPORTED, f"can't be written as Parquet: {error}"[:300]) from error

    def _abandon(self) -> None:
        """Closes the writer, which would otherwise try it later, when the file is closed."""
        if self._writer:
            with contextlib.suppress(Exception):
                self._writer.close()


def row_of(sample: Sample) -> pa.RecordBatch:
    """Returns an image as a row of `SAMPLES`."""
    companions = [
        {"bytes": data, "path": printable(beside(sample.name, name))} for name, data in sample.companions
    ]
    row = {
        "image": {"bytes": sample.data, "path": printable(sample.name)},
        "metadata": json.dumps(dict(sample.metadata)) if sample.metadata else None,
        "companions": companions,
    }
    return pa.RecordBatch.from_pylist([row], SAMPLES)
