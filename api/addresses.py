"""Whose address a request has: that of the connection, unless a proxy that we trust says for whom it speaks."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from streams.kit.errors import WrongSetting

Network = IPv4Network | IPv6Network

UNKNOWN = "unknown"
_MOST_HOPS = 16


def networks(text: str) -> tuple[Network, ...]:
    """The networks in a setting like `10.0.0.0/8, 192.0.2.7`. Raises `WrongSetting`."""
    try:
        return tuple(ip_network(each.strip()) for each in text.split(",") if each.strip())
    except ValueError as error:
        raise WrongSetting(f"PAVANE_TRUSTED_PROXIES (addresses or networks, comma between them): {error}") from None


def address_of(peer: str | None, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> str:
    """The nearest address that is no proxy of ours, read from the right of `X-Forwarded-For`: what stands further left
    anybody can have written. Of IPv6 the first 64 bits, as the rest is the caller's own to choose.
    """
    nearest = peer or UNKNOWN
    if not _is_trusted(nearest, trusted):
        return _network_of(nearest)
    said = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1").split(",")
    for hop in reversed(said[-_MOST_HOPS:]):
        hop = hop.strip()
        if _parsed(hop) is None:
            break
        nearest = hop
        if not _is_trusted(hop, trusted):
            break
    return _network_of(nearest)


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in each for each in trusted)


def _network_of(address: str) -> str:
    parsed = _parsed(address)
    if parsed is None:
        return UNKNOWN
    return str(ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # An IPv4 address as an IPv6 socket sees it is that IPv4 address.
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
