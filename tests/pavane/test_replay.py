"""A replay: today's decisions beside those of then, upon the rows of then, with the world's answers of then."""

import ast
import asyncio
import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

import pavane.replay
from pavane.replay import replaying
from pavane.replay.commands import bound_of
from pavane.replay.errors import CannotReplay
from pavane.replay.recollection import Recollection
from pavane.replay.replaying import Bound, Range, replay
from pavane.replay.report import Report
from pavane.replay.states import States
from streams.billing.events import PaymentAuthorized, StockReserved
from streams.billing.model import Invoice
from streams.billing.provider import AuthorizePayment, Declined
from streams.billing.service import billing
from streams.inventory.events import OrderCancelled, OrderPlaced, StockRejected, StockReleased
from streams.inventory.model import Reservation, Stock
from streams.inventory.service import inventory
from streams.kit.envelope import write_clock
from streams.kit.errors import WrongSetting
from streams.kit.events import Effect, Fact, State
from streams.kit.money import Money
from streams.kit.parking import DISCARDED
from streams.kit.run import find
from streams.kit.service import Said, Service, World
from streams.orders import events as orders_events
from streams.orders.events import PlaceOrder
from streams.orders.model import Order
from streams.orders.service import orders
from tests.pavane.audited import NOW, PARTITIONS, Shop, headed
from tests.pavane.replayed import a_busy_shop, letters_of, past_of

DECIDING = ("orders", "inventory", "billing", "shipping")


@pytest.fixture(scope="module")
def shop() -> Shop:
    return asyncio.run(a_busy_shop())


@pytest.mark.parametrize("name", DECIDING)
def test_the_code_that_decided_then_decides_the_same_again(shop: Shop, name: str) -> None:
    report = replay(find(name), past_of(shop, name))

    assert report.same, report.text()
    assert report.not_told == 0
    assert report.decisions >= sum(len(records) for (topic, _), records in shop.log.items() if topic == name)


def test_what_was_put_aside_then_is_put_aside_again(shop: Shop) -> None:
    assert letters_of(shop, "orders") == 1
    assert letters_of(shop, "inventory") == 1
    reports = [replay(find(name), past_of(shop, name)) for name in ("orders", "inventory")]

    assert reports[0].decided["orders.requests: what cannot be read"] == 1
    assert reports[1].decided["AdjustStock -> adjust"] == 1


def test_a_payment_that_was_answered_late_is_decided_where_it_was_answered(shop: Shop) -> None:
    """Billing had parked it: it was heard long before the fact that answers it."""
    asked = replay(billing, past_of(shop, "billing")).decided["StockReserved -> authorize_reserved_order"]

    assert asked == sum(
        dict(record.headers)["ce_type"] == b"StockReserved"
        for (topic, _), records in shop.log.items()
        if topic == "inventory"
        for record in records
    )


def planted(monkeypatch: pytest.MonkeyPatch, service: Service, heard: Any, decide: Any) -> None:
    monkeypatch.setitem(service.reactions, heard, service.reactions[heard]._replace(decide=decide))


def test_a_changed_decision_is_one_group_with_an_example_and_not_its_consequences(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careful(reservation: Reservation, placed: OrderPlaced, stocks: dict[str, Stock]) -> Iterator[Said]:
        if any(line.sku == "lamp" for line in placed.lines):
            yield StockRejected(tenant=placed.tenant, order_id=placed.order_id, missing=())
        else:
            yield from before(reservation, placed, stocks)

    before = inventory.reactions[OrderPlaced].decide
    planted(monkeypatch, inventory, OrderPlaced, careful)
    report = replay(inventory, past_of(shop, "inventory"))

    [group] = report.groups.values()
    assert group.reaction == "OrderPlaced -> careful"
    assert group.reason == "would be StockRejected instead of StockReserved"
    assert group.count == 6
    assert group.example.key in group.example.was
    assert group.example.was.startswith("StockReserved(")
    assert group.example.would.startswith("StockRejected(")


def test_personal_texts_are_in_no_report(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a request in plain text, to which today's code says another fact."""

    def takes_all(order: Order, asked: PlaceOrder, prices: dict[str, State]) -> Iterator[Said]:
        yield orders_events.OrderPlaced(
            tenant=asked.tenant,
            order_id=asked.order_id,
            customer=asked.customer,
            lines=(),
            total=Money(amount_minor=1, currency="EUR"),
            payment_method=asked.payment_method,
            ship_to=asked.ship_to,
            deadline=asked.at,
        )

    planted(monkeypatch, orders, PlaceOrder, takes_all)
    report = replay(orders, past_of(shop, "orders"))

    assert "would be OrderPlaced instead of OrderRejected" in {group.reason for group in report.groups.values()}
    for told in (report.text(), report.as_json()):
        assert "customer=(personal)" in told and "'street': (personal)" in told and "'country': 'DE'" in told
        assert not [text for text in ("c-1", "B 1", "12345") if text in told]


def test_another_value_in_a_fact_names_its_field(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(billing.answering, AuthorizePayment, shouts)
    report = replay(billing, past_of(shop, "billing"))

    [group] = report.groups.values()
    assert group.reason == "would say otherwise: PaymentAuthorized.reference"


def shouts(invoice: Invoice, answer: Any) -> Iterator[Said]:
    if isinstance(answer, Declined):
        yield from note_authorization(invoice, answer)
    else:
        yield PaymentAuthorized(
            tenant=invoice.tenant, order_id=invoice.order_id, amount=invoice.amount, reference=answer.reference.upper()
        )


note_authorization = billing.answering[AuthorizePayment]


def test_silence_that_would_be_broken_and_a_fact_that_would_not_be_said_are_differences(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, billing, StockReserved, lambda invoice, reserved: ())
    silent = replay(billing, past_of(shop, "billing"))
    monkeypatch.undo()

    def always(reservation: Reservation, cancelled: OrderCancelled) -> Iterator[Said]:
        yield StockReleased(tenant=reservation.tenant, order_id=reservation.order_id, lines=reservation.lines)

    planted(monkeypatch, inventory, OrderCancelled, always)
    talking = replay(inventory, past_of(shop, "inventory"))

    assert {group.reason for group in silent.groups.values()} == {
        "would be nothing instead of PaymentAuthorized",
        "would be nothing instead of PaymentDeclined",
    }
    # Two orders were cancelled as there was no stock: of them nothing was released.
    assert [(group.reason, group.count) for group in talking.groups.values()] == [
        ("would be StockReleased instead of nothing", 2)
    ]


def test_a_question_that_was_not_asked_then_is_a_difference(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(invoice: Invoice, reserved: StockReserved) -> Iterator[Said]:
        yield Unheard(order_id=invoice.order_id)

    planted(monkeypatch, billing, StockReserved, asks)
    report = replay(billing, past_of(shop, "billing"))

    assert all(group.reason.startswith("would ask Unheard, of whose answer") for group in report.groups.values())
    assert report.differences >= 6


class Unheard(Effect):
    """Something that nobody asks."""

    order_id: str

    @property
    def key(self) -> str:
        return self.order_id


def test_only_what_is_in_the_range_is_compared(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, billing, StockReserved, lambda invoice, reserved: ())
    past = past_of(shop, "billing")
    everything = replay(billing, past)
    first = replay(billing, past, Range(end=Bound(offset=4)))
    rest = replay(billing, past, Range(start=Bound(offset=4)))
    never = replay(billing, past, Range(end=Bound(timestamp=int(NOW.timestamp() * 1000))))

    assert 0 < first.decisions < everything.decisions
    assert first.decisions + rest.decisions + rest.not_told + first.not_told >= everything.decisions
    assert never.decisions == 0


@pytest.mark.parametrize("name", DECIDING)
def test_facts_that_a_restored_log_has_twice_are_heard_where_none_is_missing_before_them(shop: Shop, name: str) -> None:
    past = past_of(shop, name)

    def records(topic: str, partition: int) -> Iterator[Any]:
        said = list(past.records(topic, partition))
        if topic in DECIDING:
            said = [*said[:2], *said[3:5], *said[2:]]
        return (replace(record, offset=offset) for offset, record in enumerate(said))

    report = replay(find(name), dataclasses.replace(past, records=records))

    assert report.same, report.text()
    assert report.decisions == replay(find(name), past).decisions


def test_what_was_heard_and_is_in_no_log_any_more_cannot_be_told(shop: Shop) -> None:
    past = past_of(shop, "billing")

    def records(topic: str, partition: int) -> Iterator[Any]:
        said = past.records(topic, partition)
        return (record for at, record in enumerate(said) if topic != "inventory" or at != 1)

    with pytest.raises(CannotReplay, match=r"is fact 3 of its lane, but .* is 1: what billing heard"):
        replay(billing, dataclasses.replace(past, records=records))


def test_a_topic_without_its_start_cannot_be_replayed(shop: Shop) -> None:
    past = past_of(shop, "billing")
    cut = {where: records[1:] for where, records in shop.log.items() if where[0] == "billing"}

    def records(topic: str, partition: int) -> Iterator[Any]:
        found = cut.get((topic, partition))
        return iter(found) if found is not None else past.records(topic, partition)

    changed = type(past)(past.partition_count, records, past.schema_of, past.heard, past.waiting, past.facts)
    with pytest.raises(CannotReplay, match="needs the service's topic from its start"):
        replay(billing, changed)


@pytest.mark.parametrize("name", DECIDING)
@pytest.mark.parametrize("topic", ["orders", "billing"])
def test_what_somebody_else_wrote_is_passed_over(shop: Shop, name: str, topic: str) -> None:
    past = past_of(shop, name)
    expected = replay(find(name), past)
    written = 0

    def records(of: str, partition: int) -> Iterator[Any]:
        """Between the facts of the topic there is one without an envelope, and one of another lane."""
        nonlocal written
        moved = 0
        for record in past.records(of, partition):
            yield replace(record, offset=record.offset + moved)
            if of == topic:
                elsewhere = headed(record, ce_id=f"{topic}/{partition + 1}/{record.offset + 1}")
                for foreign in (replace(record, headers=()), elsewhere):
                    moved += 1
                    written += 1
                    yield replace(foreign, offset=record.offset + moved)

    report = replay(find(name), dataclasses.replace(past, records=records))

    assert (written > 0, report.same) == (topic in {*find(name).topics, name}, True)
    assert report.decisions == expected.decisions > 0


def test_a_clock_that_knows_an_answer_and_not_its_question_cannot_be_replayed(shop: Shop) -> None:
    past = past_of(shop, "shipping")

    def records(topic: str, partition: int) -> Iterator[Any]:
        for record in past.records(topic, partition):
            if topic == "shipping":
                yield headed(record, clock=write_clock({"billing": 4}).decode())
            else:
                yield record

    changed = type(past)(past.partition_count, records, past.schema_of, past.heard, past.waiting, past.facts)
    with pytest.raises(CannotReplay, match="must wait for others"):
        replay(find("shipping"), changed)


async def test_what_was_parked_and_said_since_the_database_was_looked_at_is_no_difference() -> None:
    shop = Shop()
    billing_instance = shop.instances["billing"]

    async def ordered() -> None:
        for _ in range(8):
            shop.place("lamp")
        await shop.settle("orders", "inventory")
        for partition in range(PARTITIONS):
            await billing_instance.step(partition)
            billing_instance.say(partition)

    shop.stock("lamp", 100)
    await shop.settle()
    await ordered()
    past = past_of(shop, "billing")
    shop.provider.is_away = lambda: True
    for _ in range(2):
        await ordered()

    assert billing_instance.snapshot().frozen().unhandled - past.waiting
    report = await asyncio.to_thread(replay, billing, past)

    assert report.same, report.text()
    assert report.decisions > 0


@pytest.mark.parametrize("answered", ["at once", "later", "not yet"])
async def test_what_a_cancellation_called_off_is_no_difference(answered: str) -> None:
    """The payment of each was not answered, and is called off without being asked for again."""
    shop = Shop()
    shop.stock("lamp", 100)
    await shop.settle()
    orders = [shop.place("lamp") for _ in range(8)]
    await shop.settle("orders", "inventory")
    instance, unanswered = shop.instances["billing"], shop.provider.is_away
    shop.provider.is_away = lambda: True
    for partition in range(PARTITIONS):
        await instance.step(partition)
        instance.say(partition)
    assert len(instance.snapshot().frozen().unhandled) == len(orders)
    for order in orders:
        shop.cancel(order)
    await shop.settle("orders")
    if answered == "at once":
        shop.provider.is_away = unanswered
    for partition in range(PARTITIONS):
        await instance.step(partition, retry=False)
        instance.say(partition)
    if answered == "later":
        shop.provider.is_away = unanswered
        await shop.settle()

    report = await asyncio.to_thread(replay, billing, past_of(shop, "billing"))

    assert report.same, report.text()
    told = [
        record for (topic, _), records in shop.log.items() for record in records
        if topic == "billing" and dict(record.headers)["ce_type"] == b"PaymentAuthorized"
    ]  # fmt: skip
    assert told == [], "nobody is asked for money after the cancellation was heard"


async def test_what_an_operator_discarded_is_no_difference() -> None:
    """Once it had been put aside, and once while it only waited."""
    shop = Shop()
    shop.stock("lamp", 100)
    await shop.settle()
    shop.provider.is_away = lambda: True
    for _ in range(8):
        shop.place("lamp")
    await shop.settle("orders", "inventory")
    of_billing = shop.instances["billing"]
    for partition in range(PARTITIONS):
        await of_billing.step(partition)
    parked = of_billing.database.parked
    discarded = 0
    for waiting in parked.values():
        for number, each in waiting.items():
            waiting[number] = msgspec.structs.replace(each, reason=DISCARDED, message="a test shop", retry_at=NOW)
            discarded += 1
    assert discarded
    for partition in range(PARTITIONS):
        await of_billing.step(partition)
        of_billing.say(partition)
    assert not any(parked.values())
    assert letters_of(shop, "billing") == discarded

    report = await asyncio.to_thread(replay, billing, past_of(shop, "billing"))

    assert report.same, report.text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda says: says.pop("PaymentAuthorized"), "billing said PaymentAuthorized then, and this code does not"),
        (lambda says: says.update(PaymentAuthorized=Narrow), "PaymentAuthorized of then is none of this code"),
    ],
    ids=["not listed", "narrower"],
)
def test_a_fact_of_then_that_this_code_does_not_know_cannot_be_replayed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    says = dict(billing.says)
    before = past_of(shop, "billing")
    monkeypatch.setattr(billing, "says", says)
    change(says)

    with pytest.raises(CannotReplay, match=f"billing/., offset .*{words}"):
        replay(billing, before)


class Narrow(Fact):
    """A payment whose reference is a number."""

    order_id: str
    reference: int


Narrow.__name__ = "PaymentAuthorized"


def test_a_view_decides_nothing() -> None:
    with pytest.raises(CannotReplay, match="it decides nothing"):
        replay(find("timeline"), past_of(Shop(), "timeline"))


def test_rows_that_do_not_fit_into_memory_are_kept_in_a_file(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    filed: list[int] = []

    def small(service: Service) -> States:
        states = States(service, most_rows=2)
        in_the_file = "SELECT count(*) FROM rows"
        monkeypatch.setattr(states, "close", lambda: filed.append(states._file.execute(in_the_file).fetchone()[0]))
        return states

    monkeypatch.setattr(replaying, "States", small)
    reports = [replay(find(name), past_of(shop, name)) for name in DECIDING]

    assert all(report.same for report in reports), [report.text() for report in reports]
    assert min(filed) > 2


# -- nobody is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["billing", "shipping"])
def test_the_world_is_never_connected_to(shop: Shop, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = find(name)
    connected: list[str] = []

    def connect() -> AbstractAsyncContextManager[World]:
        connected.append(name)
        raise AssertionError("a replay connects to the world")

    monkeypatch.setattr(service, "world", connect)
    calls = {key: record.calls for key, record in {**shop.provider.records, **shop.carrier.records}.items()}
    report = replay(service, past_of(shop, name))

    assert report.same
    assert report.decisions > 0
    assert connected == []
    assert calls == {key: record.calls for key, record in {**shop.provider.records, **shop.carrier.records}.items()}


def test_nothing_in_the_package_knows_how_to_ask() -> None:
    """No module of it names a client of the outside world, the guard that asks them, or a service's `world`."""
    clients = {"effects", "remote", "simulation", "batch", "worker", "resilience", "records", "provider", "carrier"}
    for file in Path(pavane.replay.__file__).parent.glob("*.py"):
        tree = ast.parse(file.read_text())
        names = {
            part
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
            for part in name.split(".")
        }
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not names & clients, file
        assert not attributes & {"world", "ask"}, file


def test_every_effect_of_every_service_is_recalled_from_facts() -> None:
    for name in DECIDING:
        service = find(name)
        assert service.recalling.keys() == service.answering.keys()


def test_of_what_no_fact_tells_there_is_no_answer() -> None:
    assert Recollection(billing, ()).get((AuthorizePayment, "payment/1")) is None


# -- what is asked for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("", None),
        ("120", Bound(offset=120)),
        ("2026-01-01T12:00:00Z", Bound(timestamp=1_767_268_800_000)),
        ("2026-01-01T13:00:00+01:00", Bound(timestamp=1_767_268_800_000)),
        ("2026-01-01 12:00", Bound(timestamp=1_767_268_800_000)),
    ],
)
def test_a_bound_is_a_time_or_an_offset(text: str, bound: Bound | None) -> None:
    assert bound_of("--from", text) == bound


def test_another_bound_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(WrongSetting, match=r"--to: a time such as .* not 'yesterday'"):
        bound_of("--to", "yesterday")


# -- what is printed ---------------------------------------------------------------------------------------------------


def test_the_report_is_one_json_document(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, billing, StockReserved, lambda invoice, reserved: ())
    document = json.loads(replay(billing, past_of(shop, "billing")).as_json())

    assert document["same"] is False
    assert document["decisions"] == sum(document["decided"].values())
    assert {*document["differences"][0]} == {"reaction", "reason", "example", "count"}
    assert {*document["differences"][0]["example"]} == {"id", "key", "was", "would"}


def test_a_report_without_differences_says_so() -> None:
    assert Report("billing", {"X -> y": 3}).text() == "Today's code decides the same in all 3 cases (0.0 s)."
