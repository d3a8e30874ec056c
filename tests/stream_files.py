"""Files as input of a stream: pictures, copies and near duplicates, and files that are no images."""

import os
import random
from collections.abc import Iterator

from PIL import Image, ImageOps

from beam_dedup.core.archives.members import file_uri, member_uri
from tests.core.archives.made_archives import zipped
from tests.pictures import encoded, photo
from tests.verdicts_outside import Key

SIZE = (72, 54)
_PAN = (4, 3)  # frames of a slow pan, and pixels from one frame to the next


def files(count: int, seed: int = 1) -> dict[str, bytes]:
    """Returns a number of files by name, in random order.

    Some pictures have equal copies or near duplicates. Others are frames of a pan: neighbours are similar,
    the ends are not.
    """
    rng = random.Random(seed)
    made: list[bytes] = []
    for number in range(count):
        made += _family(rng, photo(1000 * seed + number, SIZE))
        if len(made) >= count:
            break
    rng.shuffle(made)
    return {f"{number % 7}/{number:04}": data for number, data in enumerate(made[:count])}


def _family(rng: random.Random, picture: Image.Image) -> Iterator[bytes]:
    """Yields a picture, and copies, near duplicates, or frames of a pan."""
    first = encoded(picture, "JPEG", quality=90)
    yield first
    match rng.randrange(10):
        case 0:
            yield from [first] * rng.randint(1, 3)
        case 1:
            yield encoded(picture, "JPEG", quality=60)
            yield encoded(picture)
        case 2:
            yield from [encoded(picture.resize((60, 45)), "WEBP", quality=80)] * 2
        case 3:
            yield framed(picture)
        case 4:
            wide, (frames, step) = picture.resize((120, 90)), _PAN
            yield from (
                encoded(wide.crop((at, 0, at + 96, 90)), "JPEG") for at in range(step, frames * step, step)
            )
        case 5:
            other = photo(rng.randrange(10**6), SIZE)
            yield from (encoded(Image.blend(picture, other, share)) for share in (0.1, 0.2, 0.3))


def framed(picture: Image.Image, colour: str = "navy") -> bytes:
    """Returns a picture with a border of one colour. It is near the picture through the view `trim`."""
    return encoded(ImageOps.expand(picture, 14, colour))


def expected_of(path: str, generation: str, data: bytes) -> dict[Key, bytes]:
    """Returns the images that must have a verdict once a file has arrived, with their bytes.

    An archive has several.
    """
    if path.endswith(".zip"):
        return {Key(member_uri(path, name), generation): content for name, content in MEMBERS.items()}
    return {Key(file_uri(path), generation): data}


def generation_of(path: str) -> str:
    """Returns the generation of a local file, as a watched directory reports it."""
    status = os.stat(path)
    return f"{status.st_mtime_ns}-{status.st_size}"


def hostile() -> dict[str, bytes]:
    """Returns files that are empty, truncated or no images, and an archive, whose members are the images."""
    picture = photo(999_001, SIZE)
    whole = encoded(picture, "JPEG")
    return {
        "odd/empty.jpg": b"",
        "odd/page.jpg": b"<html><body>404 not found</body></html>",
        "odd/cut.jpg": whole[: len(whole) // 2],
        "odd/stump.png": encoded(picture)[:40],
        "odd/two! 50%41.zip": zipped(MEMBERS),
    }


MEMBERS = {
    "a.jpg": encoded(photo(999_002, SIZE), "JPEG"),
    "b/again.jpg": encoded(photo(999_002, SIZE), "JPEG"),
    "b/near.png": encoded(photo(999_002, SIZE).resize((60, 45))),
    "b/empty.jpg": b"",
    "c.webp": encoded(photo(999_003, SIZE), "WEBP"),
}
