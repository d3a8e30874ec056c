"""Makes large review pages at once: their thumbnails come from a few drawn pictures."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from beam_dedup.core.imaging.thumbnail import Thumbnail
from beam_dedup.core.limits import Limits
from beam_dedup.review.groups import Group, Picture, Review
from beam_dedup.review.thumbnails import ThumbnailMaker
from beam_dedup.review.writer import write_page
from beam_dedup.samples import picture
from tests.review.reports import digest_of

_SHAPES = ((128, 96), (96, 128), (128, 85), (128, 128))
_FORMATS = ("JPEG", "PNG", "HEIF", "WEBP")
_VIEWS = ("base", "base", "base", "trim", "centre90", "rot90", "left10")


class DrawnThumbnails(ThumbnailMaker):
    """Yields a few drawn thumbnails again and again."""

    def __init__(self) -> None:
        super().__init__("/", 1, Limits())
        self._drawn = [np.asarray(picture(seed, _SHAPES[seed % len(_SHAPES)])) for seed in range(40)]

    def thumbnails(
        self, uris: Sequence[str], on_done: Callable[[int], None] = lambda _: None
    ) -> Iterator[Thumbnail | None]:
        for number in range(len(uris)):
            on_done(1)
            yield Thumbnail(b"", 0, "", self._drawn[number % len(self._drawn)])


def large_review(groups: int, pictures: int, seed: int = 1) -> Review:
    """Returns made-up groups.

    Args:
      groups: their number.
      pictures: in all of them together; each group has two at least.
      seed: of the random numbers.
    """
    generator = random.Random(seed)
    sizes = [2] * groups
    for _ in range(pictures - 2 * groups):
        sizes[int(groups * generator.random() ** 3)] += 1  # most groups are small, a few large
    made = [_group(number, size, generator) for number, size in enumerate(sizes)]
    made.sort(key=lambda group: -group.gain)
    counts = {"kept": groups, "duplicate": sum(group.files - 1 for group in made), "rejected": 3}
    return Review(made, counts, {"empty": 3}, [], 0, 8, 48)


def _group(number: int, size: int, generator: random.Random) -> Group:
    folders = (
        "/home/ann/Pictures/2019/Summer",
        "/mnt/backup/phone",
        "/mnt/backup/old laptop/Desktop",
        "/home/ann/Downloads",
    )
    found = []
    for member in range(size):
        name = f"{generator.choice(folders)}/IMG_{number:05}_{member}.jpg"
        found.append(
            Picture(
                digest=digest_of(name),
                files=[name, *([f"{name}.copy"] if generator.random() < 0.3 else [])],
                near=member > 0,
                width=generator.choice([640, 1280, 4032]),
                height=generator.choice([480, 960, 3024]),
                format=generator.choice(_FORMATS),
                size_bytes=int(generator.lognormvariate(14, 1)),
                distance=generator.randrange(9) if member else None,
                long_distance=generator.randrange(49) if member else None,
                view=generator.choice(_VIEWS) if member else None,
            )
        )
    return Group(found)


def write_large_page(path: Path, groups: int, pictures: int) -> Path:
    """Writes a page and returns the path of its index.html."""
    with DrawnThumbnails() as maker:
        return Path(write_page(str(path), large_review(groups, pictures), maker, "/"))
