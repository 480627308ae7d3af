"""What is asked: the timeline for stories, every service for its lanes and parked records, Kafka for who holds what.

Only the timeline must answer: whatever else does not is a reason.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString, NamedTuple

import msgspec
from pydantic import TypeAdapter

from api.answers import Entry
from api.due import AFTERWARDS, FORWARD
from api.late import CLOSINGS, LEARNED_FROM, LEAST_SECONDS, OPEN, OVER, Late, Step, Story, late, usual
from pavane.lanes.holding import held
from pavane.lanes.listing import Lane, stored, with_the_log
from pavane.operators.errors import DatabaseUnreadable, NotAsked
from pavane.operators.reach import Connection, Reach
from pavane.overdue.reasons import Known, Waiting, Why, database_back, rebuilt, why
from pavane.overdue.unheard import ACCEPTS, VIEW, Unheard, unheard
from streams.kit.kafka import partition_of
from streams.kit.log import ToSay

MOST_STORIES = 5_000
HEADS: LiteralString = """
SELECT DISTINCT ON (key) key, partition, number, reason, message, attempts, retry_at FROM parked
 WHERE key = ANY(%s) AND holds ORDER BY key, number
"""
"""The first record of each key that others wait behind: a request that was refused holds nobody up."""
UNSAID: LiteralString = "SELECT facts FROM outbox JOIN lanes USING (partition) WHERE number > acknowledged LIMIT 5000"
_facts = msgspec.msgpack.Decoder(list[ToSay])
_entries = TypeAdapter(list[Entry])


class Found(NamedTuple):
    """Late orders with the reason of each, and what is usual. `looked_at`: stories that were looked at.

    `unheard`: what waits and is in no story, so that more orders may be late.
    `more`: stories that may be late as well were not looked at; these are the oldest. `log_away`: that Kafka does not
    answer, and how, if it does not.
    """

    late: Sequence[tuple[Late, Why]]
    usual: Mapping[Step, float]
    looked_at: int
    at: datetime
    unheard: Sequence[Unheard] = ()
    more: bool = False
    log_away: str = ""


async def look(reach: Reach, speakers: Collection[str] = (), tenant: str | None = None) -> Found:
    """Ask. `speakers`: only what these services owe; `tenant`: only this one's orders. Raises `NotAsked`."""
    reach.services(speakers)
    now = datetime.now(UTC)
    try:
        async with reach.database(VIEW, reading=True) as connection:
            steps = usual(entries for _, entries in await _stories(connection, OVER, {"most": LEARNED_FROM}))
            asked = {"tenant": tenant, "least": LEAST_SECONDS, "most": MOST_STORIES, "closings": CLOSINGS}
            rows = await _stories(connection, OPEN, asked)
    except DatabaseUnreadable as error:
        then = f"make it again: '{rebuilt(VIEW)}'" if error.lost else database_back(VIEW)
        raise NotAsked(f"{error}\nNobody else knows which orders are late: {then}") from error
    told = {row[0]: entries for row, entries in rows}
    found = [Story(order_id, tenant, status, entries) for (order_id, tenant, status, *_), entries in rows]
    overdue = [each for each in late(found, steps, now) if not speakers or each.speaker in speakers]
    known = await _known(reach, overdue)
    # What the view has not heard may be owed by anybody.
    watched = [VIEW, *([ACCEPTS] if not speakers or ACCEPTS in speakers else [])]
    try:
        waiting = await asyncio.to_thread(unheard, reach, known, watched, now)
    except NotAsked as error:  # it went away meanwhile, or some of its brokers did
        known = known._replace(log_away=str(error))
        waiting = unheard(reach, known, watched, now)
    partitions = 1 + max((partition for _, partition in known.lanes), default=0)
    known = known._replace(stale={lane for each in waiting if each.service == VIEW for lane in each.lanes})
    reasons = []
    for each in overdue:
        home = partition_of(each.order_id.encode(), partitions)
        reasons.append((each, why(known, each.speaker, each.order_id, home, _asks(each, told[each.order_id]))))
    return Found(reasons, steps, len(found), now, waiting, len(found) == MOST_STORIES, known.log_away)


def _asks(owed: Late, story: Sequence[Entry]) -> list[str]:
    """The ids of the facts of the story in answer to which the speaker says what it owes."""
    cues = {each.after for each in (*FORWARD, *AFTERWARDS) if (each.speaker, each.facts) == (owed.speaker, owed.facts)}
    return [entry.id for entry in story if entry.fact in cues]


async def _stories(
    connection: Connection, query: LiteralString, values: Mapping[str, Any]
) -> list[tuple[Any, list[Entry]]]:
    rows = await (await connection.execute(query, values)).fetchall()
    return [(row, _entries.validate_python(row[-1] or [])) for row in rows]


async def _known(reach: Reach, overdue: Sequence[Late]) -> Known:
    """Of every service that can be asked; why the others cannot."""
    stand: list[Lane] = []
    parked: dict[tuple[str, str], Waiting] = {}
    away: dict[str, str] = {}
    lost: set[str] = set()
    unsaid: set[tuple[str, str]] = set()
    for service in reach.services():
        keys = [each.order_id for each in overdue if each.speaker == service]
        try:
            async with reach.database(service, reading=True) as connection:
                stand += await stored(connection, service)
                for key, partition, number, *rest in await (await connection.execute(HEADS, (keys,))).fetchall():
                    parked[service, key] = Waiting(f"{service}/{partition}/{number}", *rest)
                unsaid |= {(service, key) for key in await _unsaid(connection, service)}
        except DatabaseUnreadable as error:
            away[service] = str(error)
            lost |= {service} if error.lost else set()
    holding, log_away = None, ""
    try:
        stand = await with_the_log(reach, stand)
        holding = await asyncio.to_thread(held, reach.kafka, sorted(reach.databases))
    except NotAsked as error:
        log_away = str(error)
    lanes = {(lane.service, lane.partition): lane for lane in stand}
    return Known(lanes, holding, parked, away, unsaid, log_away=log_away, lost=lost)


async def _unsaid(connection: Connection, service: str) -> set[str]:
    """The keys of the facts that it has decided and that are not known to be in the log."""
    rows = await (await connection.execute(UNSAID)).fetchall()
    return {
        fact.key.decode(errors="replace")
        for (facts,) in rows
        for fact in _facts.decode(facts)
        if fact.topic == service and fact.key is not None
    }
