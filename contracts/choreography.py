"""The dance as services declare it: who hears whom, and one order played through their real decisions.

Nothing here is a second list: listeners come from the declared views, and the steps of a saga come from giving the
facts of one order to `decide` of every service that hears them.

    python -m contracts.choreography        # the picture of the README, as Mermaid
"""

import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from contracts.views import services
from streams.billing import simulator as payments
from streams.inventory.events import StockReceived
from streams.kit.events import Answer, Effect, Event, Fact, Heard
from streams.kit.money import Money
from streams.kit.service import Service
from streams.kit.testing import Story
from streams.orders.events import Address, OrderLine, PlaceOrder, PriceSet
from streams.shipping import simulator as bookings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ORDER = "0190a000-0000-7000-8000-000000000001"
GATEWAY = "gateway"


class Step(NamedTuple):
    """One event of a saga, who said it, and which services it moved: they said or asked something because of it.

    `value`: the event itself. `cause`: the place in the saga of the event that it answers; -1 for what began it.
    """

    speaker: str
    event: str
    moved: tuple[str, ...]
    asked: tuple[str, ...]
    value: Event
    cause: int


def listeners(among: Sequence[Service]) -> dict[tuple[str, str], list[str]]:
    """By topic and event: the services that hear it."""
    found: dict[tuple[str, str], list[str]] = {}
    for service in among:
        for view in service.views:
            found.setdefault((view.topic, view.__name__), []).append(service.name)
    return found


def play(place: PlaceOrder, among: Sequence[Service]) -> Iterator[Step]:
    """The saga of one order, first said first heard: it has a price and is on hand, and the world answers."""
    dancers = [service for service in among if not service.is_projection]
    stories = {service.name: Story(service) for service in dancers}
    for line in place.lines:
        price = Money(amount_minor=500, currency=place.currency)
        stories["orders"].heard(PriceSet(tenant=place.tenant, sku=line.sku, price=price, request_id="price"))
        received = StockReceived(tenant=place.tenant, sku=line.sku, quantity=line.quantity, request_id="receipt")
        stories["inventory"].heard(received)
    world = _World()
    to_hear: deque[tuple[str, Event, int]] = deque([(GATEWAY, place, -1)])
    number = 0
    while to_hear:
        speaker, event, cause = to_hear.popleft()
        moved, asked = [], []
        for service in dancers:
            view = _view(service, speaker, event)
            if view is None:
                continue
            facts, effects = _decide(stories[service.name], _as_heard(event, view), world)
            if facts or effects:
                moved.append(service.name)
            asked += [type(effect).__name__ for effect in effects]
            to_hear += [(service.name, fact, number) for fact in facts]
        yield Step(speaker, type(event).__name__, tuple(moved), tuple(asked), event, cause)
        number += 1


def example(method: str = "card-ok", country: str = "DE") -> PlaceOrder:
    """An order to play."""
    home = Address(recipient="A. Reader", street="Main Street 1", postal_code="10115", city="Berlin", country=country)
    return PlaceOrder(
        at=NOON,
        tenant="shop",
        order_id=ORDER,
        customer="customer-1",
        lines=(OrderLine(sku="lamp", quantity=2),),
        currency="EUR",
        payment_method=method,
        ship_to=home,
    )


def mermaid(steps: Sequence[Step]) -> str:
    """The saga as a Mermaid sequence diagram: an arrow to every service that an event moves."""
    names = dict.fromkeys([GATEWAY, *(step.speaker for step in steps)])
    lines = ["sequenceDiagram", *(f"    participant {name}" for name in names)]
    for step in steps:
        if not step.moved:
            lines.append(f"    Note over {step.speaker}: {step.event}")
        for name in step.moved:
            arrow = "->>" if step.speaker == GATEWAY else "-->>"
            lines.append(f"    {step.speaker}{arrow}{name}: {step.event}")
        lines += [f"    Note right of {step.moved[-1]}: asks {effect}" for effect in step.asked]
    return "\n".join(lines)


def _view(service: Service, speaker: str, event: Event) -> type[Heard] | None:
    """The view in which the service hears the event, if it reacts to it."""
    for view in service.reactions:
        if view is type(event):
            return type(event) if isinstance(event, Heard) else None
        if issubclass(view, Heard) and (view.topic, view.__name__) == (speaker, type(event).__name__):
            return view
    return None


def _as_heard(event: Event, view: type[Heard]) -> Heard:
    if isinstance(event, view):
        return event
    fields: Mapping[str, Any] = {"at": NOON, **msgspec.to_builtins(event, builtin_types=(datetime,))}
    return msgspec.convert(fields, view)


class _World:
    """The simulated provider and carrier, without their databases."""

    def __init__(self) -> None:
        self._payments: dict[str, payments.Payment] = {}
        self._bookings: dict[str, bookings.Booking] = {}

    def answer(self, effect: Any) -> Answer:
        answer: Answer
        if effect.key.startswith("payment/"):
            payment = self._payments.get(effect.key) or payments.Payment(key=effect.key, order_id=effect.order_id)
            self._payments[effect.key], answer = payments.answer(payment, effect, NOON)
        else:
            booking = self._bookings.get(effect.key) or bookings.Booking(key=effect.key, order_id=effect.order_id)
            self._bookings[effect.key], answer = bookings.answer(booking, effect, NOON)
        return answer


def _decide(story: Story, event: Heard, world: _World) -> tuple[list[Fact], list[Effect]]:
    said = story.when(event).said
    effects = [each for each in said if isinstance(each, Effect)]
    facts = [each for each in said if isinstance(each, Fact)]
    for effect in effects:
        facts += [each for each in story.answered(world.answer(effect)).said if isinstance(each, Fact)]
    return facts, effects


if __name__ == "__main__":
    sys.stdout.write(mermaid(list(play(example(), list(services())))) + "\n")
