"""Keys made of text that comes from outside.

Text that goes into a key or a row must be checked where it enters: PostgreSQL takes no zero character and indexes no
text of several thousand bytes, and a batch that holds such text would fail for everybody in it.
"""

import re

TENANT_CHARACTERS = 64
TOKEN_CHARACTERS = 128
TEXT_CHARACTERS = 200

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def item_key(tenant: str, sku: str) -> str:
    """What stock and prices are keyed by: two shops may use one SKU. Unambiguous, as a tenant holds no '/'."""
    return f"{tenant}/{sku}"


def is_plain(text: str, characters: int = TEXT_CHARACTERS) -> bool:
    """Neither empty nor longer than `characters`, and without control characters."""
    return 0 < len(text) <= characters and _CONTROL.search(text) is None


def is_tenant(text: str) -> bool:
    """It may be the first part of an item's key."""
    return is_plain(text, TENANT_CHARACTERS) and "/" not in text


def is_token(text: str) -> bool:
    """It may be a SKU, a customer's number or a payment method."""
    return is_plain(text, TOKEN_CHARACTERS)


def is_uuid(text: str) -> bool:
    """It is a UUID in lower-case text, as the keys of orders are written."""
    return _UUID.fullmatch(text) is not None
