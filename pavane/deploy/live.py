"""What is live now: asked of every service's database, the registry and the log; nothing is changed."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import LiteralString, NamedTuple

import msgspec

from api.late import CLOSINGS, UNCLOSED
from contracts import registry
from pavane.deploy.judging import EventName, Live, Met, Running
from pavane.deploy.meeting import Meeting, meeting
from pavane.instance import GATEWAY
from pavane.lanes.listing import lanes_of
from pavane.operators.reach import Connection, Reach
from pavane.rebuild.swapping import SWAP
from streams.kit.announcing import Announcement, AvroSchema

#: Three times as long as a process is silent between two announcements.
LIVE_SECONDS = 90

ANNOUNCED: LiteralString = """
SELECT document, first_at, last_at, last_at > now() - make_interval(secs => %s) FROM announced
 WHERE document->>'service' = %s ORDER BY last_at DESC
"""
COLUMNS: LiteralString = """
SELECT table_name, column_name, is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'
  FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY table_name, ordinal_position
"""
MADE_AGAIN: LiteralString = "SELECT max(ended_at) FROM operations WHERE what = %s"
IN_FLIGHT: LiteralString = "SELECT count(*) FROM orders WHERE status = 'placed'"
#: What has not ended by the stories, which may be behind; and what has, but somebody has yet to send it off or to undo
#: what was done for it.
OPEN_STORIES = (
    f"SELECT count(*) FILTER (WHERE s.status = 'placed'), count(*) FILTER (WHERE s.status <> 'placed') FROM stories s "
    f"WHERE s.status = 'placed' OR {UNCLOSED}"
)
MIGRATED: LiteralString = "SELECT version_num FROM alembic_version"


async def look(reach: Reach, registry_url: str, candidate: Announcement) -> Live:
    """Ask for everything that the candidate is judged by. Raises `NotAsked` or `RegistryAway` when something does not
    answer."""
    lanes = await lanes_of(reach, ())
    ran = {name: await _announced(reach, name) for name in (*reach.databases, GATEWAY)}
    mine = [lane for lane in lanes if lane.service == candidate.service]
    met = await meeting(reach, candidate, mine, ran[candidate.service])
    async with reach.database(home(candidate.service), reading=True) as connection:
        columns = await _columns(connection)
        migrated = await (await connection.execute(MIGRATED)).fetchall() if "alembic_version" in columns else []
    async with reach.database("orders", reading=True) as connection:
        [(placed,)] = await (await connection.execute(IN_FLIGHT)).fetchall()
    async with reach.database("timeline", reading=True) as connection:
        cursor = await connection.execute(OPEN_STORIES.encode(), {"closings": CLOSINGS})
        [(told, not_closed)] = await cursor.fetchall()
    asked = await asyncio.to_thread(_ask_registry, registry_url, candidate, met)
    return Live(
        running={name: _those_that_count(versions) for name, versions in ran.items()},
        silent=frozenset(lane.service for lane in lanes if not ran[lane.service]),
        registry=asked.known,
        lacking=asked.lacking,
        met=[Met(*kind, asked.by_id.get(kind.schema_id), *seen) for kind, seen in met.seen.items()],
        columns=columns,
        in_flight=max(placed, told) + not_closed,
        remade={name: at for name in ran if not ran[name] and (at := await _made_again(reach, name)) is not None},
        left_out=met.left_out,
        migrated=frozenset(revision for (revision,) in migrated),
    )


def home(service: str) -> str:
    """In whose database it announces itself: the gateway has none, and reads the timeline's."""
    return "timeline" if service == GATEWAY else service


async def _announced(reach: Reach, service: str) -> list[Running]:
    """All versions that ever ran, the last one first."""
    async with reach.database(home(service), reading=True) as connection:
        there = await (await connection.execute("SELECT to_regclass('announced') IS NOT NULL")).fetchall()
        if not there[0][0]:
            return []
        cursor = await connection.execute(ANNOUNCED, (LIVE_SECONDS, service))
        rows = await cursor.fetchall()
    return [Running(msgspec.convert(document, Announcement), *rest) for document, *rest in rows]


async def _made_again(reach: Reach, service: str) -> datetime | None:
    """When the database was made again in which it would announce itself, if it was."""
    async with reach.database(home(service), reading=True) as connection:
        there = await (await connection.execute("SELECT to_regclass('operations') IS NOT NULL")).fetchall()
        if not there[0][0]:
            return None
        [(at,)] = await (await connection.execute(MADE_AGAIN, (SWAP,))).fetchall()
        return at if isinstance(at, datetime) else None


def _those_that_count(versions: Sequence[Running]) -> list[Running]:
    """Those that run; when none does, the last one that did."""
    return [each for each in versions if each.is_live] or list(versions[:1])


async def _columns(connection: Connection) -> dict[str, dict[str, bool]]:
    found: dict[str, dict[str, bool]] = {}
    for table, column, needed in await (await connection.execute(COLUMNS)).fetchall():
        found.setdefault(table, {})[column] = needed
    return found


class _Asked(NamedTuple):
    known: Mapping[EventName, Sequence[AvroSchema]]
    lacking: frozenset[EventName]
    by_id: Mapping[int, AvroSchema | None]


def _ask_registry(url: str, candidate: Announcement, met: Meeting) -> _Asked:
    """What the registry knows of the candidate's events, and of the records that it would meet."""
    says, hears = _subjects(candidate.says), _subjects(candidate.hears)
    events = {**says, **hears}
    known = registry.known(url, events)
    lacking = registry.lacking(url, {subject: schema for subject, (_, schema) in says.items()})
    return _Asked(
        {events[subject][0]: versions for subject, versions in known.items()},
        frozenset(says[subject][0] for subject in lacking),
        registry.by_id(url, {kind.schema_id for kind in met.seen}),
    )


def _subjects(schemas: Mapping[str, Mapping[str, AvroSchema]]) -> dict[str, tuple[EventName, AvroSchema]]:
    return {
        f"{topic}-{schema['namespace']}.{name}": ((topic, name), schema)
        for topic, events in schemas.items()
        for name, schema in events.items()
    }
