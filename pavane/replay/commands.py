"""`pavane replay` and `pavane history`: what they print, and what their exit codes say."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import typer
from rich.console import Console

from pavane.lines import a_console
from pavane.replay.live import past_of
from pavane.replay.recorded import Recorded, record
from pavane.replay.replaying import Bound, Range, Told, replay
from pavane.replay.report import Report
from pavane.running import environment_of
from streams.kit.errors import WrongSetting
from streams.kit.events import milliseconds
from streams.kit.run import find, services
from streams.kit.service import Service

SAME, DIFFERENT, COULD_NOT = 0, 1, 2
PLAIN_LINE_SECONDS = 2.0


class Asked(NamedTuple):
    """What the command line says."""

    service: str
    start: str
    end: str
    history: Path | None
    data: Path
    as_json: bool


async def compare(asked: Asked) -> int:
    """Replay, and print the report."""
    wanted = Range(bound_of("--from", asked.start), bound_of("--to", asked.end))
    report = await asyncio.to_thread(_replay, find(asked.service), asked, wanted)
    if asked.as_json:
        typer.echo(report.as_json())
    else:
        a_console().print(report.table())
    return SAME if report.same else DIFFERENT


def _replay(service: Service, asked: Asked, wanted: Range) -> Report:
    if asked.history is not None:
        return replay(service, Recorded(asked.history).of(service), wanted)
    with past_of(service, environment_of(asked.data)) as past, _progress(past.facts) as told:
        return replay(service, past, wanted, told)


async def record_history(folder: Path, data: Path) -> int:
    """Write what every service of the running platform has heard and said."""
    deciding = [service for service in map(find, services()) if not service.is_projection]
    records = await asyncio.to_thread(record, deciding, environment_of(data), folder)
    typer.echo(f"{folder}: {records:,} records of {', '.join(each.name for each in deciding)}")
    return 0


def bound_of(option: str, text: str) -> Bound | None:
    """A time (ISO 8601, UTC where it names no zone) or an offset of the service's own topic."""
    if not text:
        return None
    if re.fullmatch(r"\d+", text):
        return Bound(offset=int(text))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise WrongSetting(
            f"{option}: a time such as 2026-01-31T12:00:00Z, or an offset of the service's own topic, not {text!r}"
        ) from None
    return Bound(timestamp=milliseconds(at if at.tzinfo is not None else at.replace(tzinfo=UTC)))


@contextmanager
def _progress(facts: int) -> Iterator[Told]:
    """Lines on standard error: how many facts have gone by, how many a second, how long it will still take."""
    console, begun = Console(stderr=True, highlight=False), time.monotonic()
    if console.is_terminal:
        with console.status("Reading") as status:
            yield lambda done: status.update(_told(done, facts, begun))
    else:
        yield _plain_lines(lambda done: console.print(_told(done, facts, begun), soft_wrap=True))


def _plain_lines(show: Callable[[int], None]) -> Told:
    at = time.monotonic()

    def told(done: int) -> None:
        nonlocal at
        if time.monotonic() - at >= PLAIN_LINE_SECONDS:
            at = time.monotonic()
            show(done)

    return told


def _told(done: int, facts: int, begun: float) -> str:
    rate = done / max(time.monotonic() - begun, 0.001)
    left = max(facts - done, 0) / max(rate, 0.001)
    return f"{done:,} of {facts:,} facts, {rate:,.0f} a second, {left:,.0f} s left"
