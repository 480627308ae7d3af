"""What the documents tell of the dance is what the services declare."""

from pathlib import Path

import pytest

from contracts.choreography import example, listeners, mermaid, play
from contracts.views import services
from streams.kit.language import Language
from streams.kit.service import Service

ROOT = Path(__file__).parents[2]
SERVICES = list(services())


def test_the_picture_in_the_readme_is_the_saga_that_the_services_dance() -> None:
    picture = mermaid(list(play(example(), SERVICES)))

    assert picture in (ROOT / "README.md").read_text(), "run 'python -m contracts.choreography' and paste its output"


def test_a_happy_saga_takes_nine_facts() -> None:
    core = {"orders", "inventory", "billing", "shipping"}
    said = [step.event for step in play(example(), SERVICES) if step.speaker in core]

    assert said[-2:] == ["OrderConfirmed", "StockDispatched"]
    assert len(said) == 9


@pytest.mark.parametrize(
    ("order", "undone"),
    [
        (example(method="card-declined"), {"StockReleased", "InvoiceCancelled", "ShipmentCancelled"}),
        (example(method="card-declined-at-capture"), {"StockReleased", "PaymentVoided", "ShipmentCancelled"}),
        (example(country="XX"), {"StockReleased", "PaymentVoided"}),
    ],
    ids=["declined", "declined at capture", "refused by the carrier"],
)
def test_a_failed_saga_undoes_what_was_done(order: object, undone: set[str]) -> None:
    said = [step.event for step in play(order, SERVICES)]  # type: ignore[arg-type]

    assert "OrderCancelled" in said
    assert undone <= set(said)


def test_every_request_and_fact_that_is_heard_has_a_schema_of_its_topic() -> None:
    language = Language.load()

    for topic, event in listeners(SERVICES):
        assert event in language.names(topic)


@pytest.mark.parametrize("service", [s for s in SERVICES if s.is_projection], ids=lambda service: service.name)
def test_a_projection_hears_every_fact_of_the_topics_it_follows(service: Service) -> None:
    language = Language.load()
    heard = {(view.topic, view.__name__) for view in service.views}

    assert heard == {(topic, name) for topic in service.topics for name in language.names(topic)}
