"""What billing asks of a payment provider, and what it may answer.

An order has one payment, so all three questions are asked under one key. An adapter must keep four promises about it:

- The same question again gets the first answer and moves no money again.
- A reversal may come first, or when nothing is known of an authorization: a batch that asked for one may be lost. After
  a reversal the provider refuses to authorize or capture under that key, for ever.
- A reversal of what was authorized voids it, of what was captured refunds all of it, once.
- A reversal always succeeds in the end. There is no answer for "too late": one that the provider refuses (a refund
  after its time, a closed account) stays unanswered until a person has settled it there, and the order's later
  records wait.
"""

import os
from contextlib import AbstractAsyncContextManager

from streams.kit.events import Answer, Effect
from streams.kit.logs import logger
from streams.kit.money import Money
from streams.kit.service import World

ADDRESS = "PAVANE_PAYMENT_PROVIDER"
"""URL of a provider that is asked over HTTP, as `streams.kit.remote` says. Default: none."""

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
    """The provider at the address that `PAVANE_PAYMENT_PROVIDER` names; without one, the simulator in this process."""
    if url := os.environ.get(ADDRESS):
        from streams.billing.service import billing
        from streams.kit.remote import remote_world

        return remote_world(billing, url)
    from streams.billing.simulator import simulated_provider

    logger().warning("world_simulated", why=f"{ADDRESS} names no provider: no money is taken")
    return simulated_provider()
