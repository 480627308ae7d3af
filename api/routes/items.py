"""Stock and prices of a SKU: everybody of the tenant may look, operators may write."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path
from starlette.responses import Response

from api.answers import ItemAccepted, Price, Stock, answer
from api.bodies import SAFE_PATTERN, NewPrice, Receipt
from api.correlation import new_id
from api.errors import NoSuchItem
from api.events import ReceiveStock, SetPrice
from api.gateway import TAKES_JSON, Key, KeyIfSent, Parts, Traced, caller_with
from api.idempotency import Answer, claim, name_of
from api.routes.orders import replayable
from api.tokens import Caller
from streams.kit.money import Money

router = APIRouter(prefix="/v1", tags=["items"])

Sku = Annotated[str, Path(pattern=SAFE_PATTERN)]
StockReader = Annotated[Caller, caller_with("stock:read")]
StockWriter = Annotated[Caller, caller_with("stock:write")]
PriceReader = Annotated[Caller, caller_with("prices:read")]
PriceWriter = Annotated[Caller, caller_with("prices:write")]


@router.get("/stock/{sku}", response_model=Stock)
async def stock_of(caller: StockReader, sku: Sku, parts: Parts) -> Response:
    """How many are there, as far as the timeline has heard."""
    stock = await parts.reads.stock(caller.tenant, sku)
    if stock is None:
        raise NoSuchItem("No stock of this SKU was ever received.")
    return answer(stock)


@router.post("/stock/{sku}/receipts", status_code=202, response_model=ItemAccepted, dependencies=[TAKES_JSON])
async def receive_stock(
    caller: StockWriter, sku: Sku, key: Key, receipt: Receipt, parts: Parts, trace: Traced
) -> Response:
    """Pieces came in. The `Idempotency-Key` says which receipt it is: a retry with it counts nothing twice."""
    request_id = receipt_id(caller.tenant, sku, key)

    async def receive() -> Answer:
        request = ReceiveStock(tenant=caller.tenant, sku=sku, quantity=receipt.quantity, request_id=request_id)
        await parts.log.append(request, trace.correlation, trace.traceparent)
        return _accepted(sku, request_id, f"/v1/stock/{sku}")

    # The claim is the tenant's, not one operator's: any of them may repeat what another could not finish.
    wanted = claim(request_id, caller.tenant, receipt.model_dump_json())
    return replayable(*await parts.idempotency.once(wanted, receive))


@router.get("/prices/{sku}", response_model=Price)
async def price_of(caller: PriceReader, sku: Sku, parts: Parts) -> Response:
    """What one costs, as far as the timeline has heard."""
    price = await parts.reads.price(caller.tenant, sku)
    if price is None:
        raise NoSuchItem("No price of this SKU was ever set.")
    return answer(price)


@router.put("/prices/{sku}", status_code=202, response_model=ItemAccepted, dependencies=[TAKES_JSON])
async def set_price(
    caller: PriceWriter, sku: Sku, key: KeyIfSent, price: NewPrice, parts: Parts, trace: Traced
) -> Response:
    """From now on one costs this. Needs no `Idempotency-Key`, as setting a price twice changes nothing.

    With one, a late retry does not undo what was set meanwhile, for a day: the first answer is given again. After that,
    and while kept answers cannot be read, it sets the price anew.
    """
    request_id = new_id() if key is None else price_id(caller.tenant, sku, key)

    async def set_it() -> Answer:
        request = SetPrice(
            tenant=caller.tenant,
            sku=sku,
            price=Money(amount_minor=price.amount_minor, currency=price.currency),
            request_id=request_id,
            as_of=datetime.now(UTC),
        )
        await parts.log.append(request, trace.correlation, trace.traceparent)
        return _accepted(sku, request_id, f"/v1/prices/{sku}")

    if key is None:
        return replayable(await set_it(), replayed=False)
    wanted = claim(request_id, caller.tenant, price.model_dump_json())
    return replayable(*await parts.idempotency.once(wanted, set_it))


def _accepted(sku: str, request_id: str, location: str) -> Answer:
    accepted = ItemAccepted(sku=sku, request_id=request_id, status_url=location)
    return Answer(202, location, msgspec.Raw(accepted.model_dump_json().encode()))


def receipt_id(tenant: str, sku: str, key: str) -> str:
    """The receipt's id on the log. A key itself may hold what services refuse in an id, such as a '/'."""
    # The empty part keeps receipts apart from orders, whose names begin with a tenant; two of them, prices from both.
    return name_of("", tenant, sku, key)


def price_id(tenant: str, sku: str, key: str) -> str:
    """The id on the log of a price that is set under a key."""
    return name_of("", "", tenant, sku, key)
