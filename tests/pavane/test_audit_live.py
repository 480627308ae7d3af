"""The audit on real parts: it reads databases, log and registry, finds what was done to them, and changes nothing."""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer

from infra.stack import Stack
from pavane.audit import EvidenceMissing, Report, audit, databases, log
from pavane.audit.checkpoint import Mark
from pavane.audit.ledger import Where, digest_of
from pavane.audit.live import Registry, _Log
from pavane.audit.world import Charge, Parcel
from streams.billing import simulator as provider
from streams.billing.provider import AuthorizePayment, CapturePayment
from streams.kit.log import Extent, Record
from streams.kit.migrations import migrate
from streams.kit.money import Money
from streams.kit.run import find
from streams.kit.simulation import SimulatedWorld
from streams.shipping import simulator as carrier
from streams.shipping.carrier import BookShipment
from streams.shipping.events import Address
from tests.conftest import NewDatabase, NewTopics
from tests.waiting import eventually

STRAY = "00000000-0000-4000-8000-00000000dead"


async def test_the_audit_judges_every_invariant_on_real_parts(stack: Stack):
    report = await audit(stack.addresses.environment())

    assert [verdict.name for verdict in report.verdicts] == [
        "orders-end",
        "requests-answered",
        "confirmed-paid-and-sent",
        "cancelled-undone",
        "stock-balances",
        "sequences",
        "nothing-lost",
        "after-causes",
        "rows-rebuilt",
        "views-rebuilt",
        "entries-told",
        "parked",
        "dead-letters",
    ]
    assert report.seconds > 0


async def test_a_row_that_no_fact_made_is_found_in_the_real_database(stack: Stack):
    """Other tests use the stack as well, so what they left there is compared with, not asserted."""
    before = await audit(stack.addresses.environment())
    with psycopg.connect(stack.addresses.postgres["billing"], autocommit=True) as connection:
        connection.execute(
            "INSERT INTO invoices (order_id, tenant, status, amount_minor) VALUES (%s, 'shop', 'open', 5)", (STRAY,)
        )
        try:
            report = await audit(stack.addresses.environment())
        finally:
            connection.execute("DELETE FROM invoices WHERE order_id = %s", (STRAY,))

    assert new_violations(before, report, "rows-rebuilt") == {
        f"billing.invoices {STRAY}: no fact says that this row exists"
    }
    assert new_violations(before, report, "cancelled-undone") == {
        f"order {STRAY} was never placed, but there is something of it in billing.invoices"
    }


def new_violations(before: Report, after: Report, name: str) -> set[str]:
    return set(after.verdict(name).violations) - set(before.verdict(name).violations)


@pytest.mark.parametrize("variable", ["PAVANE_KAFKA", "PAVANE_REGISTRY", "PAVANE_DATABASE_WORLD"])
async def test_a_missing_setting_is_named(stack: Stack, variable: str):
    environment = {name: value for name, value in stack.addresses.environment().items() if name != variable}

    with pytest.raises(EvidenceMissing, match=variable):
        await audit(environment)


async def test_a_database_that_does_not_answer_is_named_without_its_password(stack: Stack):
    unreachable = "postgresql://orders:secret@127.0.0.1:9/orders"
    environment = {**stack.addresses.environment(), "PAVANE_DATABASE_ORDERS": unreachable}

    with pytest.raises(EvidenceMissing, match="PAVANE_DATABASE_ORDERS") as raised:
        await audit(environment)

    assert "secret" not in str(raised.value)


def test_a_registry_that_does_not_answer_is_named():
    with pytest.raises(EvidenceMissing, match="PAVANE_REGISTRY"):
        Registry("http://127.0.0.1:9").schema_of(1)


def test_a_kafka_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log, "TIMEOUT_SECONDS", 0.5)

    with closing(log.LogReader("127.0.0.1:9")) as reader, pytest.raises(EvidenceMissing, match="PAVANE_KAFKA"):
        reader.partition_count(["orders"])


async def test_an_audit_that_opens_during_a_change_over_sees_what_that_made(new_database: NewDatabase):
    environment = {"PAVANE_DATABASE_BILLING": await new_database()}
    url = environment["PAVANE_DATABASE_BILLING"]
    await asyncio.to_thread(migrate, "billing", url)
    with psycopg.connect(url) as changing, psycopg.connect(url, autocommit=True) as watching, ExitStack() as stack:
        changing.execute("LOCK TABLE lanes IN ACCESS EXCLUSIVE MODE")
        opening = asyncio.to_thread(databases.open_snapshot, stack, find("billing"), environment)
        opened = asyncio.create_task(opening)

        def waits() -> bool:
            waiting = watching.execute("SELECT FROM pg_locks WHERE NOT granted AND relation = 'lanes'::regclass")
            return bool(waiting.fetchall())

        await eventually(waits, what="the audit waits for the lanes")
        changing.execute("INSERT INTO lanes (partition, partition_count, epoch) VALUES (0, 4, 7)")
        changing.commit()

        assert (await opened).lanes[0].epoch == 7


# -- reading ---------------------------------------------------------------------------------------------------------


async def test_the_log_is_read_from_its_start_to_the_end_it_had_and_no_further(stack: Stack, new_name: str, new_topics):
    topic, empty = new_name, f"{new_name}.empty"
    await new_topics(topic, empty, partitions=2)
    producer = Producer({"bootstrap.servers": stack.addresses.kafka_bootstrap})
    for number in range(3):
        producer.produce(
            topic, key=b"k", value=str(number), headers=[("h", b"1")], partition=1, timestamp=1000 + number
        )
    producer.flush()

    with closing(log.LogReader(stack.addresses.kafka_bootstrap)) as reader:
        ends = reader.ends([topic, empty], reader.partition_count([topic, empty]))
        producer.produce(topic, key=b"k", value=b"late", partition=1)
        producer.flush()
        records = list(reader.records([topic, empty], ends))

    assert ends == {(topic, 0): 0, (topic, 1): 3, (empty, 0): 0, (empty, 1): 0}
    assert records == [
        Record(topic, 1, number, 1000 + number, b"k", str(number).encode(), [("h", b"1")]) for number in range(3)
    ]


async def test_an_audit_goes_on_where_an_earlier_one_had_read_if_it_is_the_same_log(
    stack: Stack, new_name: str, new_topics: NewTopics, tmp_path: Path
):
    await new_topics(new_name, partitions=1)
    where = new_name, 0
    producer = Producer({"bootstrap.servers": stack.addresses.kafka_bootstrap})
    for number in range(5):
        producer.produce(new_name, key=b"k", value=str(number), partition=0)
    producer.flush()
    with closing(log.LogReader(stack.addresses.kafka_bootstrap)) as reader:
        extents = reader.extents([new_name], 1)
        *_, last = reader.records([new_name], {where: 3})

        def go_on(*mark: int, extents: Mapping[Where, Extent] = extents) -> list[bytes | None]:
            live_log, known = _Log(reader, [new_name], extents), Mark(*where, *mark)
            live_log.check([known], tmp_path / "kept")
            return [record.value for record in live_log.records({where: known.next}, live_log.ends)]

        assert go_on(3, last.offset, digest_of(last)) == [b"3", b"4"]
        with pytest.raises(EvidenceMissing, match=f"{new_name}/0 offset 2 is not the record .* delete {tmp_path}/kept"):
            go_on(3, last.offset, digest_of(last) + 1)
        with pytest.raises(EvidenceMissing, match=r"has read it up to offset 6, now it is there from 0 to 5.* delete"):
            go_on(6, 5, 0)
        with pytest.raises(EvidenceMissing, match="has read it up to offset 3, now it is there from 4 to 5"):
            go_on(3, last.offset, digest_of(last), extents={where: Extent(4, 5)})
        # Retention took what was read, and nothing else: there is nothing to compare any more.
        assert go_on(3, last.offset, 0, extents={where: Extent(3, 5)}) == [b"3", b"4"]


async def test_topics_that_do_not_exist_or_do_not_match_are_named(stack: Stack, new_name: str, new_topics):
    await new_topics(new_name, partitions=1)
    await new_topics(f"{new_name}.two", partitions=2)

    with closing(log.LogReader(stack.addresses.kafka_bootstrap)) as reader:
        with pytest.raises(EvidenceMissing, match="has no topic unheard-of"):
            reader.partition_count([new_name, "unheard-of"])
        with pytest.raises(EvidenceMissing, match=f"no database remembers.*{new_name} 1, {new_name}.two 2"):
            reader.partition_count([new_name, f"{new_name}.two"])
        assert reader.partition_count([new_name, f"{new_name}.two"], 1) == 1


async def test_money_that_was_asked_for_twice_and_taken_once_is_one_capture(new_database):
    environment = {"PAVANE_DATABASE_WORLD": await new_database()}
    assert databases.read_world(environment) == ({}, {}, ())
    amount = Money(amount_minor=500, currency="EUR")
    async with SimulatedWorld.playing(provider.SCRIPT, environment) as payments:
        await payments.ask([AuthorizePayment(order_id="o", amount=amount, method="card-ok")])
        await payments.ask([CapturePayment(order_id="o", amount=amount)])
        await payments.ask([CapturePayment(order_id="o", amount=amount)])
    async with SimulatedWorld.playing(carrier.SCRIPT, environment) as bookings:
        address = Address(recipient="A", street="B", postal_code="1", city="C", country="DE")
        await bookings.ask([BookShipment(order_id="o", ship_to=address, items=3)])

    world = databases.read_world(environment)

    assert world.absent == ()
    assert world.charges == {"o": [Charge("payment/o", "o", "captured", 500, "EUR", 1)]}
    assert world.parcels == {"o": [Parcel("shipment/o", "o", "booked", 3, 1)]}
