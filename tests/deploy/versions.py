"""Other versions of services and gateway, as checkouts: what they change stands here, all else is this code."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Fields: TypeAlias = list[dict[str, Any]]
ROOT = Path(__file__).resolve().parents[2]
EVENTS, SERVICE, PRICING = (f"streams/orders/{name}.py" for name in ("events", "service", "pricing"))
#: What the second version's decision says of an order that it does not take, and the first one's does not.
SECOND_DETAIL = "this shop does not sell"


def second(folder: Path) -> Path:
    """`OrderPlaced` has a field more, with a default; and the reaction to `PlaceOrder` says something else."""
    _copy(folder)
    _release(folder, "orders", "OrderPlaced", lambda fields: [*fields, CHANNEL])
    _edit(folder / EVENTS, {"    deadline: datetime\n": '    deadline: datetime\n    channel: str = "shop"\n'})
    _edit(folder / PRICING, {"no price is set for": SECOND_DETAIL})
    return folder


def broken(folder: Path) -> Path:
    """`OrderPlaced` without its lines, which inventory and shipping read."""
    _copy(folder)
    _release(folder, "orders", "OrderPlaced", lambda fields: [each for each in fields if each["name"] != "lines"])
    _edit(folder / EVENTS, {"    lines: tuple[PricedLine, ...]\n": ""})
    _edit(folder / SERVICE, {"                lines=lines,\n": ""})
    return folder


def deaf(folder: Path) -> Path:
    """It does not react to a carrier's refusal any more."""
    _copy(folder)
    _edit(folder / SERVICE, {"@orders.hears(ShipmentRejected)\n": ""})
    return folder


def reacting(folder: Path) -> Path:
    """It also reacts to `StockReserved`: it calls off what is more than two pieces of one item."""
    _copy(folder)
    _edit(folder / EVENTS, {"class StockRejected(Heard": f'{RESERVED}class StockRejected(Heard'})
    before = "@orders.hears(PaymentDeclined)\n"
    imported = "    StockRejected,\n)"
    _edit(folder / SERVICE, {before: f"{REACTION}{before}", imported: f"    StockReserved,\n{imported}"})
    return folder


def asking(folder: Path) -> Path:
    """A gateway whose `PlaceOrder` has a field more, with a default, which no service reads yet."""
    _copy(folder, "api")
    _release(folder, "orders.requests", "PlaceOrder", lambda fields: [*fields, CHANNEL])
    _edit(folder / "api" / "events.py", {"    ship_to: Address\n": '    ship_to: Address\n    channel: str = "shop"\n'})
    return folder


def counting(folder: Path) -> Path:
    """A timeline whose stories say of how many pieces an order is: a projection that must hear everything again."""
    _copy(folder)
    timeline = folder / "streams" / "timeline"
    _edit(timeline / "model.py", {"    length: int = 0\n": "    length: int = 0\n    pieces: int = 0\n"})
    length = '    Column("length", Integer, nullable=False),\n'
    _edit(timeline / "tables.py", {length: f"{length}    {PIECES},\n"})
    counted = "        currency=fact.total.currency,\n        placed_at=fact.at,\n"
    pieces = "        pieces=sum(line.quantity for line in fact.lines),\n"
    _edit(timeline / "service.py", {counted: counted + pieces})
    (timeline / "versions" / "0004_pieces.py").write_text(MIGRATION)
    return folder


PIECES = 'Column("pieces", Integer, nullable=False, server_default="0")'
MIGRATION = f'''"""Stories say of how many pieces an order is."""

from alembic import op
from sqlalchemy import Column, Integer

revision = "timeline_0004"
down_revision = "timeline_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stories", {PIECES})


def downgrade() -> None:
    op.drop_column("stories", "pieces")
'''

RESERVED = '''class StockReserved(Heard, topic="inventory"):
    """The goods are set aside."""

    order_id: str
    lines: tuple[OrderLine, ...]


'''
REACTION = '''@orders.hears(StockReserved)
def cancel_what_is_too_much(order: Order, reserved: StockReserved) -> Iterator[Said]:
    """Nobody gets more than two pieces of one item."""
    if any(line.quantity > 2 for line in reserved.lines):
        yield from _cancelled(order, CancellationReason.NOT_SHIPPABLE)


'''
CHANNEL = {"name": "channel", "type": "string", "default": "", "doc": "Where the order came from; empty: not known."}


def _copy(folder: Path, *others: str) -> None:
    for part in ("streams", "schemas", *others):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))


def _release(folder: Path, topic: str, event: str, changed: Callable[[Fields], Fields]) -> None:
    """The next version of an event, as a file: with other fields."""
    files = folder / "schemas" / topic
    raw = json.loads((files / f"{event}.v1.avsc").read_text())
    (files / f"{event}.v2.avsc").write_text(json.dumps({**raw, "fields": changed(raw["fields"])}))


def _edit(file: Path, changes: Mapping[str, str]) -> None:
    text = file.read_text()
    for before, after in changes.items():
        assert before in text, f"{file} has changed: it holds no {before!r}"
        text = text.replace(before, after)
    file.write_text(text)
