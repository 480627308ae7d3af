"""The audit while orders flow: whatever is merely on its way is not settled yet, and never a violation."""

import random
from datetime import timedelta

import pytest

from streams.kit.service import Evolution
from streams.orders.events import PaymentCaptured as PaymentCapturedHeard
from streams.orders.model import Order, Status
from streams.orders.service import DEADLINE_SECONDS
from streams.timeline.events import PaymentCaptured
from streams.timeline.model import Story
from streams.timeline.service import timeline
from tests.pavane.audited import NOW, PARTITIONS, SERVICES, Shop

#: So many walks are taken by `make check` too.
QUICK = 3


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    for sku, quantity, price in (("lamp", 1000, 1000), ("book", 3, 700), ("flyer", 1000, 0)):
        shop.stock(sku, quantity, price)
    return shop


def place_all_kinds(shop: Shop, rng: random.Random) -> None:
    """Orders that end in every way there is."""
    shop.place("lamp", 2)
    shop.place("flyer")
    shop.place("book", rng.choice([1, 2]))
    shop.place("lamp", method="card-declined")
    shop.place("lamp", method="card-declined-at-capture")
    shop.place("lamp", country="XX")
    shop.place("unheard-of")
    shop.cancel(shop.place("lamp"))
    shop.append("orders.requests", "garbage", b"\x01")


async def test_an_empty_platform_is_clean():
    assert Shop().look().broken() == {}


async def test_a_platform_at_rest_is_clean_and_settled(shop: Shop):
    await shop.settle()
    place_all_kinds(shop, random.Random(1))

    await shop.settle()

    verdicts = shop.look().verdicts()
    assert {name: verdict.violations for name, verdict in verdicts.items() if not verdict.clean} == {}
    assert sum(verdict.unsettled for verdict in verdicts.values()) == 0
    assert verdicts["orders-end"].checked == 8
    assert verdicts["confirmed-paid-and-sent"].checked == 3
    assert verdicts["cancelled-undone"].checked == 5
    assert verdicts["dead-letters"].checked == 1
    assert all(verdict.checked for name, verdict in verdicts.items() if name != "parked")


@pytest.mark.parametrize(
    "seed", [pytest.param(each, marks=[pytest.mark.slow] if each >= QUICK else []) for each in range(12)]
)
async def test_at_no_moment_is_anything_in_flight_taken_for_a_violation(shop: Shop, seed: int):
    """Services step at random, facts are said late or twice, and the audit's looks lie far apart."""
    rng = random.Random(seed)
    await shop.settle()
    for party in (shop.provider, shop.carrier):
        party.is_away = lambda: rng.random() < 0.3
    unsettled = parked = 0
    for _ in range(12):
        place_all_kinds(shop, rng)
        await wander(shop, rng)
        seen = {}
        for name in rng.sample(SERVICES, len(SERVICES)):
            seen |= shop.look_at_databases([name])
            await wander(shop, rng)
        charges, parcels = shop.look_at_world()
        await wander(shop, rng)
        look = shop.look_at_log(seen, charges, parcels)
        await wander(shop, rng)
        look.later = {name: instance.clocks() for name, instance in shop.instances.items()}

        verdicts = look.verdicts()
        assert {name: verdict.violations for name, verdict in verdicts.items() if not verdict.clean} == {}
        unsettled += sum(verdict.unsettled for verdict in verdicts.values())
        parked += verdicts["parked"].unsettled

    assert unsettled > 100, "the audit was held while much was in flight"
    assert parked > 0, "the audit was held while the outside world had not answered"
    for party in (shop.provider, shop.carrier):
        party.is_away = lambda: False
    await shop.settle()
    verdicts = shop.look().verdicts()
    assert {name: verdict.violations for name, verdict in verdicts.items() if not verdict.clean} == {}
    assert sum(verdict.unsettled for verdict in verdicts.values()) == 0


async def wander(shop: Shop, rng: random.Random) -> None:
    """Some services hear a little in some lanes, and some of what was committed is said, some of it again."""
    for _ in range(rng.randint(0, 25)):
        instance = shop.instances[rng.choice(SERVICES)]
        partition = rng.randrange(PARTITIONS)
        if rng.random() < 0.6:
            await instance.step(partition, limit=rng.randint(1, 6), retry=rng.random() < 0.3)
        else:
            instance.say(partition, again=rng.random() < 0.2)


async def test_an_order_within_its_deadline_is_not_settled_yet(shop: Shop):
    await shop.settle()
    shop.place("lamp")
    await shop.settle("orders")

    verdict = shop.look().verdicts()["orders-end"]

    assert (verdict.checked, verdict.unsettled, verdict.clean) == (1, 1, True)


async def test_a_request_that_was_not_heard_is_not_settled_yet(shop: Shop):
    await shop.settle()
    shop.place("lamp")

    verdict = shop.look().verdicts()["requests-answered"]

    assert (verdict.checked, verdict.unsettled, verdict.clean) == (1, 1, True)


async def test_a_cancellation_that_inventory_has_not_heard_is_not_settled_yet(shop: Shop):
    await shop.settle()
    order = shop.place("lamp")
    await shop.settle("orders", "inventory")
    shop.cancel(order)
    await shop.settle("orders", "billing", "shipping", "timeline")

    verdict = shop.look().verdicts()["cancelled-undone"]

    assert (verdict.checked, verdict.unsettled, verdict.clean) == (1, 1, True)


@pytest.mark.parametrize(("late", "kept"), [(timedelta(minutes=59), True), (timedelta(days=90), False)])
async def test_money_that_is_held_for_a_cancelled_order_is_a_violation_after_an_hour(
    shop: Shop, late: timedelta, kept: bool
):
    await shop.settle()
    order = shop.place("lamp")
    await shop.settle("orders", "inventory", "billing")
    shop.cancel(order)
    await shop.settle("orders", "inventory", "shipping", "timeline")
    look = shop.look()
    look.now = NOW + late

    verdict = look.verdicts()["cancelled-undone"]

    assert verdict.clean is kept
    [told] = verdict.violations or [verdict.oldest.what if verdict.oldest else ""]
    assert told.startswith(f"order {order} (OrderCancelled, orders/")
    assert "billing has yet to hear it: 'pavane lanes list billing'; until then its invoice is authorized" in told


async def test_a_request_that_nobody_has_heard_for_an_hour_is_a_violation(shop: Shop):
    await shop.settle()
    order = shop.place("lamp")
    look = shop.look()
    look.now = NOW + timedelta(minutes=59)
    oldest = look.verdicts()["requests-answered"].oldest
    assert oldest is not None
    assert (oldest.since, look.broken()) == (NOW, {})

    look.now = NOW + timedelta(days=90)

    [told] = look.broken()["requests-answered"]
    assert f"PlaceOrder about {order}: orders has yet to hear it: 'pavane lanes list orders' (for 90d" in told


async def test_an_order_that_is_open_behind_a_parked_record_is_a_violation_after_an_hour(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    await shop.settle()
    order = shop.place("lamp")
    await shop.settle("orders", "inventory")

    def fail(*_: object) -> Story:
        raise ValueError("a fold that fails")

    with monkeypatch.context() as broken:
        of_orders = shop.instances["orders"].service
        right = of_orders.reactions[PaymentCapturedHeard]
        broken.setitem(of_orders.reactions, PaymentCapturedHeard, right._replace(decide=fail))
        await shop.settle()
    look = shop.look()
    due = NOW + timedelta(seconds=DEADLINE_SECONDS)

    look.now = due + timedelta(minutes=59)
    verdict = look.verdicts()["orders-end"]
    assert (verdict.clean, verdict.until_redrive) == (True, 1)
    assert f"order {order} is open after it was due to end: in orders it is held up by orders/" in verdict.notes[0]

    look.now = due + timedelta(minutes=61)
    assert "ValueError: a fold that fails; waits for a redrive): 'pavane dead-letters show orders/" in look.broken()[
        "orders-end"
    ][0]


async def test_an_order_whose_reversal_is_parked_is_not_settled_yet(shop: Shop):
    await shop.settle()
    order = shop.place("lamp", country="XX")
    shop.provider.is_away = lambda: ("payment/" + order) in shop.provider.records and order in cancelled(shop)
    await shop.settle("orders", "inventory", "shipping", "timeline")
    await shop.instances["billing"].step(shop.home(order))
    shop.instances["billing"].say(shop.home(order))
    await shop.settle("orders", "inventory", "shipping", "timeline")
    for _ in range(3):
        await shop.instances["billing"].step(shop.home(order), retry=False)
        shop.instances["billing"].say(shop.home(order))
        await shop.settle("orders", "inventory", "shipping", "timeline")

    verdicts = shop.look().verdicts()

    assert all(verdict.clean for verdict in verdicts.values())
    assert verdicts["cancelled-undone"].unsettled == 1
    assert verdicts["parked"].checked == 1
    assert "Unanswered: it is away; tried again at" in verdicts["parked"].notes[0]


def cancelled(shop: Shop) -> set[str]:
    rows = shop.instances["orders"].database.rows[Order]
    return {key for key, row in rows.items() if isinstance(row, Order) and row.status is Status.CANCELLED}


async def test_what_a_view_has_parked_is_not_settled_yet(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    await shop.settle()
    order = shop.place("lamp")

    def fail(*_: object) -> Story:
        raise ValueError("a fold that fails")

    with monkeypatch.context() as broken:
        failing = [Evolution(PaymentCaptured, fail, Story, None)]
        broken.setitem(timeline.evolutions, PaymentCaptured, failing)
        await shop.settle()

    verdicts = shop.look().verdicts()

    assert {name: verdict.violations for name, verdict in verdicts.items() if not verdict.clean} == {}
    assert verdicts["parked"].unsettled == 3, "the fact that failed, the confirmation and the dispatch behind it"
    assert f"about {order}: ValueError: a fold that fails; waits for a redrive" in verdicts["parked"].notes[0]
    assert verdicts["dead-letters"].checked == 1


async def test_a_fact_that_is_committed_but_not_said_is_not_settled_yet(shop: Shop):
    await shop.settle()
    order = shop.place("lamp")
    orders = shop.instances["orders"]
    for partition in range(PARTITIONS):
        await orders.step(partition)

    verdicts = shop.look().verdicts()

    assert verdicts["nothing-lost"].unsettled >= 1
    assert all(verdict.clean for verdict in verdicts.values())
    assert verdicts["orders-end"].checked == 1, f"order {order} is known from the outbox"


async def test_facts_that_were_said_again_are_counted_and_break_nothing(shop: Shop):
    await shop.settle()
    shop.place("lamp")
    orders = shop.instances["orders"]
    for partition in range(PARTITIONS):
        await orders.step(partition)
        orders.say(partition, again=True)
    await shop.settle()

    verdict = shop.look().verdicts()["sequences"]

    assert verdict.clean
    assert verdict.notes == ("said again, after a failed send or a takeover: 1 facts; their listeners know them",)
