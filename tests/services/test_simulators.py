"""The simulators on a real database: durable, whole rounds, right under concurrent callers, honest when it is away."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from streams.billing.provider import (
    Authorized,
    AuthorizePayment,
    Captured,
    CapturePayment,
    Declined,
    NothingToReverse,
    ReversePayment,
    Voided,
)
from streams.billing.simulator import SCRIPT as PROVIDER
from streams.billing.simulator import Payment
from streams.kit.errors import WorldUnavailable, WrongSetting
from streams.kit.events import Effect
from streams.kit.money import Money
from streams.kit.simulation import DATABASE, LATENCY, SimulatedWorld
from streams.shipping.carrier import Booked, BookingCancelled, BookShipment, CancelBooking, NotBooked
from streams.shipping.events import Address
from streams.shipping.simulator import SCRIPT as CARRIER

AMOUNT = Money(amount_minor=1000, currency="EUR")


@pytest.fixture
async def provider(world_database: str) -> AsyncIterator[SimulatedWorld[Payment]]:
    async with SimulatedWorld.playing(PROVIDER, {DATABASE: world_database}) as provider:
        yield provider


def authorize(order_id: str, method: str = "card-ok") -> AuthorizePayment:
    return AuthorizePayment(order_id=order_id, amount=AMOUNT, method=method)


def some_orders(count: int) -> list[str]:
    return [str(uuid4()) for _ in range(count)]


async def rows(url: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return await (await connection.execute(query.encode(), parameters)).fetchall()


async def test_a_round_is_answered_in_its_order(provider: SimulatedWorld[Payment]) -> None:
    good, bad = some_orders(2)
    answers = await provider.ask([authorize(good), authorize(bad, "card-declined"), ReversePayment(order_id=good)])
    assert [type(answer) for answer in answers] == [Authorized, Declined, Voided]
    assert await provider.ask([]) == ()


async def test_every_call_is_recorded_and_a_repeated_one_changes_nothing(
    provider: SimulatedWorld[Payment], world_database: str
) -> None:
    (order,) = some_orders(1)
    for effect in (authorize(order), CapturePayment(order_id=order, amount=AMOUNT)):
        await provider.ask([effect])
        await provider.ask([effect])
    calls = "SELECT verb, outcome, changed FROM payment_calls WHERE key = %s ORDER BY call"
    assert await rows(world_database, calls, f"payment/{order}") == [
        ("AuthorizePayment", "Authorized", True),
        ("AuthorizePayment", "Authorized", False),
        ("CapturePayment", "Captured", True),
        ("CapturePayment", "Captured", False),
    ]
    known = "SELECT order_id, status, amount_minor, currency, calls FROM payments WHERE key = %s"
    assert await rows(world_database, known, f"payment/{order}") == [(order, "captured", 1000, "EUR", 4)]


async def test_a_provider_that_started_again_remembers(provider: SimulatedWorld[Payment], world_database: str) -> None:
    (order,) = some_orders(1)
    assert await provider.ask([ReversePayment(order_id=order)]) == [NothingToReverse()]
    async with SimulatedWorld.playing(PROVIDER, {DATABASE: world_database}) as again:
        assert await again.ask([authorize(order)]) == [Declined(reason="the payment was reversed")]


async def test_rounds_with_common_keys_neither_deadlock_nor_take_money_twice(
    provider: SimulatedWorld[Payment], world_database: str
) -> None:
    orders = some_orders(100)
    shuffled = random.Random(1)

    def round_of(effects: Sequence[Effect]) -> list[Effect]:
        return shuffled.sample(effects, len(effects))

    async with SimulatedWorld.playing(PROVIDER, {DATABASE: world_database}) as other:
        held = [authorize(order) for order in orders]
        await asyncio.gather(*(world.ask(round_of(held)) for world in (provider, other) for _ in range(4)))
        taken = [CapturePayment(order_id=order, amount=AMOUNT) for order in orders]
        answers = await asyncio.gather(*(world.ask(round_of(taken)) for world in (provider, other) for _ in range(4)))
    assert {type(answer) for round_ in answers for answer in round_} == {Captured}
    counted = "SELECT verb, count(*) FROM payment_calls WHERE key = ANY(%s) AND changed GROUP BY verb ORDER BY verb"
    keys = [effect.key for effect in held]
    assert await rows(world_database, counted, keys) == [("AuthorizePayment", 100), ("CapturePayment", 100)]


async def test_an_authorization_racing_its_reversal_leaves_no_money_held(
    provider: SimulatedWorld[Payment], world_database: str
) -> None:
    orders = some_orders(100)
    held = [authorize(order) for order in orders]
    undone = [ReversePayment(order_id=order) for order in orders]
    await asyncio.gather(provider.ask(held[:50]), provider.ask(undone), provider.ask(held[50:]), provider.ask(held))
    statuses = "SELECT DISTINCT status FROM payments WHERE key = ANY(%s)"
    found = {status for (status,) in await rows(world_database, statuses, [effect.key for effect in held])}
    assert found <= {"voided", "closed"}


async def test_the_carrier_books_refuses_and_calls_off(world_database: str) -> None:
    near, far = some_orders(2)
    address = Address(recipient="Ada", street="Main 1", postal_code="10115", city="Berlin", country="DE")
    nowhere = Address(recipient="Ada", street="Main 1", postal_code="00010", city="Nowhere", country="DE")
    async with SimulatedWorld.playing(CARRIER, {DATABASE: world_database}) as carrier:
        answers = await carrier.ask(
            [
                BookShipment(order_id=near, ship_to=address, items=2),
                BookShipment(order_id=far, ship_to=nowhere, items=1),
                CancelBooking(order_id=near),
            ]
        )
    assert [type(answer) for answer in answers] == [Booked, NotBooked, BookingCancelled]
    known = "SELECT status, items, cancelled_at IS NOT NULL FROM bookings WHERE order_id = %s"
    assert await rows(world_database, known, near) == [("cancelled", 2, True)]


async def test_simulators_that_start_at_once_on_an_empty_database_all_answer(world_database: str) -> None:
    async with await psycopg.AsyncConnection.connect(world_database, autocommit=True) as connection:
        await connection.execute("DROP SCHEMA IF EXISTS fresh CASCADE")
        await connection.execute("CREATE SCHEMA fresh")
    settings = {DATABASE: f"{world_database}?options=-csearch_path%3Dfresh"}

    async def ask_one() -> None:
        async with SimulatedWorld.playing(PROVIDER, settings) as provider:
            assert [type(answer) for answer in await provider.ask([authorize(str(uuid4()))])] == [Authorized]

    await asyncio.gather(*(ask_one() for _ in range(6)))
    assert await rows(world_database, "SELECT count(*) FROM fresh.payments") == [(6,)]


async def test_connections_that_were_cut_are_replaced(
    provider: SimulatedWorld[Payment], world_database: str
) -> None:
    (order,) = some_orders(1)
    await provider.ask([authorize(order)])
    async with await psycopg.AsyncConnection.connect(world_database, autocommit=True) as connection:
        cut = await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user "
            "AND pid <> pg_backend_pid()"
        )
        assert len(await cut.fetchall()) > 0
    assert [type(answer) for answer in await provider.ask([authorize(order)])] == [Authorized]


async def test_a_database_that_is_away_is_told_and_does_not_stop_the_start() -> None:
    nobody = {DATABASE: "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1"}
    async with SimulatedWorld.playing(PROVIDER, nobody, connection_seconds=0.2) as provider:
        with pytest.raises(WorldUnavailable, match=DATABASE):
            await provider.ask([authorize(str(uuid4()))])


@pytest.mark.parametrize(
    ("environment", "variable"),
    [({}, DATABASE), ({DATABASE: "mysql://x"}, DATABASE), ({DATABASE: "postgresql://x", LATENCY: "fast"}, LATENCY)],
)
async def test_a_wrong_setting_is_named(environment: dict[str, str], variable: str) -> None:
    with pytest.raises(WrongSetting, match=variable):
        async with SimulatedWorld.playing(PROVIDER, environment):
            pass
