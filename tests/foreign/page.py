"""The page for foreign programs, `docs/log.md`: its programs and its tables."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "log.md"
_PROGRAM = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs() -> dict[str, str]:
    """Every program that stands on the page, by the name of its file."""
    return dict(_PROGRAM.findall(PAGE.read_text()))


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its own heading."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def named(cell: str) -> list[str]:
    """What a cell names as code."""
    return re.findall(r"`([^`]+)`", cell)
