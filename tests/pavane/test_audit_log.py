"""The audit names every fact that was lost, doubled, displaced or said before its causes."""

from typing import Any

import pytest
from msgspec.structs import replace

from pavane.audit import ledger
from streams.kit import envelope
from streams.kit.lane import Holding
from streams.kit.log import Record, ToSay
from tests.pavane.audited import PARTITIONS, SERVICES, Look, Seen, Shop, headed, said_by

LOST, SEQUENCES, CAUSES = "nothing-lost", "sequences", "after-causes"


class Case:
    """A shop at rest with one confirmed order."""

    def __init__(self, shop: Shop, order: str) -> None:
        self.shop = shop
        self.order = order
        self.look = shop.look()

    def fact(self, topic: str, at: int = 0) -> Record:
        return self.look.records(topic, self.order)[at]

    def plant(self, topic: str, **values: Any) -> Record:
        """Append a record like the topic's first about the order, with other values."""
        fact = self.fact(topic)
        records = self.look.log[topic, fact.partition]
        records.append(replace(fact, offset=len(records), **values))
        self.look.ends[topic, fact.partition] += 1
        return records[-1]

    def words(self, name: str) -> str:
        return "\n".join(self.look.broken().get(name, ()))

    def notes(self, name: str) -> str:
        return "\n".join(self.look.verdicts()[name].notes)

    def write(self, topic: str, partition: int, *records: Record) -> None:
        """The partition's log reads so now, and whoever hears it has heard it to its end."""
        self.look.log[topic, partition] = [replace(record, offset=at) for at, record in enumerate(records)]
        self.look.ends[topic, partition] = len(records)
        for seen in self.look.seen.values():
            lane = seen.lanes[partition]
            if topic in lane.positions:
                seen.lanes[partition] = lane._replace(positions={**lane.positions, topic: len(records)})


@pytest.fixture
async def case() -> Case:
    shop = Shop()
    shop.stock("lamp", 100)
    await shop.settle()
    order = shop.place("lamp")
    await shop.settle()
    return Case(shop, order)


# -- sequences -------------------------------------------------------------------------------------------------------


def test_a_lost_fact_is_a_gap_and_is_in_no_outbox(case: Case):
    authorized = case.fact("billing", 1)
    case.look.replace(authorized)
    own_id = envelope.read(authorized.headers).id

    assert "1 facts of billing are missing" in case.words(SEQUENCES)
    assert f"the database of billing has committed {own_id}, but neither the log nor the outbox" in case.words(LOST)
    assert f"its cause {own_id} is not in the log" in case.words(CAUSES)


def test_a_lost_tail_is_in_no_outbox(case: Case):
    captured = case.fact("billing", -1)
    case.look.replace(captured)
    seen = case.look.seen["billing"]
    seen.unsaid = [(p, fact) for p, fact in seen.unsaid if fact.headers != captured.headers]

    assert f"has committed {envelope.read(captured.headers).id}, but neither" in case.words(LOST)


def test_facts_in_another_order_than_they_were_said_are_named(case: Case):
    first, second = case.fact("orders", 0), case.fact("orders", 1)
    case.look.replace(second)
    case.look.replace(first, second, first)

    assert "appears for the first time after" in case.words(SEQUENCES)


def test_facts_that_stood_behind_a_gap_are_heard_where_they_come_once_more(case: Case):
    """A topic lost two facts, its speaker said two more before it noticed, and the log was restored."""
    partition = case.fact("billing").partition
    opened, authorized, captured = case.look.log["billing", partition]
    case.write("billing", partition, captured, opened, authorized, captured)

    assert case.look.broken() == {}
    assert f"billing/{partition}: facts up to 3 stood behind a gap; the log was restored" in case.notes(SEQUENCES)


def test_facts_that_an_outbox_says_again_may_stand_behind_a_gap_until_then(case: Case):
    partition = case.fact("billing").partition
    facts = case.look.log["billing", partition]
    case.write("billing", partition, facts[-1])
    case.look.seen["billing"].decisions.append([f"billing/{partition}"])
    elsewhere = [each for each in case.look.seen["billing"].unsaid if each[0] != partition]
    case.look.seen["billing"].unsaid = [*elsewhere, *((partition, said_again(fact)) for fact in facts)]

    assert case.look.broken() == {}
    assert case.look.verdicts()[LOST].unsettled >= len(facts)


async def test_what_listeners_had_heard_is_still_to_be_read_again_right_after_a_restore(case: Case):
    partition = case.fact("billing").partition
    for name in ("orders", "shipping", "timeline"):
        seen = case.look.seen[name]
        lane = seen.lanes[partition]
        seen.lanes[partition] = lane._replace(positions={**lane.positions, "billing": 1})
    assert "the log does not hold what it heard" in case.words(LOST)

    case.look.seen["billing"].decisions.append([f"billing/{partition}"])

    assert case.look.broken() == {}
    change_clock(case.look, "orders", partition, billing=1)
    assert "the log does not hold what it heard" in case.words(LOST)


def said_again(fact: Record) -> ToSay:
    """The fact as an outbox holds it."""
    return ToSay(fact.topic, fact.timestamp, fact.key, fact.value or b"", envelope.with_values(fact.headers))


def test_facts_behind_a_gap_that_stays_are_folded_where_they_stand(case: Case, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ledger, "MOST_STRAYS", 1)
    partition = case.fact("billing").partition
    case.write("billing", partition, *case.look.log["billing", partition][1:])

    assert "1 facts of billing are missing" in case.words(SEQUENCES)
    assert len(case.look.broken()[SEQUENCES]) == 1
    assert "status" not in case.words("rows-rebuilt")


def test_a_fact_that_is_said_again_with_other_bytes_is_named(case: Case):
    fact = case.fact("shipping")
    case.look.replace(fact, fact, replace(fact, value=(fact.value or b"") + b"\0"))

    assert "is said again, but with other bytes than the first time" in case.words(SEQUENCES)


def test_a_fact_in_the_wrong_partition_is_named(case: Case):
    fact = case.fact("shipping")
    elsewhere = (fact.partition + 1) % PARTITIONS
    records = case.look.log.setdefault(("shipping", elsewhere), [])
    records.append(replace(fact, partition=elsewhere, offset=len(records)))

    assert "it was written to the wrong topic or partition" in case.words(SEQUENCES)


def test_a_fact_whose_key_belongs_elsewhere_is_named(case: Case):
    fact = case.fact("shipping")
    key = next(key for key in map(str, range(100)) if case.shop.home(key) != fact.partition)
    case.look.replace(fact, replace(fact, key=key.encode()))

    assert f"is about '{key}', which belongs in partition {case.shop.home(key)}" in case.words(SEQUENCES)


def test_a_clock_that_goes_back_is_named(case: Case):
    confirmed = case.fact("orders", 1)
    case.look.replace(confirmed, headed(confirmed, clock="{}"))

    assert "claims to know orders.requests up to 0, the fact before it knew" in case.words(SEQUENCES)


def test_a_foreign_writer_is_named(case: Case):
    case.plant("billing", headers=())

    assert "somebody else than billing wrote it" in case.words(SEQUENCES)


def test_a_foreign_record_is_only_told_once_all_who_hear_the_topic_have_passed_over_it(case: Case):
    planted = case.plant("billing", headers=())
    *others, last = [seen for seen in case.look.seen.values() if "billing" in seen.service.topics]
    for seen in others:
        go_on_behind(seen, planted)
    assert "somebody else than billing wrote it" in case.words(SEQUENCES)

    go_on_behind(last, planted)

    assert case.look.broken() == {}
    [told] = [note for note in case.look.verdicts()[SEQUENCES].notes if "billing wrote it" in note]
    assert told.endswith("all who hear the topic have passed over it")


def go_on_behind(seen: Seen, record: Record) -> None:
    """The service's lane is to read what comes after the record."""
    lane = seen.lanes[record.partition]
    positions = {**lane.positions, record.topic: record.offset + 1}
    seen.lanes[record.partition] = lane._replace(positions=positions)


def test_a_header_without_a_value_is_no_envelope(case: Case):
    case.plant("billing", headers=[("ce_id", None)])

    assert "somebody else than billing wrote it" in case.words(SEQUENCES)


@pytest.mark.parametrize(
    ("header", "value"),
    [("ce_id", f"billing/LANE/{2**63}"), ("clock", f'{{"orders":{2**63}}}'), ("clock", '{"orders":-1}')],
)
def test_an_envelope_with_a_number_that_nobody_counts_up_to_is_none_of_ours(case: Case, header: str, value: str):
    fact = case.fact("billing")
    case.plant("billing", headers=headed(fact, **{header: value.replace("LANE", str(fact.partition))}).headers)

    assert "it has no envelope of ours (it has a number that nobody counts up to)" in case.words(SEQUENCES)


def test_a_dead_letter_with_a_number_that_nobody_counts_up_to_is_none_of_ours(case: Case):
    topic = "orders.dead-letters"
    headers = {"dead_letter_id": f"{topic}/0/{2**63}", "dead_letter_origin": "x", "dead_letter_clock": "{}"}
    forged = [(name, value.encode()) for name, value in headers.items()]
    case.look.log[topic, 0] = [Record(topic, 0, 0, 0, b"k", b"v", forged)]

    assert case.look.broken() == {}
    assert "it is no dead letter of ours (it has a number that nobody counts up to)" in case.notes(SEQUENCES)


@pytest.mark.parametrize("number", [str(2**63), "9" * 5000])
def test_a_cause_with_a_number_that_nobody_counts_up_to_is_none(case: Case, number: str):
    fact = case.fact("shipping")
    case.look.replace(fact, headed(fact, cause=f"orders/{fact.partition}/{number}"))

    assert "it names no cause that can be read" in case.words(CAUSES)


def test_a_foreign_record_among_the_dead_letters_which_nobody_hears_is_only_told(case: Case):
    case.look.log["orders.dead-letters", 0] = [Record("orders.dead-letters", 0, 0, 0, b"k", b"v", ())]

    assert case.look.broken() == {}
    assert "it is no dead letter of ours (the header 'dead_letter_id' is missing)" in case.notes(SEQUENCES)


def test_bytes_that_are_no_event_are_named(case: Case):
    fact = case.fact("billing")
    case.look.replace(fact, replace(fact, value=b"\0\0\0\0\xffx"))

    assert "cannot be read" in case.words(SEQUENCES)


def test_a_fact_committed_with_other_bytes_than_said_is_named(case: Case):
    fact = case.fact("orders")
    other = ToSay(fact.topic, fact.timestamp, fact.key, (fact.value or b"") + b"\0", fact.headers)
    case.look.seen["orders"].unsaid.append((fact.partition, other))

    assert "was committed with other bytes than the log holds" in case.words(SEQUENCES)


# -- between databases and log ---------------------------------------------------------------------------------------


def test_a_fact_that_its_database_never_committed_is_named(case: Case):
    said_by(case.look, "shipping", case.order, "ShipmentCancelled", order_id=case.order, reference=None)

    assert "but the database of shipping has committed" in case.words(LOST)
    assert "restored from an older copy" in case.words(LOST)


@pytest.mark.parametrize("service", ["orders", "inventory", "billing", "shipping"])
def test_a_database_that_was_made_anew_is_named(case: Case, service: str):
    case.look.wipe(service)

    assert f"the database of {service} has committed 0" in case.words(LOST)


def test_what_a_view_that_was_made_anew_has_not_heard_again_is_not_settled_yet(case: Case):
    case.look.wipe("timeline")

    assert case.look.broken() == {}
    facts = sum(len(records) for (topic, _), records in case.look.log.items() if topic in SERVICES)
    assert case.look.verdicts()[LOST].unsettled == facts


def test_a_service_that_never_ran_has_nothing_to_answer_for():
    look = Shop().look()
    for service in SERVICES:
        look.wipe(service)

    assert look.broken() == {}


def test_a_fact_that_was_passed_over_is_named(case: Case):
    lane = change_clock(case.look, "inventory", case.fact("orders").partition, orders=-1)

    assert f"which makes {lane.clock['orders'] + 1} the last one heard, but its clock says" in case.words(LOST)
    assert "facts were passed over" in case.words(LOST)


def test_a_clock_that_knows_what_the_log_does_not_hold_is_named(case: Case):
    change_clock(case.look, "inventory", case.fact("orders").partition, orders=5)

    assert "the log does not hold what it heard" in case.words(LOST)


def test_hearsay_that_the_log_does_not_hold_is_named(case: Case):
    change_clock(case.look, "inventory", case.fact("orders").partition, shipping=7)

    assert "knows of shipping up to" in case.words(LOST)


def test_a_log_that_ends_before_what_was_read_is_named(case: Case):
    where = ("orders", case.fact("orders").partition)
    case.look.ends[where] -= 1

    assert "the log lost 1 records, or this is another cluster" in case.words(LOST)


async def test_a_dead_letter_that_was_lost_is_named(case: Case):
    case.shop.append("orders.requests", case.order, b"garbage")
    await case.shop.settle()
    look = case.shop.look()
    [letter] = look.records("orders.dead-letters", case.order)
    look.replace(letter)
    look.seen["orders"].unsaid.clear()

    assert "has committed orders.dead-letters/" in "\n".join(look.broken()[LOST])


# -- what need not be kept -------------------------------------------------------------------------------------------


def expire(look: Look, topic: str, kept: int = 0) -> None:
    """Retention has taken all but the last records of every partition."""
    for where in [where for where in look.log if where[0] == topic]:
        look.log[where] = look.log[where][-kept:] if kept else []
        look.starts[where] = look.ends[where] - len(look.log[where])


@pytest.mark.parametrize("kept", [0, 1])
async def test_requests_that_retention_has_taken_are_no_longer_kept_and_break_nothing(case: Case, kept: int):
    for _ in range(9):
        case.shop.place("lamp")
    await case.shop.settle()
    look = case.shop.look()
    for topic in ("orders.requests", "inventory.requests"):
        expire(look, topic, kept)
    as_if_lost = look.copy()
    as_if_lost.starts = {}

    assert look.broken() == {}
    assert any("requests that are no longer kept" in note for note in look.verdicts()[CAUSES].notes)
    assert "is not in the log" in "\n".join(as_if_lost.broken()[CAUSES])


async def with_letters(case: Case, of: int) -> Look:
    for _ in range(of):
        case.shop.append("orders.requests", case.order, b"garbage")
    await case.shop.settle()
    look = case.shop.look()
    look.seen["orders"].unsaid.clear()
    return look


@pytest.mark.parametrize("kept", [0, 1])
async def test_dead_letters_that_retention_has_taken_are_no_longer_kept_and_break_nothing(case: Case, kept: int):
    look = await with_letters(case, 3)
    expire(look, "orders.dead-letters", kept)

    assert look.broken() == {}
    assert any("are no longer kept" in note for note in look.verdicts()[LOST].notes)


async def test_a_dead_letter_that_was_lost_is_named_though_older_ones_are_no_longer_kept(case: Case):
    look = await with_letters(case, 3)
    expire(look, "orders.dead-letters", 2)
    look.replace(look.records("orders.dead-letters", case.order)[-1])

    assert "has committed orders.dead-letters/" in "\n".join(look.broken()[LOST])
    assert "is no event about" in "\n".join(look.broken()["requests-answered"])


async def test_what_was_heard_of_a_topic_of_requests_before_it_was_made_again_is_not_held_against_a_lane(case: Case):
    shop, topic = case.shop, "orders.requests"
    partition, orders = shop.home(case.order), shop.instances["orders"]
    said = orders.database.lanes[partition].clock["orders"]
    shop.log[topic, partition] = []
    orders.go_on(partition, topic, 0)
    while shop.home(shop.place("lamp")) != partition:
        pass
    shop.append(topic, case.order, b"garbage")
    await shop.settle()
    look = shop.look()
    assert {CAUSES, SEQUENCES} <= look.broken().keys()

    look.seen["orders"].decisions.append([f"{topic}/{partition}/0", f"orders/{partition}/{said}"])

    assert look.broken() == {}
    assert any("requests that are no longer kept" in note for note in look.verdicts()[CAUSES].notes)


# -- causes ----------------------------------------------------------------------------------------------------------


def test_a_cause_that_does_not_exist_is_named(case: Case):
    fact = case.fact("shipping")
    case.look.replace(fact, headed(fact, cause=f"orders/{fact.partition}/999"))

    assert f"its cause orders/{fact.partition}/999 is not in the log" in case.words(CAUSES)


def test_a_cause_beyond_the_clock_is_named(case: Case):
    confirmed = envelope.read(case.fact("orders", 1).headers)
    fact = case.fact("inventory", 0)
    case.look.replace(fact, headed(fact, cause=confirmed.id))

    assert f"its cause {confirmed.id} is beyond its clock" in case.words(CAUSES)


def test_a_cause_about_something_else_is_named(case: Case):
    priced = next(record for records in case.look.log.values() for record in records if record.key == b"shop/lamp")
    fact = case.fact("orders")
    case.look.replace(fact, replace(fact, key=b"shop/lamp"))

    assert priced.key == b"shop/lamp"
    assert f"is about {case.order}" in case.words(CAUSES)


def test_an_answer_that_was_heard_before_its_question_is_named(case: Case):
    """Shipping hears the payment before the order that it is for: its clock knows billing, but not orders."""
    planned = case.fact("shipping", 0)
    authorized = envelope.read(case.fact("billing", 1).headers)
    clock = envelope.write_clock({"billing": authorized.sequence, "orders": 0}).decode()
    case.look.replace(planned, headed(planned, clock=clock, cause=authorized.id))

    assert "an answer was heard before its question" in case.words(CAUSES)


def test_a_fact_that_was_known_before_it_was_said_is_named(case: Case):
    placed, reserved = case.fact("orders", 0), envelope.read(case.fact("inventory", 0).headers)
    heard = {**envelope.read(placed.headers).heard, "inventory": reserved.sequence}
    case.look.replace(placed, headed(placed, clock=envelope.write_clock(heard).decode()))

    assert f"it knows {reserved.id}, which knew orders up to" in case.words(CAUSES)


def test_a_cause_that_cannot_be_read_is_named(case: Case):
    fact = case.fact("billing")
    case.look.replace(fact, headed(fact, cause="?"))

    assert "it names no cause that can be read" in case.words(CAUSES)


def change_clock(look: Look, service: str, partition: int, **by: int) -> Holding:
    """Add to what one lane knows."""
    lane = look.seen[service].lanes[partition]
    clock = {**lane.clock, **{who: lane.clock.get(who, 0) + more for who, more in by.items()}}
    look.seen[service].lanes[partition] = lane._replace(clock=clock)
    return look.seen[service].lanes[partition]
