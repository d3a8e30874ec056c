"""Markdown tables of measurements, and how they get into benchmarks/README.md."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import features

README = Path(__file__).with_name("README.md")


def header(peers: Sequence[str] = ()) -> str:
    """One line that says where, when and with what was measured.

    peers: names with versions of what was measured beside us.
    """
    cores = len(os.sched_getaffinity(0))
    versions = [
        f"Python {platform.python_version()}",
        f"Pillow {importlib.metadata.version('pillow')} (libjpeg-turbo {features.version('libjpeg_turbo')})",
        f"Beam {importlib.metadata.version('apache-beam')}",
        *peers,
    ]
    # The load says whether anything else was running, which a reader can't know otherwise.
    load = f"load before: {os.getloadavg()[0]:.1f}"
    return f"{datetime.date.today()}, {cores} cores of {cpu()}, {load}; {', '.join(versions)}."


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table.

    >>> print(table(["tool", "s"], [["ours", 1.5]]))
    | tool | s |
    |---|---|
    | ours | 1.5 |
    """
    head, *body = ("| " + " | ".join(map(str, line)) + " |" for line in (columns, *rows))
    return "\n".join([head, "|---" * len(columns) + "|", *body])


def publish(name: str, text: str, write: bool, readme: Path = README) -> None:
    """Prints a section, and with `write` puts it into the README in place of the one of that name."""
    print(text)
    if write:
        readme.write_text(replaced(readme.read_text("utf-8"), name, text), "utf-8")


def replaced(page: str, name: str, text: str) -> str:
    """The page with `text` between the markers of section `name`.

    Raises:
      ValueError: the page has no such markers.

    >>> replaced("a <!-- begin x -->old<!-- end x --> b", "x", "new")
    'a <!-- begin x -->\\n\\nnew\\n\\n<!-- end x --> b'
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"the page needs the markers {begin} and {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"
