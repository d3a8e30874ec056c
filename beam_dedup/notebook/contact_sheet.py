"""Makes a contact sheet of groups of duplicates: HTML that a notebook shows, with thumbnails in it.

Decoder processes make the thumbnails, as those of the review page. Names of files are escaped, and the HTML has no scripts and loads
nothing.
"""

import base64
import dataclasses
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from beam_dedup.core.errors import UsageError
from beam_dedup.core.imaging.dct import Pixels
from beam_dedup.core.imaging.thumbnail import MAX_SIDE, Thumbnail
from beam_dedup.core.limits import Limits
from beam_dedup.core.names import shown
from beam_dedup.core.threads import cores
from beam_dedup.review.report import MAX_DECODE_SECONDS
from beam_dedup.review.thumbnails import AT_ONCE, ThumbnailMaker
from beam_dedup.texts import counted

Record = Mapping[str, Any]

MAX_GROUPS, MAX_IMAGES = 500, 100  # of a sheet, and of one of its groups
_MAX_NAME = 200  # letters of a name
_QUALITY = 80
_BOX = "box-sizing:border-box;border:1px solid rgba(127,127,127,.5);border-radius:4px;padding:4px"
_KEPT_BOX = "box-sizing:border-box;border:3px solid #2e8b57;border-radius:4px;padding:2px"
_ROW = "display:flex;flex-wrap:wrap;gap:8px;margin:0 0 16px"
_CAPTION = "font-size:11px;line-height:1.3;overflow-wrap:anywhere;margin:4px 0 0"
_FRAME = f"width:{MAX_SIDE}px;height:{MAX_SIDE}px;display:flex;align-items:center;justify-content:center"


@dataclasses.dataclass(frozen=True, slots=True)
class ContactSheet:
    """Groups of duplicates with thumbnails, for a notebook.

    Attributes:
      html: all of it, without scripts and without references to other files.
    """

    html: str
    caption: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"<ContactSheet: {self.caption}>"


@dataclasses.dataclass(frozen=True, slots=True)
class Tile:
    """One image of a contact sheet.

    Attributes:
      name: URI, as the records have it.
      source: URI from which the image can be read.
      digest: SHA-256 of the bytes that were judged, in hex; "" if it is unknown.
      notes: what is said about it, one line each.
    """

    name: str
    source: str
    digest: str
    notes: tuple[str, ...]
    is_kept: bool = False


def make_sheet(
    groups: Mapping[str, Sequence[Record]],
    kept: Mapping[str, Record],
    most_groups: int,
    most_images: int,
    source_of: Callable[[Iterable[str]], Mapping[str, str]],
    directory: str,
    limits: Limits,
) -> ContactSheet:
    """Returns a contact sheet of the first groups.

    Args:
      groups: the records of the duplicates, by the URI of their kept image.
      kept: the records of the kept images, by URI; an image of `--reference` has none.
      most_groups: groups to show.
      most_images: images of a group to show, the kept one included.
      source_of: returns from which URIs images can be read, by their URIs in the records.
      directory: to which relative paths are relative.
      limits: with which images are read.

    Raises:
      UsageError: there would be no groups or images, or too many.
    """
    _check("groups", most_groups, 1, MAX_GROUPS)
    _check("images", most_images, 2, MAX_IMAGES)
    chosen = {uri: groups[uri][: most_images - 1] for uri in list(groups)[:most_groups]}
    wanted = dict.fromkeys(
        uri for uri, records in chosen.items() for uri in (uri, *(record["uri"] for record in records))
    )
    sources = source_of(wanted)
    thumbnails = _thumbnails(list(dict.fromkeys(sources.values())), directory, limits)
    rows = []
    for uri, records in chosen.items():
        tiles = [_kept_tile(uri, kept.get(uri), sources[uri])]
        tiles += [_duplicate_tile(record, sources[record["uri"]]) for record in records]
        figures = "".join(_figure(tile, thumbnails.get(tile.source)) for tile in tiles)
        left_out = len(groups[uri]) - len(records)
        more = (
            f'<div style="{_CAPTION};align-self:center">{counted(left_out, "more duplicate")}</div>'
            if left_out
            else ""
        )
        rows.append(f'<div style="{_ROW}">{figures}{more}</div>')
    total = counted(len(groups), "group") + " of duplicates"
    caption = total if len(chosen) == len(groups) else f"{len(chosen):,} of {total}"
    advice = "" if len(chosen) == len(groups) else "; show(groups=N) shows more"
    return ContactSheet(f'<div><p style="{_CAPTION}">{caption}{advice}</p>{"".join(rows)}</div>', caption)


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} must be between {least} and {most}; got {value}")


def _thumbnails(sources: Sequence[str], directory: str, limits: Limits) -> dict[str, Thumbnail]:
    if not sources:
        return {}
    seconds = min(limits.decode_seconds, MAX_DECODE_SECONDS)
    processes = min(cores(), -(-len(sources) // AT_ONCE))
    with ThumbnailMaker(directory, processes, dataclasses.replace(limits, decode_seconds=seconds)) as maker:
        found = zip(sources, maker.thumbnails(sources), strict=True)
        return {source: thumbnail for source, thumbnail in found if thumbnail is not None}


def _kept_tile(uri: str, record: Record | None, source: str) -> Tile:
    if record is None:
        return Tile(uri, source, "", ("known",), is_kept=True)
    return Tile(uri, source, record["digest"] or "", ("kept", *_size(record)), is_kept=True)


def _duplicate_tile(record: Record, source: str) -> Tile:
    reason = str(record["reason"])
    if record["distance"] is not None and reason != "exact":
        reason += f", {counted(record['distance'], 'bit')}"
    view = (f"as {record['view']}",) if record["view"] not in (None, "base") else ()
    return Tile(record["uri"], source, record["digest"] or "", (reason, *view, *_size(record)))


def _size(record: Record) -> tuple[str, ...]:
    return (f"{record['width']} x {record['height']}",) if record["width"] else ()


def _figure(tile: Tile, thumbnail: Thumbnail | None) -> str:
    name = shown(tile.name)
    short = name if len(name) <= _MAX_NAME else f"...{name[-_MAX_NAME:]}"
    lines = "<br>".join(escape(line) for line in (*tile.notes, short))
    box = _KEPT_BOX if tile.is_kept else _BOX
    return (
        f'<figure style="{box};margin:0;width:{MAX_SIDE + 10}px" title="{escape(short)}">'
        f'<div style="{_FRAME}">{_picture(tile, thumbnail, short)}</div>'
        f'<figcaption style="{_CAPTION}">{lines}</figcaption></figure>'
    )


def _picture(tile: Tile, thumbnail: Thumbnail | None, name: str) -> str:
    if thumbnail is None:
        return "no preview"
    if tile.digest and thumbnail.digest.hex() != tile.digest:
        return "changed since the run"
    if thumbnail.pixels is None:
        return "no preview"
    return f'<img alt="{escape(name)}" src="data:image/jpeg;base64,{_jpeg(thumbnail.pixels)}">'


def _jpeg(pixels: Pixels) -> str:
    """Returns pixels as a JPEG file in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return base64.b64encode(file.getvalue()).decode("ascii")
