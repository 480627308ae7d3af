"""What a caller asks beside the content: only what is new (`If-None-Match`), waiting for it (`Prefer`), a next page."""

import base64
import hashlib
import re
from datetime import UTC, datetime

from api.errors import InvalidRequest

LONGEST_WAIT_SECONDS = 20

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')
_CURSOR = re.compile(r"(\d{1,17})/([0-9a-f-]{36})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: What comes before every order: the first page begins there.
NEWEST = (datetime(9999, 1, 1, tzinfo=UTC), "")


def etag_of(body: bytes) -> str:
    """A strong entity tag (RFC 9110, section 8.8.3): equal for equal bytes alone."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the caller has this already (RFC 9110, section 13.1.2: compared weakly)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def wait_of(prefer: str | None) -> int | None:
    """How many seconds the caller would wait (RFC 7240, section 4.3), at most `LONGEST_WAIT_SECONDS`; None: none."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT_SECONDS) if found else None


def cursor_of(placed_at: datetime, order_id: str) -> str:
    """Where a page ended. Opaque to callers: what is in it may change with any release."""
    microseconds = (placed_at - _EPOCH) // (datetime.resolution)
    return base64.urlsafe_b64encode(f"{microseconds}/{order_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Where the page before ended. Raises `InvalidRequest`."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode("ascii")
        found = _CURSOR.fullmatch(text)
        if found is None:
            raise ValueError(text)
        return _EPOCH + int(found[1]) * datetime.resolution, found[2]
    except (ValueError, OverflowError):
        detail = "is not a cursor: take 'next' of the page before as it is"
        raise InvalidRequest([{"parameter": "query/cursor", "detail": detail}]) from None
