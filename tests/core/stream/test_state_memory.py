"""The state of a stream: all that is added is found again, written few times, and kept in small pieces."""

import itertools
import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from beam_dedup.core.matching.plan import plan_for
from beam_dedup.core.model import CodeKind
from beam_dedup.core.stream import code_search, messages, state_cells, state_tables
from beam_dedup.core.stream.code_shards import code_shard_of
from beam_dedup.core.stream.messages import STATUSES, code_rows
from beam_dedup.core.stream.protocol import DETAILED_WORDS, StreamPlan
from beam_dedup.core.stream.state_cells import CellChange, Cells, Change
from beam_dedup.core.thresholds import Thresholds

KEY_ROWS = np.dtype([("key", "S4"), ("image", "<i8")])


def join(parts: Sequence[bytes]) -> bytes:
    return b"".join(parts)


def test_added_block_is_rewritten_few_times() -> None:
    state, written, most_recent = Cells(), 0, 0
    block = b"x" * 2000
    for number in range(1, 4001):
        settled = state.settled

        def merge(recent: bytes, settled: tuple[bytes, ...] = tuple(settled)) -> list[bytes]:
            return [b"".join([*settled, recent])]

        change = state_cells.add_block(state, block, join, merge)
        for cell in (change.settled, change.recent):
            written += sum(map(len, cell.add))
        state = change.applied(state)
        most_recent = max(most_recent, len(state.recent))
        assert state.size == number * len(block)
    assert written < 10 * state.size
    assert most_recent <= 128
    assert sum(map(len, state.recent)) <= sum(map(len, state.settled)) / 4


def test_empty_block_changes_nothing() -> None:
    assert state_cells.add_block(Cells(), b"", join, lambda recent: [recent]) == Change()


def test_change_clears_bags_before_it_adds() -> None:
    state = Cells((b"a",), (b"b",), (b"c",))
    assert Change().applied(state) == state
    change = Change(CellChange(True, [b"d"]), CellChange(add=[b"e"]), CellChange(True))
    assert change.applied(state) == Cells((b"d",), (b"b", b"e"), ())
    assert state.size == 3


@pytest.fixture(params=range(12))
def rng(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> random.Random:
    rng = random.Random(request.param)
    monkeypatch.setattr(state_cells, "RECENT_BYTES", rng.choice([0, 100, 1 << 16]))
    monkeypatch.setattr(state_cells, "RECENT_BLOCKS", rng.choice([1, 3, 32]))
    monkeypatch.setattr(state_cells, "PIECE_BYTES", rng.choice([1, 50, 300, 1 << 22]))
    return rng


def test_added_keys_are_found(rng: random.Random) -> None:
    state, added = Cells(), dict[bytes, int]()
    every = [bytes([a, b, 0, c]) for a, b, c in itertools.product((0, 1, 255), (0, 7), range(10))]
    rng.shuffle(every)
    for start in range(0, len(every), 7):
        rows = np.zeros(len(every), KEY_ROWS)
        rows["key"] = every
        found, old = state_tables.find_keys(state, KEY_ROWS, rows)
        assert found.tolist() == [key in added for key in every]
        assert old["image"][found].tolist() == [added[key] for key in every if key in added]
        assert state_tables.count_keys(state, KEY_ROWS) == len(added)
        new = rows[start : start + 7]
        new["image"] = [rng.randrange(1000) for _ in range(len(new))]
        added.update(zip(every[start : start + 7], new["image"].tolist(), strict=True))
        state = state_tables.add_keys(state, new).applied(state)


def test_first_of_each_key() -> None:
    assert state_tables.first_of_each(np.array([b"b", b"a", b"b", b"c", b"a"])).tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_added_images_are_found_by_number(rng: random.Random) -> None:
    state, added = Cells(), dict[int, bytes | None]()
    every = rng.sample(range(1000), 60)
    for start in range(0, 60, 7):
        numbers = every[start : start + 7]
        names = [b"n%d" % number if number % 2 else None for number in numbers]
        new = pa.table(
            [pa.array(numbers), pa.array(names, pa.binary()), pa.nulls(len(numbers), pa.binary(32))],
            schema=STATUSES,
        )
        added.update(zip(numbers, names, strict=True))
        wanted = rng.choices(range(1000), k=20) + rng.choices(every, k=20)
        found, rows = state_tables.find_images(state, new, np.array(wanted))
        assert found.tolist() == [number in added for number in wanted]
        assert rows["image"].to_pylist() == [number for number in wanted if number in added]
        assert rows["uri"].to_pylist() == [added[number] for number in wanted if number in added]
        state = state_tables.add_images(state, new).applied(state)
        assert max(map(len, state.recent), default=0) < 1 << 16


DETAIL_NAMES = {f"word{number}" for number in range(4, DETAILED_WORDS)}


@pytest.mark.parametrize(("prefix", "key"), [(1, b"0/3/0"), (0, b"all"), (1, b"flat/9")])
def test_settled_codes_are_the_rows_that_were_added(prefix: int, key: bytes, rng: random.Random) -> None:
    shard = code_shard_of(StreamPlan(Thresholds(4), plan_for(Thresholds(4), 1, prefix)), key)
    state, added = Cells(), []
    for _ in range(9):
        rows = np.frombuffer(rng.randbytes(shard.dtype.itemsize * 5), shard.dtype).copy()
        rows["view"] = [rng.choice([0, 0, 1]) for _ in rows]
        rows["kind"] = [rng.choice([CodeKind.FULL, CodeKind.DETAILED]) for _ in rows]
        for name in rows.dtype.names or ():
            if name in DETAIL_NAMES:  # only detailed codes have these words
                rows[name][rows["kind"] != CodeKind.DETAILED] = 0
        added += [row.tobytes() for row in rows]
        state = code_search.add_codes(shard, state, rows).applied(state)
        pieces = list(code_search.pieces(shard, state))
        stored = [row.tobytes() for piece in pieces for row in piece.rows(np.arange(len(piece)))]
        assert sorted(stored) == sorted(added)
        for piece in pieces:
            assert len(set((piece.rows(np.arange(len(piece)))["view"] == 0).tolist())) == 1
            if piece.key is not None:
                assert (np.diff(piece.key.astype(np.int64)) >= 0).all()
                assert piece.words is not None
                assert piece.words.tolist() == piece.rows(np.arange(len(piece)))["word0"].tolist()


def test_packed_columns_are_unpacked() -> None:
    for dtype in (
        code_rows(1),
        code_rows(4),
        code_rows(DETAILED_WORDS),
        messages.PROFILE_ROWS,
        messages.ANSWER_ROWS,
    ):
        rows = np.frombuffer(random.Random(0).randbytes(dtype.itemsize * 7), dtype)
        columns = messages.unpack_columns(messages.pack_columns(rows), dtype)
        assert list(columns) == list(dtype.names or ())
        for name, column in columns.items():
            assert column.tobytes() == np.ascontiguousarray(rows[name]).tobytes()
