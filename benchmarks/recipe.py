"""Compares the recipe `dct/2` with recipes that differ in one of its parameters.

    .venv/bin/python benchmarks/recipe.py CORPUS LOOKALIKES

CORPUS has the layout that benchmarks/quality.py describes. LOOKALIKES is a directory of pictures that look alike and are
all different. Prints a table for benchmarks/README.md. *near*: share of the edits up to that level whose code is within
(k, v) of their original's. *graphics*: how many of the 5 further encodings of each of 8 drawn graphics are found. *wrong*:
pairs of look-alikes that are within (k, v).
"""

import argparse
import csv
import dataclasses
import io
import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from beam_dedup.core.imaging import dct, decode
from beam_dedup.core.limits import Limits
from beam_dedup.core.thresholds import LONG_BITS

Bits = npt.NDArray[np.uint8]  # (n, 32)
NEAR = ("pixel", "near")
FLAT_LEVELS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """A recipe."""

    draft: int = decode.DRAFT_SIDE  # pixels: the least side of a scaled decode
    resample: Image.Resampling = Image.Resampling.BILINEAR
    dead: float = dct.DEAD_ZONE  # grey levels
    order: str = "square"  # which 64 of the 256 coefficients are the short code

    def __str__(self) -> str:
        return f"draft {self.draft}, {self.resample.name.lower()}, dead zone {self.dead:g}, {self.order}"


VARIANTS = (
    Variant(),
    *(Variant(draft=draft) for draft in (96, 192, 256)),
    *(
        Variant(resample=resample)
        for resample in (Image.Resampling.BOX, Image.Resampling.HAMMING, Image.Resampling.LANCZOS)
    ),
    *(Variant(dead=dead) for dead in (0, 1, 3)),
    *(Variant(order=order) for order in ("zigzag", "from 2")),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Codes:
    """The codes of n pictures."""

    bits: Bits  # the short code first
    flat: npt.NDArray[np.bool_]  # (n,)
    profiles: npt.NDArray[np.uint8]  # (n, 96): the colours by which flat pictures are compared


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path, help="directory with images/ and truth.csv")
    parser.add_argument("lookalikes", type=Path, help="directory of different pictures that look alike")
    options = parser.parse_args()
    originals, copies = near_edits(options.corpus)
    alike = [path.read_bytes() for path in sorted(options.lookalikes.iterdir())]
    drawn = {name: encoded_again(image) for name, image in graphics().items()}
    print(
        "| recipe | us | near at (8, 48) | (10, 56) | graphics | wrong by the short code within 8 | at (8, 48) | at (10, 56) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for variant in VARIANTS:
        print(row(variant, originals, copies, alike, drawn), flush=True)


def near_edits(corpus: Path) -> tuple[list[bytes], list[bytes]]:
    """Returns, for each edit, the file of its original and the file of the edit, as two lists."""
    with open(corpus / "truth.csv", newline="") as file:
        truth = list(csv.DictReader(file))
    original = {row["group"]: row["file"] for row in truth if row["role"] == "original"}
    edits = [row for row in truth if row["role"] == "variant" and row["level"] in NEAR]
    data = {name: (corpus / "images" / name).read_bytes() for name in original.values()}
    return (
        [data[original[row["group"]]] for row in edits],
        [(corpus / "images" / row["file"]).read_bytes() for row in edits],
    )


def row(
    variant: Variant,
    originals: Sequence[bytes],
    copies: Sequence[bytes],
    alike: Sequence[bytes],
    drawn: dict[str, list[bytes]],
) -> str:
    """Returns the row of the table for one recipe."""
    different = {id(data): data for data in originals}
    codes = codes_of(different.values(), variant)
    position = {key: number for number, key in enumerate(different)}
    started = time.process_time()
    edited = codes_of(copies, variant)
    cost = (time.process_time() - started) / len(copies) * 1e6
    firsts = np.array([position[id(data)] for data in originals])
    near = [np.mean(within(codes, firsts, edited, np.arange(len(copies)), *at)) for at in ((8, 48), (10, 56))]
    lookalikes = codes_of(alike, variant)
    one, other = np.triu_indices(len(alike), 1)
    wrong = [np.sum(within(lookalikes, one, lookalikes, other, *at)) for at in ((8, 256), (8, 48), (10, 56))]
    of_drawn = codes_of(itertools.chain(*drawn.values()), variant)
    size = len(next(iter(drawn.values())))
    starts = np.repeat(np.arange(len(drawn)) * size, size - 1)
    copies_of = np.array([number for number in range(len(drawn) * size) if number % size])
    again = np.sum(within(of_drawn, starts, of_drawn, copies_of, 8, 48))
    figures = [f"{share:.4f}" for share in near] + [f"{again} of {len(copies_of)}"] + [str(n) for n in wrong]
    return f"| {variant} | {cost:.0f} | {' | '.join(figures)} |"


def codes_of(files: Iterable[bytes], variant: Variant) -> Codes:
    """Returns the codes of files. Sets `decode.DRAFT_SIDE` to that of the recipe."""
    decode.DRAFT_SIDE = variant.draft
    greys, colours = zip(*(squares(data, variant) for data in files), strict=True)
    coefs = dct.coefficients(np.stack(greys))
    threshold = variant.dead * 2.0**30
    bits = (coefs > threshold).reshape(-1, LONG_BITS)[:, order(variant.order)]
    flat = np.count_nonzero(np.abs(coefs) > threshold, axis=(1, 2)) < dct.FLAT_ACTIVE
    profiles = [np.frombuffer(dct.profiles(colour), np.uint8) for colour in colours]
    return Codes(np.packbits(bits, axis=1), flat, np.stack(profiles))


def squares(data: bytes, variant: Variant) -> tuple[dct.Pixels, dct.Pixels]:
    """Returns the picture of a file in 64 x 64: grey, and in colour (black if it is far from flat)."""
    stream = io.BytesIO(data)
    picture = decode.open_picture(stream, scaled=True, heavy=False, allowed=Limits())
    source = decode.reduced(picture)
    box = (0, 0, source.width, source.height)
    small = source.image.resize((dct.SIDE, dct.SIDE), variant.resample, box)
    grey = decode.oriented(decode.over_white(small, "L"), picture.orientation)
    coefs = dct.coefficients(grey)
    if np.count_nonzero(np.abs(coefs) > 2.0**30) >= LONG_BITS // 4:
        return grey, np.zeros((dct.SIDE, dct.SIDE, 3), np.uint8)  # not flat with any of the dead zones
    colour = decode.square(decode.thumbnail(decode.colours(stream, picture), "RGB"), "RGB")
    return grey, decode.oriented(colour, picture.orientation)


def order(name: str) -> npt.NDArray[np.intp]:
    """Returns the positions of all 256 coefficients, those of the short code first."""
    if name == "square":
        return dct.BIT_ORDER
    rows, columns = np.divmod(np.arange(LONG_BITS), dct.LONG_SIDE)
    if name == "zigzag":  # the lowest sums of both frequencies
        return np.argsort(rows + columns, kind="stable")
    low = (rows >= 1) & (rows <= 8) & (columns >= 1) & (columns <= 8)
    return np.concatenate([np.flatnonzero(low), np.flatnonzero(~low)])


def within(
    a: Codes, ai: npt.NDArray[np.intp], b: Codes, bi: npt.NDArray[np.intp], k: int, v: int
) -> npt.NDArray[np.bool_]:
    """Returns which of the pairs (ai, bi) are within (k, v). Compares two flat pictures by their colours."""
    apart = np.bitwise_count(a.bits[ai] ^ b.bits[bi])
    near = (apart[:, :8].sum(axis=1) <= k) & (apart.sum(axis=1) <= v)
    levels = np.abs(a.profiles[ai].astype(int) - b.profiles[bi]).max(axis=1)
    both, one = a.flat[ai] & b.flat[bi], a.flat[ai] ^ b.flat[bi]
    return np.where(both, levels <= FLAT_LEVELS, near & ~one)


def graphics() -> dict[str, Image.Image]:
    """Returns graphics of 640 x 480 pixels, such as programs draw."""
    size = width, height = 640, 480
    y, x = np.mgrid[:height, :width]
    from_centre = np.hypot(x - width / 2, y - height / 2)
    return {
        "circle": drawing(size, lambda draw: draw.ellipse([220, 140, 420, 340], "#c02020")),
        "rings": grey(127 + 127 * np.sign(np.sin(from_centre / 14))),
        "gradient": grey(x / width * 255),
        "glow": grey(255 - from_centre / 400 * 255),
        "flag": drawing(size, lambda draw: stripes(draw, size)),
        "icon": drawing(size, icon),
        "screen": drawing(size, screen),
        "text page": drawing(size, text_page),
    }


def grey(values: npt.NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")


def drawing(size: tuple[int, int], paint: Callable[[ImageDraw.ImageDraw], None]) -> Image.Image:
    image = Image.new("RGB", size, "white")
    paint(ImageDraw.Draw(image))
    return image


def stripes(draw: ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    for number, colour in enumerate(("#002395", "#ffffff", "#ed2939")):
        draw.rectangle([number * size[0] // 3, 0, (number + 1) * size[0] // 3, size[1]], colour)


def icon(draw: ImageDraw.ImageDraw) -> None:
    draw.rounded_rectangle([160, 80, 480, 400], 60, "#2060d0")
    points = [(math.cos(turn) * 110 + 320, math.sin(turn) * 110 + 240) for turn in (-1.57, 0.52, 2.62)]
    draw.polygon(points, "#ffffff")


def screen(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle([0, 0, 640, 40], "#303840")
    draw.rectangle([0, 40, 150, 480], "#e8ecf0")
    for line in range(12):
        draw.rectangle([14, 60 + line * 30, 60 + line * 37 % 70, 70 + line * 30], "#90a0b0")
        draw.rectangle([180, 70 + line * 32, 300 + line * 97 % 300, 82 + line * 32], "#606870")


def text_page(draw: ImageDraw.ImageDraw) -> None:
    for line in range(24):
        words = " ".join(
            "pages of text look alike to all"[(line * 7 + word * 3) % 25 :][:8] for word in range(9)
        )
        draw.text((40, 24 + line * 18), words, "black", font_size=13)


def encoded_again(image: Image.Image) -> list[bytes]:
    """Returns the picture as PNG, and then 5 further encodings of it."""
    half, double = ([side * 2 // by for side in image.size] for by in (4, 1))
    return [
        encoded(image, "PNG"),
        encoded(image, "JPEG", quality=90),
        encoded(image, "JPEG", quality=50),
        encoded(image, "WEBP", quality=80),
        encoded(image.resize(half, Image.Resampling.LANCZOS), "PNG"),
        encoded(image.resize(double, Image.Resampling.BICUBIC), "JPEG", quality=75),
    ]


def encoded(image: Image.Image, image_format: str, **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


if __name__ == "__main__":
    main()
