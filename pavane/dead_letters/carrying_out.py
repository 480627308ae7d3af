"""What the commands do, from the words of the command line to an exit code."""

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby

import typer
from rich.console import Console
from rich.text import Text

from pavane.dead_letters import discarding, items, listing
from pavane.dead_letters.errors import NoSuchItem
from pavane.dead_letters.events import Events
from pavane.dead_letters.forecast import Forecaster, Would
from pavane.dead_letters.items import ItemId
from pavane.dead_letters.progress import progress
from pavane.dead_letters.recorded import Asked, RecordedRedrive
from pavane.dead_letters.redriving import PATIENCE_SECONDS, Outcome, Stopped
from pavane.dead_letters.selection import Selected, Selection, select, to_redrive
from pavane.dead_letters.showing import show, what_discarding_means
from pavane.lines import a_console
from pavane.operators import operations
from pavane.operators.agreeing import agreed
from pavane.operators.errors import NotAsked
from pavane.operators.reach import Reach
from pavane.operators.words import count

DONE, STOPPED, NOT_ASKED = 0, 1, 2
_CODES = {Stopped.NO: DONE, Stopped.FAILED: STOPPED, Stopped.NOT_TAKEN: NOT_ASKED}


async def list_parked(reach: Reach, selection: Selection, most: int, *, behind: bool, as_json: bool) -> int:
    """Print what waits."""
    events = Events(reach.language, reach.registry)
    found = select(reach, selection, events, behind=behind)
    if as_json:
        typer.echo(listing.as_json([each async for each in found]))
        return DONE
    listed = listing.Listing(most or sys.maxsize)
    async for each in found:
        listed.add(each)
    _print(listed.lines())
    if events.away:
        _print(["The registry does not answer: requests have no names here now."])
    return DONE


async def list_operations(reach: Reach, services: Sequence[str], most: int, *, as_json: bool) -> int:
    """Print what operators have done."""
    found = await operations.all_of(reach, services)
    if as_json:
        typer.echo(listing.operations_as_json(found))
    else:
        _print(listing.operation_lines(found, most or sys.maxsize))
    return DONE


async def show_one(reach: Reach, wanted: ItemId) -> int:
    """Print everything about one record."""
    _print(await show(reach, wanted))
    return DONE


async def foretell(reach: Reach, selection: Selection, ids: list[ItemId]) -> int:
    """Print what today's code would decide. Exit code 1 when some record would fail again."""
    chosen = await to_redrive(reach, selection, Events(reach.language, reach.registry), ids)
    tally = dict.fromkeys(Would, 0)
    for service, heads in _by_service(chosen):
        async with reach.database(service, reading=True) as connection:
            forecaster = Forecaster(reach, service, connection)
            for head in heads:
                for each in await forecaster.line(head.item):
                    tally[each.would] += 1
                    _print(each.lines())
    said = [f"{number:,} {would.value}" for would, number in tally.items() if number]
    _print(["", "Nothing was changed. " + (f"Today: {', '.join(said)}." if said else "No record is parked.")])
    return STOPPED if tally[Would.FAIL] else DONE


class Orders:
    """What an operator wants to be done, and as whom. `asks`: before anything is changed, somebody must agree."""

    def __init__(
        self, reach: Reach, who: str, why: str, *, asks: bool, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._reach = reach
        self._who = operations.somebody(who)
        self._why = why
        self._asks = asks
        self._patience = patience_seconds

    async def redrive(self, selection: Selection, ids: list[ItemId], rate: float) -> int:
        """Service by service, each with a first one alone. Stops at the first failure."""
        chosen = await to_redrive(self._reach, selection, Events(self._reach.language, self._reach.registry), ids)
        if not chosen:
            _print([f"No record is parked ({selection}): there is nothing to redrive."])
            return DONE
        behind = sum(each.item.behind for each in chosen)
        _print([f"{count(len(chosen), 'record')} to redrive, with {behind:,} waiting behind them:"])
        _print(f"  {len(heads):>7,}  {service}" for service, heads in _by_service(chosen))
        await self._agreed("Redrive them, one first and then the others?")
        subject = f"{count(len(chosen), 'id')} named" if ids else str(selection)
        waiting = _by_service(chosen)
        while waiting:
            service, heads = waiting.pop(0)
            outcome = await self._redrive_at(service, heads, rate, subject)
            _print([f"{service}: {outcome}"])
            if outcome.stopped is not Stopped.NO:
                if waiting:
                    _print([f"Not begun: {', '.join(service for service, _ in waiting)}."])
                return _CODES[outcome.stopped]
        return DONE

    async def discard(self, wanted: ItemId) -> int:
        """Take one record out for good."""
        self._reach.services([wanted.service])
        async with self._reach.database(wanted.service) as connection:
            item = await items.one(connection, wanted)
            event = await Events(self._reach.language, self._reach.registry).name(item.parked.record)
            _print([f"{item.id}, parked because of {item.parked.reason}. Once it is discarded:"])
            _print(f"  {line}" for line in what_discarding_means(item, event))
            await self._agreed("Discard it for good?")
            subject = f"{event} {item.origin} about {item.parked.key}, parked because of {item.parked.reason}"
            number = await operations.begin(connection, self._who, "discard", [item.id], subject, self._why)
            outcome = Outcome(0, 1, why="interrupted: it may be marked")
            try:
                outcome = await discarding.discard(connection, item, self._why, self._patience)
            except NoSuchItem:
                outcome = Outcome(0, 1, why="it was handled meanwhile")
                raise
            finally:
                said = outcome.why or "discarded"
                await operations.end(connection, number, said)
            _print([f"{item.id}: {said}"])
        return _CODES[outcome.stopped]

    async def _redrive_at(self, service: str, heads: list[Selected], rate: float, subject: str) -> Outcome:
        chosen = [each.item for each in heads]
        total = sum(1 + item.behind for item in chosen)
        async with self._reach.database(service) as connection:
            recorded = await RecordedRedrive.begin(connection, Asked(self._who, self._why, subject), chosen)
            with progress(a_console(), service, total) as shown:
                return await recorded.run(chosen, rate=rate, patience_seconds=self._patience, shown=shown)

    async def _agreed(self, question: str) -> None:
        """Raises `NotAsked` unless somebody says yes."""
        if self._asks and not await agreed(question):
            raise NotAsked("nothing was changed")


def _by_service(chosen: Iterable[Selected]) -> list[tuple[str, list[Selected]]]:
    return [(service, list(some)) for service, some in groupby(chosen, lambda each: each.item.id.service)]


def _print(lines: Iterable[str]) -> None:
    console: Console = a_console()
    for line in lines:
        console.print(Text(line), soft_wrap=True)
