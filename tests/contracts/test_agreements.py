"""Contracts between teams are what the code reads, and their examples are what producers really say."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from choreography.explored import examples
from contracts import agreements
from contracts.views import services
from streams.kit.language import Language, Schema
from streams.kit.service import Service

SERVICES = list(services())
LANGUAGE = Language.load()
AGREED = list(agreements.agreed(SERVICES))


@pytest.fixture(scope="module")
def said() -> dict[tuple[str, str], Any]:
    return dict(examples(SERVICES))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of all contracts, to be spoilt."""
    for file, _, _ in AGREED:
        copy = tmp_path / file.relative_to(agreements.ROOT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(file, copy)
    return tmp_path


def found(root: Path, language: Language = LANGUAGE) -> list[str]:
    return [str(finding) for finding in agreements.check(language, SERVICES, root)]


def change(root: Path, **fields: Any) -> None:
    file = root / "billing" / "OrderPlaced.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_code_contracts_and_schemas_agree() -> None:
    assert agreements.check(LANGUAGE, SERVICES) == []


@pytest.mark.parametrize(("file", "service", "view"), AGREED, ids=lambda each: getattr(each, "stem", ""))
def test_the_producer_says_the_example_and_the_consumer_reads_it(
    file: Path, service: Service, view: Any, said: dict[tuple[str, str], Any]
) -> None:
    contract = json.loads(file.read_text())

    now = json.loads(json.dumps(agreements.written(service, view, said[view.topic, view.__name__])))
    assert contract == now, f"run '{agreements.WRITE}'"
    assert isinstance(agreements.reads(contract, view), view)
    assert contract["why"], f"say in the docstring of {view.__module__}.{view.__name__} what it is read for"
    assert contract["moves"]


def test_a_field_that_is_read_and_not_agreed_is_told_to_the_consumer(root: Path) -> None:
    change(root, fields=["tenant", "order_id", "total.amount_minor", "total.currency"])

    [wrong] = found(root)
    assert "billing reads OrderPlaced.payment_method, which its contract does not name: orders may drop it" in wrong


def test_a_field_that_is_agreed_and_not_read_binds_the_producer_for_nothing(root: Path) -> None:
    contract = json.loads((root / "billing" / "OrderPlaced.json").read_text())
    change(root, fields=[*contract["fields"], "customer"])

    [wrong] = found(root)
    assert "billing does not read OrderPlaced.customer, which binds orders by this contract" in wrong


def test_a_view_without_a_contract_and_a_contract_without_a_view(root: Path) -> None:
    (root / "billing" / "OrderPlaced.json").rename(root / "billing" / "OrderPlacd.json")

    missing, stale = found(root)
    assert "billing reads OrderPlaced of orders without a contract" in missing
    assert "contracts/billing/OrderPlacd.json: its consumer does not hear the fact any more" in stale


def test_a_time_that_the_event_itself_says_binds_the_producer(root: Path) -> None:
    """Where the event has none, the kit gives it, and nobody is bound."""
    placed = LANGUAGE.latest("orders", "OrderPlaced")
    raw = {**placed.raw, "fields": [*placed.raw["fields"], {"name": "at", "type": "string", "doc": "d"}]}
    said = Schema("orders", "OrderPlaced", 2, placed.fullname, raw, json.dumps(raw), placed.file)

    wrong = found(root, Language([*LANGUAGE, said]))

    assert any("reads OrderPlaced.at, which its contract does not name: orders may drop it" in told for told in wrong)


def test_a_producer_that_drops_a_field_is_told_whom_it_breaks_since_when_and_why(root: Path) -> None:
    placed = LANGUAGE.latest("orders", "OrderPlaced")
    fields = [field for field in placed.raw["fields"] if field["name"] != "payment_method"]
    raw = {**placed.raw, "fields": fields}
    dropped = Schema("orders", "OrderPlaced", 2, placed.fullname, raw, json.dumps(raw), placed.file)

    wrong = found(root, Language([*LANGUAGE, dropped]))

    told = "orders breaks billing: OrderPlaced has no payment_method since v2, and billing needs it for open_invoice"
    assert any(told in each for each in wrong)
    assert all("inventory" not in each for each in wrong), "who does not read it is not broken"
