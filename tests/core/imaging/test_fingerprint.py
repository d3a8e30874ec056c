"""The recipe `dct/2`: its transform, its bits, and golden codes, also of flat and tiny pictures."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from beam_dedup.core.imaging import dct
from beam_dedup.core.imaging.dct import active, code_bits, coefficients
from beam_dedup.core.model import Code, CodeKind
from tests.pictures import code_of, encoded, fingerprint_of, photo

UNIT = 2**30  # coefficients come in units of 1 / 2**30 grey levels
DEAD = 2 * UNIT

# Row and column of each bit, from the first on, as the recipe fixes them.
BIT_ORDER = [(row, column) for row in range(1, 9) for column in range(1, 9)]
BIT_ORDER += [(row, column) for row in range(1, 17) for column in range(1, 17) if row > 8 or column > 8]


def textbook_dct(pixels: npt.NDArray[np.uint8]) -> dict[tuple[int, int], float]:
    """Computes the orthonormal DCT-II by its formula, in grey levels, by (row, column) from 1 to 16."""

    def cosine(frequency: int, at: int) -> float:
        return math.sqrt(2 / 64) * math.cos(math.pi / 64 * (at + 0.5) * frequency)

    rows = [[float(value) for value in row] for row in pixels]
    across = [[sum(row[x] * cosine(column, x) for x in range(64)) for column in range(1, 17)] for row in rows]
    return {
        (row, column): sum(across[y][column - 1] * cosine(row, y) for y in range(64))
        for row in range(1, 17)
        for column in range(1, 17)
    }


def wave(row: int, column: int, amplitude: float = 12.0) -> npt.NDArray[np.float64]:
    """Returns a picture with one coefficient: `row` half waves downwards, `column` half waves across."""
    at = (np.arange(64) + 0.5) * np.pi / 64
    return amplitude * np.outer(np.cos(at * row), np.cos(at * column))


def grey(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Rounds a picture to grey levels around 128.

    Noise is added first, or the rounding errors would add up to coefficients of their own.
    """
    noise = np.random.RandomState(0).random_sample(pixels.shape) - 0.5
    return np.rint(128 + pixels + noise).astype(np.uint8)


def reference_code(pixels: npt.NDArray[np.uint8]) -> bytes:
    coefs = textbook_dct(pixels)
    bits = "".join(str(int(coefs[at] > 2)) for at in BIT_ORDER)
    return int(bits, 2).to_bytes(32)


@pytest.mark.parametrize("seed", range(3))
def test_coefficients_equal_the_textbook_formula(seed: int) -> None:
    pixels = np.asarray(photo(seed, (64, 64)).convert("L"))
    truth = textbook_dct(pixels)
    found = coefficients(pixels) / UNIT
    assert found.shape == (16, 16)
    assert max(map(abs, truth.values())) > 200
    for (row, column), value in truth.items():
        assert found[row - 1, column - 1] == pytest.approx(value, abs=0.05)  # cosines are rounded


@pytest.mark.parametrize("seed", range(3))
def test_code_equals_the_reference_code(seed: int) -> None:
    """Covers the whole recipe from a file on: grey, one resize, transform, bits in order."""
    image = photo(seed, (300, 200))
    pixels = np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BILINEAR, reducing_gap=2.0))
    assert code_of(image) == Code(CodeKind.FULL, reference_code(pixels))


def test_coefficients_are_whole_numbers_and_do_not_depend_on_batch_size() -> None:
    pictures = np.stack([np.asarray(photo(seed, (64, 64)).convert("L")) for seed in range(6)])
    alone = np.stack([coefficients(picture) for picture in pictures])
    assert np.array_equal(alone, np.rint(alone))
    for shape in ((6,), (2, 3), (1, 3, 2)):
        batch = coefficients(pictures.reshape(*shape, 64, 64))
        assert np.array_equal(batch.reshape(6, 16, 16), alone)
    cosines = dct.COSINES.astype(object)
    exact = cosines @ pictures[0].astype(object) @ cosines.T
    assert np.array_equal(exact.astype(np.float64), alone[0]), "exact integer arithmetic gives the same"


@pytest.mark.parametrize("bit", range(256))
def test_each_bit_is_of_its_coefficient(bit: int) -> None:
    row, column = BIT_ORDER[bit]
    coefs = coefficients(grey(wave(row, column)))
    assert np.argmax(coefs) == (row - 1) * 16 + column - 1, "rows are vertical frequencies"
    assert int.from_bytes(code_bits(coefs).tobytes()) == 1 << (255 - bit)
    assert not any(code_bits(coefficients(grey(-wave(row, column)))))


def test_short_code_comes_first() -> None:
    low, high = np.zeros((16, 16)), np.full((16, 16), 100.0 * UNIT)
    low[:8, :8] = 100 * UNIT
    high[:8, :8] = 0
    assert code_bits(low).tobytes() == b"\xff" * 8 + bytes(24)
    assert code_bits(high).tobytes() == bytes(8) + b"\xff" * 24


def test_dead_zone_includes_two_grey_levels() -> None:
    coefs = np.zeros((16, 16))
    coefs[0, :4] = DEAD, DEAD + 1, -DEAD, -DEAD - 1
    assert code_bits(coefs).tobytes() == b"\x40" + bytes(31)
    assert active(coefs) == 2


def see_through() -> Image.Image:
    """Returns a photo whose right part is black and transparent."""
    pixels = np.asarray(photo(4)).copy()
    pixels[:, 300:] = 0
    alpha = np.clip(300 - np.arange(320), 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([pixels, np.tile(alpha, (240, 1))]))


def on_its_side() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


GOLDENS = {
    "photo": lambda: encoded(photo()),
    "photo of 12 megapixels": lambda: encoded(photo(1, (4000, 3000)), "JPEG"),
    "wide, progressive": lambda: encoded(photo(2, (500, 180)), "JPEG", quality=85, progressive=True),
    "on its side": lambda: encoded(photo(3), "JPEG", quality=90, exif=on_its_side()),
    "see-through": lambda: encoded(see_through()),
    "256 colours": lambda: encoded(photo(5), "GIF"),
    "tiny": lambda: encoded(photo(6, (20, 30))),
    "flat": lambda: encoded(Image.linear_gradient("L").rotate(90)),
}
GOLDEN_CODES = {
    "photo": "d80f3fe6ed22161c5edb38325ab8c53dd8aaa55290c0b2d10d400b8a5fbec015",
    "photo of 12 megapixels": "d80f3fe6ed22161c5edb38325ab8c53dd8aaa55290c0b2d10d400b8a5fbec015",
    "wide, progressive": "e6bc3629d1432de7caae03c19dad8cc39adf3544a5f0b2c8b81dc4e3a840cb4e",
    "on its side": "32cd43a7f2bb489277c2925e11190c8b3d0c91f22c2acb4f03c767f0873c441a",
    "see-through": "3ef00180f0bd0918e3078d001ff3f0ee0cf87c608ccc08137f806605718f8fcb",
    "256 colours": "d6a2b22de3f11de60f5f1faa501f1bab799c5ccc5f8dbe44e0aca56d9e3304ec",
    "tiny": "fd5658c3e7a7163d",
    "flat": (
        "080808181818282828383838484848585858686868787878888888989898a8a8a8b8b8b8c8c8c8d8d8d8e8e8e8f8f8f8"
        "808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080"
    ),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_codes_are_unchanged(name: str) -> None:
    """A changed code needs a new recipe name, since stored fingerprints would no longer be comparable."""
    fingerprint = fingerprint_of(GOLDENS[name]())
    assert fingerprint.algorithm == "dct/2"
    assert fingerprint.codes[0].data.hex() == GOLDEN_CODES[name]
