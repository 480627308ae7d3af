"""Which parked records are meant: by filters, or by their ids."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pavane.dead_letters import items
from pavane.dead_letters.errors import WaitsBehind
from pavane.dead_letters.events import Events
from pavane.dead_letters.items import Item, ItemId
from pavane.operators.errors import NotAsked
from pavane.operators.reach import Reach
from pavane.operators.words import age_of
from streams.kit.parking import DISCARDED


class Selected(NamedTuple):
    """A parked record and the name of its event."""

    item: Item
    event: str


class Selection(NamedTuple):
    """Filters; an empty one lets everything pass. `older`, `newer`: since when the record is parked."""

    services: tuple[str, ...] = ()
    reason: str = ""
    fact: str = ""
    key: str = ""
    older: timedelta | None = None
    newer: timedelta | None = None

    @classmethod
    def of(
        cls, services: list[str] | None, reason: str, fact: str, key: str, older_than: str, newer_than: str
    ) -> "Selection":
        """From the words of the command line. Raises `NotAsked`."""
        older, newer = (age_of(text) if text else None for text in (older_than, newer_than))
        return cls(tuple(services or ()), reason, fact, key, older, newer)

    def lets_pass(self, item: Item, event: str, now: datetime) -> bool:
        """Every filter is met."""
        waited = now - item.parked_at
        return (
            (not self.reason or item.parked.reason.casefold() == self.reason.casefold())
            and (not self.fact or event.casefold() == self.fact.casefold())
            and (not self.key or item.parked.key == self.key)
            and (self.older is None or waited >= self.older)
            and (self.newer is None or waited <= self.newer)
        )

    def __str__(self) -> str:
        """The filters in words."""
        words = [f"of {', '.join(self.services)}" if self.services else "of all services"]
        words += [f"with reason {self.reason}"] if self.reason else []
        words += [f"of {self.fact}"] if self.fact else []
        words += [f"about {self.key}"] if self.key else []
        words += [f"parked for at least {self.older}"] if self.older is not None else []
        words += [f"parked for at most {self.newer}"] if self.newer is not None else []
        return ", ".join(words)


async def select(
    reach: Reach, selection: Selection, events: Events, *, behind: bool = False
) -> AsyncIterator[Selected]:
    """What is next of each key; with `behind`, what waits behind it as well. Service by service, the oldest first."""
    now = datetime.now(UTC)
    for service in reach.services(selection.services):
        async with reach.database(service, reading=True) as connection:
            found = items.everything if behind else items.heads
            async for item in found(connection, service):
                event = await events.name(item.parked.record)
                if selection.lets_pass(item, event, now):
                    yield Selected(item, event)
    if events.away and selection.fact:
        raise NotAsked("the registry does not answer, so some events have no name: --fact cannot be asked now")


async def to_redrive(reach: Reach, selection: Selection, events: Events, ids: list[ItemId]) -> list[Selected]:
    """The heads that are meant, without those that were discarded. Raises `NotAsked`, `NoSuchItem`, `WaitsBehind`."""
    if not ids:
        return [each async for each in select(reach, selection, events) if each.item.parked.reason != DISCARDED]
    if selection != Selection():
        raise NotAsked("either ids or filters: both together would leave open what is meant")
    found: list[Selected] = []
    for wanted in dict.fromkeys(ids):
        reach.services([wanted.service])
        async with reach.database(wanted.service, reading=True) as connection:
            item = await items.one(connection, wanted)
        if not item.is_head:
            raise WaitsBehind(item.id, item.head)
        if item.parked.reason == DISCARDED:
            raise NotAsked(f"{item.id} was discarded: its service lets go of it when it runs")
        found.append(Selected(item, await events.name(item.parked.record)))
    return sorted(found, key=lambda each: list(reach.databases).index(each.item.id.service))
