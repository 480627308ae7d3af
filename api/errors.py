"""What the gateway answers instead of what was asked: each class is one RFC 9457 problem with a stable `type`.

    Problem
    ├── Unauthenticated       401  no token, or one that proves nothing
    ├── Forbidden             403  the token lacks the scope
    ├── NoSuchRoute           404  nothing at this address
    ├── MethodNotAllowed      405  nothing that takes this method
    ├── NoSuchOrder           404  unknown, or somebody else's: the same answer
    ├── NoSuchItem            404  no stock or no price was ever told of the SKU
    ├── BadIdempotencyKey     400  missing or not usable
    ├── StillRunning          409  the first request with this key has no answer yet
    ├── KeyReused             422  the key was used with another body
    ├── MalformedBody         400  not JSON
    ├── InvalidRequest        422  not what the route takes
    ├── BodyTooSlow           408  not all there in time
    ├── BodyTooLarge          413  longer than any order
    ├── Unavailable           503  cannot be answered for now
    │   ├── BeingForgotten        the customer asked to be forgotten, which is under way
    │   ├── Overloaded            more requests are under way than are good for anybody
    │   ├── NotAccepted           the request is not on the log and will not come onto it
    │   └── OutcomeUnknown        the request may or may not have come onto the log
    └── Unexpected            500  a mistake of ours; the log has the trace, the answer has the correlation id
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

TYPE_PREFIX = "urn:pavane:problem:"
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


class InvalidRequest(Problem):
    """`errors`: what is wrong, each as `{pointer, detail}`; pointers are URI fragments (RFC 6901) into the body."""

    status = 422
    slug = "invalid-request"
    title = "The request is not valid"

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        count = len(errors)
        super().__init__(f"{count} thing{'s are' if count != 1 else ' is'} not as needed; see errors.", errors=errors)


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


class Unavailable(Problem):
    status = 503
    slug = "unavailable"
    title = "This cannot be answered for now"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


class BeingForgotten(Unavailable):
    slug = "being-forgotten"
    title = "This customer is just being forgotten"

    def __init__(self) -> None:
        super().__init__("Nothing was done. Try again in half a minute, with the same Idempotency-Key.")


class Overloaded(Unavailable):
    slug = "overloaded"
    title = "Too many requests are under way"

    def __init__(self) -> None:
        super().__init__("Nothing was done. Try again later, with the same Idempotency-Key.")


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
