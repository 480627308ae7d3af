"""What every released version has decided, today's code decides as well: `tests/histories/<version>/`.

Where a decision was changed on purpose, the report says what else would have become of the orders of then: read it,
tell it in the changelog, and record a new history (CONTRIBUTING.md).
"""

from pathlib import Path

import pytest

from pavane.replay.errors import CannotReplay
from pavane.replay.recorded import Recorded, _write, record
from pavane.replay.replaying import replay
from streams.billing.events import OrderCancelled
from streams.billing.service import billing
from streams.kit.run import find

HISTORIES = Path(__file__).parents[1] / "histories"
VERSIONS = sorted(folder.name for folder in HISTORIES.iterdir() if folder.is_dir())
DECIDING = ("orders", "inventory", "billing", "shipping")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("service", DECIDING)
def test_what_was_decided_then_is_decided_today(version: str, service: str) -> None:
    report = replay(find(service), Recorded(HISTORIES / version).of(find(service)))

    assert report.same, f"\n{report.text()}"
    assert report.not_told == report.waiting == 0
    assert report.decisions > 300


@pytest.mark.parametrize("version", VERSIONS)
def test_a_history_holds_every_reaction(version: str) -> None:
    recorded = Recorded(HISTORIES / version)
    for name in DECIDING:
        heard = {reaction.partition(" ")[0] for reaction in replay(find(name), recorded.of(find(name))).decided}
        declared = {event.__name__ for event in find(name).reactions}

        assert declared <= heard


@pytest.mark.parametrize("version", VERSIONS)
def test_a_decision_that_was_changed_is_seen(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        billing.reactions, OrderCancelled, billing.reactions[OrderCancelled]._replace(decide=lambda invoice, off: ())
    )
    report = replay(billing, Recorded(HISTORIES / version).of(billing))

    assert {group.reason for group in report.groups.values()} == {
        f"would be nothing instead of {fact}" for fact in ("PaymentVoided", "PaymentRefunded", "InvoiceCancelled")
    }


def test_a_folder_without_a_history_says_so(tmp_path: Path) -> None:
    with pytest.raises(CannotReplay, match="holds no history"):
        Recorded(tmp_path)


def test_a_history_of_other_services_says_whose_it_is() -> None:
    with pytest.raises(CannotReplay, match="not of timeline, but of billing, inventory, orders, shipping"):
        Recorded(HISTORIES / VERSIONS[0]).of(find("timeline"))


def test_only_its_owner_may_read_what_was_recorded(tmp_path: Path) -> None:
    records = Recorded(HISTORIES / VERSIONS[0]).of(find("orders")).records("orders.requests", 0)
    file = tmp_path / "orders.requests.avro"
    _write(file, records)

    assert file.stat().st_size > 0
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_history_is_never_written_over() -> None:
    with pytest.raises(CannotReplay, match="is not empty"):
        record([billing], {}, HISTORIES / VERSIONS[0])
