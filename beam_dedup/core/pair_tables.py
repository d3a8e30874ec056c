"""Makes tables of pairs for people and other programs, and writes them as JSON Lines, Avro, Parquet and CSV.

Text is made once per content, not once per pair.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from beam_dedup.core import blocks
from beam_dedup.core.codes import VIEWS
from beam_dedup.core.matching.connected import numbered
from beam_dedup.core.model import json_text, printable
from beam_dedup.core.record_tables import guarded, pandas_metadata

GROUP_ROWS = 1 << 16  # rows that are converted at once; most rows of a row group

_FIELDS: tuple[tuple[str, str, str], ...] = (
    ("digest_a", "string", "SHA-256 of the bytes, hex; lower than digest_b"),
    ("digest_b", "string", "SHA-256 of the bytes, hex"),
    ("uri_a", "string", "the first image with digest_a, by rank"),
    ("uri_b", "string", "the first image with digest_b, by rank"),
    ("distance", "int", "bits of the short code; flat pictures: colour levels"),
    ("long_distance", "int", "bits of the long code"),
    ("view", "string", "the view of one image that matched the other one"),
    ("known_a", "boolean", "whether the image at uri_a is known"),
    ("known_b", "boolean", "whether the image at uri_b is known"),
    ("split_a", "string", "the split of the image at uri_a"),
    ("split_b", "string", "the split of the image at uri_b"),
)
_MAY_BE_NULL = ("distance", "long_distance", "split_a", "split_b")
_MAX_SPLITS = 64
PAIR_FIELDS = tuple(name for name, _, _ in _FIELDS)

PAIR_AVRO_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Pair",
    "namespace": "beam_dedup",
    "fields": [
        {"name": name, "type": ["null", kind], "default": None, "doc": doc}
        if name in _MAY_BE_NULL
        else {"name": name, "type": kind, "doc": doc}
        for name, kind, doc in _FIELDS
    ],
}
_ARROW_TYPES = {"string": pa.string(), "int": pa.int32(), "boolean": pa.bool_()}
_PLAIN = pa.schema(
    [pa.field(name, _ARROW_TYPES[kind], nullable=name in _MAY_BE_NULL) for name, kind, _ in _FIELDS]
)
PAIR_TABLE: pa.Schema = _PLAIN.with_metadata({"beam_dedup": "pairs", "pandas": pandas_metadata(_PLAIN)})


class PairRows:
    """All pairs of a run, sorted by digests, in 18 bytes each, and the names of their contents.

    Args:
      pairs: blocks of `PAIRS`, in any order.
      names: blocks of `NAMES`: of all contents that are in a pair, each once.
      splits: the names of the splits, if the blocks are of `PAIRS_OF_SPLITS` and `NAMES_OF_SPLITS`.
    """

    def __init__(self, pairs: Iterable[bytes], names: Iterable[bytes], splits: Sequence[str] = ()) -> None:
        table = blocks.load(names, blocks.NAMES_OF_SPLITS if splits else blocks.NAMES)
        digests, [number] = numbered([table["digest"]])
        splits_of = np.asarray(table["split"].combine_chunks()) if splits else np.full(len(table), -1)
        node = number * _MAX_SPLITS + splits_of + 1
        order = np.argsort(node)
        table, node = table.take(pa.array(order)), node[order]
        self._splits = splits
        self._split = splits_of[order]
        self._known = table["known"].combine_chunks()
        self._uris = [blocks.to_text(uri) for uri in table["uri"].to_pylist()]
        self._hex = pa.array([digest.hex() for digest in table["digest"].to_pylist()], pa.string())
        parts: list[list[Any]] = []
        for block in pairs:
            rows = blocks.batch(block, blocks.PAIRS_OF_SPLITS if splits else blocks.PAIRS)
            nodes = (
                np.asarray(pc.index_in(rows[name], digests)).astype(np.int64) * _MAX_SPLITS
                + (np.asarray(rows[f"split_{name}"]) + 1 if splits else 0)
                for name in ("a", "b")
            )
            sides = (np.searchsorted(node, one).astype(np.int32) for one in nodes)
            parts.append([*map(pa.array, sides), *(_copied(rows[name]) for name in blocks.PAIRS.names[2:])])
        columns = [
            pa.chunked_array(column, field_type).combine_chunks()
            for column, field_type in zip(
                zip(*parts, strict=True) if parts else [[]] * 5,
                (pa.int32(), pa.int32(), *blocks.PAIRS.types[2:]),
                strict=True,
            )
        ]
        order = pa.array(np.lexsort((np.asarray(columns[1]), np.asarray(columns[0]))))
        self._columns = [column.take(order) for column in columns]

    def __len__(self) -> int:
        return len(self._columns[0])

    def tables(self, uris: Callable[[str], str] = printable, rows: int = GROUP_ROWS) -> Iterator[pa.Table]:
        """Yields the pairs as tables of `PAIR_TABLE`.

        Args:
          uris: how a URI is written.
          rows: most rows of a table.
        """
        written = pa.array(map(uris, self._uris), pa.string())
        names = pa.array(map(uris, self._splits), pa.string())
        splits = names.take(pa.array(self._split, mask=self._split < 0))
        views = pa.array(VIEWS, pa.string())
        for start in range(0, len(self), rows):
            a, b, distance, long, view = (column.slice(start, rows) for column in self._columns)
            yield pa.Table.from_arrays(
                [
                    self._hex.take(a),
                    self._hex.take(b),
                    written.take(a),
                    written.take(b),
                    distance,
                    long,
                    views.take(view),
                    self._known.take(a),
                    self._known.take(b),
                    splits.take(a),
                    splits.take(b),
                ],
                schema=PAIR_TABLE,
            )


def _copied(column: pa.Array) -> pa.Array:
    """Returns a column apart from the block that it is a part of, so that the block can be freed."""
    return column.take(pa.array(np.arange(len(column))))


def write_pairs(file: BinaryIO, pairs: PairRows, path: str) -> None:
    """Writes pairs in the format that the ending of a path names; JSON Lines for any other ending."""
    if path.endswith(".avro"):
        rows = (row for table in pairs.tables() for row in table.to_pylist())
        fastavro.writer(file, PAIR_AVRO_SCHEMA, rows, codec="deflate")
    elif path.endswith(".parquet"):
        with pa.parquet.ParquetWriter(file, PAIR_TABLE, compression="zstd") as writer:
            for table in pairs.tables():
                writer.write_table(table, row_group_size=GROUP_ROWS)
    elif path.endswith(".csv"):
        with pa.csv.CSVWriter(file, PAIR_TABLE) as writer:
            for table in pairs.tables():
                texts = [
                    guarded(column) if name in ("uri_a", "uri_b") else column
                    for name, column in zip(table.column_names, table.columns, strict=True)
                ]
                writer.write_table(pa.Table.from_arrays(texts, schema=PAIR_TABLE))
    else:
        for table in pairs.tables(json_text):
            file.write(_json_lines(table))


def _json_lines(table: pa.Table) -> bytes:
    """Returns pairs as lines of JSON; their URIs and splits are JSON already."""
    parts: list[Any] = []
    for name, kind, _ in _FIELDS:
        is_plain_text = kind == "string" and not name.startswith(("uri_", "split_"))
        value = pc.fill_null(table[name].cast(pa.string()), "null")
        parts += [f'{", " if parts else "{"}"{name}": ']
        parts += ['"', value, '"'] if is_plain_text else [value]
    lines = pc.binary_join_element_wise(*parts, "}\n", "")
    return blocks.joined(lines.cast(pa.binary())) if len(table) else b""


def digests_in(block: bytes, shards: int, schema: pa.Schema = blocks.PAIRS) -> Iterator[tuple[int, bytes]]:
    """Yields the contents in a block of `PAIRS`, or of another schema of pairs, each once, by digest shard."""
    pairs = blocks.load([block], schema)
    digests, _ = numbered([pairs["a"], pairs["b"]])
    table = pa.table({"digest": digests})
    for shard, rows in blocks.split(table, blocks.digest_shards(table, shards)):
        yield shard, blocks.joined(rows["digest"].cast(pa.binary()))


def names_of(digests: Iterable[bytes], names: Iterable[bytes], schema: pa.Schema = blocks.NAMES) -> bytes:
    """Returns those rows of blocks of `NAMES` whose contents are among some digests, concatenated as `digests_in` returns them."""
    wanted = np.frombuffer(b"".join(digests), np.uint8)
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), len(wanted) // 32, [None, pa.py_buffer(wanted)]
    )
    table = blocks.load(names, schema)
    return blocks.dump(table.filter(pc.is_in(table["digest"], column)))
