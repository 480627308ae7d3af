"""What billing remembers: one row an invoice. `tables` holds the same columns."""

from enum import StrEnum

from streams.kit.events import State
from streams.kit.money import Money


class Status(StrEnum):
    """How far an invoice is. Voided, refunded and cancelled are final: the order was called off and that is settled."""

    NEW = "new"
    OPEN = "open"
    AUTHORIZED = "authorized"
    DECLINED = "declined"
    CAPTURED = "captured"
    VOIDED = "voided"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"


class Invoice(State, table="invoices", key="order_id"):
    """The money for one order. `method`: the token that the provider knows. `reference`: the provider's, if any."""

    order_id: str
    tenant: str = ""
    status: Status = Status.NEW
    amount_minor: int = 0
    currency: str | None = None
    method: str | None = None
    reference: str | None = None

    @property
    def amount(self) -> Money:
        return Money(amount_minor=self.amount_minor, currency=self.currency or "")

    @property
    def is_free(self) -> bool:
        """Nothing is to be paid, so no provider is ever asked."""
        return self.amount_minor == 0

    @property
    def is_settled(self) -> bool:
        """The cancellation was answered for: nothing that comes later changes it."""
        return self.status in (Status.VOIDED, Status.REFUNDED, Status.CANCELLED)
