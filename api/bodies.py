"""What callers may send.

Every field is bounded, text is NFC without control characters, unknown fields are refused.
"""

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

SAFE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
MOST_LINES = 100
MOST_PIECES = 10_000
MOST_RECEIVED = 1_000_000_000
MOST_AMOUNT_MINOR = 1_000_000_000_000

# Control, surrogate, private and line-breaking characters, and those that turn the reading direction: none belongs in a
# name or a street. Other format characters stay, since Persian and Indic names are written with joiners.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Zl", "Zp"})
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain_text(text: str) -> str:
    """`text` in NFC (Unicode Annex 15) without blanks around it; refused if it is empty or has control characters."""
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        raise PydanticCustomError("blank", "must not be blank")
    if text.isascii() and text.isprintable():
        return text
    for character in text:
        refused = unicodedata.category(character) in _REFUSED_CATEGORIES or character in _DIRECTIONS
        if refused or _is_no_character(ord(character)):
            raise PydanticCustomError("unprintable", "must not have control characters")
    return text


def _is_no_character(code: int) -> bool:
    """The 66 code points that never will be characters (Unicode 16, section 23.7)."""
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def whole(number: Any) -> Any:
    """`5.0` is the integer 5 (JSON Schema 2020-12, core, 4.2.3); everything else stays as it is."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


# No pattern: one that says this is not the same in all dialects, and would bind clients made from it to our Unicode.
_IN_WORDS = Field(description="Not blank; without control and private characters, and marks of direction.")

Safe = Annotated[str, StringConstraints(pattern=SAFE_PATTERN)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(plain_text), _IN_WORDS]
PostalCode = Annotated[str, StringConstraints(min_length=1, max_length=16), AfterValidator(plain_text), _IN_WORDS]
Whole = Annotated[int, BeforeValidator(whole)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class OrderLine(Body):
    """How many of one SKU are wanted."""

    sku: Safe
    quantity: Whole = Field(ge=1, le=MOST_PIECES)


class Address(Body):
    """Where the parcel goes; `country` as in ISO 3166-1 alpha-2."""

    recipient: Text
    street: Text
    postal_code: PostalCode
    city: Text
    country: Country


class NewOrder(Body):
    """An order. Prices are the shop's own; `currency` (ISO 4217) must be the one that its prices are in."""

    lines: list[OrderLine] = Field(min_length=1, max_length=MOST_LINES)
    currency: Currency
    payment_method: Safe
    ship_to: Address


class Redrive(Body):
    """Why a dead letter is tried again, for the record."""

    why: Text


class Receipt(Body):
    """Pieces that came in."""

    quantity: Whole = Field(ge=1, le=MOST_RECEIVED)


class NewPrice(Body):
    """What one piece costs, in minor units of an ISO 4217 currency; 0 is free."""

    amount_minor: Whole = Field(ge=0, le=MOST_AMOUNT_MINOR)
    currency: Currency
