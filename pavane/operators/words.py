"""How things are said to operators: ages, times, and text that a stranger may have written."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from pavane.operators.errors import NotAsked

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE = re.compile(r"(\d+)([smhd])")


def age_of(text: str) -> timedelta:
    """`90s`, `10m`, `2h`, `3d`. Raises `NotAsked`."""
    if not (found := _AGE.fullmatch(text.strip())):
        raise NotAsked(f"{text!r} is no age: write a number and s, m, h or d, such as 10m or 2h")
    try:
        return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    except OverflowError:
        raise NotAsked(f"{text!r} is longer than anything lasts") from None


def age(since: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that says something: `45s`, `12m`, `7h`, `3d`."""
    seconds = max(0, int((now - since).total_seconds()))
    for unit, size in reversed(_UNITS.items()):
        if seconds >= size and (seconds >= 2 * size or unit == "s"):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def moment(at: datetime | None) -> str:
    """A time (UTC), to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z" if at is not None else "-"


def plain(text: str) -> str:
    """The text without anything that a terminal would obey or that would begin a new line."""
    return "".join(each if each.isprintable() else "\ufffd" if each not in "\n\t" else " " for each in text)


def cut(text: str, width: int) -> str:
    """At most `width` characters of it, on one line."""
    text = " ".join(plain(text).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def count(number: int, thing: str, things: str = "") -> str:
    """`1 record`, `2 records`."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as what is in them; the last one as long as it is."""
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings) - 1)]
    return [
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in (headings, *rows)
    ]
