"""The codes that a place remembers, packed for comparing a block of new ones with all of them.

Settled pieces are columns. Codes of a place that looks at one key are sorted by it, so that new ones are compared with
their buckets only. Base views and others are in pieces of their own, since a view is compared with bases only.
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
    long_distance,
)
from beam_dedup.core.matching import flat_join, hamming_join
from beam_dedup.core.matching.buckets import KeyArray, compact, order_of
from beam_dedup.core.matching.near_pairs import admitted, near_pairs
from beam_dedup.core.stream.code_shards import CodeShard
from beam_dedup.core.stream.messages import Columns, Rows, codes_from_rows, columnar, columns_of, rows_of
from beam_dedup.core.stream.state_cells import Cells, Change, cuts, remembered

_PAIRS_AT_ONCE = 1 << 17  # some 20 MiB


@dataclasses.dataclass(frozen=True, slots=True)
class Met:
    """Pairs within k of a new code and one that was there before: columns of equal length."""

    row: IntArray  # of the new code
    earlier: Rows  # the other one
    distance: IntArray
    long_distance: IntArray
    view: ByteArray  # through which they match


@dataclasses.dataclass(frozen=True, slots=True)
class _Piece:
    """Remembered codes, all of base views or all of others."""

    columns: Columns  # as stored
    dtype: np.dtype[np.void]
    # Of a place with one key: the words it is over and that key, sorted by it; and the order that sorts the columns,
    # where they are not sorted themselves.
    words: WordArray | None = None
    key: KeyArray | None = None
    order: IntArray | None = None

    def __len__(self) -> int:
        return len(self.columns["image"] if self.order is None else self.order)

    @property
    def is_base(self) -> bool:
        return bool(self.columns["view"][0 if self.order is None else self.order[0]] == BASE)

    def rows(self, chosen: IntArray) -> Rows:
        """Some codes, by their places in sorted order if there is one."""
        chosen = chosen if self.order is None else self.order[chosen]
        rows = np.zeros(len(chosen), self.dtype)
        for name in self.dtype.names or ():
            rows[name] = self.columns[name][chosen]
        return rows


def met_before(shard: CodeShard, cells: Cells, new: Codes) -> Iterator[Met]:
    """New codes and those remembered; a pair may come more than once."""
    every = np.arange(len(new))
    bases = np.flatnonzero(new.view == BASE)
    for piece in _pieces(shard, cells):
        rows = every if piece.is_base else bases
        if not len(rows):
            continue
        mine = new.take(rows)
        for i, j, distance in _at_once(_found(shard, piece, mine)):
            yield from _compared(shard, new, rows[i], piece.rows(j), distance)


def met_within(shard: CodeShard, rows: Rows, new: Codes) -> Iterator[Met]:
    """New codes among each other: those of an image that comes first in the block were there before."""
    images, first, image = np.unique(new.image, return_index=True, return_inverse=True)
    if len(images) < 2:
        return
    arrived = first[image]
    for pairs in near_pairs(new, shard.thresholds, shard.keys):
        swap = arrived[pairs.a] < arrived[pairs.b]
        later, earlier = np.where(swap, pairs.b, pairs.a), np.where(swap, pairs.a, pairs.b)
        yield from _compared(shard, new, later, rows[earlier], pairs.distance)


def _compared(
    shard: CodeShard, new: Codes, row: IntArray, earlier: Rows, distance: ByteArray
) -> Iterator[Met]:
    """Of pairs whose words or pixels agree, those that count."""
    n = len(row)
    both = concatenate([new.take(row), codes_from_rows(earlier)])
    for pairs in admitted(both, shard.thresholds, np.arange(n), np.arange(n, 2 * n), distance):
        view = np.where(both.view[pairs.a] == BASE, both.view[pairs.b], both.view[pairs.a])
        long = long_distance(both, pairs.a, pairs.b)
        yield Met(row[pairs.a], earlier[pairs.a], pairs.distance.astype(np.int64), long, view)


def _found(shard: CodeShard, piece: _Piece, new: Codes) -> Found:
    """Pairs (i, j) of a new code and one of a piece whose words, or pixels, are near."""
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
    """The same pairs, more at a time."""
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


def _pieces(shard: CodeShard, cells: Cells) -> Iterator[_Piece]:
    for data in cells.settled:
        columns = columns_of(data, shard.piece_dtype)
        words = columns[f"word{shard.word}"] if shard.key.mask else None
        yield _Piece(columns, shard.dtype, words, columns.get("key"))
    recent = rows_of(cells.recent, shard.dtype)
    columns = {name: recent[name] for name in shard.dtype.names or ()}
    for chosen in _by_view(recent):
        if not len(chosen):
            continue
        if shard.key.mask:
            words = recent[f"word{shard.word}"][chosen]
            key, order = _sorting(shard, words)
            yield _Piece(columns, shard.dtype, words[order], key[order], chosen[order])
        else:
            yield _Piece({name: column[chosen] for name, column in columns.items()}, shard.dtype)


def _sorting(shard: CodeShard, words: WordArray) -> tuple[KeyArray, IntArray]:
    """The keys of some words, and the order that sorts them by it."""
    key, bits = compact(words, shard.key.mask)
    return key, order_of(key, bits)


def _by_view(rows: Rows) -> tuple[IntArray, IntArray]:
    """Which rows are of base views, and which are not."""
    is_base = rows["view"] == BASE
    return np.flatnonzero(is_base), np.flatnonzero(~is_base)


def remember(shard: CodeShard, cells: Cells, rows: Rows) -> Change:
    """Adds codes to those remembered."""

    def merge(recent: bytes) -> list[bytes]:
        parts = [_unpacked(shard, piece) for piece in cells.settled]
        every = np.concatenate([*parts, rows_of([recent], shard.dtype)])
        return [piece for chosen in _by_view(every) for piece in _settled(shard, every[chosen])]

    return remembered(cells, rows.tobytes(), b"".join, merge)


def _settled(shard: CodeShard, rows: Rows) -> list[bytes]:
    """Rows as pieces."""
    if shard.key.mask:
        key, order = _sorting(shard, np.ascontiguousarray(rows[f"word{shard.word}"]))
        with_key = np.zeros(len(rows), shard.piece_dtype)
        for name in shard.dtype.names or ():
            with_key[name] = rows[name][order]
        with_key["key"] = key[order]
        rows = with_key
    return [columnar(rows[cut]) for cut in cuts(len(rows), rows.dtype.itemsize)]


def _unpacked(shard: CodeShard, piece: bytes) -> Rows:
    columns = columns_of(piece, shard.piece_dtype)
    rows = np.zeros(len(columns["image"]), shard.dtype)
    for name in shard.dtype.names or ():
        rows[name] = columns[name]
    return rows
