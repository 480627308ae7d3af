"""Other versions of orders and the timeline, as checkouts: what they change stands here, all else is this code."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EVENTS, SERVICE, PRICING = (f"streams/orders/{name}.py" for name in ("events", "service", "pricing"))
#: What the second version's decision says of an order that it does not take, and the first one's does not.
SECOND_DETAIL = "this shop does not sell"


def second(folder: Path) -> Path:
    """`OrderPlaced` has a field more, with a default; and the reaction to `PlaceOrder` says something else."""
    _copy(folder)
    _release(folder, "OrderPlaced", {"fields": [*_fields(folder, "OrderPlaced"), CHANNEL]})
    _edit(folder / EVENTS, {"    deadline: datetime\n": '    deadline: datetime\n    channel: str = "shop"\n'})
    _edit(folder / PRICING, {"no price is set for": SECOND_DETAIL})
    return folder


def broken(folder: Path) -> Path:
    """`OrderPlaced` without its lines, which inventory and shipping read."""
    _copy(folder)
    kept = [field for field in _fields(folder, "OrderPlaced") if field["name"] != "lines"]
    _release(folder, "OrderPlaced", {"fields": kept})
    _edit(folder / EVENTS, {"    lines: tuple[PricedLine, ...]\n": ""})
    _edit(folder / SERVICE, {"                lines=lines,\n": ""})
    return folder


def deaf(folder: Path) -> Path:
    """It does not react to a carrier's refusal any more."""
    _copy(folder)
    _edit(folder / SERVICE, {"@orders.hears(ShipmentRejected)\n": ""})
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
    (timeline / "versions" / "0003_pieces.py").write_text(MIGRATION)
    return folder


PIECES = 'Column("pieces", Integer, nullable=False, server_default="0")'
MIGRATION = f'''"""Stories say of how many pieces an order is."""

from alembic import op
from sqlalchemy import Column, Integer

revision = "timeline_0003"
down_revision = "timeline_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stories", {PIECES})


def downgrade() -> None:
    op.drop_column("stories", "pieces")
'''

CHANNEL = {"name": "channel", "type": "string", "default": "", "doc": "Where the order came from; empty: not known."}


def _copy(folder: Path) -> None:
    for part in ("streams", "schemas"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))


def _fields(folder: Path, event: str) -> list[dict[str, Any]]:
    raw = json.loads((folder / "schemas" / "orders" / f"{event}.v1.avsc").read_text())
    fields: list[dict[str, Any]] = raw["fields"]
    return fields


def _release(folder: Path, event: str, changed: Mapping[str, Any]) -> None:
    """The next version of an event, as a file."""
    files = folder / "schemas" / "orders"
    raw = json.loads((files / f"{event}.v1.avsc").read_text())
    (files / f"{event}.v2.avsc").write_text(json.dumps({**raw, **changed}))


def _edit(file: Path, changes: Mapping[str, str]) -> None:
    text = file.read_text()
    for before, after in changes.items():
        assert before in text, f"{file} has changed: it holds no {before!r}"
        text = text.replace(before, after)
    file.write_text(text)
