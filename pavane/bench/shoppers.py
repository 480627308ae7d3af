"""Customers of a shop, for locust: they order, follow their orders, list them, and call some off.

    locust -f pavane/bench/shoppers.py --headless ... with PLAN=plan.json, which `scenarios/load.py` writes

It imports nothing of ours: locust lives in an environment of its own (load.lock). Each user is one customer after the
other: a visit is so many requests long. Requests are due at a constant pace, however long the answers take, and count
from when they were due: after a slow answer those that it held up are sent at once, as late as they are (`generator`).
"""

import itertools
import json
import os
import random
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from locust import FastHttpUser, events, task

PLAN: dict[str, Any] = json.loads(Path(os.environ["PLAN"]).read_text()) if "PLAN" in os.environ else {}
#: A visit: from one customer's coming to the next one's.
REQUESTS_A_VISIT = 20
MOST_FOLLOWED = 5
LUCK = random.Random(PLAN.get("seed"))
KNOWN: list[str] = PLAN.get("known", [])
#: Tokens of customers who have never been here, each for one visit; when there are none left, known ones come again.
NEW: Iterator[str] = iter(PLAN.get("new", []))
BEGIN = time.time() + PLAN.get("warm_up_seconds", 0)
RATE: float = PLAN.get("rate", 1)
#: From one request of a user to the user's next one.
PACE_SECONDS: float = PLAN.get("users", 1) / RATE
USERS = itertools.count()

noted: dict[str, list[float]] = {}
errors: list[str] = []
placed: list[str] = []
cancelled = 0


class Customer(FastHttpUser):
    """One after the other."""

    host = PLAN.get("url", "http://nowhere")
    connection_timeout = network_timeout = 30.0

    def on_start(self) -> None:
        self._requests = itertools.count()
        self._come()
        # All users start at once; their requests are to be due one after the other.
        self._due = time.time() + next(USERS) / RATE - PACE_SECONDS
        self.wait()

    def wait_time(self) -> float:
        """Seconds until the next request is due; 0 when it is late."""
        self._due += PACE_SECONDS
        return max(0.0, self._due - time.time())

    def context(self) -> dict[str, float]:
        """What `note` is told with each request."""
        return {"due": self._due}

    @task(20)
    def place(self) -> None:
        self._count()
        body = {
            "lines": [{"sku": f"sku-{LUCK.randrange(PLAN['goods'])}", "quantity": LUCK.randint(1, 3)}],
            "currency": "EUR",
            "payment_method": "card-ok" if LUCK.random() < 0.95 else "card-declined",
            "ship_to": {
                "recipient": "Ada Lovelace", "street": "12 St James's Square",
                "postal_code": "SW1Y 4JH", "city": "London", "country": "GB",
            },
        }  # fmt: skip
        headers = {**self._headers, "Idempotency-Key": uuid4().hex}
        with self.client.post("/v1/orders", json=body, headers=headers, name="POST order", catch_response=True) as said:
            if said.status_code == 202:
                self._orders.append(said.json()["order_id"])
                placed.append(self._orders[-1])
            else:
                said.failure(f"{said.status_code}: {said.text}")

    @task(60)
    def follow(self) -> None:
        """With the tag of the last answer, as a page would that is open."""
        self._count()
        order = self._an_order()
        if order is None:
            self.place()
            return
        headers = {**self._headers, "If-None-Match": self._tags.get(order, "")}
        with self.client.get(f"/v1/orders/{order}", headers=headers, name="GET order", catch_response=True) as said:
            if said.status_code in (200, 304):
                self._tags[order] = said.headers["etag"]
                said.success()
            else:
                said.failure(f"{said.status_code}: {said.text}")

    @task(15)
    def own_orders(self) -> None:
        self._count()
        self.client.get("/v1/orders", headers=self._headers, name="GET orders")

    @task(5)
    def cancel(self) -> None:
        global cancelled
        self._count()
        order = self._an_order()
        if order is None:
            self.place()
            return
        self.client.post(f"/v1/orders/{order}/cancellation", headers=self._headers, name="POST cancellation")
        cancelled += 1

    def _an_order(self) -> str | None:
        return LUCK.choice(self._orders) if self._orders else None

    def _count(self) -> None:
        if next(self._requests) % REQUESTS_A_VISIT == REQUESTS_A_VISIT - 1:
            self._come()

    def _come(self) -> None:
        is_new = LUCK.random() < PLAN["share_of_new"]
        token = next(NEW, None) if is_new else None
        self._headers = {"Authorization": f"Bearer {token or LUCK.choice(KNOWN)}"}
        self._orders: deque[str] = deque(maxlen=MOST_FOLLOWED)
        self._tags: dict[str, str] = {}


@events.request.add_listener
def note(
    name: str,
    response_time: float,
    exception: BaseException | None,
    start_time: float,
    context: dict[str, float],
    **_: Any,
) -> None:
    """`response_time`: milliseconds from `start_time`, when it was sent."""
    if exception is not None:
        errors.append(f"{name}: {exception}")
    if context["due"] >= BEGIN:
        noted.setdefault(name, []).append(start_time + response_time / 1000 - context["due"])


@events.quit.add_listener
def told(**_: Any) -> None:
    """What came of it, for `scenarios/load.py`."""
    if PLAN:
        usage = os.times()
        document = {
            "seconds": noted, "errors": errors, "placed": placed, "cancelled": cancelled,
            "cpu_seconds": usage.user + usage.system, "begin": BEGIN, "end": time.time(),
        }  # fmt: skip
        Path(PLAN["told"]).write_text(json.dumps(document))
