"""The answer for people and for scripts. Exit code 0: yes; 1: no; 2: not known, or it could not be asked."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.text import Text

from infra.addresses import REGISTRY
from pavane.deploy.candidate import candidate
from pavane.deploy.judging import Answer, Live, Met, judge
from pavane.deploy.live import look
from pavane.deploy.meeting import UNREAD
from pavane.lines import a_console
from pavane.operators.reach import Reach
from pavane.operators.words import age, count, plain
from pavane.running import environment_of

YES, NO, NOT_KNOWN = 0, 1, 2
CODES = {True: YES, False: NO, None: NOT_KNOWN}
VERDICTS = {
    True: "Yes: {} may run now.",
    False: "No: {} must not run now.",
    None: "Not known: nothing speaks against {}, but not everything could be judged.",
}


async def can_deploy(data: Path, service: str, as_: str, *, as_json: bool) -> int:
    """Ask everything, judge, and print the answer."""
    reach = Reach.at(data)
    url = environment_of(data).get(REGISTRY, "")
    asked = await candidate(reach, service, as_)
    live = await look(reach, url, asked)
    answer = judge(asked, live)
    if as_json:
        typer.echo(msgspec.json.encode(document(answer, live)).decode())
    else:
        console = a_console()
        for line in lines(answer, live, datetime.now(UTC)):
            console.print(Text(line), soft_wrap=True)
    return CODES[answer.may]


def lines(answer: Answer, live: Live, now: datetime) -> Iterator[str]:
    """The answer, what speaks against it, and what it was judged by."""
    asked = answer.candidate
    yield VERDICTS[answer.may].format(f"{asked.service} {asked.version}")
    yield from (f"  ! {plain(str(reason))}" for reason in answer.reasons)
    yield from (f"  ? {plain(str(each))}" for each in answer.unknown)
    yield from (f"  - {plain(note)}" for note in answer.notes)
    yield ""
    yield "Judged by:"
    for name, running in sorted(live.running.items()):
        versions = [f"{each.said.version}{'' if each.is_live else ' (last ran ' + age(each.last_at, now) + ' ago)'}"
                    for each in running]  # fmt: skip
        yield f"  {name}: {', '.join(versions) or _of_none(live, name, now)}"
    schemas = sum(map(len, live.registry.values()))
    yield f"  the registry: {count(schemas, 'version')} of {count(len(live.registry), 'event')} that it says or hears"
    yield f"  {count(live.in_flight, 'order')} in flight"
    unread = _unread(live)
    yield f"  {count(sum(met.records for met in unread), 'record')} to hear{_oldest(unread, now)}"


def _of_none(live: Live, name: str, now: datetime) -> str:
    made_again = live.remade.get(name)
    return f"not known since its database was made again {age(made_again, now)} ago" if made_again else "never ran"


def document(answer: Answer, live: Live) -> dict[str, Any]:
    """The same for scripts."""
    unread = _unread(live)
    first = min(unread, key=lambda met: met.oldest_at, default=None)
    return {
        "service": answer.candidate.service,
        "version": answer.candidate.version,
        "can_deploy": answer.may,
        "reasons": [reason._asdict() for reason in answer.reasons],
        "unknown": [each._asdict() for each in answer.unknown],
        "notes": answer.notes,
        "running": {
            name: [{"version": each.said.version, "last_at": each.last_at, "is_live": each.is_live} for each in running]
            for name, running in live.running.items()
        },
        "orders_in_flight": live.in_flight,
        "unread": sum(met.records for met in unread),
        "oldest_unread": first and {"event": first.event, "at": first.oldest, "said_at": first.oldest_at},
    }


def _unread(live: Live) -> list[Met]:
    return [met for met in live.met if met.where == UNREAD]


def _oldest(unread: list[Met], now: datetime) -> str:
    if not unread:
        return ""
    first = min(unread, key=lambda met: met.oldest_at)
    return f", the oldest {plain(first.event)} at {first.oldest}, {age(first.oldest_at, now)} old"
