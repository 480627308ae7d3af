"""The customers' side: orders and cancellations through the gateway's front door."""

import asyncio
import json
import time
from collections.abc import Mapping

from infra.errors import InfraError
from pavane.demo.plan import CURRENCY, TENANT, Order
from pavane.http import Answer, Connection, Unreachable
from pavane.issuer import Issuer

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.2
ACCEPTED = 202


class NotServed(InfraError):
    """The gateway did not take what it must take."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"The gateway did not take {what}: {why}.")


class Checkout:
    """Puts requests to the gateway over a few connections, again with the same key until they are accepted."""

    def __init__(self, url: str, issuer: Issuer, connections: int) -> None:
        self._issuer = issuer
        self._tokens: dict[str, str] = {}
        self._connections = [Connection(url) for _ in range(connections)]
        self._free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        for connection in self._connections:
            self._free.put_nowait(connection)

    async def place(self, order: Order) -> None:
        """Return once the order was accepted. Raises `NotServed` when it is refused, or not taken for a minute."""
        headers = {"Idempotency-Key": order.key, "Content-Type": "application/json"}
        await self._ask(f"order {order.number}", order.customer, "/v1/orders", headers, _body(order))

    async def cancel(self, order: Order) -> None:
        """Return once the wish to cancel was accepted; whether it came in time is told by the order's story."""
        await self._ask(f"the cancellation of {order.id}", order.customer, f"/v1/orders/{order.id}/cancellation", {})

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    async def _ask(self, what: str, customer: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        headers = {"Authorization": f"Bearer {self._token(customer)}", **headers}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            connection = await self._free.get()
            try:
                answer = await connection.ask("POST", path, headers, body)
            except Unreachable as error:
                why, pause = str(error), PAUSE_SECONDS
            else:
                if answer.status == ACCEPTED:
                    return
                why, pause = _reason(answer), float(answer.headers.get("retry-after", PAUSE_SECONDS))
                if answer.status < 500 and "retry-after" not in answer.headers:
                    raise NotServed(what, why)
            finally:
                self._free.put_nowait(connection)
            if time.monotonic() + pause > deadline:
                raise NotServed(f"{what} for {PATIENCE_SECONDS:.0f} seconds", why)
            await asyncio.sleep(pause)

    def _token(self, customer: str) -> str:
        token = self._tokens.get(customer)
        if token is None:
            token = self._tokens[customer] = self._issuer.token(TENANT, customer)
        return token


def _body(order: Order) -> bytes:
    return json.dumps(
        {
            "lines": [{"sku": line.sku, "quantity": line.quantity} for line in order.lines],
            "currency": CURRENCY,
            "payment_method": order.payment_method,
            # The record has no addresses; these are made up.
            "ship_to": {
                "recipient": f"Customer {order.customer}",
                "street": f"{int(order.customer)} Record Lane",
                "postal_code": order.postal_code,
                "city": "Philadelphia",
                "country": "US",
            },
        }
    ).encode()


def _reason(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status}"
