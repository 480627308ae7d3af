"""Each request once: the first answer under an `Idempotency-Key` is kept in Redis and given again (IETF draft
draft-ietf-httpapi-idempotency-key-header).

What a key stands for has a name of its own, a UUIDv5 over tenant and key. Redis only makes retries pleasant: the name
goes into the request, and whoever owns the request topic does one name once. So when Redis is away, or forgot
everything, a retry is sent again and still places nothing twice.

    (none) ──begin──▶ running ──finish──▶ answered ──TTL──▶ (none)
                         │ release, or the lease ends
                         ▼
                       (none)
"""

import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid4, uuid5

import msgspec
from redis.exceptions import RedisError

from api.errors import BadIdempotencyKey, KeyReused, StillRunning
from api.shared_memory import client_of
from api.telemetry import KEYS
from streams.kit.logs import logger

NAMESPACE = UUID("6f1d8a52-3f5e-5c0b-9a57-2f0a6f1f7c11")
"""Fixed for ever: order ids are derived from it."""

LEASE_MS = 10_000
"""Longer than any request runs. After it, another may run: harmless, as it names the same thing."""

KEEP_MS = 24 * 3_600 * 1_000
"""How long an answer is given again."""

REDIS_PAUSE_SECONDS = 1.0
"""After Redis failed, requests go on without it for so long, rather than each waiting for the timeout."""

_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_ESCAPED = re.compile(r'\\(.)')
_KEY = re.compile(r"[!#-~]{1,255}")

_BEGIN = """
local found = redis.call('HMGET', KEYS[1], 'state', 'fingerprint', 'owner', 'answer')
if not found[1] then
  redis.call('HSET', KEYS[1], 'state', 'running', 'fingerprint', ARGV[1], 'owner', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'begun'}
end
if found[2] ~= ARGV[1] then return {'reused'} end
if found[1] == 'answered' then return {'answered', found[4]} end
-- Our own call, sent again by the client library because the first reply was lost.
if found[3] == ARGV[2] then return {'begun'} end
return {'running', redis.call('PTTL', KEYS[1])}
"""
_FINISH = """
local owner = redis.call('HGET', KEYS[1], 'owner')
-- Our lease ended and somebody else began: the answer is theirs to give, and will be the same.
if owner and owner ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'answered', 'fingerprint', ARGV[1], 'owner', ARGV[2],
  'answer', ARGV[4], 'of', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
_RELEASE = """
local found = redis.call('HMGET', KEYS[1], 'state', 'owner')
if found[1] == 'running' and found[2] == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Answer(msgspec.Struct, frozen=True):
    """What was answered first, to be given again word for word."""

    status: int
    location: str
    body: msgspec.Raw


class Claim(NamedTuple):
    """A request under its key: what it names, what it says, and who asks. `owner`: a token of this one attempt."""

    name: str
    fingerprint: str
    of: str
    owner: str


def read_key(headers: Sequence[str]) -> str:
    """The key of a request with these Idempotency-Key headers: a String (RFC 9651, 3.3.3) without parameters, as the
    draft has it, or the key as it is. Raises `BadIdempotencyKey`."""
    if not headers:
        raise BadIdempotencyKey("Send a header Idempotency-Key: a new one for each order, the same one for a retry.")
    if len(headers) > 1:
        raise BadIdempotencyKey("Send one header Idempotency-Key: which of several is meant is not guessed.")
    string = _STRING.fullmatch(headers[0])
    key = _ESCAPED.sub(r"\1", string[1]) if string else headers[0]
    if not _KEY.fullmatch(key):
        raise BadIdempotencyKey("An Idempotency-Key has 1 to 255 printable ASCII characters, no blanks and no quotes.")
    return key


def name_of(*parts: str) -> str:
    """What a key stands for: always the same UUID for the same parts, of which only the last may hold a '/'."""
    return str(uuid5(NAMESPACE, "/".join(parts)))


def claim(name: str, of: str, said: str) -> Claim:
    """`said`: everything that must be equal in a retry. It is kept as a hash, since it may be personal data."""
    return Claim(name, hashlib.sha256(f"{of}\n{said}".encode()).hexdigest(), of, str(uuid4()))


class Idempotency:
    """The keys of all requests of the last day, in Redis."""

    def __init__(self, url: str) -> None:
        self._redis = client_of(url, retries=1)
        self._begin = self._redis.register_script(_BEGIN)
        self._finish = self._redis.register_script(_FINISH)
        self._release = self._redis.register_script(_RELEASE)
        self._away_until = 0.0

    async def once(self, wanted: Claim, act: Callable[[], Awaitable[Answer]]) -> tuple[Answer, bool]:
        """The first answer to `wanted`, from `act` or as it was kept; and whether it was kept.

        Raises `StillRunning`, `KeyReused`, and whatever `act` raises; then the key is free for a retry.
        """
        first = await self._claim(wanted)
        if first is not None:
            return first, True
        try:
            given = await act()
        except BaseException:
            await self._try(lambda: self._release([_row(wanted.name)], [wanted.owner]))
            raise
        row: list[Any] = [wanted.fingerprint, wanted.owner, KEEP_MS, msgspec.json.encode(given), wanted.of]
        await self._try(lambda: self._finish([_row(wanted.name)], row))
        return given, False

    async def was_accepted(self, name: str, of: str) -> bool:
        """Whether a request of that name by `of` was answered lately. False if Redis cannot tell."""
        found = await self._try(lambda: self._redis.hmget(_row(name), ["state", "of"]))
        return bool(found == [b"answered", of.encode()])

    async def reachable(self) -> None:
        """Raises when Redis does not answer."""
        await self._redis.ping()

    async def round_trip(self) -> None:
        """Raises when Redis does not give back what was just written."""
        token = uuid4().hex.encode()
        key = f"pavane:gateway:probe:{token.decode()}"
        await self._redis.set(key, token, px=LEASE_MS)
        if await self._redis.getdel(key) != token:
            raise ConnectionError("Redis gave back something else than was written")

    async def close(self) -> None:
        await self._redis.aclose()

    async def _claim(self, wanted: Claim) -> Answer | None:
        """None when the request is ours to answer, or when Redis is away."""
        row: list[Any] = [wanted.fingerprint, wanted.owner, LEASE_MS]
        reply = await self._try(lambda: self._begin([_row(wanted.name)], row))
        try:
            first = read_reply(reply)
        except (StillRunning, KeyReused) as refusal:
            KEYS.labels(refusal.slug).inc()
            raise
        KEYS.labels("unguarded" if reply is None else "replayed" if first else "begun").inc()
        return first

    async def _try(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """What Redis says; None when it is away."""
        if time.monotonic() < self._away_until:
            return None
        try:
            return await call()
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + REDIS_PAUSE_SECONDS
            logger().warning("redis_away", consequence="requests go on without kept answers", error=repr(error))
            return None


def read_reply(reply: list[Any] | None) -> Answer | None:
    """What `begin` replied: the kept answer, or None to go ahead. Raises `StillRunning`, `KeyReused`."""
    match reply:
        case None | [b"begun"]:
            return None
        case [b"answered", bytes(kept)]:
            return msgspec.json.decode(kept, type=Answer)
        case [b"running", int(left_ms)]:
            raise StillRunning(retry_after_seconds=max(1, min(2, left_ms // 1000)))
        case [b"reused"]:
            raise KeyReused
        case _:
            raise ValueError(f"an idempotency key holds {reply!r}, which nothing here writes")


def _row(name: str) -> str:
    return f"pavane:gateway:once:{name}"
