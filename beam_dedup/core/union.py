"""Collects what the duplicates of a kept image have that it has not: their URIs, URLs, captions, labels, dates and positions.

The part of one witness is a `Union`. Unions of parts are merged in any order with one result, and their size is bounded:
a million copies of one image make a union of `MOST_IMAGES` images and a count.

The values come from the metadata of the source. Keys are compared without regard to case; the first of a list that has a
value counts.
"""

import dataclasses
import heapq
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.model import Status, json_text

MOST_IMAGES = 100  # of a union that are listed
MOST_CHARACTERS = 1000  # of a value; the rest is cut off
SHARDS = 64  # parts of the witnesses, each of which meets in the memory of one worker

# The keys of metadata that are read, in the order of preference.
KEYS: Mapping[str, tuple[str, ...]] = {
    "url": ("url", "image_url", "source_url", "original_url"),
    "caption": ("caption", "txt", "text", "alt", "title", "description", "dc:title", "dc:description"),
    "label": ("label", "cls", "class", "class_name", "category"),
    "date": (
        "date/time original",
        "exif:datetimeoriginal",
        "datetimeoriginal",
        "dcterms:created",
        "date_taken",
        "date",
        "datetime",
    ),
}
POSITION_KEYS = (("geo:lat", "geo:long"), ("latitude", "longitude"), ("lat", "lon"), ("lat", "lng"))
_MOST_DEGREES = (90, 180)


def facts(metadata: str) -> dict[str, Any]:
    """Returns the values that a union holds of an image, from its metadata as JSON; None where there is none.

    >>> facts('{"URL": "http://a/b.jpg", "cls": 3, "geo:lat": "48.1", "geo:long": "11.5"}')
    {'url': 'http://a/b.jpg', 'caption': None, 'label': '3', 'date': None, 'position': [48.1, 11.5]}
    """
    found = {key.lower(): value for key, value in json.loads(metadata).items()} if metadata else {}
    return {
        **{
            name: next((text for key in keys if (text := _text(found.get(key)))), None)
            for name, keys in KEYS.items()
        },
        "position": next((at for keys in POSITION_KEYS if (at := _position(found, keys))), None),
    }


def _text(value: Any) -> str:
    """Returns a value as text; "" for values without a text of their own."""
    if isinstance(value, bool) or value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True) if value != [] else ""
    return text.strip()[:MOST_CHARACTERS]


def _position(metadata: Mapping[str, Any], keys: tuple[str, str]) -> list[float] | None:
    degrees = []
    for key, most in zip(keys, _MOST_DEGREES, strict=True):
        value = metadata.get(key)
        try:
            number = float(value) if isinstance(value, str | int | float) else math.nan
        except (ValueError, OverflowError):
            return None
        if not abs(number) <= most:
            return None
        degrees.append(number)
    return degrees


@dataclasses.dataclass(slots=True)
class Union:
    """What is known of some duplicates of one image.

    Attributes:
      count: how many there are.
      images: those that are listed, the first by URI: URIs and facts.
      labelled: how many have a label.
      least, most: the first and the last label in the order of text; equal if all labels are.
    """

    count: int = 0
    images: list[tuple[str, dict[str, Any]]] = dataclasses.field(default_factory=list)
    labelled: int = 0
    least: str = ""
    most: str = ""

    def add_label(self, label: str | None, images: int = 1) -> None:
        """Adds the label of some images, if they have one."""
        if label:
            self.least = min(self.least, label) if self.labelled else label
            self.most = max(self.most, label)
            self.labelled += images

    def add(self, other: "Union") -> None:
        self.count += other.count
        self.images = list(heapq.merge(self.images, other.images, key=lambda image: image[0]))[:MOST_IMAGES]
        if other.labelled:
            self.least = min(self.least, other.least) if self.labelled else other.least
            self.most = max(self.most, other.most)
            self.labelled += other.labelled

    @property
    def label_conflict(self) -> bool | None:
        """Whether two labels differ; None if there are no two labels."""
        return self.least != self.most if self.labelled > 1 else None

    def fields(self) -> dict[str, Any]:
        """Returns the fields of the record of the kept image."""
        images = [{"uri": uri, **known} for uri, known in self.images]
        return {"also": {"count": self.count, "images": images}, "label_conflict": self.label_conflict}


Parts = dict[str, Union]  # by the URI of the witness


def dump(parts: Parts) -> bytes:
    return json_text(
        {uri: dataclasses.astuple(part) for uri, part in parts.items()}  # text that is not UTF-8 survives
    ).encode()


def load(data: bytes) -> Parts:
    return {
        uri: Union(count, [(image, known) for image, known in images], *labels)
        for uri, (count, images, *labels) in json.loads(data).items()
    }


def merged(parts: Iterable[Parts]) -> Parts:
    """Returns several parts as one."""
    result: Parts = {}
    for part in parts:
        for uri, union in part.items():
            if uri in result:
                result[uri].add(union)
            else:
                result[uri] = union
    return result


def parts_of(block: VerdictBlock) -> Iterator[tuple[int, Parts]]:
    """Yields what the duplicates in a block of `VERDICTS` add to unions, by the shard of the witness."""
    verdicts = blocks.load([block], blocks.VERDICTS)
    duplicates = verdicts.filter(pc.equal(verdicts["status"], Status.DUPLICATE.encode()))
    duplicates = duplicates.select(["uri", "metadata", "kept_uri", "kept_digest"])
    if not len(duplicates):
        return
    for shard, rows in blocks.split(duplicates, _shards(duplicates["kept_digest"])):
        yield shard, _unions(rows.sort_by([("kept_uri", "ascending"), ("uri", "ascending")]))


def _unions(duplicates: pa.Table) -> Parts:
    """Returns the unions of duplicates that are sorted by witness and URI."""
    starts = np.flatnonzero(blocks.first_rows(duplicates["kept_uri"]))
    counts = np.diff(np.append(starts, len(duplicates)))
    witnesses = duplicates["kept_uri"].combine_chunks().take(pa.array(starts)).to_pylist()
    uris, metadata = duplicates["uri"].combine_chunks(), duplicates["metadata"].combine_chunks()
    result = {}
    for witness, start, count in zip(witnesses, starts.tolist(), counts.tolist(), strict=True):
        listed = min(count, MOST_IMAGES)
        union = Union(count)
        for uri, text in zip(
            uris[start : start + listed].to_pylist(),
            metadata[start : start + listed].to_pylist(),
            strict=True,
        ):
            known = facts(blocks.to_text(text))
            union.images.append((blocks.to_text(uri), known))
            union.add_label(known["label"])
        for text, number in _counted(metadata[start + listed : start + count]):
            union.add_label(facts(blocks.to_text(text))["label"], number)
        result[blocks.to_text(witness)] = union
    return result


def _counted(values: pa.Array) -> Iterator[tuple[bytes, int]]:
    """Yields each distinct value and how often it occurs."""
    for row in pc.value_counts(values).to_pylist():
        yield row["values"], row["counts"]


def kept_rows(block: VerdictBlock) -> Iterator[tuple[int, VerdictBlock]]:
    """Yields the kept images of a block of `VERDICTS`, by shard."""
    verdicts = blocks.load([block], blocks.VERDICTS)
    kept = verdicts.filter(pc.equal(verdicts["status"], Status.KEPT.encode()))
    if len(kept):
        for shard, rows in blocks.split(kept, _shards(kept["digest"])):
            yield shard, blocks.dump(rows)


def other_rows(block: VerdictBlock) -> VerdictBlock:
    """Returns the images of a block of `VERDICTS` that are not kept."""
    verdicts = blocks.load([block], blocks.VERDICTS)
    return blocks.dump(verdicts.filter(pc.not_equal(verdicts["status"], Status.KEPT.encode())))


def with_unions(block: VerdictBlock, unions: Parts) -> VerdictBlock:
    """Returns kept images with the unions of their duplicates."""
    kept = blocks.load([block], blocks.VERDICTS)
    texts: list[bytes | None] = []
    for uri, metadata in zip(kept["uri"].to_pylist(), kept["metadata"].to_pylist(), strict=True):
        union = unions.get(blocks.to_text(uri))
        if union:
            union.add_label(facts(blocks.to_text(metadata))["label"])
        texts.append(json_text(union.fields()).encode() if union else None)
    at = kept.schema.get_field_index("union")
    return blocks.dump(kept.set_column(at, blocks.VERDICTS.field("union"), pa.array(texts, pa.binary())))


def _shards(digests: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns the shard of each digest."""
    first = pc.binary_slice(digests, 0, 1).combine_chunks()
    return np.frombuffer(blocks.joined(pa.chunked_array([first])), np.uint8).astype(np.int64) % SHARDS
