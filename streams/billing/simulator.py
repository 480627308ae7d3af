"""A payment provider for demonstrations and tests. It keeps the promises that `provider` asks of an adapter.

The outcome follows the payment method: `card-declined` is declined, `card-declined-at-capture` is authorized and then
refused when the money is taken, every other method pays. Its records are the tables `payments` and `payment_calls`.
"""

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import StrEnum
from uuid import NAMESPACE_URL, uuid5

from msgspec.structs import replace

from streams.billing.provider import (
    Authorized,
    AuthorizePayment,
    Captured,
    CapturePayment,
    Declined,
    NothingToReverse,
    PaymentEffect,
    Refunded,
    ReversePayment,
    Voided,
)
from streams.kit.events import Answer
from streams.kit.money import Money
from streams.kit.simulation import Record, Script, SimulatedWorld

DECLINED = "card-declined"
DECLINED_AT_CAPTURE = "card-declined-at-capture"


class Status(StrEnum):
    """What became of a payment. `closed`: it was reversed before anything was held."""

    NEW = "new"
    AUTHORIZED = "authorized"
    DECLINED = "declined"
    CAPTURED = "captured"
    CAPTURE_DECLINED = "capture_declined"
    VOIDED = "voided"
    REFUNDED = "refunded"
    CLOSED = "closed"


class Payment(Record, frozen=True, kw_only=True):
    """What the provider knows of one payment. A time is set once it happened."""

    amount_minor: int = 0
    currency: str | None = None
    method: str | None = None
    status: Status = Status.NEW
    reference: str | None = None
    reason: str | None = None
    authorized_at: datetime | None = None
    captured_at: datetime | None = None
    reversed_at: datetime | None = None


DDL = """
CREATE TABLE IF NOT EXISTS payments (
    key text PRIMARY KEY, order_id text NOT NULL, calls integer NOT NULL, amount_minor bigint NOT NULL, currency text,
    method text, status text NOT NULL, reference text, reason text,
    authorized_at timestamptz, captured_at timestamptz, reversed_at timestamptz
);
CREATE TABLE IF NOT EXISTS payment_calls (
    call bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, verb text NOT NULL, outcome text NOT NULL,
    changed boolean NOT NULL, at timestamptz NOT NULL
);
"""


def answer(payment: Payment, effect: PaymentEffect, at: datetime) -> tuple[Payment, Answer]:
    """What the provider makes of one question, and what it says. Pure."""
    match effect:
        case AuthorizePayment():
            return _authorize(payment, effect, at)
        case CapturePayment():
            return _capture(payment, at)
        case ReversePayment():
            return _reverse(payment, at)
    raise TypeError(f"a payment provider is not asked for {type(effect).__name__}")


def _authorize(payment: Payment, effect: AuthorizePayment, at: datetime) -> tuple[Payment, Answer]:
    if payment.status is Status.NEW:
        payment = replace(
            payment,
            amount_minor=effect.amount.amount_minor,
            currency=effect.amount.currency,
            method=effect.method,
        )
        if effect.method == DECLINED:
            payment = replace(payment, status=Status.DECLINED, reason="insufficient funds")
        else:
            reference = f"pay_{uuid5(NAMESPACE_URL, payment.key).hex}"
            payment = replace(payment, status=Status.AUTHORIZED, reference=reference, authorized_at=at)
    match payment.status:
        case Status.AUTHORIZED | Status.CAPTURED | Status.CAPTURE_DECLINED:
            return payment, Authorized(reference=payment.reference or "")
        case _:
            return payment, Declined(reason=payment.reason or "the payment was reversed")


def _capture(payment: Payment, at: datetime) -> tuple[Payment, Answer]:
    if payment.status is Status.AUTHORIZED:
        if payment.method == DECLINED_AT_CAPTURE:
            payment = replace(payment, status=Status.CAPTURE_DECLINED, reason="the card was blocked meanwhile")
        else:
            payment = replace(payment, status=Status.CAPTURED, captured_at=at)
    match payment.status:
        case Status.CAPTURED:
            return payment, Captured(reference=payment.reference or "")
        case Status.NEW:
            return payment, Declined(reason="nothing was authorized")
        case _:
            return payment, Declined(reason=payment.reason or "the payment was reversed")


def _reverse(payment: Payment, at: datetime) -> tuple[Payment, Answer]:
    match payment.status:
        case Status.AUTHORIZED | Status.CAPTURE_DECLINED:
            payment = replace(payment, status=Status.VOIDED, reversed_at=at)
        case Status.CAPTURED:
            payment = replace(payment, status=Status.REFUNDED, reversed_at=at)
        case Status.NEW:
            payment = replace(payment, status=Status.CLOSED, reversed_at=at)
    match payment.status:
        case Status.VOIDED:
            return payment, Voided(reference=payment.reference or "")
        case Status.REFUNDED:
            amount = Money(amount_minor=payment.amount_minor, currency=payment.currency or "")
            return payment, Refunded(reference=payment.reference or "", amount=amount)
        case _:
            return payment, NothingToReverse()


SCRIPT = Script(Payment, "payments", "payment_calls", DDL, answer)


def simulated_provider() -> AbstractAsyncContextManager[SimulatedWorld[Payment]]:
    """The provider, on the database that `PAVANE_DATABASE_WORLD` names."""
    return SimulatedWorld.playing(SCRIPT)
