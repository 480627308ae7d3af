"""Idempotency records in Redis: for each effect key, what was asked last, by whom, and what came of it.

    (none) ──claim──▶ running ──keep──▶ kept ──TTL──▶ (none)
                        │ release, or the lease ends
                        ▼
                      (none)

One key has one record, whatever was asked under it: `AuthorizePayment` and `ReversePayment` of one payment share it.
Asking for something else under the key takes the record over at once, before the provider is asked. So an outcome is
given again only if nothing else was asked under its key since: never an `Authorized` once a reversal was begun. An
owner whose record was taken over in this way keeps nothing and drops what it finds there, since nobody knows in which
order the provider was asked.

What an owner asks while Redis does not answer leaves no record. When Redis is back, that owner begins a new *era*,
which ends all outcomes kept in earlier ones: among them may be one that was undone meanwhile. (If the owner dies before
Redis is back, only the provider knows. That is safe: it refuses what was undone.)

Nothing here is needed for safety: the provider has the same key. So Redis away, slow, flushed or full is no error.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from streams.kit.errors import WorldUnavailable
from streams.kit.events import Effect
from streams.kit.policies import REDIS, Policy
from streams.kit.resilience import Dependency

MOST_KEYS = 500
"""Of one script: Redis does nothing else meanwhile, for 2 to 3 ms."""

LEASE_SECONDS = 3.0
"""How long others wait for an owner that died. One that lives renews its lease while it asks."""

RENEWALS = 3
"""In one lease."""

Claim: TypeAlias = bytes | float | None
"""`bytes`: the outcome kept. `float`: for how many seconds another owner's lease still runs. `None`: it is ours."""

# A record is a string, `running <owner> <era> <verb>` or `kept <era> <verb> <outcome>`: one command reads all of them.
# Verbs come as one text: packing one argument costs the client more than a record costs Redis.

# KEYS: the era's, then one a record. ARGV: owner, lease in ms, '1' to begin a new era, the verbs.
_CLAIM = """
local verbs = {}
for verb in string.gmatch(ARGV[4], '%S+') do verbs[#verbs + 1] = verb end
if ARGV[3] == '1' then redis.call('INCR', KEYS[1]) end
local found = redis.call('MGET', unpack(KEYS))
local era = found[1] or '0'
local taken = {}
local replies = {}
for i = 2, #KEYS do
  local key, record, verb, reply = KEYS[i], found[i], verbs[i - 1], false
  if record and not taken[key] then
    local kept = 'kept ' .. era .. ' ' .. verb .. ' '
    if string.sub(record, 1, #kept) == kept then
      reply = string.sub(record, #kept + 1)
    else
      -- Our own claim may come twice: the client sends it again when the first reply was lost.
      local owner, asked = string.match(record, '^running (%S+) %S+ (%S+)$')
      if asked == verb and owner ~= ARGV[1] then reply = redis.call('PTTL', key) end
    end
  end
  if not reply then
    redis.call('SET', key, 'running ' .. ARGV[1] .. ' ' .. era .. ' ' .. verb, 'PX', ARGV[2])
    taken[key] = true
  end
  replies[i - 1] = reply
end
return replies
"""
# ARGV: owner, how long to keep in ms, the verbs, then the outcome of each record.
_KEEP = """
local verbs = {}
for verb in string.gmatch(ARGV[3], '%S+') do verbs[#verbs + 1] = verb end
local found = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  local record, verb = found[i] or '', verbs[i]
  local owner, era, asked = string.match(record, '^running (%S+) (%S+) (%S+)$')
  if owner == ARGV[1] then
    redis.call('SET', key, 'kept ' .. era .. ' ' .. verb .. ' ' .. ARGV[i + 3], 'PX', ARGV[2])
  else
    asked = asked or string.match(record, '^kept %S+ (%S+) ')
    if asked and asked ~= verb then redis.call('DEL', key) end
  end
end
"""
# ARGV: owner, and for how many ms from now; 0 releases.
_LEASE = """
local found = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  if found[i] and string.match(found[i], '^running (%S+)') == ARGV[1] then redis.call('PEXPIRE', key, ARGV[2]) end
end
"""
# ARGV: the outcome of each record.
_DISCARD = """
local found = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  if found[i] and string.match(found[i], '^kept %S+ %S+ (.*)$') == ARGV[i] then redis.call('DEL', key) end
end
"""


class Records:
    """The records of one service's effects, as one process reads and writes them.

    All effects of a round go in one command, up to `MOST_KEYS`. Record keys carry the service as hash tag, since one
    script may only touch keys of one slot.
    """

    def __init__(
        self, redis: Redis, service: str, keep_seconds: float, lease_seconds: float, dependency: Dependency
    ) -> None:
        self.dependency = dependency
        self.lease_seconds = lease_seconds
        self._prefix = f"pavane:effects:{{{service}}}:"
        self._keep_ms = int(keep_seconds * 1000)
        self._lease_ms = int(lease_seconds * 1000)
        self._claim = redis.register_script(_CLAIM)
        self._keep = redis.register_script(_KEEP)
        self._lease = redis.register_script(_LEASE)
        self._discard = redis.register_script(_DISCARD)
        self._asked_without_record = False

    @classmethod
    @asynccontextmanager
    async def at(
        cls, url: str, service: str, keep_seconds: float, lease_seconds: float = LEASE_SECONDS, policy: Policy = REDIS
    ) -> "AsyncIterator[Records]":
        """On the Redis of that URL, which may be away and come later."""
        redis = Redis.from_url(
            url,
            socket_timeout=policy.timeout_seconds,
            socket_connect_timeout=policy.timeout_seconds,
            # Once more at once: a pooled connection may be dead since Redis restarted.
            retry=Retry(NoBackoff(), 1),
        )
        async with redis:
            yield cls(redis, service, keep_seconds, lease_seconds, Dependency("redis", policy))

    async def claim(self, owner: str, effects: Sequence[Effect]) -> list[Claim] | None:
        """What may be done about each effect; None when Redis does not answer.

        `owner`: a token of this one round, without blanks.
        """
        claims: list[Claim] = []
        for some in _portions(effects):
            begin_era = int(self._asked_without_record)
            arguments = [owner, self._lease_ms, begin_era, _verbs(some)]
            replies = await self._run(self._claim, [f"{self._prefix}era", *self._keys(some)], arguments)
            self._asked_without_record = replies is None
            if replies is None:
                return None
            claims.extend(reply / 1000 if isinstance(reply, int) else reply for reply in replies)
        return claims

    async def keep(self, owner: str, outcomes: Sequence[tuple[Effect, bytes]]) -> None:
        """Keep what came of effects that `owner` claimed. Of those it has lost, nothing is kept."""
        for some in _portions(outcomes):
            effects = [effect for effect, _ in some]
            arguments = [owner, self._keep_ms, _verbs(effects), *(outcome for _, outcome in some)]
            await self._run(self._keep, self._keys(effects), arguments)

    async def release(self, owner: str, effects: Sequence[Effect]) -> None:
        """Nothing came of them: others need not wait for the end of the lease."""
        for some in _portions(effects):
            await self._run(self._lease, self._keys(some), [owner, 0])

    async def renew(self, owner: str, effects: Sequence[Effect]) -> None:
        """Keep the claims of `owner` alive until this is cancelled."""
        while True:
            await asyncio.sleep(self.lease_seconds / RENEWALS)
            for some in _portions(effects):
                await self._run(self._lease, self._keys(some), [owner, self._lease_ms])

    async def discard(self, outcomes: Sequence[tuple[Effect, bytes]]) -> None:
        """Drop outcomes that cannot be read, unless there are others by now."""
        for some in _portions(outcomes):
            await self._run(self._discard, self._keys(effect for effect, _ in some), [outcome for _, outcome in some])

    async def _run(self, script: AsyncScript, keys: list[str], arguments: list[Any]) -> Any:
        """What the script replies, or None when Redis does not answer; `dependency` tells of it."""

        async def ask() -> Any:
            try:
                # A script that replies nothing is told apart from no reply.
                return await script(keys, arguments) or ()
            except (RedisError, OSError) as error:
                raise WorldUnavailable(f"Redis: {error!r}") from error

        try:
            return await self.dependency.call(ask)
        except WorldUnavailable:
            return None

    def _keys(self, effects: Iterable[Effect]) -> list[str]:
        return [self._prefix + effect.key for effect in effects]


def _verbs(effects: Iterable[Effect]) -> str:
    return " ".join(type(effect).__name__ for effect in effects)


def _portions(all_of_them: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (all_of_them[start : start + MOST_KEYS] for start in range(0, len(all_of_them), MOST_KEYS))
