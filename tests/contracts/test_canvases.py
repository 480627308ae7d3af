"""The canvas of a service, its README.md, says what its code declares, row by row."""

import re
from pathlib import Path

import pytest

from choreography.declared import Dance
from contracts.views import services
from streams.kit.service import Service
from streams.orders.service import DEADLINE_SECONDS

ROOT = Path(__file__).parents[2]
SERVICES = list(services())
DANCE = Dance(SERVICES)
ABOUT_ITEMS = {"PriceSet", "StockReceived", "StockAdjusted"}
every = pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)


def canvas(service: Service) -> str:
    return (ROOT / "streams" / service.name / "README.md").read_text()


def row(service: Service, name: str) -> str:
    """One row of the canvas; empty if it has none of that name."""
    return "".join(re.findall(rf"^\| \*\*{name}\*\* \|(.*)\|$", canvas(service), re.MULTILINE))


def events(text: str) -> set[str]:
    return set(re.findall(r"`([A-Z][a-z]\w+)`", text))


def topics(text: str) -> list[str]:
    return re.findall(r"`([a-z.]+)`", text)


@every
def test_a_canvas_names_what_its_service_says(service: Service) -> None:
    assert events(row(service, "Says")) == set(service.says)


@every
def test_a_canvas_names_what_its_service_hears_and_of_whom(service: Service) -> None:
    heard = {topic: events(part) for part in row(service, "Hears").split("·") for topic in topics(part)}
    assert set(heard) == set(service.topics)
    if not service.is_projection:
        views = {(view.topic, view.__name__) for view in service.views}
        assert {(topic, event) for topic, told in heard.items() for event in told} == views


@every
def test_a_canvas_names_what_its_service_asks_the_world(service: Service) -> None:
    assert events(row(service, "Asks")) == {effect.__name__ for effect in service.answering}


@every
def test_a_canvas_names_every_table_of_its_service(service: Service) -> None:
    assert set(re.findall(r"`(\w+)` \(", row(service, "Remembers"))) == {state.table for state in service.states}


@every
def test_a_canvas_names_the_deadline_of_its_service_if_it_has_one(service: Service) -> None:
    told = row(service, "Gives up after")
    assert ("(`DEADLINE_SECONDS`)" in told) is bool(service.timed)
    if service.timed:
        assert f"{DEADLINE_SECONDS // 60} minutes" in told


def steps(service: Service) -> list[tuple[str, str]]:
    """The rows of the table of steps: what is heard, and what is said."""
    lines = [line.strip("| ").split(" | ") for line in canvas(service).splitlines() if line.startswith("| ")]
    return [(cells[1], cells[2]) for cells in lines if len(cells) == 3 and "**" not in cells[0]]


WITH_STEPS = [service for service in SERVICES if steps(service)]


@pytest.mark.parametrize("service", WITH_STEPS, ids=lambda service: service.name)
def test_the_steps_of_a_canvas_are_what_its_service_says_to_what_it_hears_about_orders(service: Service) -> None:
    told: dict[str, set[str]] = {}
    for heard, said in steps(service):
        for event in events(heard) | ({"Due"} if "its deadline" in heard else set()):
            told.setdefault(event, set()).update(events(said))
    declared = {
        each.heard.__name__: {fact.__name__ for fact in each.says}
        for each in DANCE.reactions
        if each.service == service.name
    }

    assert told == {event: said for event, said in declared.items() if not said <= ABOUT_ITEMS}


def test_the_services_that_dance_have_steps() -> None:
    assert {"orders", "inventory", "billing", "shipping"} <= {service.name for service in WITH_STEPS}
