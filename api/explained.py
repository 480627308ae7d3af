"""Every type of problem, explained for whoever meets it: what happened, what to do. Served at the type's address."""

from collections.abc import Iterator
from typing import NamedTuple

from api.errors import Problem


class Explained(NamedTuple):
    """What happened, and what a person or a program does about it."""

    happened: str
    to_do: str


SAME_KEY = "Send the same request again with the same Idempotency-Key: it is done once, however often it is sent."
AGAIN = "Send the same request again after the time that Retry-After says."

EXPLAINED: dict[str, Explained] = {
    "unauthenticated": Explained(
        "The request had no bearer token, or one that is expired, meant for somebody else, or not signed by a key that "
        "the gateway trusts. The header WWW-Authenticate says which.",
        "Get a new token from your identity provider and send it as 'Authorization: Bearer <token>'.",
    ),
    "forbidden": Explained(
        "The token is good, but it does not allow this: the scope that is needed is named in detail and in "
        "WWW-Authenticate.",
        "Ask for a token with that scope. Stock and prices are written by operators alone.",
    ),
    "no-such-route": Explained(
        "Nothing is at this address.",
        "Compare the address with the description of the API: /docs and /openapi.json, where they are shown.",
    ),
    "method-not-allowed": Explained(
        "The address is there but does not take this method.", "Use one of those in the header Allow."
    ),
    "no-such-order": Explained(
        "There is no order of this id, or it is somebody else's: the answer is the same, so that nobody learns of "
        "others' orders.",
        "Use the order_id of the answer to POST /v1/orders, and the token of the same customer. One that was accepted "
        "just now may not be known here yet: ask again for some seconds, and do not order again.",
    ),
    "no-such-item": Explained(
        "No stock was ever received, or no price was ever set, of this SKU in your shop.",
        "Check the SKU; an operator sends PUT /v1/prices/{sku} and POST /v1/stock/{sku}/receipts.",
    ),
    "no-such-dead-letter": Explained(
        "No event of your tenant waits under this id. It was handled or discarded meanwhile, or never there.",
        "GET /v1/dead-letters shows what waits. Events that do not say whose they are show in 'pavane dead-letters'.",
    ),
    "waits-behind": Explained(
        "Events about one order are handled in their order, and another one of them is before this one.",
        "Redrive the one that detail names. Those behind it follow by themselves.",
    ),
    "idempotency-key": Explained(
        "The header Idempotency-Key is missing, or there twice, or not 1 to 255 printable ASCII characters without "
        "blanks and quotes. It may stand in quotes as in RFC 9651: a backslash is written twice, and nothing follows.",
        "Make a new key (a UUID will do) for each thing to be done, and use the same one for every retry of it.",
    ),
    "still-running": Explained(
        "A request with this Idempotency-Key is being answered at this moment.",
        AGAIN + " You then get the answer of the first.",
    ),
    "idempotency-key-reused": Explained(
        "This Idempotency-Key was used for a request with another body, or by another customer of the shop.",
        "For a new order take a new key. For a retry send the body as it was.",
    ),
    "malformed-body": Explained(
        "The body is not JSON in UTF-8, or a name stands twice in one of its objects.",
        "Send JSON (RFC 8259), without NaN and without a byte order mark, and each name once.",
    ),
    "unsupported-media-type": Explained(
        "The body is said to be something else than JSON.", "Send the header 'Content-Type: application/json'."
    ),
    "invalid-request": Explained(
        "The body, or a parameter, is not as the route takes it. Each entry of errors says what is wrong and where: "
        "pointer is a JSON pointer into the body (RFC 6901), parameter names part of the path, the query or a header.",
        "Mend what errors names and send it again; nothing was done.",
    ),
    "events-gone": Explained(
        "So much has happened since the event that Last-Event-ID names that it cannot be told again; or the stories "
        "were made anew since, and are numbered otherwise.",
        "Open the stream without Last-Event-ID, then read GET /v1/orders to see how your orders stand: in this order "
        "nothing falls between.",
    ),
    "too-many-streams": Explained(
        "So many streams of this customer, or of all customers of the shop, are open at this gateway that it takes no "
        "more of them: others find room as well. detail says which.",
        "Close those that nobody reads. GET /v1/orders/events tells of all orders by one stream.",
    ),
    "body-too-slow": Explained("The body did not arrive in time.", SAME_KEY),
    "body-too-large": Explained(
        "The body is longer than any order can be.", "An order has 100 lines at most; split it, each with its own key."
    ),
    "malformed-request": Explained(
        "What came over the connection is not HTTP/1.1.", "Use an HTTP client; look at what stands between it and here."
    ),
    "head-too-slow": Explained("The request line and the headers did not arrive in time.", SAME_KEY),
    "head-too-large": Explained(
        "The address and the headers are longer than anybody's.",
        "Send fewer and shorter headers; tokens are the longest.",
    ),
    "limit-reached": Explained(
        "More was asked from this address, by this user or by this tenant than is allowed. RateLimit says how much is "
        "left of which limit, RateLimit-Policy what the limits are.",
        AGAIN + " Spread requests: up to the limit nothing is refused.",
    ),
    "too-many-connections": Explained(
        "So many connections are open that no more is taken.", "Keep connections open and use them again. " + AGAIN
    ),
    "being-forgotten": Explained(
        "The customer asked to be forgotten, which is just being done. Nothing was done with the order.",
        AGAIN + " " + SAME_KEY,
    ),
    "unavailable": Explained(
        "What was asked for cannot be had for now; detail says why. What was accepted goes on.",
        AGAIN + " Where there is none, waiting does not help.",
    ),
    "overloaded": Explained("More is under way than is good for anybody. Nothing was done.", AGAIN + " " + SAME_KEY),
    "not-accepted": Explained("The log cannot be reached. Nothing was done.", AGAIN + " " + SAME_KEY),
    "outcome-unknown": Explained(
        "The log did not say in time that it has the request. It may still come, or not.", AGAIN + " " + SAME_KEY
    ),
    "keys-away": Explained(
        "The identity provider cannot be reached, so that nobody can be recognised. Nothing was done.", AGAIN
    ),
    "unexpected": Explained(
        "A mistake of ours. It was noted under the correlation id, with all that is needed to find it.",
        "Report it with the correlation_id. " + SAME_KEY,
    ),
}


def types() -> Iterator[type[Problem]]:
    """Every type of problem there is, each once, by status."""
    found: dict[str, type[Problem]] = {kind.slug: kind for kind in _below(Problem)}
    yield from sorted(found.values(), key=lambda kind: (kind.status, kind.slug))


def _below(kind: type[Problem]) -> Iterator[type[Problem]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
