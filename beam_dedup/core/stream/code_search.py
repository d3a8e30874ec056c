"""Stores the codes of a code shard, and compares a block of new codes with all of them.

Stored codes are in pieces (`beam_dedup.core.stream.state_cells`); each settled piece is a set of columns. A
code shard with exactly one key keeps its codes sorted by that key, so that new codes are only compared with
codes of the same key value. Base views and other views are in separate pieces, since a view is only compared
with base views.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from beam_dedup.core.codes import (
    BASE,
    ByteArray,
    Codes,
    Found,
    IntArray,
    WordArray,
    concatenate,
    detail_distance,
    long_distance,
)
from beam_dedup.core.matching import flat_join, hamming_join
from beam_dedup.core.matching.buckets import KeyArray, compact, order_of
from beam_dedup.core.matching.near_pairs import admitted, near_pairs
from beam_dedup.core.model import CodeKind
from beam_dedup.core.stream.code_shards import CodeShard
from beam_dedup.core.stream.messages import (
    Columns,
    Rows,
    codes_from_rows,
    load_rows,
    pack_columns,
    unpack_columns,
)
from beam_dedup.core.stream.state_cells import Cells, Change, add_block, piece_slices

# The last byte of a settled piece: whether its rows have room for detail codes.
_WIDE, _NARROW = b"\1", b"\0"
_PAIRS_AT_ONCE = 1 << 17  # about 20 MiB


@dataclasses.dataclass(frozen=True, slots=True)
class Matches:
    """Pairs of a new code and an earlier one that match: columns of equal length."""

    row: IntArray  # of the new code
    earlier: Rows  # the earlier code
    distance: IntArray
    long_distance: IntArray
    detail_distance: IntArray
    view: ByteArray  # through which the codes match


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Some stored codes: all of base views, or all of other views."""

    columns: Columns  # as stored
    dtype: np.dtype[np.void]
    # Only in a code shard with exactly one key:
    # words and key: of each code, sorted by key. order: sorts `columns` by key; None if they are sorted
    # already.
    words: WordArray | None = None
    key: KeyArray | None = None
    order: IntArray | None = None

    def __len__(self) -> int:
        return len(self.columns["image"] if self.order is None else self.order)

    @property
    def is_base(self) -> bool:
        return bool(self.columns["view"][0 if self.order is None else self.order[0]] == BASE)

    def rows(self, chosen: IntArray) -> Rows:
        """Returns some codes, by position; in the order of the keys if the code shard has one key."""
        chosen = chosen if self.order is None else self.order[chosen]
        rows = np.zeros(len(chosen), self.dtype)
        for name in self.dtype.names or ():
            if name in self.columns:  # codes without details are stored without room for them
                rows[name] = self.columns[name][chosen]
        return rows


def matches_in_state(shard: CodeShard, cells: Cells, new: Codes) -> Iterator[Matches]:
    """Yields the matches of new codes with stored ones. A pair may occur more than once."""
    every = np.arange(len(new))
    bases = np.flatnonzero(new.view == BASE)
    for piece in pieces(shard, cells):
        rows = every if piece.is_base else bases
        if not len(rows):
            continue
        mine = new.take(rows)
        for i, j, distance in _at_once(_candidates(shard, piece, mine)):
            yield from _compared(shard, new, rows[i], piece.rows(j), distance)


def matches_in_block(shard: CodeShard, rows: Rows, new: Codes) -> Iterator[Matches]:
    """Yields the matches among new codes. The image that comes first in the block is the earlier one."""
    images, first, image = np.unique(new.image, return_index=True, return_inverse=True)
    if len(images) < 2:
        return
    arrived = first[image]
    for pairs in near_pairs(new, shard.thresholds, shard.keys):
        swap = arrived[pairs.a] < arrived[pairs.b]
        later, earlier = np.where(swap, pairs.b, pairs.a), np.where(swap, pairs.a, pairs.b)
        yield from _compared(shard, new, later, rows[earlier], pairs.distance.astype(np.uint8))


def _compared(
    shard: CodeShard, new: Codes, row: IntArray, earlier: Rows, distance: ByteArray
) -> Iterator[Matches]:
    """Yields the pairs that match by all thresholds, out of pairs that are near by a word or by pixels."""
    n = len(row)
    both = concatenate([new.take(row), codes_from_rows(earlier)])
    for pairs in admitted(both, shard.thresholds, np.arange(n), np.arange(n, 2 * n), distance):
        view = np.where(both.view[pairs.a] == BASE, both.view[pairs.b], both.view[pairs.a])
        yield Matches(
            row[pairs.a],
            earlier[pairs.a],
            pairs.distance.astype(np.int64),
            long_distance(both, pairs.a, pairs.b),
            detail_distance(both, pairs.a, pairs.b),
            view,
        )


def _candidates(shard: CodeShard, piece: Piece, new: Codes) -> Found:
    """Yields pairs (i, j) of a new code and one of a piece that are near by a word, or by their pixels."""
    thresholds = shard.thresholds
    if not shard.keys:
        yield from flat_join.pairs_of_two(new.pixels, piece.columns["pixels"], thresholds.flat_levels)
        return
    if piece.words is not None and piece.key is not None:
        mine = _word(new, shard.word)
        yield from hamming_join.pairs_of_sorted(mine, piece.words, piece.key, thresholds.word_k, shard.key)
        return
    for word, keys in enumerate(shard.of_word):
        mine, theirs = _word(new, word), np.ascontiguousarray(piece.columns[f"word{word}"])
        for key in hamming_join.worthwhile(mine, theirs, keys, thresholds.word_k):
            yield from hamming_join.pairs_of_two(mine, theirs, thresholds.word_k, key)


def _word(codes: Codes, word: int) -> WordArray:
    return np.ascontiguousarray(codes.long[:, word]) if word else codes.short


def _at_once(found: Found) -> Found:
    """Yields the same pairs in larger parts, of more than `_PAIRS_AT_ONCE`."""
    parts: list[tuple[IntArray, IntArray, ByteArray]] = []
    waiting = 0
    for part in found:
        parts.append(part)
        waiting += len(part[0])
        if waiting > _PAIRS_AT_ONCE:
            yield _together(parts)
            parts, waiting = [], 0
    if parts:
        yield _together(parts)


def _together(parts: list[tuple[IntArray, IntArray, ByteArray]]) -> tuple[IntArray, IntArray, ByteArray]:
    i, j, distance = zip(*parts, strict=True)
    return np.concatenate(i), np.concatenate(j), np.concatenate(distance)


def pieces(shard: CodeShard, cells: Cells) -> Iterator[Piece]:
    """Yields all stored codes: the settled pieces, then the recent codes as pieces."""
    for data in cells.settled:
        columns = _unpacked(shard, data)
        words = columns[f"word{shard.word}"] if shard.key.mask else None
        yield Piece(columns, shard.dtype, words, columns.get("key"))
    recent = load_rows(cells.recent, shard.dtype)
    columns = {name: recent[name] for name in shard.dtype.names or ()}
    for chosen in _by_view(recent):
        if not len(chosen):
            continue
        if shard.key.mask:
            words = recent[f"word{shard.word}"][chosen]
            key, order = _sorting(shard, words)
            yield Piece(columns, shard.dtype, words[order], key[order], chosen[order])
        else:
            yield Piece({name: column[chosen] for name, column in columns.items()}, shard.dtype)


def _sorting(shard: CodeShard, words: WordArray) -> tuple[KeyArray, IntArray]:
    """Returns the keys of some words, and the order that sorts them."""
    key, bits = compact(words, shard.key.mask)
    return key, order_of(key, bits)


def _by_view(rows: Rows) -> tuple[IntArray, IntArray]:
    """Returns the positions of the rows of base views, and of the others."""
    is_base = rows["view"] == BASE
    return np.flatnonzero(is_base), np.flatnonzero(~is_base)


def add_codes(shard: CodeShard, cells: Cells, rows: Rows) -> Change:
    """Returns the change that adds codes to the state of a code shard."""

    def merge(recent: bytes) -> list[bytes]:
        parts = [_piece_rows(shard, piece) for piece in cells.settled]
        every = np.concatenate([*parts, load_rows([recent], shard.dtype)])
        return [piece for chosen in _by_view(every) for piece in _settled(shard, every[chosen])]

    return add_block(cells, rows.tobytes(), b"".join, merge)


def _settled(shard: CodeShard, rows: Rows) -> list[bytes]:
    """Returns rows as settled pieces: those with and those without detail codes apart."""
    detailed = rows["kind"] == CodeKind.DETAILED
    parts = [(rows[detailed], shard.piece_dtype, _WIDE), (rows[~detailed], shard.narrow_dtype, _NARROW)]
    return [
        pack_columns(part[cut]) + mark
        for chosen, dtype, mark in parts
        for part in [_settled_rows(shard, chosen, dtype)]
        for cut in piece_slices(len(part), dtype.itemsize)
    ]


def _settled_rows(shard: CodeShard, rows: Rows, dtype: np.dtype[np.void]) -> Rows:
    """Returns rows in the type of a settled piece; if they have a key, with it and sorted by it."""
    key, order = None, np.arange(len(rows))
    if shard.key.mask:
        key, order = _sorting(shard, np.ascontiguousarray(rows[f"word{shard.word}"]))
    settled = np.zeros(len(rows), dtype)
    for name in set(dtype.names or ()) - {"key"}:
        settled[name] = rows[name][order]
    if key is not None:
        settled["key"] = key[order]
    return settled


def _unpacked(shard: CodeShard, piece: bytes) -> Columns:
    """Returns the columns of a settled piece."""
    dtype = shard.piece_dtype if piece[-1:] == _WIDE else shard.narrow_dtype
    return unpack_columns(memoryview(piece)[:-1], dtype)


def _piece_rows(shard: CodeShard, piece: bytes) -> Rows:
    columns = _unpacked(shard, piece)
    rows = np.zeros(len(columns["image"]), shard.dtype)
    for name in set(shard.dtype.names or ()) & columns.keys():
        rows[name] = columns[name]
    return rows
