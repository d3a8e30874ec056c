"""Finds the companions of images by their names: side-cars, movies of live photos, RAW files and edits.

Names are compared in one directory and without regard to case. Their suffixes say what they are:

    picture    JPEG, HEIF, PNG and other formats that are no RAW
    RAW        what the sensor of a camera recorded
    side-car   .xmp .aae .thm .json
    movie      .mov .mp4

Files of one stem are a *shot*. Its images are its pictures; without a JPEG or HEIF, also its RAW files. An image is
judged. Everything else in the shot is a companion of all images of the shot: it is not judged, and goes where they go.

- `IMG_E1.JPG`, and all files of that stem, belong to the shot of `IMG_1.HEIC` if there is one: Apple calls edits so.
- `a.jpg.xmp` belongs to `a.jpg` alone, or, if that is a companion, to the same images; so does Google's
  `a.jpg.supplemental-metadata.json`.
- A file of a shot without images is no companion.
"""

import enum
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from beam_dedup.core import blocks
from beam_dedup.core.archives.members import file_uri
from beam_dedup.core.model import ImageRef
from beam_dedup.core.paths import beside


class Kind(enum.Enum):
    """What a file is, by the suffix of its name."""

    CAMERA_PICTURE = enum.auto()  # JPEG and HEIF, which cameras write beside a RAW file
    PICTURE = enum.auto()
    RAW = enum.auto()
    OTHER = enum.auto()  # side-cars and movies


_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(["jpg", "jpeg", "jpe", "heic", "heif", "hif"], Kind.CAMERA_PICTURE),
    **dict.fromkeys(["png", "gif", "webp", "bmp", "tif", "tiff", "avif", "jxl", "jp2"], Kind.PICTURE),
    **dict.fromkeys(
        [
            "3fr",
            "arw",
            "cr2",
            "cr3",
            "crw",
            "dng",
            "erf",
            "iiq",
            "kdc",
            "mef",
            "mos",
            "mrw",
            "nef",
            "nrw",
            "orf",
            "pef",
            "raf",
            "raw",
            "rw2",
            "rwl",
            "sr2",
            "srf",
            "srw",
            "x3f",
        ],
        Kind.RAW,
    ),
    **dict.fromkeys(["xmp", "aae", "thm", "json", "mov", "mp4"], Kind.OTHER),
}
_EDIT = re.compile(r"img_e(\d+)")
_TAKEOUT = ".supplemental-metadata"

_SEPARATOR = "/"  # no name of a file contains it


class Companions(NamedTuple):
    """The names of the companions of an image, in its directory.

    Attributes:
      own: those that are not listed with another image before.
      shared: those that are `own` of another image of the shot.
    """

    own: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()


class _Shot(NamedTuple):
    pictures: list[str]
    raws: list[str]
    others: list[str]

    def images(self) -> list[str]:
        has_camera_picture = any(kind_of(name) is Kind.CAMERA_PICTURE for name in self.pictures)
        return sorted(self.pictures if has_camera_picture else [*self.pictures, *self.raws])


def kind_of(name: str) -> Kind | None:
    """Returns what a file is by its name; None if it is neither an image nor a companion.

    >>> kind_of("IMG_1.JPG"), kind_of("a.jpg.xmp"), kind_of("a.txt"), kind_of(".xmp")
    (<Kind.CAMERA_PICTURE: 1>, <Kind.OTHER: 4>, None, None)
    """
    stem, _, suffix = name.rpartition(".")
    return _KINDS.get(suffix.lower()) if stem else None


def may_have_companions(names: Iterable[str]) -> bool:
    """Returns whether some of the names may be those of companions; False is certain."""
    return any(kind_of(name) in (Kind.OTHER, Kind.RAW) or name[:5].lower() == "img_e" for name in names)


def owners(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Returns the images that each companion among the files of a directory belongs to, sorted.

    >>> owners(["IMG_1.JPG", "img_1.cr2", "IMG_1.JPG.xmp", "IMG_E1.jpg", "b.mov", "c.txt"])
    {'img_1.cr2': ('IMG_1.JPG',), 'IMG_E1.jpg': ('IMG_1.JPG',), 'IMG_1.JPG.xmp': ('IMG_1.JPG',)}
    """
    kinds = [(name, kind) for name in names if (kind := kind_of(name))]
    images = {name.lower() for name, kind in kinds if kind is not Kind.OTHER}
    stems = {_stem(name) for name in images}
    shots: defaultdict[str, _Shot] = defaultdict(lambda: _Shot([], [], []))
    of_one_file: list[tuple[str, str]] = []
    for name, kind in kinds:
        key = _stem(name.lower())
        if kind is Kind.OTHER:
            key = key.removesuffix(_TAKEOUT)
            if key in images:
                of_one_file.append((name, key))
                continue
        edit = _EDIT.fullmatch(key)
        if edit and f"img_{edit[1]}" in stems:
            shots[f"img_{edit[1]}"].others.append(name)
        elif kind is Kind.OTHER:
            shots[key].others.append(name)
        else:
            (shots[key].raws if kind is Kind.RAW else shots[key].pictures).append(name)
    found: dict[str, tuple[str, ...]] = {}
    same_name: defaultdict[str, set[str]] = defaultdict(
        set
    )  # images, by the lower case of the name of a file
    for shot in shots.values():
        of_shot = tuple(shot.images())
        for name in of_shot:
            same_name[name.lower()].add(name)
        for name in (*shot.raws, *shot.others):
            if of_shot and name not in of_shot:
                found[name] = of_shot
                same_name[name.lower()].update(of_shot)
    for name, named in of_one_file:
        found[name] = tuple(sorted(same_name[named]))
    return found


def companions_in(names: Sequence[str]) -> dict[str, Companions]:
    """Returns the companions of each image that has any, among the files of a directory.

    >>> companions_in(["a.HEIC", "a.jpg", "a.mov", "a.jpg.xmp"])
    {'a.HEIC': Companions(own=('a.mov',), shared=()), 'a.jpg': Companions(own=('a.jpg.xmp',), shared=('a.mov',))}
    """
    own, shared = defaultdict(list), defaultdict(list)
    for name, images in sorted(owners(names).items()):
        own[images[0]].append(name)
        for image in images[1:]:
            shared[image].append(name)
    return {image: Companions(tuple(own[image]), tuple(shared[image])) for image in sorted({*own, *shared})}


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def to_column(reference: ImageRef) -> bytes:
    """Returns the names of all companions of an image, as blocks hold them."""
    return blocks.to_bytes(_SEPARATOR.join(sorted((*reference.companions, *reference.shared))))


def from_column(data: bytes | None) -> tuple[str, ...]:
    """Returns the names that `to_column` joined."""
    return tuple(blocks.to_text(data).split(_SEPARATOR)) if data else ()


def of_no_image(references: Iterable[ImageRef], fingerprints: Iterable[bytes]) -> list[ImageRef]:
    """Returns references to the companions of files that turned out to be no image: these are files like others.

    Args:
      references: files that were read.
      fingerprints: the images that were found in them, as blocks of FINGERPRINTS.
    """
    with_companions = [reference for reference in references if reference.companions]
    if not with_companions:
        return []
    images = _uris(fingerprints)
    return [
        ImageRef(beside(reference.uri, name), beside(reference.name, name))
        for reference in with_companions
        if blocks.to_bytes(file_uri(reference.uri)) not in images
        for name in reference.companions
    ]


def count(references: Sequence[ImageRef], fingerprints: Sequence[bytes]) -> int:
    """Returns the number of companions of the images that were found; see `of_no_image`."""
    return sum(len(one.companions) for one in references) - len(of_no_image(references, fingerprints))


def _uris(fingerprints: Iterable[bytes]) -> set[bytes]:
    return {
        uri for block in fingerprints for uri in blocks.batch(block, blocks.FINGERPRINTS)["uri"].to_pylist()
    }
