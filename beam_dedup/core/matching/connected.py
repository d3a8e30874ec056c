"""Finds the connected components of a graph whose nodes are digests.

A component is named by the lowest digest in it. A table of `COMPONENTS` is also a forest that connects the same
digests: an edge from each digest to the name of its component. So edges are reduced in parts, and the forests of the
parts are merged in any order, with one result. Memory is needed for the digests in a forest, not for the edges of
the graph.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.codes import IntArray

CHUNK_EDGES = 1 << 20  # edges that are read before they are merged into the forest, at least


def connected(nodes: int, a: IntArray, b: IntArray) -> IntArray:
    """Returns the lowest node in the component of each of the nodes 0 .. nodes-1.

    Each round joins every component that has an edge to another one with the lowest of its neighbours (Boruvka). So at
    most half of these components are left, and there are at most log2(nodes) rounds. A round has at most log2(nodes)
    steps that shorten paths. All steps are on whole arrays.

    Args:
      nodes: number of nodes.
      a, b: (edges,) the two nodes of each edge, in any order and any number of times.
    """
    itself = np.arange(nodes)
    label = itself
    while True:
        a, b = label[a], label[b]
        joins = np.flatnonzero(a != b)
        if not len(joins):
            break
        a, b = a[joins], b[joins]
        parent = itself.copy()
        parent[a] = parent[b] = nodes
        np.minimum.at(parent, a, b)
        np.minimum.at(parent, b, a)
        # Cycles have two nodes: each of them is the lowest neighbour of the other. The lower one becomes the root.
        is_root = (parent[parent] == itself) & (itself < parent)
        parent[is_root] = itself[is_root]
        while (parent != (grandparent := parent[parent])).any():
            parent = grandparent
        label = parent[label]
    lowest = itself.copy()
    np.minimum.at(lowest, label, itself)
    return lowest[label]


def numbered(columns: Sequence[pa.ChunkedArray]) -> tuple[pa.Array, list[IntArray]]:
    """Returns the distinct digests in ascending order, and for each column the numbers of its digests in that order."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    encoded = pa.chunked_array(chunks, pa.binary(32)).combine_chunks().dictionary_encode()
    words = blocks.fixed_bytes(pa.chunked_array([encoded.dictionary]), 32).view(">u8").astype(np.uint64)
    order = np.lexsort(words.T[::-1])
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    numbers = number[np.asarray(encoded.indices)]
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return encoded.dictionary.take(pa.array(order)), np.split(numbers, ends)


def components(a: pa.ChunkedArray, b: pa.ChunkedArray) -> pa.Table:
    """Returns the `COMPONENTS` of the graph with the edges (a, b), one row per digest, in ascending order."""
    digests, (numbers_a, numbers_b) = numbered([a, b])
    component = connected(len(digests), numbers_a, numbers_b)
    return pa.Table.from_arrays([digests, digests.take(pa.array(component))], schema=blocks.COMPONENTS)


def merged(tables: Iterable[pa.Table], chunk_edges: int = CHUNK_EDGES) -> pa.Table:
    """Returns the `COMPONENTS` of the graph with the edges of all tables.

    Args:
      tables: tables of `COMPONENTS`, each row of which is an edge.
      chunk_edges: edges that are read, at least, before they are merged into the forest.
    """
    forest = blocks.COMPONENTS.empty_table()
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= max(chunk_edges, len(forest)):
            forest, waiting = _joined([forest, *waiting]), []
    return _joined([forest, *waiting]) if waiting else forest


def _joined(forests: list[pa.Table]) -> pa.Table:
    edges = pa.concat_tables(forests)
    return components(edges["digest"], edges["component"])


def parts(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Yields the rows of a table in parts of at most so many rows."""
    for start in range(0, len(table), rows):
        yield table.slice(start, rows)
