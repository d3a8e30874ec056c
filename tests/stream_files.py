"""Files as they arrive at a run that stays: pictures, what is equal or near to some of them, and what is none."""

import os
import random
from collections.abc import Iterator

from PIL import Image, ImageOps

from beam_dedup.core.archives.members import file_uri, member_uri
from tests.core.archives.made_archives import zipped
from tests.pictures import encoded, photo
from tests.verdicts_outside import Key

SIZE = (72, 54)
_PAN = (4, 3)  # frames of a slow pan, and by how many pixels each is further than the one before


def files(count: int, seed: int = 1) -> dict[str, bytes]:
    """So many files by name, in random order. Of some pictures there are equal copies, or near ones, or those of a pan, of
    which neighbours are alike and the ends are not.
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
    """A picture, and what there is of it besides."""
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
    """A picture in a border of one colour: near it through the view that leaves borders out."""
    return encoded(ImageOps.expand(picture, 14, colour))


def expected_of(path: str, generation: str, data: bytes) -> dict[Key, bytes]:
    """What has a verdict of a file that arrives, and its bytes."""
    if path.endswith(".zip"):
        return {Key(member_uri(path, name), generation): content for name, content in MEMBERS.items()}
    return {Key(file_uri(path), generation): data}


def generation_of(path: str) -> str:
    """As a watched folder tells it."""
    status = os.stat(path)
    return f"{status.st_mtime_ns}-{status.st_size}"


def hostile() -> dict[str, bytes]:
    """Files by strangers. Of the archive, the members count."""
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
