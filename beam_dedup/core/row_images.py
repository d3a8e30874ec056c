"""Packs the row of a table that an image comes from into the metadata of the image, and unpacks it from its verdict.

Two rows are two images, also if they have the same URI. So an image of a row is identified by its URI and by a hash of
its bytes and of the row: a generation, which the rank ends with. Rows that are equal in all of it are interchangeable, and
`beam_dedup.core.matching.shard_verdicts` numbers them.

Metadata that an archive has for its members are apart from the row, so they can't change it.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.arrivals import GENERATION
from beam_dedup.core.model import ImageRef, Reason
from beam_dedup.core.paths import is_remote, local_path
from beam_dedup.core.rank import ROW

_ROW, _METADATA = "row", "metadata"
_HASH_BYTES = 16


class ImageRow(NamedTuple):
    """A row of a table, as far as it is needed to judge its image.

    Attributes:
      uri: of the image, as blocks hold text; b"" if the row has none.
      image: the bytes of the image; None if they are read from the URI, or if the row has none.
      carried: other fields, in any encoding; returned with the verdict.
    """

    uri: bytes
    image: bytes | None
    carried: bytes


def reference_of(number: int, row: ImageRow, refused: str = "") -> ImageRef:
    """Returns the reference to the image of a row. Its name begins with the number, so that members of archives have it too.

    Args:
      number: of the row in its batch.
      row: the row. Without bytes its URI is a path, which becomes as `-l` reads it.
      refused: why the row names no image; "" if it names one.
    """
    uri = blocks.to_text(row.uri)
    if refused:
        reason = Reason.EMPTY if row.uri else Reason.MALFORMED
        return ImageRef(uri, f"{number}/", refused=(reason.value, refused))
    return ImageRef(uri, f"{number}/{uri.replace('://', '/', 1).lstrip('/')}")


def path_of(uri: str) -> str:
    """Returns the path that a URI of a row names: `file:///a%20b` is `/a b`, and `./a//b` is `a/b`.

    >>> path_of("file:///a%20b"), path_of("./a//b"), path_of("gs://a//b")
    ('/a b', 'a/b', 'gs://a//b')
    """
    path = local_path(uri)
    return path if is_remote(path) else os.path.normpath(path)


def digest_uri(image: bytes) -> bytes:
    """Returns the URI of an image that has none: its digest.

    >>> digest_uri(b"")[:20]
    b'sha256:e3b0c44298fc1'
    """
    return b"sha256:" + hashlib.sha256(image).hexdigest().encode()


def with_rows(block: bytes, schema: pa.Schema, rows: Sequence[ImageRow]) -> bytes:
    """Returns a block of fingerprints or verdicts in which each image has its row, and its name no number.

    Args:
      block: the results of decoding references that `reference_of` returned.
      schema: `FINGERPRINTS` or `VERDICTS`.
      rows: the rows that the references are numbers of.
    """
    table = blocks.load([block], schema)
    names, metadata = [], []
    for name, own, digest in zip(
        *(table[column].to_pylist() for column in ("name", "metadata", "digest")), strict=True
    ):
        number, _, rest = name.partition(b"/")
        names.append(rest)
        metadata.append(_packed(rows[int(number)].carried, digest or b"", blocks.to_text(own)).encode())
    for column, values in (("name", names), ("metadata", metadata)):
        at = schema.get_field_index(column)
        table = table.set_column(at, schema.field(at), pa.array(values, pa.binary()))
    return blocks.dump(table)


def _packed(carried: bytes, digest: bytes, metadata: str) -> str:
    """Returns the metadata of an image: its generation, its row, and the metadata that an archive has for it."""
    generation = hashlib.blake2b(digest + carried, digest_size=_HASH_BYTES).hexdigest()
    fields = {GENERATION: ROW + generation, _ROW: base64.b64encode(carried).decode()}
    return json.dumps({**fields, _METADATA: json.loads(metadata)} if metadata else fields)


def unpacked(metadata: Mapping[str, Any]) -> tuple[bytes, dict[str, Any] | None]:
    """Returns the carried fields in the metadata of an image, and the metadata that an archive has for it; None without.

    Args:
      metadata: that of `with_rows`, parsed.
    """
    return base64.b64decode(metadata[_ROW]), metadata.get(_METADATA)
