"""Two tenants, two users each: on every route and verb that the gateway describes, everybody sees and moves only their
own. The routes are read from OpenAPI, so that a new one is asked as well."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from api.app import application, build
from api.gateway import Gateway
from api.settings import GatewaySettings
from api.tokens import OPERATOR, SHOPPER, Verifier, public_jwks
from infra.stack import Stack
from pavane.desk.app import application as desk_application
from pavane.operators.reach import Reach
from streams.kit.language import Language
from streams.kit.log import Record
from streams.kit.migrations import migrate
from streams.kit.registry import ConfluentRegistry
from tests.api.conftest import KEY, eventually, new_key, order, records_of, serving, token
from tests.api.stories import token_of
from tests.conftest import NewDatabase
from tests.pavane.test_dead_letters import CancelOrder, encoded, park

TENANTS = ("shop", "rival")
USERS = ("ada", "bob")
PARKED, PARKED_ORDER = "orders/0/1", str(uuid4())
SKU = f"lamp-{uuid4().hex[:8]}"
BODIES = {
    "/v1/orders": order(),
    "/v1/stock/{sku}/receipts": {"quantity": 1},
    "/v1/prices/{sku}": {"amount_minor": 700, "currency": "EUR"},
    "/v1/dead-letters/{service}/{partition}/{number}/redrive": {"why": "to see"},
}
WRITES = {"post", "put", "patch", "delete"}
FEW_BYTES = 100_000


class Who(NamedTuple):
    tenant: str
    user: str


class Operation(NamedTuple):
    method: str
    path: str

    @property
    def is_about_an_order(self) -> bool:
        return "{order_id}" in self.path

    @property
    def is_about_an_item(self) -> bool:
        return "{sku}" in self.path

    @property
    def is_about_a_letter(self) -> bool:
        return self.path.startswith("/v1/dead-letters")


EVERYBODY = [Who(tenant, user) for tenant in TENANTS for user in USERS]
ADA = Who("shop", "ada")


def operations() -> Iterator[Operation]:
    """Every route and verb under /v1/."""
    from fastapi import FastAPI

    app: Any = application(Gateway(*[None] * 6))  # type: ignore[arg-type]
    while not isinstance(app, FastAPI):
        app = app._app
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            if path.startswith("/v1/"):
                yield Operation(method, path)


OPERATIONS = list(operations())
ids = [f"{each.method} {each.path}" for each in OPERATIONS]


@pytest.fixture(scope="module")
async def letters(stack: Stack, new_database: NewDatabase) -> str:
    """A database of `orders` in which a request of Ada's tenant is parked, as `orders/0/1`; no worker takes it."""
    database = await new_database()
    await asyncio.to_thread(migrate, "orders", database)
    encode = await encoded(stack)
    value = encode(CancelOrder(tenant="shop", order_id=PARKED_ORDER, asked_by="ada"))
    record = Record("orders.requests", 0, 5, 0, PARKED_ORDER.encode(), value, ())
    await park(database, "orders", (record, "Refused", "there is no such order", False))
    return database


@pytest.fixture(scope="module")
async def shop(environment: dict[str, str], stack: Stack, letters: str) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway on the stack with a desk behind it."""
    desk = Reach({"orders": letters}, "", ConfluentRegistry(stack.addresses.registry_url), Language.load())
    async with (
        serving(desk_application(desk, Verifier(public_jwks(KEY)))) as desk_address,
        serving(build(GatewaySettings.read({**environment, "PAVANE_DESK": desk_address}))) as address,
        httpx.AsyncClient(base_url=address) as http,
    ):

        async def is_ready() -> bool:
            return (await http.get("/health/ready")).json()["status"] == "ready"

        await eventually(is_ready)
        yield http


@pytest.fixture
async def order_id(environment: dict[str, str]) -> str:
    """An order of Ada's, as the timeline tells it, and stock and a price of her shop."""
    made = str(uuid4())
    async with await psycopg.AsyncConnection.connect(environment["PAVANE_DATABASE_TIMELINE"]) as database:
        await database.execute(
            "INSERT INTO stories (order_id, tenant, customer, status, stage, lines, total_minor, currency, reason,"
            " placed_at, updated_at, length) VALUES (%s, 'shop', %s, 'placed', 'placed', %s, 1200, 'EUR', '',"
            " now(), now(), 1)",
            (made, await token_of(environment, "ada"), Jsonb([{"sku": SKU, "quantity": 1, "unit_price_minor": 1200}])),
        )
        item = f"shop/{SKU}"
        await database.execute("INSERT INTO shelves VALUES (%s, 77, 0, 0) ON CONFLICT DO NOTHING", (item,))
        await database.execute("INSERT INTO tags VALUES (%s, 7755775577, 'EUR') ON CONFLICT DO NOTHING", (item,))
    return made


async def ask(
    shop: httpx.AsyncClient, operation: Operation, who: Who | None, order_id: str, scopes: tuple[str, ...] = SHOPPER
) -> tuple[int, str]:
    """The status, and what was told at first (a stream has no end)."""
    headers = {"Idempotency-Key": new_key()}
    if who is not None:
        headers["Authorization"] = f"Bearer {token(who.user, who.tenant, scopes)}"
    path = operation.path.format(order_id=order_id, sku=SKU, service="orders", partition=0, number=1)
    body = BODIES.get(operation.path) if operation.method in WRITES else None
    async with shop.stream(operation.method.upper(), path, headers=headers, json=body, timeout=10) as answer:
        if answer.headers["content-type"].startswith("text/event-stream"):
            return answer.status_code, await anext(answer.aiter_text(), "")
        return answer.status_code, (await answer.aread()).decode()[:FEW_BYTES]


@pytest.mark.parametrize("operation", OPERATIONS, ids=ids)
async def test_nobody_sees_or_moves_what_is_anothers(
    shop: httpx.AsyncClient, environment: dict[str, str], letters: str, order_id: str, operation: Operation
):
    for who in EVERYBODY:
        for scopes in (SHOPPER, OPERATOR):
            status, told = await ask(shop, operation, who, order_id, scopes)
            name = f"{who} {scopes} {operation}"
            assert status < 500, name
            if operation.is_about_an_order:
                assert (status < 300) == (who == ADA), name
                if who != ADA:
                    assert (status, json.loads(told)["type"]) == (404, "/problems/no-such-order"), name
            elif operation.is_about_an_item and operation.method == "get":
                assert status == (200 if who.tenant == ADA.tenant else 404), name
            elif operation.is_about_a_letter:
                is_theirs = who.tenant == ADA.tenant and scopes == OPERATOR
                assert (PARKED_ORDER in told or f'"{PARKED}"' in told) == is_theirs, name
                refused = "no-such-dead-letter" if scopes == OPERATOR else "forbidden"
                is_open = is_theirs or (scopes == OPERATOR and "{number}" not in operation.path)
                assert is_open == (status < 300) == (refused not in told), name
            if who != ADA:
                assert order_id not in told, name
            if who.tenant != ADA.tenant and operation.method == "get":
                assert "7755775577" not in told, name
                assert '"available":77' not in told, name

    async with await psycopg.AsyncConnection.connect(letters) as database:
        asked = await (await database.execute("SELECT who FROM operations")).fetchall()
    assert {who for (who,) in asked} <= {"shop/ada", "shop/bob"}
    about_it = await records_of(environment["PAVANE_KAFKA"], "orders.requests", order_id)
    moved = operation.is_about_an_order and operation.method in WRITES
    assert len(about_it) == (2 if moved else 0)
    # Customers are on the log as tokens: nobody's name is (a text has its length before it; an id may hold "ada").
    assert not any(name in record.value for record in about_it for name in (b"\x06ada", b"\x06bob"))


@pytest.mark.parametrize("operation", OPERATIONS, ids=ids)
async def test_nobody_without_a_token_or_without_its_scope_gets_in(
    shop: httpx.AsyncClient, order_id: str, operation: Operation
):
    nobody, told = await ask(shop, operation, None, order_id)
    unfit, told_unfit = await ask(shop, operation, ADA, order_id, scopes=("openid", "admin", "*"))

    assert (nobody, json.loads(told)["type"]) == (401, "/problems/unauthenticated")
    assert (unfit, json.loads(told_unfit)["type"]) == (403, "/problems/forbidden")


async def test_a_tenants_writes_are_written_under_its_own_name(shop: httpx.AsyncClient, environment: dict[str, str]):
    rival = Who("rival", "ada")
    for operation in OPERATIONS:
        if operation.is_about_an_item and operation.method in WRITES:
            assert (await ask(shop, operation, rival, "", OPERATOR))[0] == 202

    for topic in ("inventory.requests", "orders.requests"):
        theirs = await records_of(environment["PAVANE_KAFKA"], topic, f"rival/{SKU}")
        assert theirs
        assert all(b"rival" in record.value for record in theirs)


@pytest.mark.parametrize("body", [{"tenant": "rival"}, {"customer": "bob"}, {"order_id": str(uuid4())}, {"total": 1}])
async def test_a_body_cannot_say_for_whom_it_speaks(shop: httpx.AsyncClient, body: dict[str, Any]):
    """Mass assignment: tenant, customer, id and money are not the caller's to give."""
    headers = {"Authorization": f"Bearer {token('ada')}", "Idempotency-Key": new_key()}

    answer = await shop.post("/v1/orders", json={**order(), **body}, headers=headers)

    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")


async def test_one_key_of_two_users_or_tenants_is_never_one_order(shop: httpx.AsyncClient):
    key = new_key()
    placed: dict[Who, httpx.Response] = {}
    for who in EVERYBODY:
        headers = {"Authorization": f"Bearer {token(who.user, who.tenant)}", "Idempotency-Key": key}
        placed[who] = await shop.post("/v1/orders", json=order(), headers=headers)

    # Within a tenant the key is the tenant's: the second user is told so, and sees nothing of the first one's order.
    assert [placed[who].status_code for who in EVERYBODY] == [202, 422, 202, 422]
    ids = {placed[who].json()["order_id"] for who in EVERYBODY if placed[who].status_code == 202}
    assert len(ids) == 2
    assert not any(each in placed[who].text for who in EVERYBODY if placed[who].status_code == 422 for each in ids)
