"""Recognises output files that an earlier run wrote: no other file of that name is replaced."""

import re
from collections.abc import Callable
from typing import BinaryIO

from beam_dedup.core.metadata.parquet_rows import PARQUET_MAGIC

HEAD_BYTES = 4096  # bytes of a file that show which option wrote it
TAIL_BYTES = 1 << 15  # the same at the end of a Parquet file
_CHUNK_BYTES = 1 << 20

# How the output files of each option begin.
_BEGINNINGS: dict[str, tuple[bytes, ...]] = {
    "-o": (rb'\{\s*"[0-9a-f]{64}": \[', rb"\{\}\s*$"),
    "--records": (
        rb'\{"uri": "',
        rb"Obj\x01[\s\S]*beam_dedup",
        rb'"uri","status","reason",',
        rb"PAR1[\s\S]*beam_dedup[^a-z]{1,4}records",
    ),
    "--pairs": (
        rb'\{"digest_a": "',
        rb"Obj\x01[\s\S]*beam_dedup[\s\S]*digest_a",
        rb'"digest_a","digest_b",',
        rb"PAR1[\s\S]*beam_dedup[^a-z]{1,4}pairs",
    ),
    "--drop_list": (),  # nothing shows who wrote a list of paths
    "--counts": (rb'\{\s*"Initial_Image_Count": ',),
}

IsOwn = Callable[[bytes], bool]


def is_own(flag: str, head: bytes) -> bool:
    """Returns whether a file was written by an earlier run with an option, or is empty.

    Args:
      flag: the option.
      head: what `read_head` returns of the file.
    """
    return not head or any(re.match(beginning, head) for beginning in _BEGINNINGS[flag])


def read_head(stream: BinaryIO) -> bytes:
    """Returns the first `HEAD_BYTES` bytes of a file; of a Parquet file also the last `TAIL_BYTES`.

    Args:
      stream: at its beginning. If it can't seek, a Parquet file is read to its end.
    """
    head = stream.read(HEAD_BYTES)
    if not head.startswith(PARQUET_MAGIC):
        return head
    if stream.seekable():
        stream.seek(max(len(head), stream.seek(0, 2) - TAIL_BYTES))
    tail = b""
    while chunk := stream.read(_CHUNK_BYTES):
        tail = (tail + chunk)[-TAIL_BYTES:]
    return head + tail
