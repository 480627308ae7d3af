"""Which request is meant: ids that travel from the caller through every fact and log line and back."""

import re
import secrets
import time
from collections.abc import Iterable
from uuid import UUID

CORRELATION_HEADER = b"x-correlation-id"
TRACE_HEADER = b"traceparent"
_SAFE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
# Version, trace, span and flags, none of the ids all zero; a later version may have more behind a dash.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?"
)
_SAMPLED = 0x01


def new_id() -> str:
    """A UUIDv7 (RFC 9562): the time in milliseconds, then chance, so that ids sort by when they were made."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & ((1 << 48) - 1)) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))


def correlation_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's own id if it is short and safe to repeat in headers and logs, or else a new one."""
    given = _header(headers, CORRELATION_HEADER)
    return given.decode() if given is not None and _SAFE.fullmatch(given) else new_id()


def traceparent_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The caller's trace, if it sent one by the standard (W3C Trace Context, 3.2), as version 00 writes it.

    Of a later version the first fields are read, and of its flags the one that is known.
    """
    given = [value for key, value in headers if key == TRACE_HEADER]
    found = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == b"00":
        return given[0] if more is None else None
    return b"00-%b-%b-%02x" % (trace, span, int(flags, 16) & _SAMPLED)


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    return next((value for key, value in headers if key == name), None)
