"""Connected components agree with sets that are joined edge by edge, however the edges are divided."""

import itertools
import random
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest

from beam_dedup.core import blocks
from beam_dedup.core.matching import connected
from beam_dedup.core.matching.connected import components, merged, numbered

Edges = list[tuple[int, int]]


def lowest_of_each(nodes: int, edges: Edges) -> list[int]:
    """Returns the lowest node in the component of each node, by joining the sets of one edge after the other."""
    members = [{node} for node in range(nodes)]
    for a, b in edges:
        if members[a] is not members[b]:
            small, large = sorted((members[a], members[b]), key=len)
            large |= small
            for node in small:
                members[node] = large
    lowest = {id(one): min(one) for one in members}
    return [lowest[id(one)] for one in members]


def _random(rng: random.Random) -> Edges:
    nodes = rng.randint(1, 60)
    return [(rng.randrange(nodes), rng.randrange(nodes)) for _ in range(rng.randint(0, 60))]


def _chain(rng: random.Random) -> Edges:
    nodes = list(range(rng.randint(2, 120)))
    rng.shuffle(nodes)
    return list(itertools.pairwise(nodes))


def _star(rng: random.Random) -> Edges:
    nodes = list(range(rng.randint(2, 100)))
    rng.shuffle(nodes)
    return [(nodes[0], node) for node in nodes[1:]]


def _clique(rng: random.Random) -> Edges:
    nodes = range(rng.randint(2, 12))
    return [(a, b) for a in nodes for b in nodes if a < b]


def _stars_in_a_chain(rng: random.Random) -> Edges:
    hubs = _chain(rng)
    return hubs + [(hub, 300 + 10 * hub + leaf) for hub, _ in hubs for leaf in range(rng.randint(0, 9))]


SHAPES: Sequence[Callable[[random.Random], Edges]] = (_random, _chain, _star, _clique, _stars_in_a_chain)


def graph(rng: random.Random) -> tuple[int, Edges]:
    """Returns the number of nodes and the edges of some shapes, with all numbers shuffled."""
    edges: Edges = []
    nodes = 0
    for make in rng.choices(SHAPES, k=rng.randint(1, 4)):
        edges += [(nodes + a, nodes + b) for a, b in make(rng)]
        nodes = max((max(edge) for edge in edges), default=0) + 1 + rng.randint(0, 3)
    number = list(range(nodes))
    rng.shuffle(number)
    edges = [rng.choice([(number[a], number[b]), (number[b], number[a])]) for a, b in edges]
    edges += rng.choices(edges, k=5) if edges else []  # some edges are known twice
    rng.shuffle(edges)
    return nodes, edges


def arrays(edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    return np.array([a for a, _ in edges], np.int64), np.array([b for _, b in edges], np.int64)


def test_components_of_2000_random_graphs() -> None:
    rng = random.Random("graphs")
    for number in range(2000):
        nodes, edges = graph(rng)
        assert connected.connected(nodes, *arrays(edges)).tolist() == lowest_of_each(nodes, edges), number


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled", "zigzag"])
def test_chain_of_50000(order: str) -> None:
    nodes = np.arange(50_000)
    if order == "descending":
        nodes = nodes[::-1]
    elif order == "shuffled":
        nodes = np.random.default_rng(3).permutation(nodes)
    elif order == "zigzag":  # each second node is lower than both of its neighbours
        nodes = np.ravel(np.column_stack([nodes[25_000:], nodes[:25_000]]))
    assert not connected.connected(len(nodes), nodes[:-1], nodes[1:]).any()


def test_rounds_are_bounded_by_the_logarithm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of joining steps, each of which searches the neighbours of all components."""
    rng = random.Random("rounds")
    steps = 0
    minimum = np.minimum

    class Counted:
        def at(self, *arguments: object) -> None:
            nonlocal steps
            steps += 1
            minimum.at(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(np, "minimum", Counted())
    for _ in range(200):
        nodes, edges = graph(rng)
        steps = 0
        connected.connected(nodes, *arrays(edges))
        assert (steps - 1) // 2 <= np.log2(nodes + 1)  # two in each round, one at the end


def digest(node: int) -> bytes:
    """Returns a digest; digests are ordered as their nodes are not. Some end with zeros, some differ late."""
    return bytes([node * 7 % 5]) * 20 + (node * 2654435761 % 2**32).to_bytes(4, "big") + bytes(8)


def table_of(edges: Edges) -> pa.Table:
    columns = [pa.array([digest(edge[side]) for edge in edges], pa.binary(32)) for side in (0, 1)]
    return pa.Table.from_arrays(columns, schema=blocks.COMPONENTS)


def expected(edges: Edges) -> list[tuple[bytes, bytes]]:
    nodes = max((max(edge) for edge in edges), default=-1) + 1
    by_digest = sorted(range(nodes), key=digest)
    place = {node: number for number, node in enumerate(by_digest)}
    lowest = lowest_of_each(nodes, [(place[a], place[b]) for a, b in edges])
    used = {node for edge in edges for node in edge}
    return [(digest(node), digest(by_digest[lowest[place[node]]])) for node in by_digest if node in used]


def rows(table: pa.Table) -> list[tuple[bytes, bytes]]:
    return list(zip(table["digest"].to_pylist(), table["component"].to_pylist(), strict=True))


def test_forests_of_parts_are_merged_with_one_result() -> None:
    rng = random.Random("parts")
    for _ in range(100):
        _, edges = graph(rng)
        parts: list[Edges] = [[] for _ in range(rng.randint(1, 9))]
        for edge in edges:
            rng.choice(parts).append(edge)
        forests = [merged([table_of(part)]) if rng.random() < 0.7 else table_of(part) for part in parts]
        assert rows(merged(forests, chunk_edges=rng.choice([50, 500, 1 << 20]))) == expected(edges)


def test_edges_that_are_read_do_not_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clique has many more edges than nodes: no more are held than the forest and a chunk."""
    held = []
    join = connected.components

    def watched(a: pa.ChunkedArray, b: pa.ChunkedArray) -> pa.Table:
        held.append(len(a))
        return join(a, b)

    monkeypatch.setattr(connected, "components", watched)
    edges = [(a, b) for a in range(200) for b in range(a)]
    found = merged((table_of(edges[at : at + 50]) for at in range(0, len(edges), 50)), chunk_edges=100)
    assert rows(found) == expected(edges)
    assert max(held) <= 2 * 200 + 100 + 50


def test_no_edges_have_no_components() -> None:
    assert merged([]).schema == components(*table_of([]).columns).schema == blocks.COMPONENTS
    assert len(merged([])) == len(merged([table_of([])])) == 0


def test_digests_are_numbered_in_their_order() -> None:
    rng = random.Random("numbers")
    nodes = [rng.randrange(500) for _ in range(400)]
    columns = [
        pa.chunked_array([[digest(n) for n in part]], pa.binary(32)) for part in (nodes[:150], nodes[150:])
    ]
    digests, numbers = numbered(columns)
    assert digests.to_pylist() == sorted({digest(node) for node in nodes})
    found = [digests[int(number)].as_py() for column in numbers for number in column]
    assert found == [digest(node) for node in nodes]
