"""What the timeline remembers: stories with their entries, and what shops ask about a SKU."""

from datetime import datetime
from enum import StrEnum

import msgspec

from streams.kit.events import State, Value


class Status(StrEnum):
    """How an order stands. The last three are final."""

    UNHEARD = "unheard"
    PLACED = "placed"
    REJECTED = "rejected"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """The steps of the dance in order; a story keeps the furthest that its order reached, even if cancelled later."""

    ASKED = "asked"
    PLACED = "placed"
    RESERVED = "reserved"
    AUTHORIZED = "authorized"
    BOOKED = "booked"
    CAPTURED = "captured"
    CONFIRMED = "confirmed"
    DISPATCHED = "dispatched"

    def or_further(self, reached: "Stage") -> "Stage":
        """The further of two. Facts of different speakers may be heard out of step, so a stage never goes back."""
        return max(self, reached, key=_PLACES.__getitem__)


_PLACES = {stage: place for place, stage in enumerate(Stage)}


class StoryLine(Value):
    """One line of the order as it was priced."""

    sku: str
    quantity: int
    unit_price_minor: int


class Story(State, table="stories", key="order_id"):
    """How one order stands. `settled_at`: when it became final. `length`: how many facts were told of it."""

    order_id: str
    tenant: str = ""
    customer: str = ""
    status: Status = Status.UNHEARD
    stage: Stage = Stage.ASKED
    lines: tuple[StoryLine, ...] = ()
    total_minor: int = 0
    currency: str = ""
    reason: str = ""
    placed_at: datetime | None = None
    updated_at: datetime | None = None
    settled_at: datetime | None = None
    length: int = 0


class Entry(State, table="entries", key="id", append_only=True):
    """One fact of one order. In the order of `ordinal`, no entry comes before what caused it.

    `cause`: the id of the event that it answers. `detail`: what else the fact says, as JSON, without personal data.
    """

    id: str
    order_id: str = ""
    ordinal: int = 0
    fact: str = ""
    speaker: str = ""
    at: datetime | None = None
    cause: str = ""
    correlation: str = ""
    detail: msgspec.Raw = msgspec.Raw(b"{}")


class Shelf(State, table="shelves", key="item", shared=True):
    """The stock of one SKU of one tenant (`tenant/sku`): sums over facts that come in any order of partitions.

    Between facts of two partitions (goods received, goods reserved) `available` may be below zero for a moment.
    """

    item: str
    available: int = 0
    reserved: int = 0
    dispatched: int = 0


class Tag(State, table="tags", key="item"):
    """The price of one SKU of one tenant (`tenant/sku`) in minor units."""

    item: str
    amount_minor: int = 0
    currency: str = ""
