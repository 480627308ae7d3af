"""What the gateway answers instead of what was asked: each class is one RFC 9457 problem with a stable `type`.

    Problem
    ├── Unauthenticated       401  no token, or one that proves nothing
    ├── Forbidden             403  the token lacks the scope
    ├── NoSuchRoute           404  nothing at this address
    ├── MethodNotAllowed      405  nothing that takes this method
    ├── NoSuchOrder           404  unknown, or somebody else's: the same answer
    ├── NoSuchItem            404  no stock or no price was ever told of the SKU
    ├── NoSuchDeadLetter      404  handled meanwhile, or another tenant's: the same answer
    ├── WaitsBehind           409  another dead letter of the same key comes first
    ├── BadIdempotencyKey     400  missing or not usable
    ├── StillRunning          409  the first request with this key has no answer yet
    ├── KeyReused             422  the key was used with another body
    ├── MalformedBody         400  not JSON
    ├── MalformedRequest      400  not HTTP
    ├── UnsupportedMediaType  415  a body that is not said to be JSON
    ├── InvalidRequest        422  not what the route takes
    ├── EventsGone            410  the event to go on from is too far back
    ├── TooManyStreams        429  one customer, or one shop, has more streams open than leave room for others
    ├── HeadTooSlow           408  the request line and headers are not there in time
    ├── HeadTooLarge          431  longer than anybody's request line and headers
    ├── BodyTooSlow           408  not all there in time
    ├── BodyTooLarge          413  longer than any order
    ├── LimitReached          429  too often from this address, user or tenant
    ├── Unavailable           503  cannot be answered for now
    │   ├── TooManyConnections    more are open than are good for anybody
    │   ├── BeingForgotten        the customer asked to be forgotten, which is under way
    │   ├── Overloaded            more requests are under way than are good for anybody
    │   ├── KeysAway              nobody can be recognised: the identity provider has been away for too long
    │   ├── NotAccepted           the request is not on the log and will not come onto it
    │   └── OutcomeUnknown        the request may or may not have come onto the log
    └── Unexpected            500  a mistake of ours; the log has the trace, the answer has the correlation id
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

TYPE_PREFIX = "/problems/"
"""A relative reference with a full path (RFC 9457, section 3.1.1): whoever follows it finds the type explained."""
RETRY_AFTER_SECONDS = 2


class Problem(Exception):
    """An answer other than success. `detail` is for the caller; `members` are extension members of the document."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "unexpected"
    title: ClassVar[str] = "Something went wrong here"

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def document(self, correlation: str) -> dict[str, Any]:
        """The problem as RFC 9457 writes it."""
        return {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "correlation_id": correlation,
            **self.members,
        }


class Unauthenticated(Problem):
    status = 401
    slug = "unauthenticated"
    title = "A valid bearer token is needed"

    def __init__(self, detail: str, error: str = "invalid_token") -> None:
        challenge = 'Bearer realm="pavane"' + (f', error="{error}"' if error else "")
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class Forbidden(Problem):
    status = 403
    slug = "forbidden"
    title = "The token does not allow this"

    def __init__(self, scope: str) -> None:
        challenge = f'Bearer realm="pavane", error="insufficient_scope", scope="{scope}"'
        super().__init__(f"This needs a token with the scope {scope}.", headers={"WWW-Authenticate": challenge})


class NoSuchRoute(Problem):
    status = 404
    slug = "no-such-route"
    title = "There is nothing at this address"


class MethodNotAllowed(Problem):
    status = 405
    slug = "method-not-allowed"
    title = "The address does not take this method"


class NoSuchOrder(Problem):
    status = 404
    slug = "no-such-order"
    title = "No such order"

    def __init__(self) -> None:
        super().__init__("No order of yours has this id.")


class NoSuchItem(Problem):
    status = 404
    slug = "no-such-item"
    title = "No such item"


class NoSuchDeadLetter(Problem):
    status = 404
    slug = "no-such-dead-letter"
    title = "No such dead letter"

    def __init__(self) -> None:
        super().__init__("Nothing of your tenant waits under this id: it was handled, discarded, or never there.")


class WaitsBehind(Problem):
    status = 409
    slug = "waits-behind"
    title = "Another dead letter comes first"

    def __init__(self, head: str) -> None:
        super().__init__(f"It waits behind {head}, which is about the same key. Redrive that one; this one follows.")


class BadIdempotencyKey(Problem):
    status = 400
    slug = "idempotency-key"
    title = "A usable Idempotency-Key is needed"


class StillRunning(Problem):
    status = 409
    slug = "still-running"
    title = "The first request with this key is still running"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(
            "Ask again for its answer with the same key and body.", headers={"Retry-After": str(retry_after_seconds)}
        )


class KeyReused(Problem):
    status = 422
    slug = "idempotency-key-reused"
    title = "The Idempotency-Key was used for something else"

    def __init__(self) -> None:
        super().__init__("This key belongs to an earlier request with another body. Send a new request with a new key.")


class MalformedBody(Problem):
    status = 400
    slug = "malformed-body"
    title = "The body is not JSON"


class MalformedRequest(Problem):
    status = 400
    slug = "malformed-request"
    title = "This is not HTTP"

    def __init__(self) -> None:
        super().__init__("What came cannot be read as an HTTP request.")


class UnsupportedMediaType(Problem):
    status = 415
    slug = "unsupported-media-type"
    title = "The body must be JSON"

    def __init__(self) -> None:
        # RFC 9110, section 15.5.16: what would be taken.
        detail = "Send it with the header 'Content-Type: application/json'."
        super().__init__(detail, headers={"Accept": "application/json"})


class InvalidRequest(Problem):
    """`errors`: what is wrong, each as `{pointer, detail}`; pointers are URI fragments (RFC 6901) into the body."""

    status = 422
    slug = "invalid-request"
    title = "The request is not valid"

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        count = len(errors)
        super().__init__(f"{count} thing{'s are' if count != 1 else ' is'} not as needed; see errors.", errors=errors)


class EventsGone(Problem):
    status = 410
    slug = "events-gone"
    title = "The event to go on from is too far back"

    def __init__(self) -> None:
        super().__init__("Open the stream again without Last-Event-ID, then list the orders to see how they stand.")


class TooManyStreams(Problem):
    status = 429
    slug = "too-many-streams"
    title = "Too many streams are open"

    def __init__(self, who: str, most: int) -> None:
        super().__init__(
            f"{who} may have {most} streams open at once now. Close one, or follow all orders by one stream.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )


class HeadTooSlow(Problem):
    status = 408
    slug = "head-too-slow"
    title = "The request did not come in time"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The headers of a request must come within {seconds:g} seconds.")


class HeadTooLarge(Problem):
    status = 431
    slug = "head-too-large"
    title = "The request's headers are too large"

    def __init__(self, most_bytes: int, most_headers: int) -> None:
        super().__init__(f"The address and the headers may have {most_bytes} bytes, in {most_headers} headers.")


class BodyTooLarge(Problem):
    status = 413
    slug = "body-too-large"
    title = "The body is too large"

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"A body may have {most_bytes} bytes.", headers={"Connection": "close"})


class BodyTooSlow(Problem):
    status = 408
    slug = "body-too-slow"
    title = "The body did not come in time"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"A body must come within {seconds:g} seconds.", headers={"Connection": "close"})


class LimitReached(Problem):
    """`limits`: what the answer's RateLimit headers say of the limits, as names and values of headers."""

    status = 429
    slug = "limit-reached"
    title = "Too many requests"

    def __init__(self, retry_after_seconds: int, limits: Mapping[str, str]) -> None:
        super().__init__(
            f"Nothing was done. Ask again in {retry_after_seconds} seconds, with the same Idempotency-Key if there is "
            "one; RateLimit says how the limits stand.",
            headers={"Retry-After": str(retry_after_seconds), **limits},
        )


class Unavailable(Problem):
    status = 503
    slug = "unavailable"
    title = "This cannot be answered for now"

    def __init__(self, detail: str, retry_after_seconds: int | None = RETRY_AFTER_SECONDS) -> None:
        """`retry_after_seconds`: None where waiting does not help."""
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)} if retry_after_seconds else None)


class BeingForgotten(Unavailable):
    slug = "being-forgotten"
    title = "This customer is just being forgotten"

    def __init__(self) -> None:
        super().__init__("Nothing was done. Try again in half a minute, with the same Idempotency-Key.", 30)


class TooManyConnections(Unavailable):
    slug = "too-many-connections"
    title = "Too many connections are open"

    def __init__(self) -> None:
        super().__init__("Nothing was read. Use the connections that are open, or try again later.")


class Overloaded(Unavailable):
    slug = "overloaded"
    title = "Too many requests are under way"

    def __init__(self) -> None:
        super().__init__("Nothing was done. Try again later, with the same Idempotency-Key.")


class KeysAway(Unavailable):
    slug = "keys-away"
    title = "Tokens cannot be verified for now"

    def __init__(self) -> None:
        super().__init__("The identity provider's keys cannot be fetched; nothing was done. Try again later.")


class NotAccepted(Unavailable):
    slug = "not-accepted"
    title = "The request was not accepted"

    def __init__(self) -> None:
        super().__init__("The log cannot be reached; nothing was done. Try again later, with the same Idempotency-Key.")


class OutcomeUnknown(Unavailable):
    slug = "outcome-unknown"
    title = "It is not known whether the request was accepted"

    def __init__(self) -> None:
        super().__init__(
            "The log did not acknowledge in time: the request may still be accepted. Try again later with the same "
            "Idempotency-Key and body: that names the same thing and does it once."
        )


class Unexpected(Problem):
    def __init__(self) -> None:
        super().__init__("This is a mistake of ours. Quote the correlation id when you report it.")
