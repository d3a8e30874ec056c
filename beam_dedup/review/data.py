"""Writes the data of a review page: scripts of one call each, whose arguments are JSON, and the thumbnails."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.imaging.thumbnail import MAX_SIDE, Thumbnail
from beam_dedup.core.paths import is_remote
from beam_dedup.record_files import is_local_file
from beam_dedup.review.alignment import alignment
from beam_dedup.review.groups import Group, Picture, Review
from beam_dedup.review.sprites import COLUMNS, SpriteWriter, Tile
from beam_dedup.review.thumbnails import ThumbnailMaker

SHARD_GROUPS = 250
MAX_INDEXED = 64  # directories of one group that can be filtered by

UNKNOWN_TIME, GONE = 0, -1  # in place of the time of modification of a file
PLAIN, LINK = 1, 2  # kinds of local files

# Escapes the letters that could end a script inside HTML. JSON in ASCII escapes all others.
_ESCAPES = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&"})


def script(function: str, *arguments: Any) -> str:
    r"""Returns a script that calls a function of the page with data.

    >>> script("data.add", 1, "</script>\u2028")
    'DedupReview.data.add(1,"\\u003c/script\\u003e\\u2028");\n'
    """
    texts = (json.dumps(value, separators=(",", ":")).translate(_ESCAPES) for value in arguments)
    return f"DedupReview.{function}({','.join(texts)});\n"


def write_data(
    made: str,
    review: Review,
    maker: ThumbnailMaker,
    directory: str,
    counts: Mapping[str, Any] | None,
    on_done: Callable[[int], None],
) -> str:
    """Writes the directories `data` and `sprites`, and returns the identity of the report.

    Reports on the same groups have the same identity, so that decisions in the browser outlive a new report.

    Args:
      made: the directory to write to.
      review, maker, directory, counts, on_done: as of `write_page`.
    """
    data, sprites = os.path.join(made, "data"), os.path.join(made, "sprites")
    os.mkdir(data)
    os.mkdir(sprites)
    index, writer, identity = _Index(), SpriteWriter(sprites), hashlib.sha256()
    rows = _Rows(directory, writer, index)
    readable = [_readable(picture) for group in review.groups for picture in group.pictures]
    thumbnails = maker.thumbnails(readable, on_done)
    for number, start in enumerate(range(0, len(review.groups), SHARD_GROUPS)):
        shard = []
        for group in review.groups[start : start + SHARD_GROUPS]:
            identity.update("\n".join([*(picture.digest for picture in group.pictures), "", ""]).encode())
            shard.append(rows.group(group, thumbnails))
            index.add(group, shard[-1], group.risk(review.k, review.verify))
        _write(os.path.join(data, f"groups-{number:04}.js"), script("data.addGroups", number, shard))
    writer.flush()
    rejected = [[one.uri, one.reason, one.detail] for one in review.rejected]
    _write(os.path.join(data, "rejected.js"), script("data.addRejected", rejected))
    facts = {
        "id": identity.hexdigest()[:32],
        "base": directory,
        "k": review.k,
        "verify": review.verify,
        "counts": dict(review.counts),
        "rejected": dict(review.rejected_counts),
        "leftOut": review.left_out,
        "run": counts,
        "shardGroups": SHARD_GROUPS,
        "tileSide": MAX_SIDE,
        "tileColumns": COLUMNS,
        "distances": _histogram(review),
        **index.tables,
        "columns": index.columns,
    }
    _write(os.path.join(data, "index.js"), script("data.start", facts))
    return str(facts["id"])


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _readable(picture: Picture) -> str:
    """Returns the file of a picture from which its thumbnail is made: a local file, or a member of a local archive."""
    files = [uri for uri in picture.files if is_local_file(uri)]
    members = [uri for uri in picture.files if not is_remote(uri)]
    return [*files, *members, *picture.files][0]


def _histogram(review: Review) -> list[int]:
    """Returns the number of near duplicates at each distance from 0 to k."""
    found = [0] * (review.k + 1)
    for group in review.groups:
        for picture in group.pictures:
            if picture.near:
                found[min(picture.distance or 0, review.k)] += 1
    return found


class _Rows:
    """Makes the JSON of groups.

    Args:
      directory: absolute, to which relative paths of the records are relative.
      writer: gets the thumbnails.
      index: numbers the directories.
    """

    def __init__(self, directory: str, writer: SpriteWriter, index: "_Index") -> None:
        self._directory = directory
        self._writer = writer
        self._index = index

    def group(self, group: Group, thumbnails: Iterator[Thumbnail | None]) -> list[dict[str, Any]]:
        """Returns the pictures of a group; takes a thumbnail for each."""
        made = [next(thumbnails) for _ in group.pictures]
        first = made[0]
        return [
            self._picture(picture, found, first) for picture, found in zip(group.pictures, made, strict=True)
        ]

    def _picture(self, picture: Picture, found: Thumbnail | None, kept: Thumbnail | None) -> dict[str, Any]:
        """Returns a picture; what is unknown or empty is left out."""
        pixels = found.pixels if found else None
        kept_pixels = kept.pixels if kept else None
        aligned = None
        if picture.near and pixels is not None and kept_pixels is not None:
            aligned = alignment(kept_pixels, pixels, picture.view)
        tile: Tile | None = None if pixels is None else self._writer.add(pixels)
        row = {
            "digest": picture.digest,
            "near": picture.near,
            "known": picture.known,
            "width": picture.width,
            "height": picture.height,
            "format": picture.format,
            "bytes": picture.size_bytes,
            "flags": list(picture.flags),
            "detail": picture.detail,
            "distance": picture.distance,
            "long": picture.long_distance,
            "view": picture.view,
            "keptBy": picture.kept_by,
            "aligned": aligned,
            "taken": found.taken if found else "",
            "changed": bool(found and picture.digest and found.digest.hex() != picture.digest),
            "tile": tile and list(tile),
            "files": [self._file(uri, uri in picture.links) for uri in picture.files],
        }
        return {
            name: value
            for name, value in row.items()
            if value is not None and value is not False and value not in ("", [])
        }

    def _file(self, uri: str, is_link: bool) -> list[Any]:
        """Returns the number of the directory, the name, the time of modification in ms, and what a file is.

        That is `PLAIN`, `LINK`, or 0 for a member of an archive or an object of a store.
        """
        if not is_local_file(uri):
            folder, slash, name = uri.rpartition("/")
            return [self._index.directory(folder + slash), name, UNKNOWN_TIME, 0]
        path = os.path.normpath(os.path.join(self._directory, split_uri(uri)[0]))
        try:
            modified = max(os.stat(path).st_mtime_ns // 1_000_000, 1)
        except (OSError, ValueError):
            modified = GONE
        folder, slash, name = path.rpartition("/")
        return [self._index.directory(folder + slash), name, modified, LINK if is_link else PLAIN]


class _Index:
    """What the page needs to know of all groups at once, to sort and filter them.

    Attributes:
      columns: one value per group: number of files and of pictures, bytes to free, risk in thousandths, whether there
        are exact (1) and near (2) duplicates, numbers of views, flags and directories, bytes of the largest file.
      tables: the names to which those numbers belong.
    """

    def __init__(self) -> None:
        self.columns: dict[str, list[Any]] = {
            name: []
            for name in ("files", "pictures", "gain", "risk", "kinds", "views", "flags", "places", "largest")
        }
        self._numbers: dict[str, dict[str, int]] = {"views": {}, "flags": {}, "directories": {}}

    @property
    def tables(self) -> dict[str, list[str]]:
        return {name: list(numbers) for name, numbers in self._numbers.items()}

    def directory(self, name: str) -> int:
        """Returns the number of a directory."""
        return self._number("directories", name)

    def add(self, group: Group, rows: Sequence[Mapping[str, Any]], risk: float) -> None:
        """Adds a group and its JSON."""
        pictures = group.pictures
        values = {
            "files": group.files,
            "pictures": len(pictures),
            "gain": group.gain,
            "risk": round(risk * 1000),
            "kinds": int(any(len(one.files) > 1 for one in pictures)) + 2 * int(len(pictures) > 1),
            "views": sorted({self._number("views", one.view) for one in pictures if one.view}),
            "flags": sorted({self._number("flags", flag) for one in pictures for flag in one.flags}),
            "places": sorted({file[0] for row in rows for file in row["files"]})[:MAX_INDEXED],
            "largest": max(one.size_bytes or 0 for one in pictures),
        }
        for name, value in values.items():
            self.columns[name].append(value)

    def _number(self, table: str, name: str) -> int:
        numbers = self._numbers[table]
        return numbers.setdefault(name, len(numbers))
