"""A shop on a running platform, for stories: it sells, its customers order, and it is told what became of the orders.

    await shop.price("lamp", 1999)
    await shop.receive("lamp", 5)
    order = await shop.place(sku="lamp", quantity=2, method="declined")

    assert await shop.story(order) == ["OrderPlaced", ..., "OrderCancelled", "StockReleased", ...]

It knows the platform by its HTTP gateway alone. Whatever it waits for it waits for by asking again, for a bounded time;
then it fails and says what it saw last.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import uuid4

import httpx
import msgspec

from streams.kit.shown import UNKNOWN, Shown

T = TypeVar("T")

PATIENCE_SECONDS = 20.0
#: So many questions about what became of orders at once; more would only keep the gateway from its work.
MOST_QUESTIONS = 8
FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.2
CUSTOMER = "customer-1"


class NotServed(AssertionError):
    """The gateway did not take what a story expects it to take. `status`: of its answer."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")
        self.status = answer.status_code


class NeverHappened(AssertionError):
    """What a story waits for did not become true in time."""


class Tokens(Protocol):
    """Makes the tokens that the platform's gateway takes."""

    def token(self, tenant: str, subject: str) -> str: ...

    def operator_token(self, tenant: str) -> str: ...


class Order(NamedTuple):
    """An order that the gateway has accepted; only its customer may look at it."""

    id: str
    customer: str


class Stock(NamedTuple):
    """Pieces of one SKU: free to sell, set aside for orders, gone to customers."""

    available: int
    reserved: int = 0
    dispatched: int = 0

    @property
    def received(self) -> int:
        return sum(self)


class Shop:
    """One tenant of the platform. `http` speaks to its gateway, `tokens` are made by whom the gateway trusts.

    Money is in minor units. Everything that is asked for raises `NotServed` when the gateway refuses it.
    """

    def __init__(
        self, http: httpx.AsyncClient, tokens: Tokens, tenant: str, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self.tenant = tenant
        self._http = http
        self._tokens = tokens
        self._patience_seconds = patience_seconds
        self._issued: dict[str | None, str] = {}
        self._received: dict[str, int] = {}
        self._questions = asyncio.Semaphore(MOST_QUESTIONS)

    # -- what a shop does --------------------------------------------------------------------------------------------

    async def price(self, sku: str, amount_minor: int, currency: str = "EUR") -> None:
        """From the return on, the item costs this much."""
        wanted = {"amount_minor": amount_minor, "currency": currency}
        _taken(await self.ask("PUT", f"/v1/prices/{sku}", body=wanted))

        async def shown() -> dict[str, Any]:
            answer = await self.ask("GET", f"/v1/prices/{sku}")
            found: dict[str, Any] = {} if answer.status_code == 404 else _taken(answer).json()
            return found

        await self._until(shown, lambda found: found.items() >= wanted.items(), f"{sku} costs {wanted}")

    async def receive(self, sku: str, quantity: int) -> None:
        """From the return on, so many pieces more are there."""
        _taken(await self.ask("POST", f"/v1/stock/{sku}/receipts", key=uuid4().hex, body={"quantity": quantity}))
        self._received[sku] = received = self._received.get(sku, 0) + quantity
        what = f"{received} pieces of {sku} were received in all"
        await self._until(lambda: self.stock(sku), lambda stock: stock.received >= received, what)

    async def stock(self, sku: str) -> Stock:
        """How many pieces there are now."""
        answer = await self.ask("GET", f"/v1/stock/{sku}")
        if answer.status_code == 404:
            return Stock(0)
        found = _taken(answer).json()
        return Stock(found["available"], found["reserved"], found["dispatched"])

    # -- what its customers do ---------------------------------------------------------------------------------------

    async def place(
        self,
        sku: str = "",
        quantity: int = 1,
        *,
        lines: Iterable[tuple[str, int]] = (),
        method: str = "ok",
        country: str = "DE",
        currency: str = "EUR",
        customer: str = CUSTOMER,
        key: str | None = None,
    ) -> Order:
        """Order one item, or several `lines` of SKU and quantity; the gateway has accepted it when this returns.

        `method`: "ok", "declined" or "declined-at-capture". Country "XX" gets no parcels. `key`: the Idempotency-Key.
        """
        body = order_body(lines or [(sku, quantity)], f"card-{method}", country, currency)
        answer = _taken(await self.ask("POST", "/v1/orders", customer=customer, key=key or uuid4().hex, body=body))
        return Order(answer.json()["order_id"], customer)

    async def cancel(self, order: Order) -> None:
        """Ask to cancel; the order's story tells whether it was in time."""
        _taken(await self.ask("POST", f"/v1/orders/{order.id}/cancellation", customer=order.customer))

    # -- what became of an order -------------------------------------------------------------------------------------

    async def look(self, order: Order) -> Shown:
        """The order as it is shown now; an order that came over the log is unknown until it was heard of."""
        answer = await self.ask("GET", f"/v1/orders/{order.id}", customer=order.customer)
        return UNKNOWN if answer.status_code == 404 else msgspec.json.decode(_taken(answer).content, type=Shown)

    async def settled(self, order: Order) -> Shown:
        """The order once it has ended and everything is sent off or undone."""
        return await self._until(lambda: self.look(order), lambda shown: shown.is_settled, f"{order} is settled")

    async def told(self, order: Order, fact: str) -> Shown:
        """The order once its story tells this fact."""
        return await self._until(
            lambda: self.look(order), lambda shown: fact in shown.facts, f"the story of {order} tells {fact}"
        )

    async def story(self, order: Order) -> list[str]:
        """The names of all facts in causal order, once the order is settled."""
        return (await self.settled(order)).facts

    async def status(self, order: Order) -> str:
        """How the order ended, once it is settled: rejected, confirmed or cancelled."""
        return (await self.settled(order)).status

    # -- how it asks -------------------------------------------------------------------------------------------------

    async def ask(
        self, method: str, path: str, *, customer: str | None = None, key: str | None = None, body: Any = None
    ) -> httpx.Response:
        """The gateway's plain answer to a customer, or to the shop's operator."""
        headers = {"Authorization": f"Bearer {self._token(customer)}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self._http.request(method, path, headers=headers, json=body)

    def _token(self, customer: str | None) -> str:
        if customer not in self._issued:
            tokens, tenant = self._tokens, self.tenant
            self._issued[customer] = tokens.token(tenant, customer) if customer else tokens.operator_token(tenant)
        return self._issued[customer]

    async def _until(self, see: Callable[[], Awaitable[T]], is_so: Callable[[T], bool], what: str) -> T:
        deadline = time.monotonic() + self._patience_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            async with self._questions:
                seen = await see()
            if is_so(seen):
                return seen
            if time.monotonic() > deadline:
                raise NeverHappened(f"not after {self._patience_seconds:.0f} seconds: {what}. Last seen: {seen}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


def order_body(lines: Iterable[tuple[str, int]], payment_method: str, country: str, currency: str) -> dict[str, Any]:
    """What a customer sends to order; the address is made up."""
    return {
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines],
        "currency": currency,
        "payment_method": payment_method,
        "ship_to": {
            "recipient": "Ada Lovelace",
            "street": "Ockham Park 1",
            "postal_code": "10115",
            "city": "Berlin",
            "country": country,
        },
    }


def _taken(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise NotServed(answer)
    return answer
