"""A customer on a real platform: nothing of theirs is ever written in plain text, and after `pavane forget` nothing of
theirs can be read."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import psycopg
import pytest

from infra.stack import Stack
from pavane.platform import Platform
from streams.kit.events import Answer, Effect
from streams.kit.service import World
from streams.kit.shop import Order, Shop, order_body
from streams.shipping.carrier import BookShipment, NotBooked
from streams.shipping.service import shipping
from streams.shipping.simulator import COUNTRY_NOT_SERVED, SCRIPT
from tests.faults.counterparty import Counterparty
from tests.faults.harness import audited_at_rest
from tests.privacy.everything import Everything, everything
from tests.stories.foreign import ForeignProducer
from tests.stories.records import Records

pytestmark = [pytest.mark.stack, pytest.mark.timeout(500)]

ADA, BOB = "kd-83-morgenstern", "kd-84-abendrot"
ADDRESS = {
    "recipient": "Wilhelmina Quittenbaum", "street": "Zwetschgengasse 4711b", "postal_code": "ZQ-99817",
    "city": "Oberpfaffenhofen-Süd", "country": "DE",
}  # fmt: skip
WORDS = (ADA, *(text for name, text in ADDRESS.items() if name != "country"))
#: What stands in plain text wherever an order is kept: that the search finds what is there.
CONTROL = "sku-quitte-control"
ECHO = "no such street"
#: What tests.stories.foreign sends in plain text.
FOREIGN_WORDS = ("Ada Lovelace", "Ockham Park 1")


class Listening:
    """The carrier's world, and what it was asked. Its refusals repeat the address."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.asked: list[Effect] = []

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        self.asked += effects
        answers = await self._world.ask(effects)
        return [_with_the_address(*each) for each in zip(effects, answers, strict=True)]


def _with_the_address(effect: Effect, answer: Answer) -> Answer:
    if not (isinstance(effect, BookShipment) and isinstance(answer, NotBooked)):
        return answer
    return NotBooked(reason=f"{ECHO}: {', '.join(getattr(effect.ship_to, name) for name in ADDRESS)}")


class Ground(NamedTuple):
    stack: Stack
    shop: Shop
    carrier: Counterparty
    heard: Listening

    async def order(self, customer: str, sku: str = CONTROL, country: str = "DE") -> Order:
        body = order_body([(sku, 1)], "card-ok", country, "EUR") | {"ship_to": ADDRESS | {"country": country}}
        answer = await self.shop.ask("POST", "/v1/orders", customer=customer, key=uuid4().hex, body=body)
        assert answer.status_code == 202, answer.text
        return Order(answer.json()["order_id"], customer)

    async def forget(self, customer: str, *words: str) -> tuple[int, str]:
        """What `pavane forget` does and says."""
        return await self.pavane("forget", self.shop.tenant, customer, *words)

    async def pavane(self, *words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pavane", *words, "--data", str(self.stack.data.path),
            env={name: value for name, value in os.environ.items() if not name.startswith("PAVANE_")},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    async def look(self) -> Everything:
        return await everything(self.stack.addresses, self.stack.data.path)

    async def keys(self, query: str) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.stack.addresses.postgres["keys"]) as connection:
            return await (await connection.execute(query.encode())).fetchall()


@pytest.fixture(scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """A platform of its own, whose carrier is asked over HTTP."""
    async with (
        Stack(tmp_path_factory.mktemp("privacy") / "stack") as stack,
        Counterparty(shipping, SCRIPT, stack.addresses.postgres["world"], seed=1) as carrier,
        Platform(stack, environment={"PAVANE_CARRIER": carrier.url}) as platform,
        httpx.AsyncClient(base_url=platform.gateway_url, timeout=20.0) as http,
    ):
        heard = Listening(carrier.world)
        carrier.world = heard  # type: ignore[assignment]
        shop = Shop(http, platform.issuer, f"shop-{uuid4().hex[:8]}", patience_seconds=90.0)
        await shop.price(CONTROL, 1999)
        await shop.receive(CONTROL, 1000)
        yield Ground(stack, shop, carrier, heard)


async def test_nothing_personal_is_written_in_plain_text_and_only_the_carrier_reads_it(ground: Ground) -> None:
    confirmed = await ground.order(ADA)
    rejected = await ground.order(ADA, "sku-without-price")
    assert await ground.shop.status(confirmed) == "confirmed"
    assert await ground.shop.status(rejected) == "rejected"
    assert await ground.shop.status(await ground.order(ADA, country=COUNTRY_NOT_SERVED)) == "cancelled"
    await ground.shop.cancel(confirmed)
    await ground.shop.told(confirmed, "CancellationRefused")

    found = await ground.look()

    places = found.holding(CONTROL)
    assert {"log orders.requests", "log orders", "table timeline.stories"} <= places, places
    assert any(where.startswith("file kafka-1") for where in places)
    assert any(where.startswith("file postgres") for where in places)
    assert found.holding(confirmed.id) >= {"redis", "table shipping.shipments", "log shipping"}
    assert found.holding(ECHO) >= {"log shipping", "table timeline.entries"}
    assert found.holding_any(WORDS) == {}
    [booked, _] = [effect for effect in ground.heard.asked if isinstance(effect, BookShipment)]
    assert {name: getattr(booked.ship_to, name) for name in ADDRESS} == ADDRESS


async def test_what_comes_over_the_log_in_plain_text_is_said_on_as_tokens(ground: Ground) -> None:
    order = await ForeignProducer(ground.stack.addresses).place(ground.shop.tenant, CONTROL)
    assert await ground.shop.status(order) == "confirmed"

    places = (await ground.look()).holding_any(FOREIGN_WORDS)

    elsewhere = {where for found in places.values() for where in found if "orders.requests" not in where}
    assert (places.keys(), elsewhere) == (set(FOREIGN_WORDS), set())
    code, said = await ground.forget(order.customer, "--dry-run")
    assert (code, "another producer than the gateway (some came)" in said) == (0, True), said


async def test_a_customer_who_is_forgotten_is_readable_nowhere_and_everything_goes_on(ground: Ground) -> None:
    shop, records = ground.shop, Records(ground.stack.addresses.postgres)
    kept = await ground.order(BOB)
    assert await shop.status(kept) == "confirmed"
    ground.carrier.is_away = True
    under_way = await ground.order(ADA)
    await shop.told(under_way, "PaymentAuthorized")
    before = await ground.look()
    [(bobs,)] = await ground.keys("SELECT id FROM data_keys ORDER BY made_at DESC LIMIT 1")

    code, said = await ground.forget(ADA, "--dry-run")
    assert (code, "Nothing was changed." in said, ADA in said) == (0, True, False), said
    code, said = await ground.forget(ADA, "--yes")
    assert (code, under_way.id in said, "Nothing was forgotten" in said) == (2, True, True), said
    assert await ground.keys("SELECT id FROM data_keys WHERE destroyed_at IS NOT NULL") == []

    code, said = await ground.forget(ADA, "--yes", "--force", "--as", "dpo", "--reason", "article 17")
    assert (code, "Receipt" in said) == (0, True), said
    ground.carrier.is_away = False

    # The order that was under way ends, and leaves nothing behind.
    assert await shop_told(ground, under_way, "OrderCancelled")
    [(destroyed, person, secret)] = await ground.keys(
        "SELECT id, person, secret FROM data_keys WHERE destroyed_at IS NOT NULL"
    )
    assert (person, secret) == (None, None)
    assert destroyed in before.key_ids() and destroyed != bobs
    assert f"destroyed key {destroyed} at" in said
    assert await receipts(ground) == [("dpo", "forget", [destroyed], "article 17")]
    assert (await ground.shop.ask("GET", f"/v1/orders/{under_way.id}", customer=ADA)).status_code == 404
    report = await audited_at_rest(ground.stack.addresses)
    assert report.verdict("orders-end").checked >= 4
    assert await records.parcel(under_way) != "booked"

    # Nothing that reads the log needs a key: today's code decides the same, and folds the same rows.
    for words in (("replay", "orders"), ("replay", "shipping"), ("rebuild", "shipping"), ("rebuild", "timeline")):
        code, said = await ground.pavane(*words)
        assert code == 0, (words, said)

    # Forgetting again is no error, and who orders again is somebody new.
    code, said = await ground.forget(ADA, "--yes")
    assert (code, "There is no key of this customer" in said) == (0, True), said
    again = await ground.order(ADA)
    assert await shop.status(again) == "confirmed"
    assert await shop.status(kept) == "confirmed"
    after = await ground.look()
    assert after.holding_any(WORDS) == {}
    assert len(after.key_ids() - before.key_ids()) == 1


async def test_a_backup_brings_a_forgotten_customer_back_until_the_key_is_destroyed_again(ground: Ground) -> None:
    eve = "kd-85-daemmerung"
    assert await ground.shop.status(await ground.order(eve)) == "confirmed"
    backup = await ground.keys("SELECT id, person, secret, master FROM data_keys ORDER BY made_at DESC LIMIT 1")
    code, said = await ground.forget(eve, "--yes")
    assert code == 0, said
    assert "had not ended" not in said

    [(key, *secrets)] = backup
    restore = b"UPDATE data_keys SET destroyed_at = NULL, person = %s, secret = %s, master = %s WHERE id = %s"
    async with await psycopg.AsyncConnection.connect(ground.stack.addresses.postgres["keys"]) as connection:
        await connection.execute(restore, (*secrets, key))
    looked = await ground.pavane("keys", "destroy-again", "--dry-run")
    done = await ground.pavane("keys", "destroy-again")

    assert (looked[0], done[0]) == (0, 0)
    assert f"are back. {key}" in looked[1] and "Nothing was changed." in looked[1]
    assert "Destroyed again." in done[1]
    assert await ground.keys(f"SELECT secret FROM data_keys WHERE id = '{key}'") == [(None,)]
    assert (await ground.pavane("keys", "show"))[0] == 0


async def shop_told(ground: Ground, order: Order, fact: str) -> bool:
    """Wait for the fact in the timeline itself: the order's customer is nobody who could ask."""
    query = b"SELECT count(*) FROM entries WHERE order_id = %s AND fact = %s"
    for _ in range(900):
        async with await psycopg.AsyncConnection.connect(ground.stack.addresses.postgres["timeline"]) as connection:
            [(told,)] = await (await connection.execute(query, (order.id, fact))).fetchall()
        if told:
            return True
        await asyncio.sleep(0.1)
    return False


async def receipts(ground: Ground) -> list[tuple[Any, ...]]:
    """What is kept of all that was carried out: who, what, the key, why."""
    async with await psycopg.AsyncConnection.connect(ground.stack.addresses.postgres["orders"]) as connection:
        cursor = await connection.execute(
            "SELECT who, what, items, why FROM operations WHERE outcome LIKE %s ORDER BY number", ("destroyed %",)
        )
        return await cursor.fetchall()
