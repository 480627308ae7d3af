"""What the gateway answers when all is well."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response


class Accepted(BaseModel):
    """The order is on the log; follow it at `status_url`."""

    order_id: str
    status_url: str


class ItemAccepted(BaseModel):
    """What was asked about a SKU is on the log. `request_id`: its id there, the same for the same `Idempotency-Key`."""

    sku: str
    request_id: str
    status_url: str


class Line(BaseModel):
    sku: str
    quantity: int
    unit_price_minor: int


class Entry(BaseModel):
    """One fact: said by `speaker` at that time (UTC), in answer to the event `cause`. `took_seconds`: since that was
    said, to the millisecond; null where it is no fact of the same story (a request, a deadline)."""

    id: str
    ordinal: int
    fact: str
    speaker: str
    at: datetime
    cause: str
    correlation: str
    detail: dict[str, Any]
    took_seconds: float | None = None


class Due(BaseModel):
    """What an order waits for: `speaker` says one of `facts` next. `since` (UTC): when its turn came. `by`: the order
    is called off if it has not ended then; null once it has."""

    speaker: str
    facts: list[str]
    since: datetime
    by: datetime | None


class Order(BaseModel):
    """How an order stands, its story so far (no entry comes before what caused it), and what it waits for.

    `status`: accepted (on the log, not yet heard of), placed, then one of rejected, confirmed, cancelled. `stage`: the
    furthest step that was reached.
    """

    order_id: str
    status: str
    stage: str
    reason: str = ""
    lines: list[Line] = []
    total_minor: int = 0
    currency: str = ""
    placed_at: datetime | None = None
    updated_at: datetime | None = None
    settled_at: datetime | None = None
    due: list[Due] = []
    story: list[Entry] = []


class Summary(BaseModel):
    """An order in a list: how it stands, without lines and story."""

    order_id: str
    status: str
    stage: str
    reason: str
    total_minor: int
    currency: str
    placed_at: datetime
    updated_at: datetime
    settled_at: datetime | None


class Page(BaseModel):
    """Some of one's own orders, newest first. `next`: the address of those after them; null: there are none."""

    orders: list[Summary]
    next: str | None


class LateOrder(BaseModel):
    """`speaker` should have said one of `facts` long ago. `usual_seconds`: what the step takes in 99 of 100 cases; null
    if nobody knows yet. `by`: when the order is called off if nothing comes; null: it has ended, this is still to do.
    `reason`: what holds it up, and `remedy`: what whoever runs the platform can do; null: not to be found out for now.
    """

    order_id: str
    status: str
    speaker: str
    facts: list[str]
    since: datetime
    waited_seconds: float
    usual_seconds: float | None
    by: datetime | None
    reason: str | None = None
    remedy: str | None = None


class Overdue(BaseModel):
    """Orders of the tenant that wait longer than usual, the longest wait first."""

    orders: list[LateOrder]


class DeadLetter(BaseModel):
    """An event that a service could not handle, next of its `key`. `reason`: the error's name. `behind`: how many later
    events about the same key wait for it. `retry_at`: when it is tried again by itself; null: when somebody asks."""

    id: str
    service: str
    event: str
    key: str
    reason: str
    attempts: int
    parked_at: datetime
    retry_at: datetime | None
    behind: int


class DeadLetters(BaseModel):
    """Dead letters of the tenant, service by service, the oldest first. `more`: there are others.

    `unreadable`: services that cannot be asked now."""

    dead_letters: list[DeadLetter]
    more: bool
    unreadable: list[str]


class Operation(BaseModel):
    """What an operator did. `outcome`: how many events were handled and are left, once it has ended."""

    what: str
    who: str
    why: str
    begun_at: datetime
    ended_at: datetime | None
    outcome: str


class DeadLetterStory(BaseModel):
    """A dead letter (null once it was handled or discarded), and what was done about it, the last first."""

    id: str
    dead_letter: DeadLetter | None
    operations: list[Operation]


class Redriven(BaseModel):
    """It is being tried again; `status_url` tells what becomes of it. `operation`: its number at the service."""

    id: str
    operation: int
    status_url: str


class Stock(BaseModel):
    """Pieces of one SKU, as far as the timeline has heard."""

    sku: str
    available: int
    reserved: int
    dispatched: int


class Price(BaseModel):
    """What one piece costs, in minor units."""

    sku: str
    amount_minor: int
    currency: str


class Health(BaseModel):
    """`status`: ready, degraded (works without what is missing) or unready. `missing`: what did not answer, and why."""

    status: str
    missing: dict[str, str]


class Deep(BaseModel):
    """How a round trip went. `status`: ready or unready. `seconds`: how long each part took; the last one counts from
    the request on, through everything. `missing`: what did not come back in time."""

    status: str
    seconds: dict[str, float]
    missing: dict[str, str]


def answer(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return json_answer(model.model_dump_json().encode(), status, headers)


def json_answer(body: bytes, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of JSON that was written already."""
    return Response(body, status, headers, media_type="application/json")
