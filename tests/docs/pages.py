"""Reads the pages of the documentation: their tables, blocks, commands, headings and links."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.app.cli_runs import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(
        path
        for folder in ("docs", "templates", "benchmarks", "tests")
        for path in sorted((ROOT / folder).rglob("*.md"))
    ),
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
_CODE_SPAN = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def one_line(page: Path) -> str:
    """Returns the text as one line, so that it does not matter where lines are wrapped."""
    return " ".join(text_of(page).split())


def table(page: Path, heading: str) -> dict[str, str]:
    """Returns the rows of the table whose first heading is this: first cell without code marks -> all other cells."""
    lines = text_of(page).splitlines()
    start = next(
        i
        for i, line in enumerate(lines)
        if line.startswith(f"| {heading} |") and lines[i + 1].startswith("|---")
    )
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    cells = [row.strip("| ").split(" | ", 1) for row in rows]
    return {first.replace("`", ""): rest for first, rest in cells}


def fenced(page: Path, language: str) -> list[str]:
    """Returns the fenced blocks of a language."""
    return [body for name, body in _FENCE.findall(text_of(page)) if name == language]


def prose(page: Path) -> str:
    """Returns the text without fenced blocks and indented blocks."""
    return _INDENTED.sub("", _FENCE.sub("", text_of(page)))


def indented_blocks(page: Path) -> list[str]:
    """Returns the indented blocks: on these pages, the commands."""
    blocks = _INDENTED.findall(_FENCE.sub("", text_of(page)))
    return ["".join(line[4:] + "\n" for line in block.splitlines()) for block in blocks]


def command_lines(page: Path) -> Iterator[str]:
    """Yields the lines of indented blocks, with the lines on which they continue, and without comments."""
    for block in indented_blocks(page):
        for line in block.replace("\\\n", " ").splitlines():
            yield re.sub(r"\s+#\s.*$", "", line).strip()


def dedup_commands(page: Path) -> list[list[str]]:
    """Returns the arguments of each `dedup` command in an indented block, or in a table as a code span of its own.

    Lines with brackets are not commands, but describe some.
    """
    found = [line for line in command_lines(page) if re.match(r"(?:\.venv/bin/)?dedup [^\[]*$", line)]
    for line in text_of(page).splitlines():
        if line.startswith("| "):
            found += re.findall(r"(?<=\| )`(dedup -[^`]*)`(?= \|)", line)
    return [shlex.split(command)[1:] for command in found]


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page: those that GitHub gives its headings, and those that it names itself."""
    named = re.findall(r'<a id="([^"]+)"></a>', text_of(page))
    found: set[str] = set(named)
    for heading in re.findall(r"^#{1,6} +(.*?)\s*$", _FENCE.sub("", text_of(page)), re.MULTILINE):
        plain = re.sub(r"<[^>]*>|\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


def links(page: Path) -> list[str]:
    """Returns the targets of all links of a page."""
    return _LINK.findall(_CODE_SPAN.sub("``", prose(page)))
