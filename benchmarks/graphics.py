"""Makes graphics by code, and measures how many different ones are near each other, and how many copies are found.

    .venv/bin/python -m benchmarks.graphics make CORPUS [--count 40]
    .venv/bin/python -m benchmarks.graphics measure CORPUS [options: --views NAME, -k BITS, --verify BITS]

Crawls are full of letters, bar codes, charts, slides, forms, cards and screenshots, which share most of their area. `make`
writes `--count` different pictures of each kind, and copies of each: compressed again, scaled, in other formats. CORPUS gets
the layout that benchmarks/quality.py describes, so that quality.py runs on it too. The same options make the same
files, with one version of Pillow.

`measure` compares all pairs, and prints a table for benchmarks/README.md: how many pairs of different pictures are near
(none should be), and which share of the copies are near their original (all should be).
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from beam_dedup.core.algorithms import ALGORITHMS, DCT, Recipe, Views
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.thresholds import DEFAULT_VERIFY
from benchmarks.algorithms import codes_of, distances
from benchmarks.corpora import Row, saved, write

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_SYLLABLES = (
    "ba",
    "co",
    "di",
    "fe",
    "gu",
    "ha",
    "jo",
    "ki",
    "lu",
    "me",
    "no",
    "pa",
    "qui",
    "ra",
    "so",
    "tu",
    "ve",
    "wi",
    "xa",
)
_INKS = ("black", "#003c78", "#7a1f1f", "#1f5c2e", "#4b2e83")
_STAFF_LINES, _STAFF_STEP = 5, 12

Random = np.random.Generator
Kind = Callable[[Random, int], Image.Image]


def letter(_: Random, number: int) -> Image.Image:
    """One character in the centre, at 12, 25 or 40 % of the height."""
    image, draw = sheet("L", (400, 400))
    height = (48, 100, 160)[number // len(_LETTERS) % 3]
    draw.text(
        (200, 200), _LETTERS[number % len(_LETTERS)], font=ImageFont.load_default(height), fill=0, anchor="mm"
    )
    return image


def bar_code(random: Random, _: int) -> Image.Image:
    image, draw = sheet("L", (480, 240))
    left = 40
    while left < 430:
        width = int(random.integers(1, 5)) * 2
        draw.rectangle((left, 30, left + width - 1, 190), fill=0)
        left += width + int(random.integers(1, 5)) * 2
    draw.text((240, 212), digits(random, 13), font=ImageFont.load_default(20), fill=0, anchor="mm")
    return image


def matrix_code(random: Random, _: int) -> Image.Image:
    """A square code of 25 x 25 modules with the three position marks of QR codes."""
    modules = random.integers(0, 2, (25, 25)).astype(np.uint8)
    mark = np.zeros((8, 8), np.uint8)
    mark[:7, :7] = 1
    mark[1:6, 1:6] = 0
    mark[2:5, 2:5] = 1
    modules[:8, :8], modules[:8, -8:], modules[-8:, :8] = mark, mark[:, ::-1], mark[::-1]
    square = Image.fromarray((1 - modules) * 255).resize((300, 300), Image.Resampling.NEAREST)
    image = Image.new("L", (348, 348), "white")
    image.paste(square, (24, 24))
    return image


def bar_chart(random: Random, _: int) -> Image.Image:
    image, draw = sheet("RGB", (640, 400))
    axes(draw)
    for at, share in enumerate(random.uniform(0.1, 1, 10)):
        draw.rectangle((80 + at * 52, 350 - 290 * share, 116 + at * 52, 349), fill="#4477aa")
    return image


def line_chart(random: Random, _: int) -> Image.Image:
    image, draw = sheet("RGB", (640, 400))
    axes(draw)
    heights = np.cumsum(random.normal(0, 1, 50))
    heights = (heights - heights.min()) / max(np.ptp(heights), 1e-9)
    draw.line([(70 + 11 * at, 340 - 270 * float(y)) for at, y in enumerate(heights)], fill="#aa3333", width=3)
    return image


def slide(random: Random, _: int) -> Image.Image:
    """A slide of one template: bars above and below, another title and other lines."""
    image, draw = sheet("RGB", (1280, 720))
    for top in (0, 690):
        draw.rectangle((0, top, 1280, top + 30), fill="#003c78")
    draw.text((80, 70), words(random, 3), font=ImageFont.load_default(56), fill="#003c78")
    for row in range(int(random.integers(2, 6))):
        draw.text(
            (110, 200 + 80 * row), f"- {words(random, 5)}", font=ImageFont.load_default(36), fill="#222222"
        )
    return image


def title_slide(random: Random, _: int) -> Image.Image:
    """A slide of one template with nothing but a title."""
    image, draw = sheet("RGB", (1280, 720))
    for top in (0, 690):
        draw.rectangle((0, top, 1280, top + 30), fill="#003c78")
    draw.text((640, 340), words(random, 2), font=ImageFont.load_default(60), fill="#003c78", anchor="mm")
    return image


def form(random: Random, _: int) -> Image.Image:
    """One form, filled in differently."""
    image, draw = sheet("L", (620, 876))
    draw.text((60, 40), "APPLICATION", font=ImageFont.load_default(32), fill=0)
    for row in range(12):
        top = 110 + 60 * row
        draw.text((60, top), f"Field {row + 1}", font=ImageFont.load_default(16), fill=60)
        draw.rectangle((180, top - 8, 560, top + 28), outline=90)
        draw.text((190, top - 2), words(random, 2), font=ImageFont.load_default(20), fill=0)
    return image


def business_card(random: Random, _: int) -> Image.Image:
    image, draw = sheet("RGB", (540, 330))
    draw.rectangle((0, 0, 24, 330), fill="#1f5c2e")
    draw.text((60, 90), words(random, 2).title(), font=ImageFont.load_default(34), fill="black")
    draw.text((60, 150), words(random, 2), font=ImageFont.load_default(18), fill="#444444")
    for row in range(3):
        draw.text(
            (60, 210 + 28 * row), f"+{digits(random, 11)}", font=ImageFont.load_default(18), fill="#444444"
        )
    return image


def logo(random: Random, _: int) -> Image.Image:
    """A small mark and a word in the middle of a plain ground."""
    image, draw = sheet("RGB", (800, 450))
    ink = _INKS[int(random.integers(len(_INKS)))]
    corners = int(random.integers(3, 9))
    draw.regular_polygon((400, 195, 40), corners, float(random.uniform(0, 360)), fill=ink)
    draw.text((400, 270), words(random, 1).title(), font=ImageFont.load_default(34), fill=ink, anchor="mm")
    return image


def screenshot(random: Random, _: int) -> Image.Image:
    """A window of a program with a menu, a list and a page of text."""
    image, draw = sheet("RGB", (1024, 640), "#f3f3f3")
    draw.rectangle((0, 0, 1024, 34), fill="#303846")
    draw.text((16, 8), "File  Edit  View  Help", font=ImageFont.load_default(16), fill="white")
    draw.rectangle((240, 50, 1008, 624), fill="white", outline="#cccccc")
    for row in range(18):
        draw.text((20, 60 + 30 * row), words(random, 2), font=ImageFont.load_default(15), fill="#333333")
    for row in range(int(random.integers(8, 24))):
        draw.text((260, 66 + 23 * row), words(random, 9), font=ImageFont.load_default(15), fill="black")
    return image


def map_sheet(random: Random, _: int) -> Image.Image:
    image, draw = sheet("RGB", (600, 600), "#eef0e6")
    for _ in range(5):
        draw.ellipse(box(random, 600, 40, 160), fill="#cfe3b4")
    for _ in range(14):
        points = np.cumsum(np.vstack([random.uniform(0, 600, 2), random.normal(0, 70, (12, 2))]), axis=0)
        draw.line([tuple(point) for point in points.tolist()], fill="#ffffff", width=9)
        draw.line([tuple(point) for point in points.tolist()], fill="#e0a030", width=4)
    for _ in range(12):
        x, y = random.uniform(20, 560, 2)
        draw.text(
            (float(x), float(y)), words(random, 1).title(), font=ImageFont.load_default(16), fill="#333333"
        )
    return image


def sheet_music(random: Random, _: int) -> Image.Image:
    image, draw = sheet("L", (620, 876))
    for staff in range(8):
        top = 60 + 100 * staff
        for row in range(_STAFF_LINES):
            draw.line((40, top + row * _STAFF_STEP, 580, top + row * _STAFF_STEP), fill=0)
        for left in range(60, 570, 26):
            middle = top + int(random.integers(-1, 10)) * _STAFF_STEP // 2
            draw.ellipse((left, middle - 5, left + 13, middle + 5), fill=0)
            draw.line((left + 13, middle, left + 13, middle - 34), fill=0, width=2)
    return image


def comic_page(random: Random, _: int) -> Image.Image:
    """Six panels with figures of simple shapes and a balloon each."""
    image, draw = sheet("RGB", (620, 876))
    for row in range(3):
        for column in range(2):
            left, top = 20 + 295 * column, 20 + 285 * row
            panel = Image.new("RGB", (285, 270), tint(random))
            within = ImageDraw.Draw(panel)
            for _ in range(5):
                within.ellipse(box(random, 280, 20, 80), fill=tint(random), outline="black", width=3)
            within.rounded_rectangle((20, 14, 200, 60), 18, fill="white", outline="black", width=2)
            within.text((34, 26), words(random, 2), font=ImageFont.load_default(18), fill="black")
            image.paste(panel, (left, top))
            draw.rectangle((left, top, left + 285, top + 270), outline="black", width=3)
    return image


def page(random: Random, _: int) -> Image.Image:
    """A page of a book: 30 lines of text."""
    image, draw = sheet("L", (620, 876))
    for row in range(30):
        draw.text((60, 60 + 25 * row), words(random, 8), font=ImageFont.load_default(17), fill=0)
    return image


def title_page(random: Random, _: int) -> Image.Image:
    """A page with nothing but two words."""
    image, draw = sheet("L", (620, 876))
    draw.text((280, 400), words(random, 2), font=ImageFont.load_default(18), fill=0)
    return image


def product(random: Random, _: int) -> Image.Image:
    """A picture of 10 % of the width in the centre of white."""
    image = Image.new("RGB", (800, 800), "white")
    small = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    image.paste(small.resize((80, 80), Image.Resampling.BICUBIC), (360, 360))
    return image


def star_field(random: Random, _: int) -> Image.Image:
    image, draw = sheet("L", (800, 600), "black")
    for x, y, light in random.uniform((0, 0, 60), (800, 600, 255), (120, 3)).tolist():
        draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=int(light))
    return image


def icon(random: Random, _: int) -> Image.Image:
    """An icon of 128 pixels: three shapes on a transparent ground."""
    image = Image.new("RGBA", (128, 128))
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        shape = (draw.ellipse, draw.rectangle)[int(random.integers(2))]
        shape(box(random, 128, 16, 44), fill=tint(random), outline="#222222", width=3)
    return image


KINDS: dict[str, Kind] = {
    kind.__name__.replace("_", "-"): kind
    for kind in (
        *(
            letter,
            bar_code,
            matrix_code,
            bar_chart,
            line_chart,
            slide,
            title_slide,
            form,
            business_card,
            logo,
        ),
        *(screenshot, map_sheet, sheet_music, comic_page, page, title_page, product, star_field, icon),
    )
}


def sheet(mode: str, size: tuple[int, int], ground: str = "white") -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Returns a plain picture, and what draws on it."""
    image = Image.new(mode, size, ground)
    return image, ImageDraw.Draw(image)


def axes(draw: ImageDraw.ImageDraw) -> None:
    for top in range(60, 351, 58):
        draw.line((60, top, 610, top), fill="#dddddd")
    draw.line((60, 40, 60, 350, 610, 350), fill="black", width=2)


def words(random: Random, count: int) -> str:
    lengths = random.integers(1, 4, count).tolist()
    return " ".join("".join(random.choice(_SYLLABLES, length)) for length in lengths)


def digits(random: Random, count: int) -> str:
    return "".join(map(str, random.integers(0, 10, count).tolist()))


def tint(random: Random) -> tuple[int, int, int]:
    red, green, blue = random.integers(90, 256, 3).tolist()
    return red, green, blue


def box(random: Random, size: int, least: int, most: int) -> tuple[float, float, float, float]:
    """Returns the corners of a random box whose centre is in a square of a size."""
    x, y = random.uniform(0.1 * size, 0.9 * size, 2).tolist()
    half_width, half_height = random.uniform(least / 2, most / 2, 2).tolist()
    return x - half_width, y - half_height, x + half_width, y + half_height


def _on_white(image: Image.Image) -> Image.Image:
    """Returns a picture as formats without transparency store it."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, mask=image)
    return ground


def _scaled(image: Image.Image, share: float) -> Image.Image:
    size = round(image.width * share), round(image.height * share)
    return image.resize(size, Image.Resampling.LANCZOS)


COPIES: dict[str, tuple[str, Callable[[Image.Image], bytes]]] = {  # name: (suffix, how it is made)
    "jpeg60": ("jpg", lambda image: saved(_on_white(image), "JPEG", quality=60)),
    "jpeg90": ("jpg", lambda image: saved(_on_white(image), "JPEG", quality=90)),
    "webp": ("webp", lambda image: saved(image, "WEBP", quality=80)),
    "gif": ("gif", lambda image: saved(_on_white(image), "GIF")),
    "scaled75": ("png", lambda image: saved(_scaled(image, 0.75), "PNG")),
    "scaled50": ("jpg", lambda image: saved(_scaled(_on_white(image), 0.5), "JPEG", quality=85)),
}


def rows(count: int) -> Iterator[Row]:
    """Yields `count` pictures of each kind, each followed by its copies."""
    for place, (name, draw) in enumerate(KINDS.items()):
        for number in range(count):
            group = f"{name}-{number:04}"
            image = draw(np.random.default_rng([place, number]), number)
            yield Row(f"{group}.png", group, "original", "", "", saved(image, "PNG"))
            for edit, (suffix, save) in COPIES.items():
                yield Row(f"{group}-{edit}.{suffix}", group, "variant", edit, "near", save(image))


def measure(corpus: Path, recipe: Recipe, k: int, verify: int) -> str:
    """Returns a table of wrong pairs and of copies found, by kind."""
    with open(corpus / "truth.csv", newline="") as stream:
        truth = list(csv.DictReader(stream))
    codes, _ = codes_of([corpus / "images" / row["file"] for row in truth], recipe)
    near = distances(codes, verify) <= k
    kinds = np.array([row["group"].rpartition("-")[0] for row in truth])
    is_original = np.array([row["role"] == "original" for row in truth])
    groups = np.unique([row["group"] for row in truth], return_inverse=True)[1]
    lines = ["| kind | pictures | pairs | near pairs | copies | found |", "|---|---|---|---|---|---|"]
    chosen = {kind: kinds == kind for kind in KINDS}
    chosen["all, also of two kinds"] = np.ones(len(truth), bool)
    return "\n".join(
        [*lines, *(_row(name, near, of_kind, is_original, groups) for name, of_kind in chosen.items())]
    )


def _row(
    name: str,
    near: npt.NDArray[np.bool_],
    chosen: npt.NDArray[np.bool_],
    is_original: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.intp],
) -> str:
    originals, copies = np.flatnonzero(chosen & is_original), np.flatnonzero(chosen & ~is_original)
    count = len(originals)
    wrong = np.count_nonzero(np.triu(near[np.ix_(originals, originals)], 1))
    original_of = np.zeros(groups.max() + 1, np.intp)
    original_of[groups[is_original]] = np.flatnonzero(is_original)
    found = np.count_nonzero(near[copies, original_of[groups[copies]]])
    share = found / max(len(copies), 1)
    return f"| {name} | {count} | {count * (count - 1) // 2:,} | {wrong} | {len(copies)} | {share:.4f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write the pictures")
    making.add_argument("corpus", type=Path, help="directory to write to")
    making.add_argument("--count", type=int, default=40, help="pictures of each kind (default %(default)s)")
    measuring = commands.add_parser("measure", help="compare all pairs and print a table")
    measuring.add_argument("corpus", type=Path, help="directory that `make` wrote")
    measuring.add_argument("--views", type=Views, default=Views.NONE, choices=list(Views))
    measuring.add_argument("-k", type=int, default=ALGORITHMS[DCT].default_k)
    measuring.add_argument("--verify", type=int, default=DEFAULT_VERIFY)
    options = parser.parse_args(arguments)
    if options.command == "make":
        print(f"{write(options.corpus, rows(options.count)):,} files in {options.corpus}")
    else:
        prepare_decoders()
        print(measure(options.corpus, Recipe(DCT, options.views), options.k, options.verify))


if __name__ == "__main__":
    main()
