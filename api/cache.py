"""What was read from the timeline, kept in Redis for all gateways: a version says what may replace what.

An entry's version is the database's snapshot that it was read in (`version_of`): of two readings, the one that saw more
has the higher one. What is older never overwrites what is newer, and an entry below its floor, up to which the world
has changed since, is not given out:

    (none) ──keep──▶ fresh ──a few seconds──▶ stale ──half a minute──▶ (none)
      ▲                └───────── outdated ─────┘
      └────────────────────────────┘

Times have jitter, so that what was read together does not end together. Who finds nothing, or first finds something
stale, gets a lease to read it; others wait for that one reading, or take what is stale. What was kept lately is in a
sorted set for each kind, so that nobody has to look through all keys.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import uuid4

from redis.exceptions import RedisError

from api.answers import Order, Price, Stock
from api.shared_memory import client_of

FRESH_MS = 5_000
STALE_MS = 30_000
JITTER = 0.2
LEASE_MS = 2_000
FLOOR_MS = 60_000
"""Longer than any reading that may still want to be kept."""
MOST_KNOWN = 1_000
"""Of each kind, in its sorted set."""
KNOWN_MS = 600_000

FORM = hashlib.sha256(json.dumps([kept.model_json_schema() for kept in (Order, Stock, Price)]).encode()).hexdigest()[:8]
"""Of what is kept: gateways of two versions share it only where both read it alike."""

_LOOK = """
local version, body, mark, fresh, floor =
  unpack(redis.call('HMGET', KEYS[1], 'version', 'body', 'mark', 'fresh', 'floor'))
local clock = redis.call('TIME')
if body and version >= ARGV[3] and not (floor and version < floor) then
  local state = 'fresh'
  if tonumber(fresh) <= clock[1] * 1000 + clock[2] / 1000 then
    state = redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and 'revalidate' or 'stale'
  end
  return {state, body, mark}
end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {'load'} end
-- Our own lease, asked for again by the client library because the first reply was lost.
return {redis.call('GET', KEYS[2]) == ARGV[1] and 'load' or 'wait'}
"""
_KEEP = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
local version, floor = unpack(redis.call('HMGET', KEYS[1], 'version', 'floor'))
if (version and ARGV[2] < version) or (floor and ARGV[2] < floor) then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'body', ARGV[3], 'mark', ARGV[4], 'fresh', now + ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('ZADD', KEYS[3], now, ARGV[7])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[8])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[9])
return 1
"""
_OUTDATE = """
for _, key in ipairs(KEYS) do
  local version, floor = unpack(redis.call('HMGET', key, 'version', 'floor'))
  if not floor or floor < ARGV[1] then redis.call('HSET', key, 'floor', ARGV[1]) end
  if version and version < ARGV[1] then redis.call('HDEL', key, 'version', 'body', 'mark', 'fresh') end
  redis.call('PEXPIRE', key, ARGV[2])
end
return #KEYS
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class State(StrEnum):
    """What was found: `REVALIDATE` is stale, and ours to read again; `LOAD` is nothing, and ours to read."""

    FRESH = "fresh"
    STALE = "stale"
    REVALIDATE = "revalidate"
    LOAD = "load"
    WAIT = "wait"


class Found(NamedTuple):
    state: State
    body: bytes = b""
    mark: str = ""


class Name(NamedTuple):
    """What an entry is about: its kind, and what says which one of the kind."""

    kind: str
    which: tuple[str, ...]

    @property
    def key(self) -> str:
        # A digest: whoever can read Redis need not read there who buys what, and a key has one length.
        return f"pavane:cache:{self.kind}:{FORM}:{hashlib.sha256(json.dumps(self.which).encode()).hexdigest()[:32]}"

    @property
    def lease(self) -> str:
        return f"{self.key}:lease"


class Reading(NamedTuple):
    """What the database said. `mark`: differs when what is read would differ; `touches`: what has changed with it."""

    body: bytes
    version: str
    mark: str
    touches: tuple[Name, ...] = ()


class CacheAway(Exception):
    """Redis does not answer."""


class Cache:
    """The entries. Everything raises `CacheAway`."""

    def __init__(self, url: str) -> None:
        self._redis = client_of(url, retries=1)
        self._look = self._redis.register_script(_LOOK)
        self._keep = self._redis.register_script(_KEEP)
        self._outdate = self._redis.register_script(_OUTDATE)
        self._release = self._redis.register_script(_RELEASE)

    async def look(self, name: Name, token: str, least: str) -> Found:
        """What is there, of this version at least; `token` is for the lease."""
        state, *rest = await _asked(self._look([name.key, name.lease], [token, LEASE_MS, least]))
        return Found(State(state.decode()), rest[0], rest[1].decode()) if rest else Found(State(state.decode()))

    async def keep(self, name: Name, token: str, reading: Reading) -> bool:
        """Keep a reading and give the lease back; False: something newer is there, or is known to be."""
        fresh = _jittered(FRESH_MS)
        row: list[Any] = [token, reading.version, reading.body, reading.mark, fresh, fresh + _jittered(STALE_MS)]
        keys = [name.key, name.lease, _known(name.kind)]
        return bool(await _asked(self._keep(keys, [*row, json.dumps(name.which), KNOWN_MS, MOST_KNOWN])))

    async def outdate(self, names: Sequence[Name], version: str) -> int:
        """Give out no reading of these that is older than this version, nor keep one. How many these are."""
        return int(await _asked(self._outdate([name.key for name in names], [version, FLOOR_MS])))

    async def release(self, name: Name, token: str) -> None:
        """Nothing came of it: somebody else may read."""
        await _asked(self._release([name.lease], [token]))

    async def known(self, kind: str, most: int) -> list[Name]:
        """What was kept lately, the last first."""
        members = await _asked(self._redis.zrange(_known(kind), 0, most - 1, desc=True))
        return [Name(kind, tuple(json.loads(member))) for member in members]

    async def close(self) -> None:
        await self._redis.aclose()


def new_token() -> str:
    """Of one attempt to read."""
    return uuid4().hex


def version_of(snapshot: str) -> str:
    """The place of a snapshot (`pg_current_snapshot()`: xmin:xmax:running,...) among all of its database, as text that
    sorts.

    A later snapshot has a higher xmax, or the same and fewer that are still running: of those below xmax none can begin
    any more.
    """
    _, xmax, running = snapshot.split(":")
    count = running.count(",") + 1 if running else 0
    return f"{int(xmax):020d}{99_999 - count:05d}"


async def _asked(call: Any) -> Any:
    try:
        return await call
    except (RedisError, OSError) as error:
        raise CacheAway(repr(error)) from error


def _jittered(milliseconds: int) -> int:
    return round(milliseconds * random.uniform(1 - JITTER, 1 + JITTER))


def _known(kind: str) -> str:
    return f"pavane:cache:known:{kind}"
