"""Makes corpora of kinds of copies that benchmarks/quality.py measures. The same options make the same files.

    .venv/bin/python -m benchmarks.corpora crops CORPUS --originals PHOTOS
    .venv/bin/python -m benchmarks.corpora films CORPUS [--count 20]

`crops`: photos, and parts of them as people cut them, at random places, so that no view was made for them: up to 10 % off
each side, up to 17 % off one side, squares, and screenshots of a phone with its bars.

`films`: animations in several formats. Films of a pair begin with the same frame, have as many frames and last as long, but
show something else after that: they are different pictures.

CORPUS gets the layout that benchmarks/quality.py describes.
"""

import argparse
import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from beam_dedup.samples import picture
from benchmarks.pictures import photos

_CUTS_OF_A_KIND = 5
_JPEG_QUALITY = 85
_PHONE, _STATUS_BAR, _NAVIGATION_BAR = (390, 844), 44, 34  # pixels
_FRAMES, _FRAME_MS, _FILM_SIZE = 8, 120, (320, 240)

Random = np.random.Generator
Cut = Callable[[Random, Image.Image], Image.Image]


class Row(NamedTuple):
    """A file of a corpus: a row of its truth, and the content."""

    file: str
    group: str
    role: str
    transform: str
    level: str
    content: bytes


def every_side(random: Random, image: Image.Image) -> Image.Image:
    """Up to 10 % off each side."""
    left, top, right, bottom = random.uniform(0, 0.1, 4)
    return _part(image, left, top, 1 - right, 1 - bottom)


def one_side(random: Random, image: Image.Image) -> Image.Image:
    """3 to 17 % off one side."""
    cut = np.zeros(4)
    cut[random.integers(4)] = random.uniform(0.03, 0.17)
    left, top, right, bottom = cut
    return _part(image, left, top, 1 - right, 1 - bottom)


def square(random: Random, image: Image.Image) -> Image.Image:
    """A square of the full shorter side, near the centre as people choose it."""
    side = min(image.size)
    left = round((image.width - side) * random.uniform(0.35, 0.65))
    top = round((image.height - side) * random.uniform(0.35, 0.65))
    return image.crop((left, top, left + side, top + side))


def phone_screenshot(random: Random, image: Image.Image) -> Image.Image:
    """The photo at the full width of a phone's screen, on black or white, between two bars."""
    ground = ("black", "white")[int(random.integers(2))]
    screen = Image.new("RGB", _PHONE, ground)
    height = round(image.height * _PHONE[0] / image.width)
    shown = image.resize((_PHONE[0], height), Image.Resampling.LANCZOS)
    screen.paste(shown, (0, (_PHONE[1] - height) // 2))
    for top, size in ((0, _STATUS_BAR), (_PHONE[1] - _NAVIGATION_BAR, _NAVIGATION_BAR)):
        screen.paste("#808080", (0, top, _PHONE[0], top + size))
    return screen


CUTS: dict[str, Cut] = {
    cut.__name__.replace("_", "-"): cut for cut in (every_side, one_side, square, phone_screenshot)
}


def crops(originals: Path) -> Iterator[Row]:
    """Yields the photos of a directory, each followed by its cuts."""
    for number, photo in enumerate(photos(originals)):
        group = f"photo-{number:04}"
        yield Row(f"{group}.png", group, "original", "", "", saved(photo, "PNG"))
        for place, (name, cut) in enumerate(CUTS.items()):
            for at in range(_CUTS_OF_A_KIND):
                content = saved(
                    cut(np.random.default_rng([number, place, at]), photo), "JPEG", quality=_JPEG_QUALITY
                )
                yield Row(f"{group}-{name}-{at}.jpg", group, "variant", name, "hard", content)


def films(count: int) -> Iterator[Row]:
    """Yields `count` pairs of films that begin alike, each film in four formats and sizes."""
    for number in range(count):
        first = picture(3 * number, _FILM_SIZE)
        for one in (1, 2):
            last = picture(3 * number + one, _FILM_SIZE)
            frames = [Image.blend(first, last, at / (_FRAMES - 1)) for at in range(_FRAMES)]
            group = f"film-{number:04}-{one}"
            yield Row(f"{group}.webp", group, "original", "", "", _film(frames, "WEBP", quality=90))
            for name, suffix, content in (
                ("gif", "gif", _film(frames, "GIF")),
                ("apng", "png", _film(frames, "PNG")),
                ("webp50", "webp", _film(frames, "WEBP", quality=50)),
                ("half", "webp", _film([frame.reduce(2) for frame in frames], "WEBP", quality=90)),
            ):
                yield Row(f"{group}-{name}.{suffix}", group, "variant", name, "near", content)


def write(corpus: Path, rows: Iterable[Row]) -> int:
    """Writes the files of a corpus, and its truth.csv. Returns the number of files."""
    images = corpus / "images"
    images.mkdir(parents=True, exist_ok=True)
    count = 0
    with open(corpus / "truth.csv", "w", newline="") as stream:
        truth = csv.writer(stream)
        truth.writerow(Row._fields[:-1])
        for row in rows:
            (images / row.file).write_bytes(row.content)
            truth.writerow(row[:-1])
            count += 1
    return count


def _part(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Returns a part of an image; the edges are shares of its width and height."""
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round(right * width), round(bottom * height))
    )


def saved(image: Image.Image, file_format: str, **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **settings)
    return stream.getvalue()


def _film(frames: Sequence[Image.Image], file_format: str, **settings: object) -> bytes:
    return saved(
        frames[0],
        file_format,
        save_all=True,
        append_images=frames[1:],
        duration=_FRAME_MS,
        loop=0,
        **settings,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("crops", "films"), help="corpus to make")
    parser.add_argument("corpus", type=Path, help="directory to write to")
    parser.add_argument(
        "--originals", type=Path, help="of crops: directory of photos (default: drawn by code)"
    )
    parser.add_argument("--count", type=int, default=20, help="of films: pairs (default %(default)s)")
    options = parser.parse_args(arguments)
    rows = crops(options.originals) if options.kind == "crops" else films(options.count)
    print(f"{write(options.corpus, rows):,} files in {options.corpus}")


if __name__ == "__main__":
    main()
