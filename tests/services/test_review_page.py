"""The review page in a real browser, opened from the disk: decisions by keyboard, hostile names, narrow screens."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beam_dedup.cli import main
from beam_dedup.core.decisions import read_decisions
from beam_dedup.review.report import ReportConfig, make_report
from tests.app.cli_runs import dedup, records_in, tree
from tests.pictures import encoded, photo
from tests.review.large import write_large_page
from tests.review.reports import data_of, exact, near, record, write_records
from tests.services.browser import Browser, BrowserError, Page, browser
from tests.services.require_service import required

pytestmark = pytest.mark.service

GROUPS = 10_000
MOST_ROWS = 60  # elements of the list, however many groups there are
LEAST_CONTRAST = 4.5  # of text and its ground (WCAG 2, level AA)

# Returns the texts whose contrast is too low. Semi-transparent text, as of the keys in buttons, is left out.
CONTRAST = """(() => {
  const channel = (value) => (value /= 255) <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([red, green, blue]) => 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
  const colour = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const found = colour(getComputedStyle(one).backgroundColor);
      if (found[3] !== 0) return found;
    }
    return colour(getComputedStyle(document.body).backgroundColor);
  };
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || one.tagName === "KBD" || one.tagName === "SCRIPT" || one.closest(":disabled") || !one.checkVisibility({ opacityProperty: true })) continue;
    const [first, second] = [light(colour(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
    const ratio = (first + 0.05) / (second + 0.05);
    if (ratio < LEAST) found.push(`${one.tagName}.${one.className}: ${ratio.toFixed(2)} ${one.textContent.slice(0, 30)}`);
  }
  return found;
})()""".replace("LEAST", str(LEAST_CONTRAST))

# Returns the controls that a screen reader can't name.
NAMELESS = """[...document.querySelectorAll("button, input, select, dialog, [role]")]
  .filter((one) => one.checkVisibility() && !(one.ariaLabel || one.title || one.labels?.length || one.textContent.trim()
    || document.getElementById(one.getAttribute("aria-labelledby")) || one.role === "presentation" || one.role === "status"))
  .map((one) => one.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with required(browser()) as running:
        yield running


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    made = chromium.new_page()
    made.resize(1280, 800)
    yield made
    made.evaluate("localStorage.clear()")
    made.command("Page.close")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_large_page(tmp_path_factory.mktemp("large") / "page", GROUPS, GROUPS * 5 // 2)


def open_report(page: Page, index: Path) -> None:
    page.open(index)
    page.wait_for("document.querySelector('.row .row-name') && document.querySelector('.card')")


def saved(page: Page, folder: Path) -> list[dict[str, Any]]:
    """Saves the decisions by keyboard and returns the lines of the file."""
    folder.mkdir()
    page.save_downloads(folder)
    page.press("s")
    file = folder / "decisions.jsonl"
    deadline = time.monotonic() + 30
    while not file.exists() and time.monotonic() < deadline:
        page.evaluate("1")
        time.sleep(0.05)
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def facts_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """Returns what `dedup` reads of a decision."""
    return line["decision"], tuple(line.get("digests", ())) or line["digest"]


def progress(page: Page) -> str:
    return str(page.evaluate("document.getElementById('progress-text').textContent"))


class TestLargeReport:
    def test_decisions_by_keyboard_survive_a_reload_and_are_saved(
        self, page: Page, large: Path, tmp_path: Path
    ) -> None:
        _, groups, _ = data_of(large.parent)
        open_report(page, large)
        assert page.evaluate("document.getElementById('found').value") == f"{GROUPS:,} groups"
        page.press("Enter")  # group 0: accepted
        page.press("2", "Enter")  # group 1: the second picture instead
        page.press("d", "a", "n")  # groups 2 to 4
        page.press("1", "2", "1", "Enter")  # group 5: the second picture again
        page.press("d", "u", "Enter")  # group 6: not different, but accepted
        page.press("End", "ArrowUp", "Enter")  # the last but one
        assert progress(page).startswith("8 of 10,000 decided, frees ")
        before = progress(page)
        page.reload()
        page.wait_for("document.querySelector('.card')")
        assert progress(page) == before

        def digests(group: int) -> list[str]:
            return [picture["digest"] for picture in groups[group]]

        def accepted(group: int) -> list[tuple[Any, ...]]:
            first, *others = digests(group)
            return [("same", (first, other)) for other in others]

        def second_only(group: int) -> list[tuple[Any, ...]]:
            return [("keep" if at == 1 else "drop", digest) for at, digest in enumerate(digests(group))]

        expected = [
            *accepted(0),
            *second_only(1),
            *different(digests(2)),
            *(("keep", digest) for digest in digests(3)),
            *(("drop", digest) for digest in digests(4)),
            *second_only(5),
            *accepted(6),
            *accepted(GROUPS - 2),
        ]
        lines = saved(page, tmp_path / "saved")
        assert [facts_of(line) for line in lines] == expected
        assert all(line["time"] for line in lines)
        assert lines[0]["uris"][0].endswith(groups[0][0]["files"][0][1])

        page.evaluate("localStorage.clear()")
        page.reload()
        page.wait_for("document.querySelector('.card')")
        assert progress(page) == "0 of 10,000 decided"
        page.choose_file("#load", tmp_path / "saved/decisions.jsonl")
        page.wait_for("document.getElementById('status').textContent === '8 decisions loaded.'")
        assert progress(page) == before
        again = saved(page, tmp_path / "again")
        assert [facts_of(line) for line in again] == expected
        assert page.errors == []
        assert all(request.startswith(("file://", "blob:")) for request in page.requests)

    def test_the_last_group_leads_to_an_undecided_one(self, page: Page, large: Path) -> None:
        open_report(page, large)
        page.press("Enter", "a", "End")
        for key, expected in (("Enter", 2), ("a", 3), ("n", 4)):
            assert page.evaluate("DedupReview.detail.group") == GROUPS - 1
            page.wait_for("DedupReview.detail.pictures")
            page.press(key)
            assert page.evaluate("DedupReview.detail.group") == expected, key
            page.press("Enter", "End")
        page.press("Backspace", "ArrowUp", "Enter")
        assert page.evaluate("DedupReview.detail.group") == GROUPS - 1, "the next one, as always"

    def test_undo_is_enabled_if_there_is_something_to_undo(self, page: Page, large: Path) -> None:
        undo = "document.querySelector('[data-action=undo]')"
        open_report(page, large)
        assert page.evaluate(f"{undo}.disabled") is True
        page.press("Enter")
        page.wait_for(f"{undo} && !{undo}.disabled")
        page.evaluate(f"{undo}.focus(), {undo}.click()")
        page.wait_for(f"{undo}.disabled")
        assert progress(page) == "0 of 10,000 decided"
        page.press("j")
        assert page.evaluate("DedupReview.list.position") == 1, "keys work although the button had the focus"
        page.press("Enter")
        page.reload()
        page.wait_for("document.querySelector('.card')")
        assert page.evaluate(f"{undo}.disabled") is True, "steps before a reload can't be undone"

    def test_only_visible_rows_exist(self, page: Page, large: Path) -> None:
        open_report(page, large)
        for position in (0, GROUPS // 2, GROUPS - 1):
            page.evaluate(f"document.getElementById('list').scrollTop = {position} * 76")
            row = f"#group-{position} .row-name"
            page.wait_for(f"document.querySelector('{row}')")
            assert 5 < page.evaluate("document.querySelectorAll('.row').length") < MOST_ROWS
        page.press("Home")
        assert (
            page.evaluate("document.getElementById('list').getAttribute('aria-activedescendant')")
            == "group-0"
        )
        assert page.evaluate("document.querySelectorAll('head script').length") == 0

    def test_filters_sort_and_bulk_decision_with_undo(self, page: Page, large: Path) -> None:
        facts, groups, _ = data_of(large.parent)
        open_report(page, large)
        view = facts["views"].index("rot90")
        page.evaluate(
            "((set) => { set('view', 'VIEW'); set('sort', 'risk'); })((id, value) => {"
            " const field = document.getElementById(id); field.value = value;"
            " field.dispatchEvent(new Event('input', { bubbles: true })); })".replace("VIEW", str(view))
        )
        expected = [
            number for number, row in enumerate(groups) if any(one.get("view") == "rot90" for one in row)
        ]
        assert page.evaluate("DedupReview.filters.shown.length") == len(expected)
        shown = page.evaluate("DedupReview.filters.shown")
        assert sorted(shown) == expected
        risks = [facts["columns"]["risk"][group] for group in shown]
        assert risks == sorted(risks, reverse=True)
        page.evaluate("document.getElementById('accept-shown').click()")
        page.press("Enter")
        page.wait_for(
            f"document.getElementById('progress-text').textContent.startsWith('{len(expected):,} of 10,000 decided')"
        )
        page.evaluate("document.getElementById('list').focus()")
        page.press("u")
        assert progress(page) == "0 of 10,000 decided"
        page.evaluate(
            f"DedupReview.filters.setPlaces({json.dumps('backup/phone')}, {json.dumps('Downloads')})"
        )
        page.wait_for(f"DedupReview.filters.shown.length !== {len(expected)}")
        wanted = {
            number
            for number, row in enumerate(groups)
            if {"/mnt/backup/phone/", "/home/ann/Downloads/"}
            <= {facts["directories"][file[0]] for one in row for file in one["files"]}
        }
        assert set(page.evaluate("DedupReview.filters.shown")) == wanted

    def test_run_shows_counts_plots_and_directories(self, page: Page, large: Path) -> None:
        open_report(page, large)
        page.evaluate("document.getElementById('tab-run').click()")
        assert page.evaluate("document.querySelectorAll('#part-run svg rect').length") == 9 + 8
        assert page.evaluate("document.querySelectorAll('#part-run tbody tr').length") == 6
        page.evaluate("document.querySelector('#part-run tbody button').click()")
        page.wait_for(
            "!document.getElementById('part-groups').hidden && DedupReview.filters.shown.length < 10000"
        )


def different(digests: list[str]) -> list[tuple[Any, ...]]:
    """Returns the lines for different pictures: one, or many if the list of their pairs would be long."""
    if len(digests) <= 100:
        return [("different", tuple(digests))]
    return [("different", (digests[0], other)) for other in digests[1:]]


HOSTILE = (
    "</script><script>window.hacked = 1</script>.png",
    "<img src=x onerror='window.hacked = 1'>.png",
    "<svg onload='window.hacked = 1'>.png",
    "javascript:window.hacked=1.png",
    "'\"`;window.hacked = 1;\u2028//.png",
    "\u202egnp.exe\x1b[2J\n.png",
    "bl\udce5.png",
    "blank\u3164\u2800\ufe0f.png",
    "w" * 200 + ".png",
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on files with hostile names, formats, flags, details and directories."""
    folder = tmp_path_factory.mktemp("hostile")
    records = [record("kept.png"), exact("copy.png", "kept.png")]
    (folder / "kept.png").write_bytes(encoded(photo(1)))
    for name in HOSTILE:
        (folder / name.replace("/", "")).write_bytes(encoded(photo(2)))
        records.append(near(name.replace("/", ""), "kept.png", detail=name, format="PNG", flags=[name]))
        records.append(near(f"gone/{name}/{name}", "kept.png", format=name))
        records.append(record(name, "rejected", reason="damaged", detail=name))
        records += [record(f"{name}.kept", metadata={"url": name}), exact(f"{name}.copy", f"{name}.kept")]
    (folder / "script.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="window.top.hacked = 1">'
        "<script>window.top.hacked = 1; alert(1)</script></svg>"
    )
    records += [record("script.svg", format="SVG"), near("kept.png", "script.svg", format="SVG")]
    make_report(
        ReportConfig(
            records=str(write_records(folder / "r.jsonl", records)),
            output=str(folder / "page"),
            directory=str(folder),
            jobs=1,
            quiet=True,
        )
    )
    return folder / "page/index.html"


class TestHostileReport:
    def test_no_text_of_records_runs_as_script(self, page: Page, hostile: Path) -> None:
        open_report(page, hostile)
        count = page.evaluate("DedupReview.data.count")
        for _ in range(count):
            page.press("j")
            page.wait_for("DedupReview.detail.pictures")
            page.evaluate("new Promise((done) => setTimeout(done, 320))")  # until files are shown
            page.press("c", "m", "m", "m", "m", "Escape")
        for part in ("run", "rejected"):
            page.evaluate(f"document.getElementById('tab-{part}').click()")
        page.wait_for(f"document.querySelectorAll('#part-rejected tbody tr').length === {len(HOSTILE)}")
        assert page.evaluate("window.hacked") is None
        assert page.dialogs == []
        assert page.evaluate("document.querySelectorAll('main script, main iframe, main object').length") == 0
        outside = {request for request in page.requests if not request.startswith("file://")}
        assert outside == set()
        # The texts themselves are there, and what can't be seen is shown as an escape.
        texts = page.evaluate("document.getElementById('part-rejected').textContent")
        for visible in (
            HOSTILE[0],
            HOSTILE[1],
            "\\u{2028}//.png",
            "\\u{202e}gnp.exe\\u{1b}[2J\\u{a}.png",
            "bl\\xe5.png",
            "blank\\u{3164}\\u{2800}\\u{fe0f}.png",
        ):
            assert visible in texts
        assert "\u202e" not in page.evaluate("document.body.innerText")

    def test_policy_is_in_force(self, page: Page, hostile: Path) -> None:
        open_report(page, hostile)
        page.evaluate("document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.1:9/' }))")
        assert page.evaluate("window.hacked") is None
        for forbidden in (
            "document.body.innerHTML = '<b>x</b>'",
            "document.createElement('script').textContent = 'window.hacked = 1'",
            "document.createElement('script').src = 'data/../../script.js'",
            "document.body.setAttribute('onclick', 'window.hacked = 1')",
            "eval('1')",
            "window.trustedTypes.createPolicy('other', {})",
            "fetch('http://127.0.0.1:9/')",
        ):
            with pytest.raises(BrowserError):
                page.evaluate(forbidden)
        assert any("violates the following Content Security Policy" in error for error in page.errors)

    def test_files_with_hostile_names_are_shown(self, page: Page, hostile: Path) -> None:
        open_report(page, hostile)
        page.evaluate(
            "DedupReview.list.chooseGroup([...Array(DedupReview.data.count).keys()]"
            ".find((group) => DedupReview.data.column('pictures', group) > 5))"
        )
        plain = sum(1 for name in HOSTILE if "/" not in name)
        page.wait_for(f"document.querySelectorAll('img.original').length >= {plain}")
        assert page.evaluate(
            "[...document.querySelectorAll('img.original')].every((one) => one.naturalWidth === 320)"
        )

    @pytest.mark.parametrize("part", ["list", "detail", "run", "rejected", "help", "compare", "filters"])
    def test_narrow_screen_has_no_horizontal_scrolling(self, part: str, page: Page, hostile: Path) -> None:
        page.resize(390, 844)
        open_report(page, hostile)
        page.evaluate(
            {
                "list": "0",
                "detail": "document.querySelector('.row').click()",
                "run": "document.getElementById('tab-run').click()",
                "rejected": "document.getElementById('tab-rejected').click()",
                "help": "DedupReview.main.act('help')",
                "compare": "DedupReview.list.choose(1), DedupReview.list.choose(0), DedupReview.main.act('compare')",
                "filters": "document.getElementById('more-filters').open = true",
            }[part]
        )
        page.evaluate("new Promise((done) => setTimeout(done, 100))")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        boxes = "#list, #detail, #part-run, #part-rejected, dialog[open]"
        wide = f"[...document.querySelectorAll('{boxes}')].filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.id)"
        assert page.evaluate(wide) == []

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_has_contrast_and_controls_have_names(self, scheme: str, page: Page, hostile: Path) -> None:
        page.prefer(scheme)
        open_report(page, hostile)
        page.press("Enter", "2", "k")
        page.evaluate("document.getElementById('more-filters').open = true")
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
        for show in (
            "0",
            "DedupReview.main.act('help')",
            "DedupReview.main.showPart('run')",
            "DedupReview.main.showPart('rejected')",
        ):
            page.evaluate(f"{show}, 0")
            page.evaluate("new Promise((done) => setTimeout(done, 200))")  # transitions end
            assert page.evaluate(CONTRAST) == []
            assert page.evaluate(NAMELESS) == []
            page.evaluate("document.querySelectorAll('dialog').forEach((one) => one.close())")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a report on a crop, a turned copy and a copy of equal bytes, made by a run."""
    folder = tmp_path_factory.mktemp("library")
    pictures = folder / "pictures"
    pictures.mkdir()
    original = photo(1, (640, 480))
    original.save(pictures / "a.png")
    original.save(pictures / "b copy.png")
    original.crop((64, 48, 576, 432)).save(pictures / "crop.png")
    original.transpose(Image.Transpose.ROTATE_90).save(pictures / "turned.png")
    photo(2, (640, 480)).save(pictures / "other.png")
    photo(2, (640, 480)).resize((320, 240)).save(pictures / "small.png")
    options = ("--views", "crops", "--turns", "--records", folder / "r.jsonl", "--report", folder / "page")
    assert dedup("-n", "-i", pictures, "--quiet", *options) == 0
    return folder


class TestCompare:
    def test_crops_and_turns_lie_on_each_other(self, page: Page, library: Path) -> None:
        open_report(page, library / "page/index.html")
        views = page.evaluate("DedupReview.detail.pictures.map((one) => one.view ?? '')")
        assert sorted(views) == ["", "centre80", "rot270"] or sorted(views) == ["", "centre80", "rot90"]
        page.press("c")
        for number in range(1, 3):
            page.wait_for("document.querySelectorAll('.layer-image').length === 2")
            page.press("m", "m", "m")  # the difference
            page.wait_for("document.querySelectorAll('.layer-image').length === 2")
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            area = page.evaluate(
                "(() => { const box = document.querySelector('.stage').getBoundingClientRect();"
                " return { x: box.x + box.width / 2 - 100, y: box.y + box.height / 2 - 100, width: 200, height: 200, scale: 1 }; })()"
            )
            shot = library / f"difference-{number}.png"
            page.screenshot(shot, clip=area)
            with Image.open(shot) as image:
                levels = sum(image.convert("L").histogram()[60:])
            assert levels < 400, f"bright pixels of 40000 in {views[number]}"
            page.press("m", "]")  # side by side, the next picture
        page.press("Escape")
        assert not page.evaluate("document.getElementById('compare').open")

    def test_keys_zoom_blink_and_decide(self, page: Page, library: Path) -> None:
        open_report(page, library / "page/index.html")
        page.press("c")
        scale = "Number(document.querySelector('.frame').style.transform.match(/scale\\((.*)\\)/)[1])"
        whole = page.evaluate(scale)
        page.press("z")
        assert page.evaluate(scale) == 1 > whole
        frames = "[...document.querySelectorAll('.frame')].map((one) => one.style.transform)"
        before = page.evaluate(frames)
        page.press("ArrowLeft")
        after = page.evaluate(frames)
        assert after[0] == after[1] != before[0], "both move together"
        page.press("b")
        hidden = "document.querySelectorAll('.layer')[1].hidden"
        assert page.evaluate(hidden) is False
        page.press("b")
        assert page.evaluate(hidden) is True
        page.press("d")
        assert not page.evaluate("document.getElementById('compare').open")
        assert page.evaluate("DedupReview.decisions.get(0).kind") == "different"


def test_marks_show_which_copy_is_best(page: Page, library: Path) -> None:
    open_report(page, library / "page/index.html")
    page.evaluate(
        "DedupReview.list.chooseGroup([0, 1].find((group) => DedupReview.data.column('files', group) === 2))"
    )
    page.wait_for("DedupReview.detail.pictures?.length === 2")
    best = "[...document.querySelectorAll('.best dd')].map((one) => one.textContent)"
    assert "640 \u00d7 480 (best)" in page.evaluate(best)
    assert page.evaluate("document.querySelectorAll('.differs').length") >= 2


def test_decisions_are_carried_out_undone_and_honoured_by_the_next_run(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five pictures, each with a copy of equal bytes and a smaller one: one for each decision, and one undecided."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(5):
        original = photo(number + 1, (320 + 40 * number, 240))
        original.save(pictures / f"{number}a.png")
        original.save(pictures / f"{number}b.png")
        original.resize((160 + 20 * number, 120)).save(pictures / f"{number}c.png")
    records, decisions = tmp_path / "r.jsonl", tmp_path / "saved/decisions.jsonl"
    assert dedup("-n", "-i", pictures, "--quiet", "--records", records, "--report", tmp_path / "page") == 0
    open_report(page, tmp_path / "page/index.html")
    order = [row[0]["files"][0][1][0] for row in data_of(tmp_path / "page")[1]]
    page.press("Enter", "2", "Enter", "a", "d")
    saved(page, tmp_path / "saved")
    assert read_decisions(decisions.open("rb"))
    before = tree(pictures)

    clean = ["clean", str(records), "--near", "--decisions", str(decisions), "--yes", "--journal"]
    assert main([*clean, str(tmp_path / "journal")]) in (0, 1)  # 1 if it names files that it left
    accepted, other, everything, different, undecided = order
    left = {
        *(f"{accepted}a.png", f"{other}c.png"),
        *(f"{everything}{letter}.png" for letter in "abc"),
        *(f"{different}{letter}.png" for letter in "ac"),
        f"{undecided}a.png",
    }
    assert set(tree(pictures)) == left
    assert main(["undo", str(tmp_path / "journal"), "--quiet"]) == 0
    assert tree(pictures) == before

    again = tmp_path / "again.jsonl"
    assert dedup("-n", "-i", pictures, "--quiet", "--records", again, "--decisions", decisions) == 0
    kept = {name for name, one in records_in(again).items() if one["status"] == "kept"}
    # The copies of equal bytes are duplicates again, whatever was decided.
    expected = {f"{accepted}a.png", f"{other}c.png", f"{undecided}a.png"}
    expected |= {f"{number}{letter}.png" for number in (everything, different) for letter in "ac"}
    assert kept == expected
