"""What will go: routes that are deprecated, since when, until when, and what to use instead.

Nothing is, while `/v1` is all there is. When `/v2` comes, its `/v1` route gets a line here; callers then see
`Deprecation` (RFC 9745), `Sunset` (RFC 8594) and a link to the successor (RFC 5829) with every answer, also a refusal.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple


class Deprecated(NamedTuple):
    """`since` and `gone`: with time zone. `successor`: the address to use instead."""

    since: datetime
    gone: datetime
    successor: str


#: By route template, such as "/v1/orders/{order_id}".
DEPRECATED: Mapping[str, Deprecated] = {}


def headers_of(route: str) -> list[tuple[bytes, bytes]]:
    """What answers of this route say about its end; nothing, if none is planned."""
    found = DEPRECATED.get(route)
    if found is None:
        return []
    return [
        (b"deprecation", f"@{int(found.since.timestamp())}".encode()),
        (b"sunset", format_datetime(found.gone.astimezone(UTC), usegmt=True).encode()),
        (b"link", f'<{found.successor}>; rel="successor-version"'.encode()),
    ]
