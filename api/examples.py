"""Examples in the description of the API; tests hold them to what the routes take and give."""

from typing import Any

from api import errors
from api.errors import Problem

ORDER_ID = "d4a7d48b-db06-538c-9fd7-a13761722e63"
_PLACED = "2026-03-01T12:00:00.250000Z"
_ORDER_URL = f"/v1/orders/{ORDER_ID}"
_SUMMARY = {
    "order_id": ORDER_ID,
    "status": "placed",
    "stage": "reserved",
    "reason": "",
    "total_minor": 1200,
    "currency": "EUR",
    "placed_at": _PLACED,
    "updated_at": _PLACED,
    "settled_at": None,
}
_ENTRY = {
    "id": "orders/3/159",
    "ordinal": 301,
    "fact": "OrderPlaced",
    "speaker": "orders",
    "at": _PLACED,
    "cause": "orders.requests/3/157",
    "correlation": "web-42",
    "detail": {"total": {"amount_minor": 1200, "currency": "EUR"}, "deadline": "2026-03-01T12:15:00Z"},
    "took_seconds": None,
}

_DEAD_LETTER = {
    "id": "billing/0/12",
    "service": "billing",
    "event": "StockReserved",
    "key": ORDER_ID,
    "reason": "KeyError",
    "attempts": 1,
    "parked_at": _PLACED,
    "retry_at": None,
    "behind": 2,
}

#: By the name of the schema.
OF_SCHEMAS: dict[str, dict[str, Any]] = {
    "NewOrder": {
        "lines": [{"sku": "lamp", "quantity": 2}],
        "currency": "EUR",
        "payment_method": "card-ok",
        "ship_to": {
            "recipient": "Ada Lovelace",
            "street": "12 St James's Square",
            "postal_code": "SW1Y 4JH",
            "city": "London",
            "country": "GB",
        },
    },
    "Receipt": {"quantity": 100},
    "NewPrice": {"amount_minor": 600, "currency": "EUR"},
    "Accepted": {"order_id": ORDER_ID, "status_url": _ORDER_URL},
    "ItemAccepted": {
        "sku": "lamp",
        "request_id": "b7b2c6a4-7a0c-5d0e-9a53-2a5b1c0f6e11",
        "status_url": "/v1/stock/lamp",
    },
    "Order": {
        **_SUMMARY,
        "lines": [{"sku": "lamp", "quantity": 2, "unit_price_minor": 600}],
        "due": [
            {
                "speaker": "billing",
                "facts": ["PaymentAuthorized", "PaymentDeclined"],
                "since": _PLACED,
                "by": "2026-03-01T12:15:00Z",
            }
        ],
        "story": [_ENTRY],
    },
    "Page": {"orders": [_SUMMARY], "next": "/v1/orders?cursor=MTc3MjM2NjQwMC9kNGE3&limit=20"},
    "Overdue": {
        "orders": [
            {
                "order_id": ORDER_ID,
                "status": "placed",
                "speaker": "shipping",
                "facts": ["ShipmentBooked", "ShipmentRejected"],
                "since": _PLACED,
                "waited_seconds": 42.5,
                "usual_seconds": 0.2,
                "by": "2026-03-01T12:15:00Z",
                "reason": "no process of shipping holds lanes 0, 1, 2, 3",
                "remedy": "pavane run shipping",
            }
        ]
    },
    "Redrive": {"why": "the decision is mended"},
    "DeadLetter": _DEAD_LETTER,
    "DeadLetters": {"dead_letters": [_DEAD_LETTER], "more": False, "unreadable": []},
    "DeadLetterStory": {
        "id": "billing/0/12",
        "dead_letter": None,
        "operations": [
            {
                "what": "redrive",
                "who": "shop/operator",
                "why": "the decision is mended",
                "begun_at": _PLACED,
                "ended_at": _PLACED,
                "outcome": "3 handled, 0 left",
            }
        ],
    },
    "Redriven": {"id": "billing/0/12", "operation": 7, "status_url": "/v1/dead-letters/billing/0/12"},
    "Stock": {"sku": "lamp", "available": 96, "reserved": 2, "dispatched": 2},
    "Price": {"sku": "lamp", "amount_minor": 600, "currency": "EUR"},
    "Health": {"status": "degraded", "missing": {"redis": "does not answer as it should"}},
    "Deep": {
        "status": "unready",
        "seconds": {"redis": 0.0011, "log": 0.0094},
        "missing": {"orders, timeline and database": "no round trip within 5 s"},
    },
}
EVENT = (
    'id: orders/3/159\nevent: OrderPlaced\ndata: {"id":"orders/3/159","order_id":"' + ORDER_ID + '","ordinal":301}\n\n'
)

_WRONG = [{"pointer": "#/lines/0/quantity", "detail": "Input should be greater than or equal to 1"}]
_GIVEN: dict[type[Problem], tuple[Any, ...]] = {
    errors.Problem: ("This is a mistake of ours. Quote the correlation id when you report it.",),
    errors.Unauthenticated: ("The token has expired.",),
    errors.Forbidden: ("orders:write",),
    errors.NoSuchRoute: ("Check the address against the description of the API.",),
    errors.MethodNotAllowed: ("Allowed here: GET.",),
    errors.NoSuchItem: ("No price of this SKU was ever set.",),
    errors.WaitsBehind: ("billing/0/11",),
    errors.BadIdempotencyKey: ("Send a header Idempotency-Key: a new one for each order, the same one for a retry.",),
    errors.StillRunning: (1,),
    errors.MalformedBody: ("The body cannot be read as JSON.",),
    errors.InvalidRequest: (_WRONG,),
    errors.TooManyStreams: ("You", 1_000),
    errors.HeadTooSlow: (10.0,),
    errors.HeadTooLarge: (16 * 1024, 64),
    errors.LimitReached: (2, {"RateLimit": '"user-reads";r=0;t=5', "RateLimit-Policy": '"user-reads";q=250;w=5'}),
    errors.BodyTooLarge: (64 * 1024,),
    errors.BodyTooSlow: (10.0,),
    errors.Unavailable: ("Orders, stock and prices cannot be read for now; what was accepted goes on.",),
}


def of_problem(kind: type[Problem]) -> Problem:
    """A problem of that type, as it is answered."""
    return kind(*_GIVEN.get(kind, ()))
