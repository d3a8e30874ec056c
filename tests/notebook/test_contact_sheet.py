"""The contact sheet of duplicates: hostile names, changed files, limits."""

import hashlib
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from beam_dedup import ContactSheet, DedupResult, UsageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.record_tables import RECORDS
from beam_dedup.notebook.result import Source
from beam_dedup.samples import picture
from tests.pictures import encoded
from tests.review.reports import Record, exact, near, record

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\u202e.png'


class Elements(HTMLParser):
    """Collects the elements of a page, and their texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"


def result_of(records: list[Record], directory: Path) -> DedupResult:
    table = pa.Table.from_pylist(records, RECORDS)
    return DedupResult(table, {}, "some images", Source(str(directory), Limits()))


def stored(directory: Path, name: str, seed: int) -> str:
    """Writes an image, and returns its digest."""
    data = encoded(picture(seed))
    (directory / name).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def test_a_hostile_name_is_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    digest = stored(tmp_path, "a.png", 1)
    hostile = f"b/{HOSTILE}"
    records = [record("a.png", digest=digest), near(hostile, "a.png", view="<b>")]
    sheet = result_of(records, tmp_path).show()
    assert isinstance(sheet, ContactSheet)
    assert sheet._repr_html_() == sheet.html
    assert repr(sheet) == "<ContactSheet: 1 group of duplicates>"
    page = Elements(sheet.html)
    assert {tag for tag, _ in page.found} == {"div", "p", "figure", "figcaption", "br", "img"}
    assert {name for _, attributes in page.found for name in attributes} == {"style", "title", "alt", "src"}
    sources = [attributes["src"] or "" for tag, attributes in page.found if tag == "img"]
    assert [source[:23] for source in sources] == ["data:image/jpeg;base64,"]
    assert "<script>alert(1)</script>" in page.text
    assert "\x1b" not in sheet.html
    assert "\u202e" not in sheet.html
    assert "near, 3 bits\nas <b>" in page.text


def test_changed_and_missing_images_have_no_thumbnail(tmp_path: Path) -> None:
    digest = stored(tmp_path, "a.png", 1)
    stored(tmp_path, "b.png", 2)
    records = [
        record("a.png", digest=digest),
        exact("b.png", "a.png", digest=digest),
        exact("gone.png", "a.png", digest=digest),
        exact("gs://bucket/c.png", "a.png", digest=digest),
    ]
    page = Elements(result_of(records, tmp_path).show().html)
    assert page.text.count("changed since the run") == 1
    assert page.text.count("no preview") == 2
    assert len([tag for tag, _ in page.found if tag == "img"]) == 1


def test_exact_duplicates_come_first_and_groups_and_images_are_bounded(tmp_path: Path) -> None:
    records = [record(f"{group}.png") for group in range(30)]
    for group in range(30):
        records += [near(f"{group}-{number}.png", f"{group}.png", 9 - number) for number in range(9)]
        records += [exact(f"{group}-same.png", f"{group}.png")]
    result = result_of(records, tmp_path)
    [first, *_] = result.groups().values()
    assert [one["uri"] for one in first] == [
        "0-same.png",
        *(f"0-{number}.png" for number in reversed(range(9))),
    ]
    sheet = result.show(groups=3, images=4)
    page = Elements(sheet.html)
    assert len([tag for tag, _ in page.found if tag == "figure"]) == 3 * 4
    assert page.text.count("7 more duplicates") == 3
    assert "3 of 30 groups of duplicates; show(groups=N) shows more" in page.text
    assert repr(sheet) == "<ContactSheet: 3 of 30 groups of duplicates>"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 0}, "groups must be between 1 and 500; got 0"),
        ({"groups": 501}, "groups must be between 1 and 500; got 501"),
        ({"images": 1}, "images must be between 2 and 100; got 1"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        result_of([record("a.png")], tmp_path).show(**options)


def test_a_known_image_is_the_first_of_its_group(tmp_path: Path) -> None:
    stored(tmp_path, "known.png", 1)
    page = Elements(result_of([near("a.png", "known.png")], tmp_path).show().html)
    assert "known\nknown.png" in page.text
    assert len([tag for tag, _ in page.found if tag == "img"]) == 1


def test_a_result_without_duplicates_has_an_empty_sheet(tmp_path: Path) -> None:
    result = result_of([record("a.png")], tmp_path)
    assert result.groups() == {}
    assert repr(result.show()) == "<ContactSheet: 0 groups of duplicates>"
    assert repr(result) == "<DedupResult: some images>"
