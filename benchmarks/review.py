"""Measures the review page in Chromium: time to the first group, memory, decisions by keyboard and scrolling.

    .venv/bin/python -m benchmarks.review [--groups 10000] [--pictures 100000] [--files FOLDER]

The page is made of made-up groups and drawn thumbnails, and opened from the disk in a headless browser without a GPU
(`make services`). With --files, the time to make real thumbnails of the files in FOLDER is measured as well.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from beam_dedup.core.limits import Limits
from beam_dedup.core.threads import cores
from beam_dedup.review.thumbnails import ThumbnailMaker
from benchmarks import report
from tests.review.large import write_large_page
from tests.services.browser import Page, browser

_FRAMES = 300
_DECISIONS = 300
_STEP = 190  # pixels per frame: two and a half rows
_MIB = 1 << 20

# Scrolls the list in each frame, and returns the times between frames in ms.
_SCROLL = """new Promise((done) => {
  const list = document.getElementById("list");
  const times = [];
  let last = performance.now();
  const step = (now) => {
    times.push(now - last);
    last = now;
    list.scrollTop += STEP;
    if (times.length < FRAMES) requestAnimationFrame(step);
    else done(times.slice(2));
  };
  requestAnimationFrame(step);
})"""

# Accepts groups, one per frame, and returns the ms that the page works on each.
_DECIDE = """new Promise((done) => {
  const times = [];
  const step = () => {
    const start = performance.now();
    DedupReview.main.act("accept");
    times.push(performance.now() - start);
    if (times.length < COUNT) requestAnimationFrame(step);
    else done(times);
  };
  requestAnimationFrame(step);
})"""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--groups", type=int, default=10_000, help="number of groups")
    parser.add_argument("--pictures", type=int, default=100_000, help="number of pictures in all groups")
    parser.add_argument("--files", type=Path, help="directory of images, to measure thumbnails")
    options = parser.parse_args(argv)
    head = report.header()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder, browser() as running:
        started = time.monotonic()
        index = write_large_page(Path(folder, "page"), options.groups, options.pictures)
        rows.append(["writing the page, without thumbnails of files", f"{time.monotonic() - started:.1f} s"])
        rows += _disk_rows(index.parent)
        page = running.new_page()
        page.resize(1280, 800)
        page.command("Performance.enable")
        rows += _page_rows(page, index)
    if options.files:
        rows.append(_thumbnails_row(options.files))
    print(f"{head} {options.groups:,} groups, {options.pictures:,} pictures.\n")
    print(report.table(["what", "measured"], rows))


def _disk_rows(folder: Path) -> list[list[str]]:
    def size_of(part: str) -> tuple[int, float]:
        files = list((folder / part).iterdir())
        return len(files), sum(file.stat().st_size for file in files) / _MIB

    (scripts, data), (sheets, sprites) = size_of("data"), size_of("sprites")
    return [
        ["data", f"{scripts} files, {data:.1f} MiB"],
        ["thumbnails", f"{sheets} files, {sprites:.0f} MiB"],
    ]


def _page_rows(page: Page, index: Path) -> list[list[str]]:
    page.open(index)
    first = "performance.getEntriesByName('first-group')[0]?.startTime"
    page.wait_for(first)
    rows = [["first group shown after", f"{page.evaluate(first):.0f} ms"]]
    rows.append(["JavaScript heap then", f"{_heap(page):.1f} MiB"])
    frames = page.evaluate(_SCROLL.replace("STEP", str(_STEP)).replace("FRAMES", str(_FRAMES)))
    rows.append([f"frame time while scrolling {_STEP} pixels per frame", _spread(frames)])
    page.evaluate("document.getElementById('sort').value = 'risk'; DedupReview.filters.apply()")
    page.evaluate("document.getElementById('list').scrollTop = 0")
    frames = page.evaluate(_SCROLL.replace("STEP", str(_STEP)).replace("FRAMES", str(_FRAMES)))
    rows.append(["the same, sorted by risk: every row from another file", _spread(frames)])
    decisions = page.evaluate(_DECIDE.replace("COUNT", str(_DECISIONS)))
    rows.append(["one decision: stored, and the next group shown", _spread(decisions)])
    started = time.monotonic()
    page.evaluate("document.getElementById('sort').value = 'files'; DedupReview.filters.apply()")
    rows.append(["filtering and sorting all groups", f"{(time.monotonic() - started) * 1000:.0f} ms"])
    rows.append(["JavaScript heap at the end", f"{_heap(page):.1f} MiB"])
    return rows


def _heap(page: Page) -> float:
    """Returns the JavaScript heap in use after a collection, in MiB."""
    page.command("HeapProfiler.collectGarbage")
    metrics: list[dict[str, Any]] = page.command("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "JSHeapUsedSize")) / _MIB


def _spread(times: list[float]) -> str:
    ordered = sorted(times)
    return (
        f"median {statistics.median(ordered):.1f} ms, 95 % within {ordered[int(len(ordered) * 0.95)]:.1f} ms, "
        f"longest {ordered[-1]:.1f} ms"
    )


def _thumbnails_row(folder: Path) -> list[str]:
    files = [str(path) for path in folder.resolve().rglob("*") if path.is_file()]
    started = time.monotonic()
    with ThumbnailMaker("/", cores(), Limits()) as maker:
        made = sum(1 for one in maker.thumbnails(files) if one and one.pixels is not None)
    seconds = time.monotonic() - started
    return [
        f"thumbnails of {made:,} files in {folder.name}",
        f"{seconds:.1f} s, {made / seconds:,.0f} files/s",
    ]


if __name__ == "__main__":
    main()
