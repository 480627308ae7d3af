"""Who comes too often waits; everybody else does not."""

import asyncio
import math
import re
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from api import shared_memory
from api.addresses import address_of, networks
from api.app import application
from api.customers import Customers
from api.gateway import Gateway
from api.guard import COSTLY_READS, READ_COST, REFUSED_COST, WRITE_COST, cost_of
from api.idempotency import Idempotency
from api.limits import DEAREST, Bucket, Kind, Limit, Limits, LocalBuckets, Standing, Verdict
from api.tokens import SHOPPER, Caller, Verifier, public_jwks
from streams.kit.errors import WrongSetting
from streams.kit.language import Language
from tests.api.conftest import KEY, NOWHERE, HeardLog, KnownTimeline, as_customer, new_key, order
from tests.keys_at_hand import KeysAtHand

ADA, BOB = Caller("shop", "ada", frozenset(SHOPPER)), Caller("shop", "bob", frozenset(SHOPPER))


def limits(url: str = f"redis://{NOWHERE}", **units: float) -> Limits:
    """`user=10`: ten units at once, and no more of them while the test runs; what is not named has no limit."""
    seconds = 3_600
    each = {name: units.get(name, 0) / seconds for name in ("address", "user", "tenant")}
    return Limits(url, burst_seconds=seconds, **each)


async def allowed(of: Limits, tries: int, caller: Caller | None = ADA, kind: Kind = Kind.READ, cost: int = 1) -> int:
    """How many of that many tries went through."""
    verdicts = [await of.take("192.0.2.1", caller, kind, cost) for _ in range(tries)]
    return sum(verdict.retry_after_seconds == 0 for verdict in verdicts)


# -- one bucket, by a clock of the test's own ------------------------------------------------------------------------


def test_a_bucket_allows_its_burst_then_its_rate():
    now = 0.0
    buckets = LocalBuckets(clock=lambda: now)
    bucket = [Bucket("k", Limit("user", units_a_second=2, seconds=5))]

    def taken() -> int:
        return sum(buckets.take(bucket, 1)[0] == 0 for _ in range(50))

    assert taken() == 10
    now = 1.0
    assert taken() == 2
    now = 100.0
    assert taken() == 10


def test_who_is_refused_is_told_when_and_then_is_not_refused():
    now = 0.0
    buckets = LocalBuckets(clock=lambda: now)
    bucket = [Bucket("k", Limit("user", units_a_second=2, seconds=5))]
    buckets.take(bucket, 10)

    wait_us = buckets.take(bucket, 5)[0]
    assert wait_us == 2_500_000
    now = 2.4
    assert buckets.take(bucket, 5)[0] > 0
    now = 2.5
    assert buckets.take(bucket, 5)[0] == 0


def test_what_one_bucket_refuses_costs_no_other_anything():
    buckets = LocalBuckets(clock=lambda: 0.0)
    small, large = Bucket("s", Limit("user", 1, 1)), Bucket("l", Limit("tenant", 1, 100))
    buckets.take([small, large], 1)

    assert all(buckets.take([small, large], 1)[0] > 0 for _ in range(100))
    assert buckets.take([large], 99)[0] == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 10)), max_size=60))
def test_in_no_stretch_of_time_is_more_allowed_than_burst_and_rate(comings: list[tuple[float, int]]):
    now = 0.0
    buckets = LocalBuckets(clock=lambda: now)
    limit = Limit("user", units_a_second=4, seconds=3)
    took: list[tuple[float, int]] = []
    for pause, cost in comings:
        now += pause
        if buckets.take([Bucket("k", limit)], cost)[0] == 0:
            took.append((now, cost))

    for i, (since, _) in enumerate(took):
        for until, _ in took[i:]:
            units = sum(cost for at, cost in took if since <= at <= until)
            assert units <= limit.quota + (until - since) * limit.units_a_second + 1e-3


def test_the_headers_are_those_of_the_draft():
    user, tenant = Limit("user-reads", 50, 5), Limit("tenant-reads", 2_500, 5)
    verdict = Verdict(0, (Standing(user, 249, 1), Standing(tenant, 7, 4)))

    assert verdict.headers() == {
        "RateLimit-Policy": '"user-reads";q=250;w=5, "tenant-reads";q=12500;w=5',
        "RateLimit": '"user-reads";r=249;t=1, "tenant-reads";r=7;t=4',
    }


# -- whose address ---------------------------------------------------------------------------------------------------

PROXIES = networks("10.0.0.0/8, 192.0.2.7, 2001:db8:1::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.51.100.1", "", "198.51.100.1"),
        ("198.51.100.1", "203.0.113.9", "198.51.100.1"),
        ("10.1.2.3", "203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", "203.0.113.9, 192.0.2.7", "203.0.113.9"),
        ("10.1.2.3", "203.0.113.9, nonsense", "10.1.2.3"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("::ffff:10.1.2.3", "203.0.113.9", "203.0.113.9"),
        ("2001:db8:5:6:7:8:9:a", "", "2001:db8:5:6::/64"),
        ("2001:db8:1::1", "2001:db8:5:6::1", "2001:db8:5:6::/64"),
        (None, "203.0.113.9", "unknown"),
    ],
)
def test_only_proxies_that_are_trusted_say_for_whom_they_speak(peer: str | None, forwarded: str, address: str):
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []

    assert address_of(peer, headers, PROXIES) == address


def test_a_proxy_that_is_no_address_names_its_setting():
    with pytest.raises(WrongSetting, match="PAVANE_TRUSTED_PROXIES"):
        networks("10.0.0.0/8, somewhere")


# -- without Redis ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "path", "cost"),
    [
        (Kind.READ, "/v1/orders", 1),
        (Kind.READ, "/v1/stock/lamp", 1),
        (Kind.READ, "/v1/dead-letters", 5),
        (Kind.READ, "/v1/overdue", 10),
        (Kind.WRITE, "/v1/orders", 5),
        (Kind.WRITE, "/v1/dead-letters/1/redrive", 5),
    ],
)
def test_what_a_request_costs_is_what_its_route_takes(kind: Kind, path: str, cost: int):
    assert cost_of(kind, path) == cost


async def test_without_redis_reads_keep_their_limit_and_writes_have_a_quarter_of_it():
    away = limits(user=40)

    assert await allowed(away, 60, kind=Kind.READ) == 40
    assert await allowed(away, 60, kind=Kind.WRITE) == 10


async def test_without_redis_the_limits_that_are_told_are_those_that_count():
    away = limits(user=40)

    first = await away.take("192.0.2.1", ADA, Kind.WRITE, 5)
    await away.take("192.0.2.1", ADA, Kind.WRITE, 5)
    refused = await away.take("192.0.2.1", ADA, Kind.WRITE, 5)

    assert first.headers()["RateLimit-Policy"] == '"user-writes";q=10;w=3600'
    assert [verdict.standings[0].left for verdict in (first, refused)] == [5, 0]
    assert refused.retry_after_seconds > 0


async def test_users_do_not_share_a_bucket_but_their_tenant_and_reading_leaves_writing_alone():
    away = limits(user=80, tenant=120)

    assert await allowed(away, 100, ADA) == 80
    assert await allowed(away, 100, BOB) == 40
    assert await allowed(away, 100, ADA, Kind.WRITE) == 20


@pytest.mark.parametrize("units", [0.001, 0.1, 1, 3])
@pytest.mark.parametrize("burst_seconds", [1, 5])
async def test_however_low_a_limit_is_the_dearest_request_is_allowed_now_and_then(units: float, burst_seconds: int):
    """Also at the quarter of it that writes have while Redis is away."""
    low = Limits(f"redis://{NOWHERE}", address=units, user=units, tenant=units, burst_seconds=burst_seconds)
    now = 0.0
    low._local = LocalBuckets(clock=lambda: now)

    for kind, cost in ((Kind.READ, DEAREST), (Kind.WRITE, WRITE_COST)):
        now += 1e9
        assert (await low.take("192.0.2.1", ADA, kind, cost)).retry_after_seconds == 0
        while True:
            wait = (await low.take("192.0.2.1", ADA, kind, cost)).retry_after_seconds
            if wait:
                break
        now += wait
        assert (await low.take("192.0.2.1", ADA, kind, cost)).retry_after_seconds == 0
    await low.close()


def test_no_request_costs_more_than_every_limit_allows():
    assert max(READ_COST, WRITE_COST, REFUSED_COST, *COSTLY_READS.values()) == DEAREST


# -- at the door -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def narrow(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """`narrow(user=…)`: a gateway with these limits and without servers."""
    opened: list[httpx.AsyncClient] = []

    def with_limits(trusted: str = "", **units: float) -> tuple[httpx.AsyncClient, HeardLog]:
        log, keys = HeardLog(), KeysAtHand()
        gateway = Gateway(
            verifier=Verifier(public_jwks(KEY)),
            log=cast("Any", log),
            idempotency=Idempotency(f"redis://{NOWHERE}"),
            timeline=cast("Any", KnownTimeline()),
            keyring=cast("Any", keys),
            customers=Customers(keys, Language.load()),
            limits=limits(**units),
        )
        app = application(gateway, networks(trusted))
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
        opened.append(http)
        return http, log

    yield with_limits
    for http in opened:
        await http.aclose()


async def test_an_answer_says_how_the_limits_stand(narrow: Any):
    http, _ = narrow(address=100, user=20, tenant=1_000)

    answer = await http.get("/v1/stock/lamp", headers=as_customer())

    assert answer.headers["ratelimit-policy"] == (
        '"address";q=100;w=3600, "user-reads";q=20;w=3600, "tenant-reads";q=1000;w=3600'
    )
    assert re.findall(r'"([a-z-]+)";r=(\d+)', answer.headers["ratelimit"]) == [
        ("address", "99"),
        ("user-reads", "19"),
        ("tenant-reads", "999"),
    ]


async def test_who_comes_too_often_is_told_when_to_come_again_and_nothing_is_done(narrow: Any):
    http, log = narrow(user=40)
    answers = [
        await http.post("/v1/orders", json=order(), headers=as_customer(idempotency_key=new_key())) for _ in range(3)
    ]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert len(log.requests) == 2
    refused = answers[-1]
    assert refused.json()["type"] == "/problems/limit-reached"
    assert 0 < int(refused.headers["retry-after"]) <= math.ceil(5 * 3_600 / 10)
    assert refused.headers["ratelimit"].startswith('"user-writes";r=0;t=')
    assert (await http.get("/v1/stock/lamp", headers=as_customer())).status_code == 404
    assert (await http.get("/health/live")).status_code == 200


async def test_guessing_tokens_uses_up_the_guessers_address_and_nobody_elses(narrow: Any):
    http, _ = narrow(trusted="127.0.0.1", address=30)

    async def guess(address: str) -> int:
        headers = {"Authorization": "Bearer a.b.c", "X-Forwarded-For": address}
        return (await http.get("/v1/stock/lamp", headers=headers)).status_code

    assert [await guess("203.0.113.9") for _ in range(5)] == [401, 401, 401, 429, 429]
    assert await guess("203.0.113.10") == 401


@pytest.mark.parametrize(("method", "left"), [("GET", 110), ("POST", 20)])
async def test_who_is_not_known_is_told_how_the_limit_of_the_address_stands(narrow: Any, method: str, left: int):
    http, _ = narrow(address=120)

    answer = await http.request(method, "/v1/orders")

    assert answer.status_code == 401
    assert answer.headers["ratelimit"].startswith(f'"address";r={left};')


async def test_what_is_for_everybody_costs_its_address_and_health_costs_nothing(narrow: Any):
    http, _ = narrow(address=12)
    paths = ["/docs", "/openapi.json", "/metrics", "/problems/forbidden"] * 3

    answers = [await http.get(path) for path in (*paths, "/docs", "/nowhere", "/health/live", "/health/ready")]

    assert [answer.status_code for answer in answers] == [200] * 12 + [429, 429, 200, 200]
    assert answers[0].headers["ratelimit"].startswith('"address";r=11;')


async def test_an_address_is_not_forged_by_a_header(narrow: Any):
    http, _ = narrow(address=30)
    guesses = [
        await http.get("/v1/stock/lamp", headers={"Authorization": "Bearer a.b.c", "X-Forwarded-For": f"203.0.113.{n}"})
        for n in range(5)
    ]

    assert [answer.status_code for answer in guesses] == [401, 401, 401, 429, 429]


async def test_a_body_that_nobody_signed_for_is_not_read_as_anything(narrow: Any):
    http, _ = narrow()
    answer = await http.post("/v1/orders", content=b"[" * 30_000, headers={"Content-Type": "application/json"})

    assert answer.status_code == 401


# -- on real Redis ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def redis(environment: dict[str, str]) -> AsyncIterator[Redis]:
    async with Redis.from_url(environment["PAVANE_REDIS"]) as redis:
        yield redis


async def test_two_gateways_share_their_limits_exactly(
    environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    # A busy machine may take longer than a gateway waits; then each would go by its own buckets.
    monkeypatch.setattr(shared_memory, "TIMEOUT_SECONDS", 30.0)
    both = [limits(environment["PAVANE_REDIS"], user=100, tenant=150) for _ in range(2)]
    tenant = f"t{uuid4().hex[:8]}"
    users = [Caller(tenant, name, frozenset()) for name in ("ada", "bob")]

    async def through(user: Caller, tries: int) -> int:
        return sum(await asyncio.gather(*(allowed(both[n % 2], 1, user) for n in range(tries))))

    assert await asyncio.gather(through(users[0], 60), through(users[1], 60)) == [60, 60]
    assert await through(users[0], 200) == 30
    assert await through(users[1], 200) == 0
    # Nothing was counted on the side.
    assert not any(each._local._full for each in both)
    for each in both:
        await each.close()


async def test_what_redis_decides_is_what_the_local_bucket_decides(environment: dict[str, str]):
    shared, local = limits(environment["PAVANE_REDIS"], user=50, tenant=60), limits(user=50, tenant=60)
    ada = Caller(f"t{uuid4().hex[:8]}", "ada", frozenset())
    costs = [5, 1, 10, 7, 1, 1, 30, 12, 8, 2, 1, 9, 3]

    def told(verdict: Verdict) -> Any:
        return verdict.retry_after_seconds > 0, [standing.left for standing in verdict.standings]

    for cost in costs:
        of_redis = await shared.take("192.0.2.1", ada, Kind.READ, cost)
        assert told(of_redis) == told(await local.take("192.0.2.1", ada, Kind.READ, cost)), cost
    await shared.close()


async def test_a_bucket_ends_by_itself_once_it_is_full(environment: dict[str, str], redis: Redis):
    quick = Limits(environment["PAVANE_REDIS"], address=0, user=1_000, tenant=0, burst_seconds=1)
    before = set(await redis.keys("pavane:limit:*"))
    ada = Caller(f"t{uuid4().hex[:8]}", "ada", frozenset())
    await quick.take("192.0.2.1", ada, Kind.READ, 1_000)
    (key,) = set(await redis.keys("pavane:limit:*")) - before

    assert 0 < await redis.pttl(key) <= 1_001
    await quick.close()
