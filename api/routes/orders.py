"""Orders: place, look at, cancel. Somebody else's order is as unknown as one that never was."""

from typing import Annotated

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from api import answers
from api.answers import Accepted, answer, json_answer
from api.bodies import NewOrder
from api.customers import Customer
from api.errors import NoSuchOrder
from api.events import Address, CancelOrder, OrderLine, PlaceOrder
from api.gateway import Gateway, Key, Parts, Traced, customer_with
from api.idempotency import Answer, claim, name_of
from streams.kit.keys import is_uuid

router = APIRouter(prefix="/v1/orders", tags=["orders"])

Buyer = Annotated[Customer, customer_with("orders:write", orders=True)]
Writer = Annotated[Customer, customer_with("orders:write")]
Reader = Annotated[Customer, customer_with("orders:read")]


@router.post("", status_code=202, response_model=Accepted)
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


@router.get("/{order_id}", response_model=answers.Order)
async def order_story(caller: Reader, order_id: str, parts: Parts) -> Response:
    """How the order stands, and its story so far."""
    return answer(await _own_order(order_id, caller, parts))


@router.post("/{order_id}/cancellation", status_code=202, response_model=Accepted)
async def cancel_order(caller: Writer, order_id: str, parts: Parts, trace: Traced) -> Response:
    """Ask to cancel. Whether it was in time is told by the story: `OrderCancelled` or `CancellationRefused`.

    It needs no `Idempotency-Key`: an order is cancelled once, however often it is asked.
    """
    order = await _own_order(order_id, caller, parts)
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


async def _own_order(order_id: str, caller: Customer, parts: Gateway) -> answers.Order:
    order_id = order_id.lower()
    if not is_uuid(order_id):
        raise NoSuchOrder
    order = await parts.timeline.order(order_id, caller.tenant, caller.subject)
    if order is not None:
        return order
    if await parts.idempotency.was_accepted(order_id, _of(caller)):
        return answers.Order(order_id=order_id, status="accepted", stage="asked")
    raise NoSuchOrder


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
