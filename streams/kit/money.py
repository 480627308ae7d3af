"""Money: whole minor units of one currency, never a fraction."""

import re

from streams.kit.events import Value

_CURRENCY = re.compile("[A-Z]{3}")


class Money(Value):
    """An amount in the minor unit of an ISO 4217 currency: 1234 in EUR is 12.34 euros."""

    amount_minor: int
    currency: str


def is_currency(code: str) -> bool:
    """It has the form of an ISO 4217 code. Whether the code exists is not asked: prices decide what is sold."""
    return _CURRENCY.fullmatch(code) is not None
