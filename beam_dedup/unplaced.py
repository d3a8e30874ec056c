"""Reports the copies that could not be made."""

from beam_dedup.core.model import Unplaced
from transforms.write import unplaced_line

_UNPLACED_SHOWN = 5


def append_unplaced(unplaced: Unplaced, path: str) -> None:
    """Adds a line to a file."""
    _, _, line = unplaced_line(unplaced)
    with open(path, "ab") as file:
        file.write(line + b"\n")


def unplaced_message(path: str) -> str:
    """What is to be said of a file whose lines tell why images could not be placed; "" if it has none."""
    with open(path, encoding="utf-8") as file:
        unplaced = file.read().splitlines()
    if not unplaced:
        return ""
    shown = "".join(f"\n  {line}" for line in unplaced[:_UNPLACED_SHOWN])
    more = f"\n  ... and {len(unplaced) - _UNPLACED_SHOWN} more" if len(unplaced) > _UNPLACED_SHOWN else ""
    return f"{len(unplaced)} of the images could not be placed:{shown}{more}"
