"""The pages lead where they say: each link to a file of ours, and to a heading in it, finds it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    each for pattern in ("*.md", "docs/*.md", "*/README.md", "streams/*/README.md") for each in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def links(page: Path) -> Iterator[str]:
    return (link for link in LINK.findall(BLOCK.sub("", page.read_text())) if "://" not in link)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = HEADING.findall(BLOCK.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_nowhere(page: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    there = (page.parent / file).resolve() if file else page
    return not there.exists() or (bool(anchor) and anchor not in anchors(there))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert not [link for link in links(page) if leads_nowhere(page, link)]


def test_a_link_to_no_file_or_no_heading_is_found() -> None:
    assert leads_nowhere(ROOT / "README.md", "docs/nowhere.md")
    assert leads_nowhere(ROOT / "README.md", "docs/operations.md#nowhere")
    assert not leads_nowhere(ROOT / "README.md", "docs/operations.md#every-command")
    assert any(links(ROOT / "README.md"))
