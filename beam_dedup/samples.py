"""Draws sample pictures, to try `dedup` on before using it on one's own.

Nothing is downloaded, and no real photo is included. The same seed gives the same bytes, so a second
`make demo` changes nothing, and tests can state what they expect.
"""

import argparse
import collections
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_SIZE = (480, 360)
_DETAILS = (3, 5, 9, 16, 30)  # hills across of each layer, coarse to fine
_EXIF_ORIENTATION = 0x0112
_TURN_RIGHT_TO_VIEW = 6

_SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="120" height="80" viewBox="0 0 120 80">
  <rect width="120" height="80" fill="#eee"/><circle cx="60" cy="40" r="28" fill="#c33"/>
</svg>
"""
_NOTE = b"These are only notes. Somebody gave the file the name of a picture.\n"


def picture(seed: int, size: tuple[int, int] = _SIZE) -> Image.Image:
    """Returns a picture that is as rich as a photo; each seed gives another one, the same every time.

    Smooth random fields, from coarse to fine, give the picture the spectrum of a photo, in which the low
    frequencies dominate. Shapes add edges, and grain adds detail that lossy encoders lose. So a re-encoded
    copy is a near duplicate, and the pictures of two seeds differ in the low frequencies of which a
    fingerprint is made, not only in detail. The shapes and the fields do not depend on the size; the grain
    does.

    Args:
      seed: number of the picture.
      size: width and height, in pixels.

    >>> picture(1).size, picture(1).mode
    ((480, 360), 'RGB')
    >>> picture(1).tobytes() == picture(1).tobytes(), picture(1).tobytes() == picture(2).tobytes()
    (True, False)
    """
    random = np.random.default_rng(seed)
    light = _spread(sum(_field(random, cells, size) / cells**0.6 for cells in _DETAILS))
    tints = [_field(random, 2, size) + 0.5 * _field(random, 4, size) for _ in "RGB"]
    pixels = np.stack([128 + 100 * light + 45 * tint for tint in tints], axis=-1)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8), "RGB")
    _draw_shapes(image, random)
    grain = random.uniform(-9, 9, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8), "RGB")


def _field(random: np.random.Generator, cells: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Returns a smooth random field of values from about -1 to 1, of shape (height, width), with `cells` hills across."""
    knots = random.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(knots, "F").resize(size, Image.Resampling.BICUBIC))


def _spread(field: Any) -> NDArray[np.float32]:
    """Returns the field, centred at 0 and scaled to a fixed contrast, so that no picture is dim, pale or grey."""
    centred = field - field.mean()
    return np.asarray(np.tanh(centred / (1.5 * centred.std())), dtype=np.float32)


def _draw_shapes(image: Image.Image, random: np.random.Generator) -> None:
    """Draws discs and triangles over the fields: edges, like those of objects in front of a landscape."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(int(random.integers(5, 10))):
        x, y = random.uniform(0, 1, 2)
        radius = random.uniform(0.04, 0.16) * height
        corners = random.uniform(0, 2 * np.pi, 3)
        red, green, blue = (int(c) for c in random.integers(20, 236, 3))
        centre = np.array([x * width, y * height])
        if random.uniform() < 0.5:
            draw.ellipse([*(centre - radius), *(centre + radius)], fill=(red, green, blue))
        else:
            points = centre + 1.6 * radius * np.stack([np.cos(corners), np.sin(corners)], axis=-1)
            draw.polygon([(float(px), float(py)) for px, py in points], fill=(red, green, blue))


def make_samples(folder: Path, seed: int = 1) -> dict[str, str]:
    """Writes the sample files into a directory.

    Args:
      folder: the directory; it is made if it does not exist.
      seed: chooses the pictures.

    Returns:
      What each file is, by its path relative to the directory.

    Raises:
      FileExistsError: the path is a file, or the directory contains other files than samples. Their pictures
        would change the counts, and they must not be overwritten.
    """
    samples = _samples(seed)
    if folder.exists():
        if not folder.is_dir():
            raise FileExistsError(f"{folder} is a file, not a directory")
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        if others := found - set(samples):
            raise FileExistsError(
                f"{folder} contains files that are not samples, such as {min(others)}; name a new or an empty directory"
            )
    for name, (_, data) in samples.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
    return {name: kind for name, (kind, _) in samples.items()}


def _samples(seed: int) -> dict[str, tuple[str, bytes]]:
    """Returns the kind and the bytes of every sample by its name, in the order in which the kinds are listed."""
    samples: dict[str, tuple[str, bytes]] = {}

    def photo(number: int) -> Image.Image:
        return picture(1000 * seed + number)

    def add(kind: str, name: str, data: bytes) -> None:
        samples[name] = kind, data

    for number in range(1, 13):
        add("photo", f"photos/photo-{number:02}.jpg", _encode(photo(number)))
    # Another picture with a base name that exists already: copying by base name alone would lose one of them.
    add("photo", "camera/photo-01.jpg", _encode(photo(21)))
    add("photo without extension", "camera/scan", _encode(photo(22), "PNG"))
    for name in ("photo-01.jpg", "photo-02.jpg", "photo-03.jpg", "old/photo-01.jpg"):
        add("exact copy", f"backup/{name}", samples["photos/" + Path(name).name][1])
    add("exact copy", "backup/a copy of photo-04.jpg", samples["photos/photo-04.jpg"][1])

    for quality in (85, 70, 55, 40, 25):
        add("saved again as JPEG", f"web/photo-05-q{quality}.jpg", _encode(photo(5), quality=quality))
    for number, size in ((6, (360, 270)), (6, (240, 180)), (7, (640, 480)), (7, (320, 240))):
        add("resized", f"web/photo-{number:02}-{size[0]}.jpg", _encode(photo(number).resize(size)))
    for number, form in ((8, "PNG"), (8, "WEBP"), (8, "GIF"), (9, "PNG"), (9, "WEBP")):
        add("in another format", f"formats/photo-{number:02}.{form.lower()}", _encode(photo(number), form))
    add("thumbnail", "thumbnails/photo-10.jpg", _encode(photo(10).resize((96, 72)), quality=80))
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = _TURN_RIGHT_TO_VIEW
    turned = photo(11).transpose(Image.Transpose.ROTATE_90)
    add("turned, with EXIF orientation", "phone/photo-11.jpg", _encode(turned, exif=exif))

    for colour in ("firebrick", "steelblue"):
        for size in ((64, 64), (200, 120)):
            plain = _encode(Image.new("RGB", size, colour), "PNG")
            add("plain colour", f"plain/{colour}-{size[0]}.png", plain)
    add("SVG drawing, which is not decoded", "odd/drawing.svg", _SVG)
    add("text with the name of a picture", "odd/notes.jpg", _NOTE)
    add("empty file", "odd/empty.jpg", b"")
    return samples


def _encode(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **({"quality": 92} if form == "JPEG" else {}) | options)
    return buffer.getvalue()


def main(argv: list[str] | None = None) -> int:
    """Writes sample pictures into a directory and lists what was written."""
    parser = argparse.ArgumentParser(prog="python -m beam_dedup.samples", description=main.__doc__)
    parser.add_argument(
        "folder", type=Path, help="a new or empty directory, or one with samples that were made before"
    )
    folder: Path = parser.parse_args(argv).folder
    try:
        made = make_samples(folder)
    except OSError as error:
        print(f"samples: {error}", file=sys.stderr)
        return 1
    for kind, count in collections.Counter(made.values()).items():
        print(f"{count:4}  {kind}")
    print(f"{len(made):4}  files in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
