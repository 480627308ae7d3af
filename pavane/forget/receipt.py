"""What is kept of a customer's being forgotten, in `operations` of orders: the key, and never the customer."""

from datetime import datetime

from pavane.forget.traces import Traces
from pavane.operators.words import count
from streams.kit.keystore import Kept

FORGET = "forget"
DESTROYED = "destroyed "


def late_receipt(key: str, at: datetime) -> str:
    """Of a forgetting that was cut off after the key was destroyed."""
    return f"{DESTROYED}key {key} at {_shown(at)}; cut off before it was written down what that read"


def receipt(kept: Kept, at: datetime | None, traces: Traces) -> str:
    """In one line, which begins with `DESTROYED`: by that, what a backup brings back is found."""
    when = "by somebody else meanwhile" if at is None else f"at {_shown(at)}"
    opened = f"; {count(len(traces.open), 'order')} had not ended" if traces.open else ""
    plain = "; requests in plain text remain in orders.requests" if kept.asked_in_plain else ""
    plain += f"; {traces.plain:,} parked in plain text" if traces.plain else ""
    return f"{DESTROYED}key {kept.id} {when}; it read {traces.told()}{opened}{plain}"


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S%z}"
