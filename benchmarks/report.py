"""Formats measurements as Markdown tables, and writes them into benchmarks/README.md."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import features

README = Path(__file__).with_name("README.md")


def header(peers: Sequence[str] = ()) -> str:
    """Returns one line with the date, the machine and the versions of a measurement.

    Args:
      peers: names and versions of the other tools that were measured.
    """
    cores = len(os.sched_getaffinity(0))
    versions = [
        f"Python {platform.python_version()}",
        f"Pillow {importlib.metadata.version('pillow')} (libjpeg-turbo {features.version('libjpeg_turbo')})",
        f"Beam {importlib.metadata.version('apache-beam')}",
        *peers,
    ]
    # The load shows whether anything else was running.
    load = f"load before: {os.getloadavg()[0]:.1f}"
    return f"{datetime.date.today()}, {cores} cores of {cpu()}, {load}; {', '.join(versions)}."


def cpu() -> str:
    """Returns the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a Markdown table.

    >>> print(table(["tool", "s"], [["ours", 1.5]]))
    | tool | s |
    |---|---|
    | ours | 1.5 |
    """
    head, *body = ("| " + " | ".join(map(str, line)) + " |" for line in (columns, *rows))
    return "\n".join([head, "|---" * len(columns) + "|", *body])


def publish(name: str, text: str, write: bool, readme: Path = README) -> None:
    """Prints a section. With `write`, also replaces the section of that name in the README."""
    print(text)
    if write:
        readme.write_text(replaced(readme.read_text("utf-8"), name, text), "utf-8")


def replaced(page: str, name: str, text: str) -> str:
    """Returns the page with `text` between the markers of section `name`.

    Raises:
      ValueError: the page does not have these markers.

    >>> replaced("a <!-- begin x -->old<!-- end x --> b", "x", "new")
    'a <!-- begin x -->\\n\\nnew\\n\\n<!-- end x --> b'
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"the page needs the markers {begin} and {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
