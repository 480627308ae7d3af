"""What a version says of itself."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from api.announced import announcement as of_gateway
from api.events import ALL
from contracts.compatibility import why_unreadable
from streams.kit.announcing import announcement
from streams.kit.events import Heard, State
from streams.kit.language import Language
from streams.kit.migrations import _history
from streams.kit.run import find, services
from streams.kit.service import Service

LANGUAGE = Language.load()


@pytest.mark.parametrize("name", services())
def test_every_service_announces_what_it_declares(name: str) -> None:
    service, said = find(name), announcement(find(name), LANGUAGE)
    assert {event for events in said.says.values() for event in events} == set(service.says)
    heard = {(topic, event) for topic, events in said.hears.items() for event in events}
    assert heard == {(view.topic, view.__name__) for view in service.views}
    assert said == announcement(service, LANGUAGE), "the same code is the same version"


@pytest.mark.parametrize("name", services())
def test_every_service_announces_the_last_migration_of_the_kit(name: str) -> None:
    assert announcement(find(name), LANGUAGE).migration in _history(name).get_heads()


@pytest.mark.parametrize("name", services())
def test_every_service_understands_what_all_services_say(name: str) -> None:
    said = {topic: events for each in services() for topic, events in announcement(find(each), LANGUAGE).says.items()}
    for topic, events in announcement(find(name), LANGUAGE).hears.items():
        for event, schema in events.items():
            if topic in said:
                assert why_unreadable(schema, said[topic][event]) == ""


def test_the_gateway_announces_every_request_that_it_asks() -> None:
    said = of_gateway(LANGUAGE)
    assert {(topic, name) for topic, events in said.says.items() for name in events} == {
        (request.topic, request.__name__) for request in ALL
    }
    for topic, events in said.says.items():
        heard = announcement(find(topic.removesuffix(".requests")), LANGUAGE).hears[topic]
        assert [why_unreadable(heard[name], schema) for name, schema in events.items()] == [""] * len(events)
    assert said == of_gateway(LANGUAGE), "the same code is the same version"


def test_a_symbol_that_the_code_does_not_know_cannot_be_read() -> None:
    class Known(StrEnum):
        CUSTOMER = "CUSTOMER"
        DEADLINE = "DEADLINE"

    class Seen(State, table="seen", key="order_id"):
        order_id: str

    class OrderCancelled(Heard, topic="orders"):
        order_id: str
        reason: Known

    service = Service("listener", states=[Seen])
    # A local class has no module in which its annotations could be looked up.
    OrderCancelled.__annotations__ = {"order_id": str, "reason": Known}
    Seen.__annotations__ = {"order_id": str}

    def note(seen: Seen, cancelled: OrderCancelled) -> Seen:
        return seen

    note.__annotations__ = {"seen": Seen}
    service.evolves(OrderCancelled)(note)
    read: Mapping[str, Any] = announcement(service, LANGUAGE).hears["orders"]["OrderCancelled"]
    assert [field["name"] for field in read["fields"]] == ["order_id", "reason"]
    told = why_unreadable(read, LANGUAGE.latest("orders", "OrderCancelled").raw)
    assert "OUT_OF_STOCK" in told
