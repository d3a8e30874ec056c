"""Recognises output files that an earlier run wrote: no other file of that name is replaced."""

import re
from collections.abc import Callable

HEAD_BYTES = 4096  # bytes of a file that show which option wrote it

# How the output files of each option begin.
_BEGINNINGS: dict[str, tuple[bytes, ...]] = {
    "-o": (rb'\{\s*"[0-9a-f]{64}": \[', rb"\{\}\s*$"),
    "--records": (rb'\{"uri": "', rb"Obj\x01[\s\S]*beam_dedup"),
    "--counts": (rb'\{\s*"Initial_Image_Count": ',),
}

IsOwn = Callable[[bytes], bool]


def is_own(flag: str, head: bytes) -> bool:
    """Returns whether a file was written by an earlier run with an option, or is empty.

    Args:
      flag: the option.
      head: the first `HEAD_BYTES` bytes of the file.
    """
    return not head or any(re.match(beginning, head) for beginning in _BEGINNINGS[flag])
