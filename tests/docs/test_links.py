"""Every relative link of a page leads to a file of the project, and to a heading that it has."""

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, README, anchors, links, name_of


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_anchors_resolve(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_linked_from_the_index_or_the_readme() -> None:
    reached = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in (README, DOCS / "README.md")
        for link in links(page)
    }
    assert [
        name_of(page) for page in DOCS.rglob("*.md") if page.resolve() not in reached | {DOCS / "README.md"}
    ] == []


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b_c`, d!\n\n## [Link](x.md) - e\n\n## Same\n\n```\n# no heading\n```\n\n## Same\n")
    assert anchors(page) == {"a-b_c-d", "link---e", "same", "same-1"}
