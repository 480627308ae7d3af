"""How often is too often: one call of a Lua script in Redis decides for address, user and tenant at once.

The generic cell rate algorithm (GCRA, ITU-T I.371): a bucket is one number, the time at which it will be full again. A
request that costs n moves that time by n intervals, and is refused if it would then lie further ahead than the burst.
Either all buckets of a request take its cost or none does. The clock is Redis's own, so any number of gateways share
the limits exactly; keys end by themselves once their bucket is full.

Without Redis each gateway counts for itself: what reads goes on at the same rates, what writes at a quarter of them,
as nobody knows how many gateways there are.

The answer says how it stands in `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11).
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from api.shared_memory import client_of
from api.telemetry import LIMITED
from api.tokens import Caller
from streams.kit.logs import logger

REDIS_PAUSE_SECONDS = 1.0
SHARE_WITHOUT_REDIS = 0.25
MOST_LOCAL_BUCKETS = 20_000
DEAREST = 10
"""Units of the dearest request: every limit allows it now and then, however low it is."""

_SECOND_US = 1_000_000
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local cost, full, wait, left = tonumber(ARGV[1]), {}, 0, {}
for i, key in ipairs(KEYS) do
  local interval, burst = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local was = math.max(tonumber(redis.call('GET', key) or 0), now)
  full[i] = was + cost * interval
  wait = math.max(wait, full[i] - now - burst)
  left[i] = was - now
end
if wait <= 0 then
  for i, key in ipairs(KEYS) do
    left[i] = full[i] - now
    redis.call('SET', key, string.format('%.0f', full[i]), 'PX', math.ceil(left[i] / 1000) + 1)
  end
end
return {math.ceil(wait), unpack(left)}
"""


class Kind(StrEnum):
    """Reading and writing have buckets of their own: who looks too often can still place an order."""

    READ = "reads"
    WRITE = "writes"


class Limit(NamedTuple):
    """So many units a second in the long run, and at most those of `seconds` at once. 0 units: no limit."""

    name: str
    units_a_second: float
    seconds: int

    @classmethod
    def of(cls, name: str, units_a_second: float, seconds: int) -> "Limit":
        """The same rate over more seconds, where the dearest request would otherwise never fit."""
        if units_a_second > 0:
            seconds = max(seconds, math.ceil(DEAREST / units_a_second))
        return cls(name, units_a_second, seconds)

    @property
    def quota(self) -> int:
        return max(1, round(self.units_a_second * self.seconds))

    @property
    def interval_us(self) -> int:
        return max(1, round(_SECOND_US * self.seconds / self.quota))

    @property
    def burst_us(self) -> int:
        return self.quota * self.interval_us


class Bucket(NamedTuple):
    key: str
    limit: Limit


class Standing(NamedTuple):
    """How a bucket stands: units that are left, and seconds until it is full again."""

    limit: Limit
    left: int
    full_in_seconds: int


class Verdict(NamedTuple):
    """`retry_after_seconds`: 0 when the request may go on."""

    retry_after_seconds: int
    standings: tuple[Standing, ...]

    def headers(self) -> dict[str, str]:
        """`RateLimit-Policy` and `RateLimit`, as structured fields (RFC 9651)."""
        if not self.standings:
            return {}
        policy = ", ".join(f'"{s.limit.name}";q={s.limit.quota};w={s.limit.seconds}' for s in self.standings)
        state = ", ".join(f'"{s.limit.name}";r={s.left};t={s.full_in_seconds}' for s in self.standings)
        return {"RateLimit-Policy": policy, "RateLimit": state}


class Limits:
    """The limits of an address, of a user and of a tenant, each in units a second.

    A read costs one unit, a write five, and a token that proves nothing ten, of its address alone. Where a rate is so
    low that `burst_seconds` of it are less than `DEAREST`, more seconds of it may be used at once.
    """

    def __init__(self, url: str, *, address: float, user: float, tenant: float, burst_seconds: int) -> None:
        self._address = Limit.of("address", address, burst_seconds)
        self._user = {kind: Limit.of(f"user-{kind}", user, burst_seconds) for kind in Kind}
        self._tenant = {kind: Limit.of(f"tenant-{kind}", tenant, burst_seconds) for kind in Kind}
        # Not sent again: a call whose answer was lost may have taken its cost.
        self._redis = client_of(url, retries=0)
        self._take = self._redis.register_script(_TAKE)
        self._away_until = 0.0
        self._local = LocalBuckets()

    async def take(self, address: str, caller: Caller | None, kind: Kind, cost: int) -> Verdict:
        """Take the cost of a request of that caller (None: nobody) from that address, if all its buckets allow it."""
        buckets = self._buckets(address, caller, kind)
        if not buckets:
            return Verdict(0, ())
        taken = await self._shared(buckets, cost)
        if taken is None:
            buckets = _stricter(buckets) if kind is Kind.WRITE else buckets
            taken = self._local.take(buckets, cost)
        verdict = _verdict(buckets, taken)
        LIMITED.labels(kind.value, "refused" if verdict.retry_after_seconds else "allowed").inc()
        return verdict

    async def close(self) -> None:
        await self._redis.aclose()

    def _buckets(self, address: str, caller: Caller | None, kind: Kind) -> list[Bucket]:
        buckets = [Bucket(_key("a", address), self._address)]
        if caller is not None:
            buckets.append(Bucket(_key("u", kind.value, caller.tenant, caller.subject), self._user[kind]))
            buckets.append(Bucket(_key("t", kind.value, caller.tenant), self._tenant[kind]))
        return [each for each in buckets if each.limit.units_a_second > 0]

    async def _shared(self, buckets: Sequence[Bucket], cost: int) -> list[int] | None:
        """What the script says; None when Redis is away."""
        if time.monotonic() < self._away_until:
            return None
        numbers = [number for each in buckets for number in (each.limit.interval_us, each.limit.burst_us)]
        try:
            taken: Any = await self._take([each.key for each in buckets], [cost, *numbers])
        except (RedisError, OSError) as error:
            self._away_until = time.monotonic() + REDIS_PAUSE_SECONDS
            logger().warning("redis_away", consequence="each gateway limits for itself", error=repr(error))
            return None
        return [int(number) for number in taken]


class LocalBuckets:
    """The same algorithm in this process. The least lately used bucket is forgotten when there are too many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full: OrderedDict[str, int] = OrderedDict()

    def take(self, buckets: Sequence[Bucket], cost: int) -> list[int]:
        """As the script answers: microseconds to wait, and of each bucket the microseconds until it is full."""
        now = round(self._clock() * _SECOND_US)
        was = [max(self._full.get(each.key, 0), now) for each in buckets]
        full = [at + cost * each.limit.interval_us for at, each in zip(was, buckets, strict=True)]
        wait = max(at - now - each.limit.burst_us for at, each in zip(full, buckets, strict=True))
        if wait > 0:
            return [wait, *(at - now for at in was)]
        for each, at in zip(buckets, full, strict=True):
            self._full[each.key] = at
            self._full.move_to_end(each.key)
        while len(self._full) > MOST_LOCAL_BUCKETS:
            self._full.popitem(last=False)
        return [0, *(at - now for at in full)]


def _stricter(buckets: Sequence[Bucket]) -> list[Bucket]:
    return [
        Bucket(key, Limit.of(limit.name, limit.units_a_second * SHARE_WITHOUT_REDIS, limit.seconds))
        for key, limit in buckets
    ]


def _verdict(buckets: Sequence[Bucket], taken: Sequence[int]) -> Verdict:
    wait, *full_in = taken
    standings = (
        Standing(
            each.limit,
            max(0, (each.limit.burst_us - microseconds) // each.limit.interval_us),
            math.ceil(microseconds / _SECOND_US),
        )
        for each, microseconds in zip(buckets, full_in, strict=True)
    )
    return Verdict(math.ceil(max(0, wait) / _SECOND_US), tuple(standings))


def _key(*whose: str) -> str:
    # A digest: whoever can read Redis need not read there who came when, and a key has one length.
    return "pavane:limit:" + hashlib.sha256("\n".join(whose).encode()).hexdigest()[:32]
