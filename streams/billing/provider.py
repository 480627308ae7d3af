"""What billing asks of a payment provider, and what it may answer.

An order has one payment, so all three questions are asked under one key. An adapter must keep three promises about it:

- The same question again gets the first answer and moves no money again.
- A reversal may come first, or when nothing is known of an authorization: a batch that asked for one may be lost. After
  a reversal the provider refuses to authorize or capture under that key, for ever.
- A reversal of what was authorized voids it, of what was captured refunds all of it, once.
"""

from contextlib import AbstractAsyncContextManager

from streams.kit.events import Answer, Effect
from streams.kit.money import Money
from streams.kit.service import World

# -- asked -----------------------------------------------------------------------------------------------------------


class PaymentEffect(Effect):
    """Concerns the one payment of an order."""

    order_id: str

    @property
    def key(self) -> str:
        return f"payment/{self.order_id}"


class AuthorizePayment(PaymentEffect):
    """Hold this much money."""

    amount: Money
    method: str


class CapturePayment(PaymentEffect):
    """Take the money that is held."""

    amount: Money


class ReversePayment(PaymentEffect):
    """Undo whatever was done for the order, and refuse to do anything for it later."""


# -- answered --------------------------------------------------------------------------------------------------------


class Authorized(Answer):
    """The money is held."""

    reference: str


class Captured(Answer):
    """The money is in."""

    reference: str


class Declined(Answer):
    """No money: not held, or not taken."""

    reason: str


class Voided(Answer):
    """The money was held and is let go."""

    reference: str


class Refunded(Answer):
    """The money was taken and is given back."""

    reference: str
    amount: Money


class NothingToReverse(Answer):
    """No money was ever held."""


def connect() -> AbstractAsyncContextManager[World]:
    """The provider to ask: for now always the simulator. Its driver is loaded only by a process that asks."""
    from streams.billing.simulator import simulated_provider

    return simulated_provider()
