"""May it be deployed? Each answer, from what is live in these few words."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pavane.deploy.judging import Answer, EventName, Live, Met, Running, judge
from pavane.deploy.report import CODES, document, lines
from streams.kit.announcing import Announcement, AvroSchema

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORDER = {"name": "order_id", "type": "string"}
NOTE = {"name": "note", "type": "string"}
NOTE_OR_NONE = {**NOTE, "default": ""}


def placed(*fields: Mapping[str, Any]) -> AvroSchema:
    return event("OrderPlaced", *fields)


def event(name: str, *fields: Mapping[str, Any]) -> AvroSchema:
    return {"type": "record", "name": name, "namespace": "pavane.orders", "fields": list(fields)}


def version(
    name: str = "v2",
    *,
    service: str = "orders",
    says: Sequence[AvroSchema] = (),
    hears: Mapping[str, Sequence[AvroSchema]] = {},
    remembers: Mapping[str, tuple[str, ...]] = {},
) -> Announcement:
    said = {service: {each["name"]: each for each in says}} if says else {}
    heard = {topic: {each["name"]: each for each in events} for topic, events in hears.items()}
    return Announcement(service, name, said, heard, remembers)


def running(said: Announcement, *, is_live: bool = True) -> Running:
    return Running(said, NOON, NOON, is_live)


def live(
    *versions: Announcement,
    silent: Sequence[str] = (),
    registry: Mapping[EventName, Sequence[AvroSchema]] = {},
    lacking: Sequence[EventName] = (),
    met: Sequence[Met] = (),
    columns: Mapping[str, Mapping[str, bool]] = {},
    in_flight: int = 0,
    stopped: Sequence[Announcement] = (),
) -> Live:
    of: dict[str, list[Running]] = {}
    for each in versions:
        of.setdefault(each.service, []).append(running(each))
    for each in stopped:
        of.setdefault(each.service, []).append(running(each, is_live=False))
    return Live(of, frozenset(silent), registry, frozenset(lacking), met, columns, in_flight)


def unread(schema: AvroSchema | None, where: str = "unread", topic: str = "orders") -> Met:
    return Met(where, topic, 7, schema, 3, f"{topic}/1/20", NOON)


BILLING = version("b1", service="billing", hears={"orders": [placed(ORDER)]})


def why_not(answer: Answer) -> str:
    """The one reason against it."""
    (reason,) = answer.reasons
    return str(reason)


def test_a_field_more_that_nobody_reads_yet_may_be_said() -> None:
    assert judge(version(says=[placed(ORDER, NOTE_OR_NONE)]), live(BILLING)).may


def test_a_field_that_a_running_consumer_reads_may_not_go() -> None:
    told = why_not(judge(version(says=[placed(NOTE)]), live(BILLING)))
    assert told.startswith("billing b1: cannot read OrderPlaced as this version says it: the field 'order_id'")


def test_what_the_registry_lacks_may_not_be_said() -> None:
    told = why_not(judge(version(says=[placed(ORDER)]), live(lacking=[("orders", "OrderPlaced")])))
    assert "the registry does not have OrderPlaced of orders as this version says it" in told


def test_a_consumer_must_read_what_waits_for_it() -> None:
    needs_note = version("b2", service="billing", hears={"orders": [placed(ORDER, NOTE)]})
    told = why_not(judge(needs_note, live(met=[unread(placed(ORDER))])))
    assert told.startswith("orders/1/20: 3 unread records OrderPlaced that this version cannot read: the field 'note'")
    assert judge(needs_note, live(met=[unread(placed(ORDER, NOTE))])).may


def test_a_consumer_must_read_every_version_that_the_registry_allows() -> None:
    needs_note = version("b2", service="billing", hears={"orders": [placed(ORDER, NOTE)]})
    versions = {("orders", "OrderPlaced"): [placed(ORDER), placed(ORDER, NOTE)]}
    assert "cannot read version 1 of OrderPlaced in the registry" in why_not(judge(needs_note, live(registry=versions)))


def test_a_schema_that_nobody_knows_stops_a_deploy() -> None:
    assert "the registry knows no schema 7" in why_not(judge(BILLING, live(met=[unread(None)])))


def test_an_event_that_it_does_not_hear_is_nobodys_business() -> None:
    assert judge(BILLING, live(met=[unread(event("PriceSet"))])).may


def test_parked_records_count_as_well() -> None:
    needs_note = version("b2", service="billing", hears={"orders": [placed(ORDER, NOTE)]})
    assert "3 parked records OrderPlaced" in why_not(judge(needs_note, live(met=[unread(placed(ORDER), "parked")])))


def test_a_fact_that_others_react_to_may_not_stop_coming() -> None:
    before = version("v1", says=[placed(ORDER)])
    told = why_not(judge(version(), live(before, BILLING)))
    assert told.startswith("billing b1: reacts to OrderPlaced, which the version that runs says and this one does not")


def asking(name: str, *events: AvroSchema) -> Announcement:
    """A version of the gateway that puts these requests on the log."""
    return Announcement("gateway", name, {"orders.requests": {each["name"]: each for each in events}}, {}, {})


def test_a_request_must_be_read_by_the_service_that_it_is_for() -> None:
    placing = version("v1", hears={"orders.requests": [event("PlaceOrder", ORDER, NOTE)]})
    told = why_not(judge(asking("g2", event("PlaceOrder", ORDER)), live(placing)))
    assert told.startswith("orders v1: cannot read PlaceOrder as this version says it: the field 'note'")
    assert judge(asking("g2", event("PlaceOrder", ORDER, NOTE)), live(placing)).may


def test_a_request_that_nobody_reacts_to_would_be_lost() -> None:
    placing = version("v1", hears={"orders.requests": [event("PlaceOrder", ORDER)]})
    wider = version("v2", hears={"orders.requests": [event("PlaceOrder", ORDER), event("HoldOrder", ORDER)]})
    holds = asking("g2", event("PlaceOrder", ORDER), event("HoldOrder", ORDER))
    told = why_not(judge(holds, live(placing, wider)))
    assert told.startswith("orders v1: does not react to HoldOrder of orders.requests, which this version asks")
    assert judge(holds, live(wider)).may

    back = why_not(judge(placing, live(wider, holds)))
    assert back.startswith("gateway g2: asks HoldOrder on orders.requests, and this version does not react to it")


def test_a_request_may_stop_coming() -> None:
    wider = version("v2", hears={"orders.requests": [event("PlaceOrder", ORDER), event("HoldOrder", ORDER)]})
    holds = asking("g2", event("PlaceOrder", ORDER), event("HoldOrder", ORDER))
    assert judge(asking("g1", event("PlaceOrder", ORDER)), live(wider, holds)).may


def test_a_reaction_may_go_only_when_nothing_needs_it_any_more() -> None:
    without = version("b2", service="billing", hears={"orders": [event("OrderCancelled", ORDER)]})
    told = why_not(judge(without, live(BILLING, met=[unread(placed(ORDER))])))
    assert "does not react to OrderPlaced of orders, and the version that runs does: 3 are unread, 0 are parked" in told
    assert "2 orders are in flight" in why_not(judge(without, live(BILLING, in_flight=2)))
    assert judge(without, live(BILLING)).may


def test_a_reaction_may_not_go_while_a_record_is_parked_that_calls_for_it() -> None:
    without = version("b2", service="billing", hears={"orders": [event("OrderCancelled", ORDER)]})

    told = why_not(judge(without, live(BILLING, met=[unread(placed(ORDER), "parked")])))

    assert "0 are unread, 3 are parked, and 0 orders are in flight" in told
    assert "redrive or discard what is parked ('pavane dead-letters list --service billing')" in told


def test_the_tables_of_the_kit_must_be_migrated_as_well() -> None:
    newer = msgspec.structs.replace(version(), migration="kit_0006")
    before = live()._replace(migrated=frozenset({"kit_0005", "orders_0007"}))

    told = why_not(judge(newer, before))

    assert "the kit's tables of the database are those of kit_0005, not of kit_0006. Run 'pavane migrate'" in told
    assert judge(newer, before._replace(migrated=frozenset({"kit_0006", "orders_0001"}))).may
    assert judge(msgspec.structs.replace(version(), migration="kit_0004"), before).may


def test_a_rollback_must_be_able_to_rebuild_from_its_own_facts() -> None:
    told = why_not(judge(version(says=[placed(ORDER)]), live(met=[unread(event("OrderHeld", ORDER), "own")])))
    assert told.startswith("orders/1/20: its own topic has 3 OrderHeld, which this version does not know")


def test_columns_must_be_there_and_no_other_may_be_needed() -> None:
    keeps = version(remembers={"orders": ("order_id", "note")})
    assert "the table orders of the database lacks note" in why_not(
        judge(keeps, live(columns={"orders": {"order_id": True}}))
    )
    there = {"orders": {"order_id": True, "note": False, "channel": True}}
    assert "the table orders needs a value for channel" in why_not(judge(keeps, live(columns=there)))
    assert judge(keeps, live(columns={"orders": {"order_id": True, "note": False, "channel": False}})).may


def test_who_does_not_say_what_it_hears_cannot_be_judged_against() -> None:
    assert "cannot be judged against the last version of shipping" in why_not(judge(BILLING, live(silent=["shipping"])))


def test_after_a_rebuild_of_a_lost_database_it_is_said_why_nobody_knows_what_ran_there() -> None:
    found = live(silent=["shipping"])._replace(remade={"shipping": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)})

    [reason] = map(str, judge(BILLING, found).reasons)

    assert "what ran of shipping is not known, since its database was made again at 2026-01-02 03:04:05 UTC" in reason
    assert "says its version every 30 seconds: ask again" in reason


def test_who_does_not_run_is_judged_by_its_last_version() -> None:
    answer = judge(version(says=[placed(NOTE)]), live(stopped=[BILLING]))
    assert not answer.may
    assert answer.notes == ("billing does not run; it was judged by the version that ran last, b1.",)


def test_two_versions_that_hear_different_topics_may_not_share_the_group() -> None:
    wider = version("b2", service="billing", hears={"orders": [placed(ORDER)], "shipping": [event("ShipmentBooked")]})
    answer = judge(wider, live(BILLING))
    assert answer.may
    assert any(note.startswith("billing b1 hears other topics") for note in answer.notes)
    assert any("reacts to ShipmentBooked of shipping from now on" in note for note in answer.notes)


def test_a_fact_that_nobody_hears_yet_is_told() -> None:
    more = version(says=[placed(ORDER), event("OrderHeld", ORDER)])
    before = version("v1", says=[placed(ORDER)])
    answer = judge(more, live(before, BILLING))
    assert answer.may
    assert any(note.startswith("It says OrderHeld from now on, and nobody that runs hears it") for note in answer.notes)

    holding = version("b2", service="billing", hears={"orders": [placed(ORDER), event("OrderHeld", ORDER)]})
    assert judge(more, live(before, holding)).notes == ()


def test_other_code_with_the_same_declarations_is_told_apart() -> None:
    (note,) = judge(version("b2", service="billing", hears={"orders": [placed(ORDER)]}), live(BILLING)).notes
    assert "what it would decide otherwise is not asked here" in note


def test_what_was_too_much_to_look_at_is_no_yes() -> None:
    answer = judge(BILLING, live(met=[unread(placed(ORDER))])._replace(left_out=7_000))

    assert answer.may is None
    told = list(lines(answer, live(), NOON))
    assert told[0] == "Not known: nothing speaks against billing b1, but not everything could be judged."
    assert "  ? billing: of the records that it would meet, 7,000 were too many to look at." in told[1]
    assert (document(answer, live())["can_deploy"], CODES[answer.may]) == (None, 2)


def test_what_speaks_against_it_does_so_however_much_was_not_looked_at() -> None:
    answer = judge(BILLING, live(met=[unread(None)])._replace(left_out=7_000))

    assert (answer.may, CODES[answer.may]) == (False, 1)


def test_a_gateway_that_never_said_what_it_asks_is_named_where_anything_else_runs() -> None:
    never = Live({"gateway": [], "billing": [running(BILLING)]}, frozenset(), {}, frozenset(), [], {}, 0)
    orders = version(hears={"orders.requests": [event("PlaceOrder", ORDER)]})

    assert "No gateway ever said what it asks" in judge(orders, never).notes[0]
    nothing_ran = never._replace(running={"gateway": [], "billing": []})
    assert judge(orders, nothing_ran).notes == ()
    asks = version("g1", service="gateway", says=[event("PlaceOrder", ORDER)])
    assert judge(asks, never).notes == ()
    said = never._replace(running={**never.running, "gateway": [running(asks)]})
    assert not any("No gateway" in note for note in judge(orders, said).notes)
