"""Makes the sets of files for the benchmarks. The same options make the same files.

    .venv/bin/python -m benchmarks.pictures web   OUT --count 12000  [--originals DIR] [-j 2]
    .venv/bin/python -m benchmarks.pictures 12mp  OUT --count 300    [--originals DIR] [-j 2]
    .venv/bin/python -m benchmarks.pictures small OUT --count 100000 [-j 2]

`web`: JPEGs of about 500 x 400 pixels and 55 KB. `12mp`: baseline JPEGs of 4000 x 3000 pixels and 3 to 5 MB, as cameras
make them. `small`: JPEGs and PNGs of 2 to 8 KB. All files of a set are different, and so are the pictures of `web` and
`12mp`: each blends random cut-outs of two photos, in random light, since cut-outs of the same few photos alone would
sometimes be near duplicates. The photos are those below --originals. Without it, they are drawn by code: such pictures
compress differently, and serve to try the commands only.

Writes 1,000 files per directory. Does not change files that exist.
"""

import argparse
import functools
import io
import itertools
import struct
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from beam_dedup.samples import picture

_FOLDER_FILES = 1000
_DRAWN = 8  # pictures drawn by code, if no photos are given
_WEB_QUALITY, _CAMERA_QUALITY = 91, 90
CAMERA_SIZE = (4000, 3000)
_GRAIN = 6.0  # grey levels of noise: makes the file of an enlarged photo as large as that of a camera
_LIGHT, _LIGHT_CELLS = 0.25, (7, 8)  # share of the light in a picture; rows and columns of its grid
_ICONS = 64
_SMALL_BYTES = (2_000, 8_000)
_JPEG_COMMENT, _JPEG_START_BYTES, _PNG_START_BYTES = b"\xff\xfe", 2, 33


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS, help="set of files")
    parser.add_argument("out", type=Path, help="directory to write to")
    parser.add_argument("--count", type=int, required=True, help="number of files")
    parser.add_argument("--originals", type=Path, help="directory of photos to cut from")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    if options.originals and len(photos(options.originals)) < 2:
        sys.exit(
            f"--originals: {options.originals} has fewer than 2 photos; name a directory with PNGs or JPEGs"
        )
    size_bytes = make(options.kind, options.out, options.count, options.originals, options.jobs)
    mean = size_bytes / options.count
    print(f"{options.count:,} files of {mean:,.0f} bytes on average in {options.out}")


def make(kind: str, out: Path, count: int, originals: Path | None, jobs: int) -> int:
    """Makes a set of files. Returns its size in bytes."""
    for first in range(0, count, _FOLDER_FILES):
        (out / f"{first // _FOLDER_FILES:03}").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(jobs) as pool:
        tasks = (itertools.repeat(value) for value in (kind, out, originals))
        return sum(pool.map(save, range(count), *tasks, chunksize=8))


def save(seed: int, kind: str, out: Path, originals: Path | None) -> int:
    """Writes the file of a number, unless it exists. Returns its size in bytes."""
    stem = out / f"{seed // _FOLDER_FILES:03}" / f"{seed:06}"
    existing = next(stem.parent.glob(f"{stem.name}.*"), None)
    if existing is not None:
        return existing.stat().st_size
    extension, data = KINDS[kind](np.random.default_rng(seed), originals)
    stem.with_suffix(extension).write_bytes(data)
    return len(data)


def web(random: np.random.Generator, originals: Path | None) -> tuple[str, bytes]:
    size = int(random.integers(450, 550)), int(random.integers(360, 440))
    return ".jpg", jpeg(double_exposure(random, originals, size), _WEB_QUALITY)


def camera(
    random: np.random.Generator, originals: Path | None, size: tuple[int, int] = CAMERA_SIZE
) -> tuple[str, bytes]:
    image = double_exposure(random, originals, size)
    shift = tuple(int(step) for step in random.integers(0, 1000, 2))
    noisy = np.asarray(image, dtype=np.int16) + np.roll(grain(size), shift, (0, 1))[..., None]
    return ".jpg", jpeg(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), _CAMERA_QUALITY)


def small(random: np.random.Generator, _: Path | None) -> tuple[str, bytes]:
    extension, data = icons()[random.integers(_ICONS)]
    text = random.bytes(int(random.integers(*_SMALL_BYTES)) - len(data)).replace(b"\xff", b"\xfe")
    return extension, commented_png(data, text) if extension == ".png" else commented_jpeg(data, text)


KINDS: dict[str, Callable[[np.random.Generator, Path | None], tuple[str, bytes]]] = {
    "web": web,
    "12mp": camera,
    "small": small,
}


def double_exposure(
    random: np.random.Generator, originals: Path | None, size: tuple[int, int]
) -> Image.Image:
    """Returns a blend of random cut-outs of two different photos and of random light."""
    one, other = random.choice(len(photos(originals)), 2, replace=False)
    parts = [cut_out(random, photos(originals)[at], size) for at in (one, other)]
    both = Image.blend(parts[0], parts[1], float(random.uniform(0.4, 0.5)))
    knots = Image.fromarray(random.integers(0, 256, (*_LIGHT_CELLS, 3), dtype=np.uint8))
    return Image.blend(both, knots.resize(size, Image.Resampling.BICUBIC), _LIGHT)


def cut_out(random: np.random.Generator, photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Returns a random part of a photo, scaled to a size, mirrored and flipped at random."""
    scale = float(random.uniform(0.65, 1.0))
    width, height = round(photo.width * scale), round(photo.height * scale)
    left, top = (int(random.integers(room + 1)) for room in (photo.width - width, photo.height - height))
    part = photo.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    if random.random() < 0.5:
        part = ImageOps.mirror(part)
    return ImageOps.flip(part) if random.random() < 0.5 else part


@functools.cache
def photos(originals: Path | None) -> tuple[Image.Image, ...]:
    """Returns the photos to cut from, decoded once per process."""
    if originals is None:
        return tuple(picture(seed, (768, 512)) for seed in range(_DRAWN))
    paths = sorted(path for path in originals.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    return tuple(Image.open(path).convert("RGB") for path in paths)


@functools.cache
def grain(size: tuple[int, int]) -> np.ndarray:
    """Returns noise of a size (width, height), made once per process."""
    width, height = size
    random = np.random.default_rng(0)
    return np.rint(random.normal(0, _GRAIN, (height, width))).astype(np.int16)


@functools.cache
def icons() -> tuple[tuple[str, bytes], ...]:
    """Returns tiny pictures in both formats, whose files are smaller than the smallest requested size."""
    made = []
    for seed in range(_ICONS):
        image = picture(seed, (32, 24)) if seed % 2 else picture(seed, (20, 16))
        made.append((".jpg", jpeg(image, 75)) if seed % 2 else (".png", png(image)))
    return tuple(made)


def jpeg(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def commented_jpeg(data: bytes, text: bytes) -> bytes:
    """Returns a JPEG with a comment, which makes files of the same picture different."""
    comment = _JPEG_COMMENT + struct.pack(">H", len(text) + 2) + text
    return data[:_JPEG_START_BYTES] + comment + data[_JPEG_START_BYTES:]


def commented_png(data: bytes, text: bytes) -> bytes:
    """Returns a PNG with a comment, which makes files of the same picture different."""
    body = b"tEXt" + b"Comment\0" + text
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return data[:_PNG_START_BYTES] + chunk + data[_PNG_START_BYTES:]


if __name__ == "__main__":
    main()
