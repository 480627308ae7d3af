"""The payment provider and the carrier misbehave in every way that a server can, and no money or parcel is lost by it.

What they did is counted in their own records, past the services: nothing authorized, captured or booked is left over,
and nothing was taken or booked twice.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from pavane.instance import Instance
from streams.billing import provider
from streams.billing.simulator import SCRIPT as PROVIDER
from streams.kit.run import find
from streams.kit.shop import Shop
from streams.kit.simulation import Script
from streams.shipping import carrier
from streams.shipping.simulator import SCRIPT as CARRIER
from tests.faults.counterparty import FAULTS, Counterparty, Fault, busy
from tests.faults.harness import ALL, LONG, Ground, audited_at_rest, seeds, under_load
from tests.faults.load import CONFIRMED, Load
from tests.waiting import eventually


class Role(NamedTuple):
    """Who is asked by a service: where it is named, how it answers, and what its breaker is called."""

    address: str
    script: Script[Any]
    dependency: str


ROLES = {
    "billing": Role(provider.ADDRESS, PROVIDER, "payment-provider"),
    "shipping": Role(carrier.ADDRESS, CARRIER, "carrier"),
}
FIRST_ORDERS = 20
#: So often each fault happens before it ends.
STRIKES = 10
NOTICED_SECONDS = 60.0
#: So long a counterparty is away. The breaker tries again every ten seconds.
AWAY_SECONDS = 60.0 if ALL else 10.0
pytestmark = pytest.mark.timeout(300)

ALONE: Sequence[tuple[Sequence[str], Sequence[Fault]]] = [([s], [f]) for s in ROLES for f in FAULTS]
TOGETHER: Sequence[tuple[Sequence[str], Sequence[Fault]]] = [(list(ROLES), FAULTS)]
CASES = [
    pytest.param(services, faults, id=f"{'+'.join(services)}-{'+'.join(each.__name__ for each in faults)}")
    for services, faults in [*TOGETHER, *(ALONE if ALL else ())]
]


@asynccontextmanager
async def asked_over_http(ground: Ground, service: str, seed: int) -> AsyncIterator[tuple[Counterparty, Instance]]:
    """The service's only process asks a server that may be told to misbehave."""
    role = ROLES[service]
    async with Counterparty(find(service), role.script, ground.stack.addresses.postgres["world"], seed) as party:
        before = await ground.epochs(service)
        instance = await ground.replace(service, environment={role.address: party.url})
        await ground.until_taken_over(service, before)
        yield party, instance


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize(("asking", "faults"), CASES)
async def test_whatever_comes_back_to_a_question_money_and_parcels_move_once(
    ground: Ground, asking: Sequence[str], faults: Sequence[Fault], seed: int
) -> None:
    async with AsyncExitStack() as stack:
        asked = [await stack.enter_async_context(asked_over_http(ground, service, seed)) for service in asking]
        parties = [party for party, _ in asked]
        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            for party in parties:
                party.begin(*faults)
            names = [each.__name__ for each in faults]
            for party in parties:
                await eventually(
                    lambda party=party: all(party.struck[name] >= STRIKES for name in names), 120.0, "all faults struck"
                )
                party.behave()
        assert all(instance.is_running for _, instance in asked)
        for party in parties:
            assert party.impatient == [], "nobody is asked again before the time that Retry-After names"
            assert (busy in faults) == bool(party.patient)
    await assert_counted_right(ground, load)


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", ROLES if ALL else ["billing"])
async def test_an_order_that_is_called_off_is_undone_though_what_was_asked_for_it_is_never_answered(
    ground: Ground, service: str, seed: int
) -> None:
    asks, undone = {
        "billing": ("CapturePayment", "PaymentRefunded"),
        "shipping": ("BookShipment", "ShipmentCancelled"),
    }[service]
    async with asked_over_http(ground, service, seed) as (party, _):
        party.never_answered = frozenset([asks])
        shop = Shop(ground.http, ground.platform.issuer, f"shop-{uuid4().hex[:10]}", NOTICED_SECONDS)
        await shop.price("lamp", 1000)
        await shop.receive("lamp", 1)
        order = await shop.place(sku="lamp")

        async def is_parked() -> bool:
            query = "SELECT count(*), 0 FROM parked WHERE key = %s AND reason = 'Unanswered' AND attempts > 1"
            return await ground.rows(service, query, order.id) == [(1, 0)]

        await eventually(is_parked, NOTICED_SECONDS, f"{asks} was asked again and not answered")
        await shop.cancel(order)
        assert undone in await shop.story(order)
        asked = party.struck[asks]

        async def is_free() -> bool:
            return await ground.rows(service, "SELECT count(*), 0 FROM parked WHERE key = %s", order.id) == [(0, 0)]

        await eventually(is_free, NOTICED_SECONDS, f"{asks} is let go of")
        assert party.struck[asks] == asked, "it is not asked for any more"
    await audited_at_rest(ground.stack.addresses)


@LONG
@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("service", ROLES if ALL else ["billing"])
async def test_while_a_counterparty_is_away_other_orders_end_and_then_it_is_asked_again_by_itself(
    ground: Ground, service: str, seed: int
) -> None:
    dependency = ROLES[service].dependency
    async with asked_over_http(ground, service, seed) as (party, instance):

        async def breaker() -> str:
            health = await instance.health()
            assert health is not None and health["ready"], "what does not need it goes on"
            return str(health["dependencies"][dependency]["breaker"])

        async def is_open() -> bool:
            return await breaker() == "open"

        async def is_closed() -> bool:
            return await breaker() == "closed"

        async with under_load(ground, seed) as load:
            await load.accepted(FIRST_ORDERS)
            party.is_away = True
            away_at = time.monotonic()
            await eventually(is_open, NOTICED_SECONDS, f"{service} leaves the {dependency} alone")
            health = await instance.health()
            assert health is not None and health["degraded"] == [dependency]
            await sell_what_needs_no(service, ground)
            refused = party.refused
            await eventually(
                lambda: party.refused > refused and time.monotonic() - away_at > AWAY_SECONDS,
                AWAY_SECONDS + NOTICED_SECONDS,
                "it is away for so long, and tried whether it is back",
            )
            await eventually(is_open, NOTICED_SECONDS, "it is not, and is left alone again")
            party.behave()
            back_at = time.monotonic()
            await eventually(is_closed, NOTICED_SECONDS, "it is, and is asked again")
            asked_again_after = time.monotonic() - back_at
    print(f"the {dependency} was asked again {asked_again_after:.1f} s after it was back")  # noqa: T201
    said = instance.log_file.read_text()
    assert '"breaker_open"' in said and '"breaker_closed"' in said
    await assert_counted_right(ground, load)


async def sell_what_needs_no(service: str, ground: Ground) -> None:
    """An order comes to its end without the counterparty of this service; one that needs it says for whom it waits."""
    shop = Shop(ground.http, ground.platform.issuer, f"shop-{uuid4().hex[:10]}", NOTICED_SECONDS)
    price = {"billing": 0, "shipping": 1000}[service]
    await shop.price("leaflet", price)
    await shop.receive("leaflet", 2)
    await shop.price("lamp", 1000)
    await shop.receive("lamp", 1)
    waits = await shop.place(sku="lamp")
    await shop.told(waits, {"billing": "StockReserved", "shipping": "PaymentAuthorized"}[service])
    shown = (await shop.ask("GET", f"/v1/orders/{waits.id}", customer=waits.customer)).json()
    assert (shown["status"], [due["speaker"] for due in shown["due"]]) == ("placed", [service])
    if service == "billing":
        assert await shop.status(await shop.place(sku="leaflet")) == "confirmed"
    else:
        assert (await shop.told(await shop.place(sku="leaflet", method="declined"), "OrderCancelled")).reason


async def assert_counted_right(ground: Ground, load: Load) -> None:
    """By the counterparties' own records: confirmed orders are paid and booked once, of all others nothing is left."""
    orders = list(load.kinds)
    charges = await ground.rows(
        "world",
        "SELECT order_id, status, (SELECT count(*) FROM payment_calls c WHERE c.key = p.key AND c.changed AND "
        "c.outcome = 'Captured') FROM payments p WHERE order_id = ANY(%s)",
        orders,
    )
    parcels = await ground.rows(
        "world",
        "SELECT order_id, status, (SELECT count(*) FROM booking_calls c WHERE c.key = b.key AND c.changed AND "
        "c.outcome = 'Booked') FROM bookings b WHERE order_id = ANY(%s)",
        orders,
    )
    confirmed = {order for order in orders if load.ended[order] == CONFIRMED}
    paid = {order for order in confirmed if load.kinds[order] != "free"}
    assert {order for order, status, _ in charges if status == "captured"} == paid
    assert {order for order, status, _ in charges if status in ("authorized", "capture_declined")} == set()
    assert {order for order, _, times in charges if times > 1} == set()
    assert {order for order, status, _ in parcels if status == "booked"} == confirmed
    assert {order for order, _, times in parcels if times > 1} == set()
