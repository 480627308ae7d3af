"""Orders: place, look at, cancel. Somebody else's order is as unknown as one that never was."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Query
from starlette.responses import Response

from api import answers
from api.answers import Accepted, Page, answer, json_answer
from api.bodies import NewOrder
from api.conditions import NEWEST, cursor_of, etag_of, matches, read_cursor, wait_of
from api.customers import Customer
from api.due import is_over
from api.errors import NoSuchOrder, TooManyStreams, Unavailable
from api.events import Address, CancelOrder, OrderLine, PlaceOrder
from api.feed import Listener
from api.gateway import TAKES_JSON, Gateway, IfNoneMatch, Key, Parts, Prefer, Traced, customer_with
from api.idempotency import Answer, claim, name_of
from streams.kit.keys import is_uuid

router = APIRouter(prefix="/v1/orders", tags=["orders"])

MOST_ORDERS = 100
USUAL_ORDERS = 20
MOST_CURSOR_CHARACTERS = 100

Buyer = Annotated[Customer, customer_with("orders:write", orders=True)]
Writer = Annotated[Customer, customer_with("orders:write")]
Reader = Annotated[Customer, customer_with("orders:read")]


@router.post("", status_code=202, response_model=Accepted, dependencies=[TAKES_JSON])
async def place_order(caller: Buyer, key: Key, order: NewOrder, parts: Parts, trace: Traced) -> Response:
    """Place an order. A retry with the same `Idempotency-Key` gets the first answer again and places nothing twice."""
    order_id = name_of(caller.tenant, key)
    request = parts.customers.protected(caller, _place(order, order_id, caller))

    async def place() -> Answer:
        await parts.log.append(request, trace.correlation, trace.traceparent)
        location = f"/v1/orders/{order_id}"
        accepted = Accepted(order_id=order_id, status_url=location)
        return Answer(202, location, msgspec.Raw(accepted.model_dump_json().encode()))

    wanted = claim(order_id, _of(caller), msgspec.json.encode(request).decode())
    return replayable(*await parts.idempotency.once(wanted, place))


@router.get("", response_model=Page)
async def own_orders(
    caller: Reader,
    parts: Parts,
    cursor: Annotated[str | None, Query(max_length=MOST_CURSOR_CHARACTERS)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ORDERS)] = USUAL_ORDERS,
) -> Response:
    """One's own orders, newest first, page by page: follow `next` until it is null.

    An order that is placed meanwhile is not on a later page; none is shown twice.
    """
    after = NEWEST if cursor is None else read_cursor(cursor)
    # One more than is shown tells whether there are more.
    found = await parts.timeline.page(caller.tenant, caller.subject, after, limit + 1)
    shown = found[:limit]
    if len(found) == len(shown):
        return answer(Page(orders=shown, next=None))
    then = {"cursor": cursor_of(shown[-1].placed_at, shown[-1].order_id), "limit": limit}
    following = f"{router.prefix}?{urlencode(then)}"
    return answer(Page(orders=shown, next=following), headers={"Link": f'<{following}>; rel="next"'})


@router.get("/{order_id}", response_model=answers.Order)
async def order_story(
    caller: Reader,
    order_id: str,
    parts: Parts,
    if_none_match: IfNoneMatch,
    prefer: Prefer,
) -> Response:
    """How the order stands, its story so far, and what is due next, from whom.

    With `If-None-Match` and the `ETag` of an earlier answer: `304` while nothing has changed. With `Prefer: wait=10`
    the answer waits for a change, for 10 seconds (20 at most); it comes at once if the order is over.
    """
    wait = wait_of(prefer)
    if wait is None:
        return _shown(await own_order(order_id, caller, parts), if_none_match)
    with await _listener(order_id.lower(), caller, parts) as listener:
        order = await own_order(order_id, caller, parts)
        known = if_none_match is None or matches(if_none_match, etag_of(_written(order)))
        waited = listener is not None
        if listener is not None and known and not is_over([entry.fact for entry in order.story]):
            waited = await parts.feed.waited(listener, wait, _changes(order, listener, caller, parts))
            order = await own_order(order_id, caller, parts)
    return _shown(order, if_none_match, {"Preference-Applied": f"wait={wait}"} if waited else None)


@router.post("/{order_id}/cancellation", status_code=202, response_model=Accepted)
async def cancel_order(caller: Writer, order_id: str, parts: Parts, trace: Traced) -> Response:
    """Ask to cancel. Whether it was in time is told by the story: `OrderCancelled` or `CancellationRefused`.

    It needs no `Idempotency-Key`: an order is cancelled once, however often it is asked.
    """
    order = await own_order(order_id, caller, parts)
    request = CancelOrder(tenant=caller.tenant, order_id=order.order_id, asked_by=caller.number)
    await parts.log.append(parts.customers.protected(caller, request), trace.correlation, trace.traceparent)
    location = f"/v1/orders/{order.order_id}"
    return answer(Accepted(order_id=order.order_id, status_url=location), 202, {"Location": location})


def replayable(first: Answer, replayed: bool) -> Response:
    """An answer that is given word for word at each retry."""
    headers = {"Location": first.location}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return json_answer(bytes(first.body), first.status, headers)


async def own_order(order_id: str, caller: Customer, parts: Gateway) -> answers.Order:
    """The caller's own order, also one that was only just accepted. Raises `NoSuchOrder`, `Unavailable`."""
    order_id = order_id.lower()
    if not is_uuid(order_id):
        raise NoSuchOrder
    order = await parts.reads.order(order_id, caller.tenant, caller.subject)
    if order is not None:
        return order
    if not await parts.idempotency.was_accepted(order_id, _of(caller)):
        raise NoSuchOrder
    # A key that another customer of the shop had used is answered again once Redis has forgotten whose it was.
    if await parts.timeline.is_of_another(order_id, caller.tenant, caller.subject):
        raise NoSuchOrder
    return answers.Order(order_id=order_id, status="accepted", stage="asked")


def _place(order: NewOrder, order_id: str, caller: Customer) -> PlaceOrder:
    return PlaceOrder(
        tenant=caller.tenant,
        order_id=order_id,
        customer=caller.number,
        lines=tuple(OrderLine(sku=line.sku, quantity=line.quantity) for line in order.lines),
        currency=order.currency,
        payment_method=order.payment_method,
        ship_to=Address(**order.ship_to.model_dump()),
    )


def _of(caller: Customer) -> str:
    return f"{caller.tenant}/{caller.subject}"


async def _listener(order_id: str, caller: Customer, parts: Gateway) -> Listener | nullcontext[None]:
    """To wait is a wish: when too many listen already, or nothing new can be heard, the answer comes at once."""
    try:
        return await parts.feed.listen(caller.tenant, caller.subject, order_id)
    except (Unavailable, TooManyStreams):
        return nullcontext()


async def _changes(order: answers.Order, listener: Listener, caller: Customer, parts: Gateway) -> None:
    """Return when the order is shown otherwise, or when the gateway ends. The feed may tell what is shown already."""
    while await listener.next() is not None:
        if await own_order(order.order_id, caller, parts) != order:
            return


def _written(order: answers.Order) -> bytes:
    return order.model_dump_json().encode()


def _shown(order: answers.Order, if_none_match: str | None, more: Mapping[str, str] | None = None) -> Response:
    """The order, or 304 for a caller who has it."""
    body = _written(order)
    headers = {"ETag": etag_of(body), "Cache-Control": "private, no-cache", "Vary": "Authorization, Prefer"} | dict(
        more or {}
    )
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return json_answer(body, 200, headers)
