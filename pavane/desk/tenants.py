"""Dead letters as the operators of one tenant see them: what does not say that it is theirs is not there.

An event says its tenant in a field. What cannot be read says none, and is for whoever runs the platform.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC
from typing import NamedTuple

from api.answers import DeadLetter, DeadLetters, DeadLetterStory, Operation
from api.errors import NoSuchDeadLetter, Overloaded, Unavailable, WaitsBehind
from api.tokens import Caller
from pavane.dead_letters import items
from pavane.dead_letters.errors import NoSuchItem
from pavane.dead_letters.events import Events
from pavane.dead_letters.items import Item, ItemId
from pavane.dead_letters.recorded import Asked, RecordedRedrive
from pavane.operators import operations
from pavane.operators.errors import DatabaseUnreadable
from pavane.operators.reach import Connection, Reach
from streams.kit.calling_off import called_off
from streams.kit.errors import RegistryAway, Undecodable
from streams.kit.logs import logger
from streams.kit.parking import DISCARDED

#: A redrive that is called off takes back what it has marked, and notes how it ended.
TIDY_SECONDS = 10.0
MOST_UNDER_WAY = 16
"""Redrives at once; each holds a connection, for half a minute at most if nobody takes its record."""
CANNOT = "This service's dead letters cannot be read for now. What waits goes on waiting."


class Named(NamedTuple):
    """A parked record, and its event's name."""

    item: Item
    event: str


class Letters:
    """Looks at dead letters and has them tried again. Raises `Unavailable` when a database cannot be asked."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._under_way: set[asyncio.Task[None]] = set()

    async def waiting(self, tenant: str, service: str | None, most: int) -> DeadLetters:
        """What is next of each key of the tenant, at most so many."""
        found: list[DeadLetter] = []
        unreadable: list[str] = []
        events = Events(self._reach.language, self._reach.registry)
        for name in self._reach.databases:
            if service in (None, name) and len(found) <= most:
                try:
                    found += await self._waiting_at(name, events, tenant, most + 1 - len(found))
                except (DatabaseUnreadable, RegistryAway) as error:
                    logger().warning("dead_letters_unreadable", service=name, error=str(error))
                    unreadable.append(name)
        return DeadLetters(dead_letters=found[:most], more=len(found) > most, unreadable=unreadable)

    async def story(self, tenant: str, wanted: ItemId) -> DeadLetterStory:
        """One dead letter, and what the tenant's operators did about it. Raises `NoSuchDeadLetter`."""
        async with _asked(self._reach, wanted.service) as connection:
            named = await self._named(connection, tenant, wanted)
            done = await operations.about(connection, wanted.service, wanted)
        own = [_operation(each) for each in done if each.who.startswith(f"{tenant}/")]
        if named is None and not own:
            raise NoSuchDeadLetter
        return DeadLetterStory(id=str(wanted), dead_letter=named and _shown(*named), operations=own)

    async def redrive(self, caller: Caller, wanted: ItemId, why: str) -> int:
        """Begin to have it tried again; the operation's number. Raises `NoSuchDeadLetter`, `WaitsBehind`,
        `Overloaded`."""
        if len(self._under_way) >= MOST_UNDER_WAY:
            raise Overloaded
        begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._redrive(caller, wanted, why, begun), name=f"redrive {wanted}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        # Who asked may go away meanwhile: what was begun is finished.
        return await asyncio.shield(begun)

    async def close(self) -> None:
        """Call off what is under way: what was not tried yet waits as before."""
        await called_off(*self._under_way, again_seconds=TIDY_SECONDS)

    async def _redrive(self, caller: Caller, wanted: ItemId, why: str, begun: "asyncio.Future[int]") -> None:
        try:
            async with _asked(self._reach, wanted.service) as connection:
                named = await self._named(connection, caller.tenant, wanted)
                if named is None or named.item.parked.reason == DISCARDED:
                    raise NoSuchDeadLetter
                if not named.item.is_head:
                    raise WaitsBehind(str(named.item.head))
                item = named.item
                subject = f"{named.event} {item.origin} about {item.parked.key}, asked for over HTTP"
                asked = Asked(f"{caller.tenant}/{caller.subject}", why, subject)
                recorded = await RecordedRedrive.begin(connection, asked, [item])
                begun.set_result(recorded.number)
                outcome = await recorded.run([item])
                logger().info("redriven", item=str(wanted), who=asked.who, outcome=str(outcome))
        except asyncio.CancelledError:
            begun.cancel()
            raise
        except Exception as error:
            if begun.done():
                logger().exception("redrive_failed", item=str(wanted))
            else:
                begun.set_exception(error)

    async def _waiting_at(self, service: str, events: Events, tenant: str, most: int) -> list[DeadLetter]:
        found: list[DeadLetter] = []
        async with self._reach.database(service, reading=True) as connection:
            async for item in items.heads(connection, service):
                event = await _event_of(events, item, tenant)
                if event is not None:
                    found.append(_shown(item, event))
                if len(found) == most:
                    break
        return found

    async def _named(self, connection: Connection, tenant: str, wanted: ItemId) -> Named | None:
        try:
            item = await items.one(connection, wanted)
        except NoSuchItem:
            return None
        event = await _event_of(Events(self._reach.language, self._reach.registry), item, tenant)
        return None if event is None else Named(item, event)


@asynccontextmanager
async def _asked(reach: Reach, service: str) -> AsyncIterator[Connection]:
    """A connection to a service's database. Raises `NoSuchDeadLetter` when there is no such service, `Unavailable`."""
    if service not in reach.databases:
        raise NoSuchDeadLetter
    try:
        async with reach.database(service) as connection:
            yield connection
    except (DatabaseUnreadable, RegistryAway) as error:
        logger().warning("dead_letters_unreadable", service=service, error=str(error))
        raise Unavailable(CANNOT) from error


async def _event_of(events: Events, item: Item, tenant: str) -> str | None:
    """The event's name, if it says that it is the tenant's. Raises `RegistryAway` when nobody can tell what it says."""
    try:
        name, said = await events.decode(item.parked.record)
    except Undecodable as error:
        if events.away:
            raise RegistryAway(str(error)) from error
        return None
    return name if said.get("tenant") == tenant else None


def _shown(item: Item, event: str) -> DeadLetter:
    parked = item.parked
    return DeadLetter(
        id=str(item.id),
        service=item.id.service,
        event=event,
        key=parked.key,
        reason=parked.reason,
        attempts=parked.attempts,
        parked_at=item.parked_at.astimezone(UTC),
        retry_at=parked.retry_at and max(parked.retry_at, item.parked_at).astimezone(UTC),
        behind=item.behind,
    )


def _operation(done: operations.Operation) -> Operation:
    # What a decision raised is for whoever runs the platform; how many were handled is for everybody.
    outcome = done.outcome.partition(":")[0]
    return Operation(
        what=done.what,
        who=done.who,
        why=done.why,
        begun_at=done.begun_at.astimezone(UTC),
        ended_at=done.ended_at and done.ended_at.astimezone(UTC),
        outcome=outcome,
    )
