"""A gateway to ask: on doubles for what is pure, and on the embedded stack for what is real."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
import uvicorn
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka.admin import AdminClient
from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_fixed

from api.answers import Order, Price, Stock, Summary
from api.app import application, build
from api.customers import Customers
from api.gateway import Gateway
from api.idempotency import Idempotency
from api.log import RequestLog
from api.settings import GatewaySettings
from api.timeline import Heads, Timeline
from api.tokens import OPERATOR, SHOPPER, Verifier, issue, make_key, public_jwks
from api.wire import BoundedHttp
from infra.stack import Stack
from pavane.given import LOCAL_GATEWAY
from streams.kit.events import Request
from streams.kit.keyring import Keyring
from streams.kit.language import Language
from streams.kit.migrations import migrate
from tests.keys_at_hand import KeysAtHand

KEY = make_key()
NOWHERE = "127.0.0.1:1"
ORDER = {
    "lines": [{"sku": "lamp", "quantity": 2}],
    "currency": "EUR",
    "payment_method": "card-ok",
    "ship_to": {
        "recipient": "Ada Lovelace",
        "street": "12 St James's Square",
        "postal_code": "SW1Y 4JH",
        "city": "London",
        "country": "GB",
    },
}


def order(**changes: Any) -> dict[str, Any]:
    """An order's body with some fields changed."""
    return {**ORDER, **changes}


def token(subject: str = "c7", tenant: str = "shop", scopes: tuple[str, ...] = SHOPPER, lifetime: int = 60) -> str:
    return issue(KEY, tenant, subject, scopes, lifetime)


def as_customer(subject: str = "c7", **headers: str) -> dict[str, str]:
    """Request headers of a customer; `idempotency_key="x"` becomes the header Idempotency-Key."""
    return _headers(token(subject), headers)


def as_operator(**headers: str) -> dict[str, str]:
    return _headers(token("op1", scopes=OPERATOR), headers)


def _headers(bearer: str, more: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {bearer}", **{name.replace("_", "-"): value for name, value in more.items()}}


# -- on doubles: what needs no server --------------------------------------------------------------------------------


@dataclass
class HeardLog:
    """Stands in for the log: keeps what was appended, or refuses."""

    requests: list[tuple[Request, str, bytes | None]] = field(default_factory=list)
    refuses_with: Exception | None = None

    def start(self) -> None: ...
    async def close(self) -> None: ...
    async def reachable(self) -> None: ...

    async def append(self, request: Request, correlation: str, traceparent: bytes | None) -> None:
        if self.refuses_with is not None:
            raise self.refuses_with
        self.requests.append((request, correlation, traceparent))

    @property
    def last(self) -> Any:
        return self.requests[-1][0]


@dataclass
class KnownTimeline:
    """Stands in for the timeline's database: knows what it is told."""

    orders: dict[tuple[str, str, str], Order] = field(default_factory=dict)

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def reachable(self) -> None: ...

    async def order(self, order_id: str, tenant: str, customer: str) -> Order | None:
        return self.orders.get((order_id, tenant, customer))

    async def is_of_another(self, order_id: str, tenant: str, customer: str) -> bool:
        return any(each[0] == order_id and each[1:] != (tenant, customer) for each in self.orders)

    async def page(self, tenant: str, customer: str, after: Any, most: int) -> list[Summary]:
        return []

    async def heads(self) -> Heads:
        return Heads(1, {0: 0})

    async def told(self, since: Any, most: int) -> list[Any]:
        return []

    async def told_of(self, order_id: str, tenant: str, customer: str) -> list[Any]:
        return []

    async def stock(self, tenant: str, sku: str) -> Stock | None:
        return None

    async def price(self, tenant: str, sku: str) -> Price | None:
        return None


@dataclass
class Door:
    """A gateway without servers (Redis is away), and what stands behind it."""

    app: Any
    http: httpx.AsyncClient
    log: HeardLog
    timeline: KnownTimeline
    keys: KeysAtHand


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    log, timeline, keys = HeardLog(), KnownTimeline(), KeysAtHand()
    gateway = Gateway(
        verifier=Verifier(public_jwks(KEY)),
        log=cast("RequestLog", log),
        idempotency=Idempotency(f"redis://{NOWHERE}"),
        timeline=cast("Timeline", timeline),
        keyring=cast("Keyring", keys),
        customers=Customers(keys, Language.load()),
    )

    app = application(gateway)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        yield Door(app, http, log, timeline, keys)
    await gateway.close()


# -- on the embedded stack -------------------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(app: Any, http: Any = BoundedHttp) -> AsyncIterator[str]:
    """The application on a free port of this process, as the real server serves it."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = _Server(uvicorn.Config(app, http=http, log_config=None, access_log=False, timeout_graceful_shutdown=2))
    served = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not served.done(), "the server ended before it started"
        await asyncio.sleep(0.01)
    try:
        yield "http://{}:{}".format(*listener.getsockname())
    finally:
        server.should_exit = True
        await served


@pytest.fixture(scope="session")
async def environment(
    stack: Stack, new_database: Callable[[], Awaitable[str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The settings of a gateway on the stack, with a timeline of its own: tests write invented stories."""
    addresses = stack.addresses
    timeline = await new_database()
    await asyncio.to_thread(migrate, "timeline", timeline)
    jwks = tmp_path_factory.mktemp("gateway") / "jwks.json"
    await asyncio.to_thread(Path(jwks).write_text, json.dumps(public_jwks(KEY)))
    return {
        "PAVANE_KAFKA": addresses.kafka_bootstrap,
        "PAVANE_REGISTRY": addresses.registry_url,
        "PAVANE_REDIS": addresses.redis_url,
        "PAVANE_DATABASE_TIMELINE": timeline,
        "PAVANE_DATABASE_KEYS": addresses.postgres["keys"],
        "PAVANE_MASTER_KEYS": addresses.master_keys,
        "PAVANE_JWKS": str(jwks),
        **LOCAL_GATEWAY,
    }


@pytest.fixture(scope="session")
async def shop(environment: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway on the stack that is ready."""
    async with (
        serving(build(GatewaySettings.read(environment))) as address,
        httpx.AsyncClient(base_url=address) as http,
    ):
        await eventually(lambda: _is_ready(http))
        yield http


async def _is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/health/ready")).json()["status"] == "ready"


async def eventually(condition: Any, seconds: float = 15.0) -> None:
    """Wait until `condition` (an async function) is true."""

    async def holds() -> bool:
        return bool(await condition())

    retrying = AsyncRetrying(
        retry=retry_if_result(lambda held: not held), wait=wait_fixed(0.05), stop=stop_after_delay(seconds)
    )
    await retrying(holds)


async def records_of(bootstrap: str, topic: str, key: str) -> list[Any]:
    """Every record of `key` that is on the log now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = await partitions_of(bootstrap, topic)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        records = []
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += [record for record in batch if record.key == key.encode()]
        return records
    finally:
        await consumer.stop()


async def partitions_of(bootstrap: str, topic: str) -> list[TopicPartition]:
    found = await asyncio.to_thread(AdminClient({"bootstrap.servers": bootstrap}).list_topics, topic, 10)
    return [TopicPartition(topic, number) for number in found.topics[topic].partitions]


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process stands still, as in a long pause of its machine."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def new_key() -> str:
    return f"key-{uuid4()}"
