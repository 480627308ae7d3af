"""Shipping knows addresses as tokens; the carrier is asked in plain text, or to call off what nobody can read. Pure."""

from collections.abc import Sequence

import pytest

from streams.kit.errors import WorldUnavailable
from streams.kit.events import Answer, Effect, Unanswered
from streams.kit.protection import DataKey
from streams.shipping.addresses import FORGOTTEN, RevealingCarrier
from streams.shipping.carrier import Booked, BookingCancelled, BookShipment, CancelBooking, NotBooked, NothingBooked
from streams.shipping.events import Address
from tests.keys_at_hand import KeysAtHand

ORDER = "0190a000-0000-7000-8000-000000000001"
ADDRESS = Address(recipient="Ada", street="Main 1", postal_code="10115", city="Berlin", country="DE")
BOOK = BookShipment(order_id=ORDER, ship_to=ADDRESS, items=5)
CANCEL = CancelBooking(order_id=ORDER)
BOOKED = Booked(reference="shp_1")


class Carrier:
    """Answers as it is told to, and keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[Effect] = []
        self._answers = answers

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        self.asked += effects
        return self._answers


def protected(key: DataKey) -> BookShipment:
    names = ("recipient", "street", "postal_code", "city")
    tokens = {name: key.protect(name, getattr(ADDRESS, name)) for name in names}
    return BookShipment(order_id=ORDER, ship_to=Address(**tokens, country="DE"), items=5)


async def test_the_carrier_is_asked_in_plain_text() -> None:
    keys, carrier = KeysAtHand(), Carrier(BOOKED)

    answers = await RevealingCarrier(carrier, keys).ask([protected(keys.of_person("shop", "c7"))])

    assert (carrier.asked, answers) == ([BOOK], [BOOKED])


@pytest.mark.parametrize(
    ("says", "kept"),
    [
        ("no such street: Main 1, 10115 Berlin", "no such street: (personal)"),
        ("MAIN 1 is not served; ask ada.", "(personal) is not served; ask (personal)."),
        ("no Mainline to DE within 11 days", "no Mainline to DE within 11 days"),
    ],
)
@pytest.mark.parametrize("answer", [NotBooked, Unanswered])
async def test_nothing_that_was_revealed_comes_back_in_a_reason(
    says: str, kept: str, answer: type[NotBooked | Unanswered]
) -> None:
    keys, carrier = KeysAtHand(), Carrier(answer(reason=says))

    answers = await RevealingCarrier(carrier, keys).ask([protected(keys.of_person("shop", "c7"))])

    assert answers == [answer(reason=kept)]


async def test_what_was_planned_in_plain_text_is_asked_as_it_is() -> None:
    carrier = Carrier(BOOKED, NothingBooked())

    answers = await RevealingCarrier(carrier, KeysAtHand()).ask([BOOK, CANCEL])

    assert (carrier.asked, answers) == ([BOOK, CANCEL], [BOOKED, NothingBooked()])


@pytest.mark.parametrize("known", [NothingBooked(), BookingCancelled(reference="shp_1")])
async def test_a_parcel_of_a_forgotten_customer_is_called_off_and_counts_as_refused(known: Answer) -> None:
    """An earlier question may have booked it: its answer was lost, and after a refusal nobody would call it off."""
    keys, carrier = KeysAtHand(), Carrier(known)
    effect = protected(keys.of_person("shop", "c7"))
    keys.destroy("shop", "c7")

    answers = await RevealingCarrier(carrier, keys).ask([effect])

    assert (carrier.asked, answers) == ([CANCEL], [NotBooked(reason=FORGOTTEN)])


async def test_a_carrier_that_does_not_answer_to_the_calling_off_is_asked_again() -> None:
    keys, away = KeysAtHand(), Unanswered(reason="away")
    effect = protected(keys.of_person("shop", "c7"))
    keys.destroy("shop", "c7")

    assert await RevealingCarrier(Carrier(away), keys).ask([effect]) == [away]


async def test_a_key_that_was_never_heard_of_is_waited_for() -> None:
    """The database of keys may have been restored to a moment before the key was made."""
    carrier = Carrier(BOOKED)

    answers = await RevealingCarrier(carrier, KeysAtHand()).ask([protected(DataKey.new()), BOOK])

    assert isinstance(answers[0], Unanswered) and "nor ever destroyed" in answers[0].reason
    assert (carrier.asked, answers[1]) == ([BOOK], BOOKED)


async def test_an_address_that_was_tampered_with_is_never_sent_to() -> None:
    keys, carrier = KeysAtHand(), Carrier(NothingBooked())
    effect = protected(keys.of_person("shop", "c7"))
    swapped = Address(
        recipient=effect.ship_to.street, street=effect.ship_to.recipient, postal_code="1", city="B", country="DE"
    )

    answers = await RevealingCarrier(carrier, keys).ask([BookShipment(order_id=ORDER, ship_to=swapped, items=5)])

    assert carrier.asked == [CANCEL]
    assert isinstance(answers[0], NotBooked) and "it was changed" in answers[0].reason


async def test_while_keys_are_away_the_world_is() -> None:
    keys = KeysAtHand()
    effect = protected(keys.of_person("shop", "c7"))
    with keys.away(), pytest.raises(WorldUnavailable):
        await RevealingCarrier(Carrier(), keys).ask([effect])
