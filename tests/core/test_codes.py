"""Codes as arrays: columns, selections of rows, and distances; and the thresholds."""

import numpy as np
import pytest

from beam_dedup.core import codes as core
from beam_dedup.core.codes import Codes
from beam_dedup.core.model import Code, CodeKind
from beam_dedup.core.thresholds import Thresholds

FULL = Code(CodeKind.FULL, bytes(range(32)))
OTHER = Code(CodeKind.FULL, bytes(range(100, 132)))
TINY = Code(CodeKind.TINY, b"\x80" + bytes(6) + b"\x01")
FLAT = Code(CodeKind.FLAT, bytes(range(96)))
WHITE = Code(CodeKind.FLAT, b"\xff" * 96)


def sample_codes() -> Codes:
    return core.from_codes([[FLAT], [FULL], [], [TINY], [WHITE], [OTHER]])


def test_columns_of_codes() -> None:
    codes = sample_codes()
    assert len(codes) == 5
    assert codes.image.tolist() == [0, 1, 3, 4, 5]
    assert codes.view.tolist() == [core.BASE] * 5
    assert codes.kind.tolist() == [CodeKind.FLAT, CodeKind.FULL, CodeKind.TINY, CodeKind.FLAT, CodeKind.FULL]
    assert codes.short.tolist() == [0, 0x0001020304050607, 0x8000000000000001, 0, 0x6465666768696A6B]
    assert [f"{word:016x}" for word in codes.long[1].tolist()] == [
        "0001020304050607",
        "08090a0b0c0d0e0f",
        "1011121314151617",
        "18191a1b1c1d1e1f",
    ]
    assert not codes.long[[0, 2, 3]].any()
    assert [row.tobytes() for row in codes.pixels] == [FLAT.data, WHITE.data]
    assert codes.hashed.tolist() == [1, 2, 4]
    assert codes.flat.tolist() == [0, 3]


def test_columns_without_codes() -> None:
    for codes in (core.from_codes([]), core.from_codes([[], []])):
        assert len(codes) == 0
        assert codes.long.shape == (0, 4)
        assert codes.pixels.shape == (0, core.PROFILE_BYTES)


def rows(codes: Codes) -> list[tuple[int, int, int, int, list[int], bytes]]:
    """Returns the rows as tuples, each flat row with its pixels."""
    pixels = iter(codes.pixels)
    return [
        (image, view, kind, short, long, next(pixels).tobytes() if kind == CodeKind.FLAT else b"")
        for image, view, kind, short, long in zip(
            *(column.tolist() for column in (codes.image, codes.view, codes.kind, codes.short, codes.long)),
            strict=True,
        )
    ]


@pytest.mark.parametrize("chosen", [[], [0], [3], [4, 3, 0], [0, 0, 3], [2, 1], [0, 1, 2, 3, 4]])
def test_take_keeps_pixels_with_their_rows(chosen: list[int]) -> None:
    codes = sample_codes()
    assert rows(codes.take(np.array(chosen, np.int64))) == [rows(codes)[row] for row in chosen]


def test_of_takes_the_rows_of_the_images_in_a_mask() -> None:
    codes = sample_codes()
    mask = np.array([False, True, True, False, True, False])
    assert rows(codes.of(mask)) == [rows(codes)[1], rows(codes)[3]]


def test_concatenate_restores_divided_rows() -> None:
    codes = sample_codes()
    cut = [codes.take(np.arange(0, 2)), codes.take(np.arange(2, 2)), codes.take(np.arange(2, 5))]
    assert rows(core.concatenate(cut)) == rows(codes)


def test_long_distance() -> None:
    codes = sample_codes()
    bits = (int.from_bytes(FULL.data, "big") ^ int.from_bytes(OTHER.data, "big")).bit_count()
    pairs = [
        (1, 4, bits),
        (4, 1, bits),
        (1, 1, 0),
        (1, 2, core.NO_DISTANCE),
        (2, 4, core.NO_DISTANCE),
        (0, 3, core.NO_DISTANCE),
    ]
    a, b, wanted = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    assert core.long_distance(codes, a, b).tolist() == wanted.tolist()


def test_thresholds() -> None:
    assert (Thresholds().k, Thresholds().verify) == (8, 48)
    assert [(Thresholds(k).tiny_bits, Thresholds(k).flat_levels) for k in (0, 3, 4, 5, 8, 9, 16)] == [
        (0, 0),
        (3, 3),
        (4, 4),
        (4, 5),
        (4, 8),
        (4, 8),
        (4, 8),
    ]
    Thresholds(0, 0)
    Thresholds(16, 256)


@pytest.mark.parametrize(("k", "verify"), [(-1, 48), (17, 48), (8, -1), (8, 257)])
def test_thresholds_out_of_range(k: int, verify: int) -> None:
    wrong = k if not 0 <= k <= 16 else verify
    with pytest.raises(ValueError, match=f"must be between 0 and .* got {wrong}$"):
        Thresholds(k, verify)
