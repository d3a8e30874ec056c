"""Reports the images that could not be copied to the output directory."""

from beam_dedup.core.model import Unplaced
from beam_dedup.texts import counted
from transforms.storage.files import named_if_full
from transforms.write import unplaced_line


def append_unplaced(unplaced: Unplaced, path: str) -> None:
    """Appends one line to a file: why an image could not be placed."""
    _, _, line = unplaced_line(unplaced)
    with named_if_full(path), open(path, "ab") as file:
        file.write(line + b"\n")


def count_lines(path: str) -> int:
    """Returns the number of images that could not be placed: the lines of a file with one for each."""
    with open(path, "rb") as file:
        return sum(1 for _ in file)


def unplaced_message(path: str) -> str:
    """Returns how many images could not be placed, and why for each; "" if all were placed.

    Args:
      path: a file with one line per image that could not be placed.
    """
    with open(path, encoding="utf-8") as file:
        unplaced = file.read().split("\n")[:-1]
    if not unplaced:
        return ""
    return f"{counted(len(unplaced), 'image')} could not be placed:" + "".join(
        f"\n  {line}" for line in unplaced
    )
