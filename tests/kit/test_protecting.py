"""What is personal in a request is protected before anything is decided. Pure: keys at hand, no server."""

from datetime import UTC, datetime

import pytest

from api.events import ALL
from streams.kit.envelope import of_request
from streams.kit.errors import LanguageError, Refused
from streams.kit.events import Heard, Request
from streams.kit.keyring import KeysAway
from streams.kit.keystore import Person
from streams.kit.lane import Delivery
from streams.kit.language import Language
from streams.kit.log import Record
from streams.kit.opening import Opened
from streams.kit.personal import Marks, personal_paths
from streams.kit.protecting import Protector
from streams.kit.protection import is_protected
from streams.orders.events import Address, CancelOrder, OrderLine, PlaceOrder
from streams.orders.service import orders
from tests.keys_at_hand import KeysAtHand

LANGUAGE = Language.load()
ORDER = "0190a000-0000-7000-8000-000000000001"
ADDRESS = Address(recipient="Ada", street="Main 1", postal_code="10115", city="Berlin", country="DE")
PLACE = PlaceOrder(
    tenant="shop", order_id=ORDER, customer="c7", lines=(OrderLine(sku="lamp", quantity=1),), currency="EUR",
    payment_method="card", ship_to=ADDRESS, at=datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip
MARKS = Marks.of(LANGUAGE, PlaceOrder)


def opened(event: Heard | None) -> Opened:
    record = Record("orders.requests", 0, 0, 0, ORDER.encode(), b"", ())
    return Opened(Delivery(record, of_request("orders.requests", 0, 0, ())), event, ORDER, ORDER)


async def protected(keys: KeysAtHand, event: Heard | None) -> Opened:
    [one] = await Protector(orders.views, LANGUAGE, keys).protect([opened(event)])
    return one


async def placed(keys: KeysAtHand, event: PlaceOrder = PLACE) -> PlaceOrder:
    one = await protected(keys, event)
    assert isinstance(one.event, PlaceOrder), one.problem
    return one.event


async def test_what_the_schema_marks_is_protected_and_nothing_else() -> None:
    keys = KeysAtHand()

    event = await placed(keys)

    assert all(is_protected(text) for text in MARKS.texts(event))
    assert MARKS.changed(event, keys.reveal) == PLACE
    assert (event.ship_to.country, event.payment_method, event.lines) == ("DE", "card", PLACE.lines)
    assert keys.plain == {Person("shop", "c7")}


async def test_a_request_heard_again_is_the_same_event() -> None:
    keys = KeysAtHand()

    assert await placed(keys) == await placed(keys)


async def test_what_is_protected_already_stays_as_it_is() -> None:
    keys = KeysAtHand()
    event = await placed(keys)
    keys.plain.clear()

    assert await placed(keys, event) == event
    assert not keys.plain


async def test_what_no_field_may_hold_is_left_for_the_service_to_refuse() -> None:
    changed = PlaceOrder(**{**_fields(PLACE), "ship_to": Address(**{**_fields(ADDRESS), "street": "a\0b"})})

    event = await placed(KeysAtHand(), changed)

    assert event.ship_to.street == "a\0b"
    assert is_protected(event.ship_to.city) and is_protected(event.customer)


@pytest.mark.parametrize("wrong", [{"customer": ""}, {"customer": "x" * 129}, {"tenant": "a/b"}])
async def test_of_nobody_that_the_service_knows_a_key_is_made(wrong: dict[str, str]) -> None:
    keys = KeysAtHand()

    event = PlaceOrder(**{**_fields(PLACE), **wrong})

    assert await placed(keys, event) == event
    assert not keys.persons


async def test_a_half_protected_request_is_refused() -> None:
    keys = KeysAtHand()
    half = PlaceOrder(**{**_fields(PLACE), "customer": (await placed(keys)).customer})

    one = await protected(keys, half)

    assert one.event is None and isinstance(one.problem, Refused)
    assert "some of its personal texts are protected" in str(one.problem)


async def test_while_keys_are_away_nothing_is_decided() -> None:
    keys = KeysAtHand()
    with keys.away(), pytest.raises(KeysAway):
        await protected(keys, PLACE)


async def test_other_events_and_records_without_one_pass() -> None:
    cancel = CancelOrder(tenant="shop", order_id=ORDER)

    assert (await protected(KeysAtHand(), cancel)).event == cancel
    assert (await protected(KeysAtHand(), None)).event is None


def test_every_request_of_the_gateway_with_personal_fields_says_whose_they_are() -> None:
    for request in ALL:
        marked = personal_paths(LANGUAGE.latest(request.topic, request.__name__))
        paths = Marks.of(LANGUAGE, request).paths if request.person else ()
        assert set(paths) == set(marked), request.__name__


def test_every_marked_field_of_the_language_can_be_protected() -> None:
    marked = {schema.name for schema in LANGUAGE if personal_paths(schema)}

    assert {"PlaceOrder", "CancelOrder", "OrderPlaced", "OrderRejected", "ShipmentPlanned"} <= marked


def test_a_request_that_does_not_say_whose_data_it_carries_is_refused_at_start() -> None:
    wrong: type[Request] = type(PlaceOrder)(
        "PlaceOrder", (Request,), {"__annotations__": {"tenant": str, "ship_to": Address}}, topic="orders.requests"
    )
    wrong.person = "order_id"

    with pytest.raises(LanguageError, match="whose personal data it is must be known"):
        Marks.of(LANGUAGE, wrong)


def _fields(value: PlaceOrder | Address) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__struct_fields__}
