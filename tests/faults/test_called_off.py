"""An order that its customer or its deadline calls off after any one fact of its saga was said, before it is heard.

No moment is left to chance: who would hear the fact is stopped before it is said, and started again when the order has
been called off. Other orders flow all the while, and wait where these do. Up to `ShipmentBooked` the order is then
cancelled for good, and all that was done is undone. Once the money is captured, orders decides by what it hears first.
From `OrderConfirmed` on it is too late.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

import pytest

from streams.kit.shop import Order, Shop
from streams.kit.shown import Shown
from tests.faults.harness import ALL, Ground, seeds, under_load
from tests.stories.records import BOOKED, HELD, Records

PATIENCE_SECONDS = 60.0
#: Of each kind: called off by the customer, and by the deadline.
ORDERS = 4
PIECES = 100
#: Before these orders come, of those that flow beside them.
MOST_BEFORE = 300
pytestmark = pytest.mark.timeout(300)


class Step(NamedTuple):
    """The order is called off when `fact` was said, and `deaf` have not heard it.

    `first`: this service is stopped until the story has told `before`, so that `deaf` have heard all that came earlier.
    """

    fact: str
    deaf: Sequence[str]
    first: str = ""
    before: str = ""


STEPS = [
    Step("OrderPlaced", ["inventory", "billing", "shipping"]),
    Step("InvoiceOpened", ["inventory"]),
    Step("ShipmentPlanned", ["inventory"]),
    Step("StockReserved", ["billing"], "inventory", "InvoiceOpened"),
    Step("PaymentAuthorized", ["shipping"], "inventory", "ShipmentPlanned"),
    Step("ShipmentBooked", ["billing"], "shipping", "PaymentAuthorized"),
    Step("PaymentCaptured", ["orders"], "inventory", "OrderPlaced"),
    Step("OrderConfirmed", ["inventory"], "billing", "StockReserved"),
    Step("StockDispatched", []),
]
UNDECIDED, TOO_LATE = {"PaymentCaptured"}, {"OrderConfirmed", "StockDispatched"}
SHORT = {"ShipmentBooked", "PaymentCaptured"}


@pytest.mark.parametrize("seed", seeds())
@pytest.mark.parametrize("step", [each for each in STEPS if ALL or each.fact in SHORT], ids=lambda step: step.fact)
async def test_an_order_called_off_at_any_step_ends_with_everything_or_with_nothing(
    ground: Ground, step: Step, seed: int
) -> None:
    shop = Shop(ground.http, ground.platform.issuer, f"shop-{uuid4().hex[:10]}", PATIENCE_SECONDS)
    records = Records(ground.stack.addresses.postgres)
    await shop.price("lamp", 1999)
    await shop.receive("lamp", PIECES)
    async with under_load(ground, seed) as load:
        await load.accepted(random.Random(seed).randint(1, MOST_BEFORE))
        orders = await place_up_to(ground, shop, step)
        overdue, regretted = orders[:ORDERS], orders[ORDERS:]
        await let_deadlines_pass(records, overdue, step)
        await asyncio.gather(*map(shop.cancel, regretted))
        await assert_called_off_unheard(shop, overdue, regretted, step)
        await start(ground, step.deaf)
        endings = await asyncio.gather(*map(shop.settled, orders))
    for order, ending in zip(orders, endings, strict=True):
        await assert_ended_right(records, order, ending, step, "DEADLINE" if order in overdue else "CUSTOMER")
    if step.fact in UNDECIDED | TOO_LATE:
        late = [order for order, each in zip(orders, endings, strict=True) if each.status == "confirmed"]
        await told_by_all(shop, [order for order in regretted if order in late], "CancellationRefused")
    sold = 2 * sum(ending.status == "confirmed" for ending in endings)
    assert await shop.stock("lamp") == (PIECES - sold, 0, sold)
    ends = Counter(f"{each.status} {each.reason}".strip() for each in endings)
    print(f"after {step.fact}: {', '.join(f'{count} {end}' for end, count in sorted(ends.items()))}")  # noqa: T201


async def place_up_to(ground: Ground, shop: Shop, step: Step) -> Sequence[Order]:
    """Orders of which the step's fact is told, and has not been heard by those who shall not."""
    stopped = [step.first] if step.first else step.deaf
    await stop(ground, stopped)
    orders = await asyncio.gather(*(shop.place(sku="lamp", quantity=2) for _ in range(2 * ORDERS)))
    if step.first:
        await told_by_all(shop, orders, step.before)
        await stop(ground, step.deaf)
        await start(ground, [step.first])
    told = await told_by_all(shop, orders, step.fact)
    assert all(each.status == ("confirmed" if step.fact in TOO_LATE else "placed") for each in told)
    return orders


async def stop(ground: Ground, services: Sequence[str]) -> None:
    await asyncio.gather(*(each.stop() for service in services for each in ground.running(service)))
    assert not any(ground.running(service) for service in services)


async def start(ground: Ground, services: Sequence[str]) -> None:
    await asyncio.gather(*(ground.ready(ground.launch(service)) for service in services))


async def told_by_all(shop: Shop, orders: Sequence[Order], fact: str) -> Sequence[Shown]:
    return await asyncio.gather(*(shop.told(order, fact) for order in orders))


async def let_deadlines_pass(records: Records, orders: Sequence[Order], step: Step) -> None:
    """Make the orders overdue; a confirmed one has no deadline."""
    if step.fact in TOO_LATE:
        assert await records.deadlines(orders) == {order.id: None for order in orders}
    else:
        await asyncio.gather(*map(records.let_the_deadline_pass, orders))


async def assert_called_off_unheard(
    shop: Shop, overdue: Sequence[Order], regretted: Sequence[Order], step: Step
) -> None:
    """The fault has happened: orders has decided (unless it is the one that is stopped), and `deaf` know nothing."""
    if step.fact in TOO_LATE:
        await told_by_all(shop, regretted, "CancellationRefused")
    elif step.fact not in UNDECIDED:
        await told_by_all(shop, [*overdue, *regretted], "OrderCancelled")
    for shown in await asyncio.gather(*map(shop.look, [*overdue, *regretted])):
        after = shown.facts[shown.facts.index(step.fact) + 1 :]
        told_of = {told.fact for told in shown.story if told.speaker in step.deaf}
        assert not told_of & set(after) - {"CancellationRefused"}, f"{step.deaf} were stopped, and said {after}"


async def assert_ended_right(records: Records, order: Order, ending: Shown, step: Step, reason: str) -> None:
    payment, parcel = await records.payment(order), await records.parcel(order)
    if ending.status == "confirmed":
        assert step.fact in UNDECIDED | TOO_LATE, ending.facts
        assert (payment, parcel) == ("captured", "booked"), ending.facts
    else:
        assert step.fact not in TOO_LATE, ending.facts
        assert (ending.status, ending.reason) == ("cancelled", reason)
        assert payment not in HELD and parcel not in BOOKED, (payment, parcel, ending.facts)
    assert len(ending.facts) == len(set(ending.facts)), "a fact was said twice"
