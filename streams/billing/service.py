"""Billing decides: is money asked for, taken, or given back?

An order can be cancelled at any moment, also while its payment is under way, and a batch can be lost after the provider
was asked. So a cancellation always asks the provider to reverse, whatever the invoice says, and the provider's answer
says what there was. Once that is said the invoice is settled, and whatever comes later changes nothing.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from streams.billing.events import (
    InvoiceCancelled,
    InvoiceOpened,
    OrderCancelled,
    OrderPlaced,
    PaymentAuthorized,
    PaymentCaptured,
    PaymentDeclined,
    PaymentRefunded,
    PaymentVoided,
    ShipmentBooked,
    StockReserved,
)
from streams.billing.model import Invoice, Status
from streams.billing.provider import (
    Authorized,
    AuthorizePayment,
    Captured,
    CapturePayment,
    Declined,
    NothingToReverse,
    Refunded,
    ReversePayment,
    Voided,
    connect,
)
from streams.kit.service import Said, Service

#: The reference of a payment that no provider was asked for.
FREE = "free"

billing = Service(
    "billing",
    states=[Invoice],
    says=[
        InvoiceOpened,
        PaymentAuthorized,
        PaymentDeclined,
        PaymentCaptured,
        PaymentVoided,
        PaymentRefunded,
        InvoiceCancelled,
    ],
    world=connect,
)


# -- decisions -------------------------------------------------------------------------------------------------------


@billing.hears(OrderPlaced)
def open_invoice(invoice: Invoice, placed: OrderPlaced) -> Iterator[Said]:
    """Remember what the order costs and how it is paid, until the goods are set aside."""
    if invoice.status is Status.NEW:
        yield InvoiceOpened(
            tenant=placed.tenant,
            order_id=placed.order_id,
            amount=placed.total,
            payment_method=placed.payment_method,
        )


@billing.hears(StockReserved)
def authorize_reserved_order(invoice: Invoice, reserved: StockReserved) -> Iterator[Said]:
    """The goods are set aside: ask for the money, unless the order was called off meanwhile."""
    if invoice.status is not Status.OPEN:
        return
    if invoice.is_free:
        yield _authorized(invoice, FREE)
    else:
        yield AuthorizePayment(order_id=invoice.order_id, amount=invoice.amount, method=invoice.method or "")


@billing.answers(AuthorizePayment)
def note_authorization(invoice: Invoice, answer: Authorized | Declined) -> Iterator[Said]:
    match answer:
        case Authorized(reference=reference):
            yield _authorized(invoice, reference)
        case Declined(reason=reason):
            yield PaymentDeclined(tenant=invoice.tenant, order_id=invoice.order_id, reason=reason)


@billing.hears(ShipmentBooked)
def capture_booked_order(invoice: Invoice, booked: ShipmentBooked) -> Iterator[Said]:
    """A carrier takes the parcel: take the money, unless the order was called off meanwhile."""
    if invoice.status is not Status.AUTHORIZED:
        return
    if invoice.is_free:
        yield _captured(invoice, FREE)
    else:
        yield CapturePayment(order_id=invoice.order_id, amount=invoice.amount)


@billing.answers(CapturePayment)
def note_capture(invoice: Invoice, answer: Captured | Declined) -> Iterator[Said]:
    match answer:
        case Captured(reference=reference):
            yield _captured(invoice, reference)
        case Declined(reason=reason):
            yield PaymentDeclined(tenant=invoice.tenant, order_id=invoice.order_id, reason=reason)


@billing.hears(OrderCancelled, overtakes=True)
def reverse_cancelled_order(invoice: Invoice, cancelled: OrderCancelled) -> Iterator[Said]:
    """Give back whatever there is, also what the invoice does not know of: only the provider knows of lost batches."""
    if invoice.status is Status.NEW or invoice.is_settled:
        return
    if invoice.is_free:
        yield InvoiceCancelled(tenant=invoice.tenant, order_id=invoice.order_id)
    else:
        yield ReversePayment(order_id=invoice.order_id)


@billing.answers(ReversePayment)
def note_reversal(invoice: Invoice, answer: Voided | Refunded | NothingToReverse) -> Iterator[Said]:
    tenant, order_id = invoice.tenant, invoice.order_id
    match answer:
        case Voided(reference=reference):
            yield PaymentVoided(tenant=tenant, order_id=order_id, reference=reference)
        case Refunded(reference=reference, amount=amount):
            yield PaymentRefunded(tenant=tenant, order_id=order_id, amount=amount, reference=reference)
        case NothingToReverse():
            yield InvoiceCancelled(tenant=tenant, order_id=order_id)


def _authorized(invoice: Invoice, reference: str) -> PaymentAuthorized:
    return PaymentAuthorized(
        tenant=invoice.tenant, order_id=invoice.order_id, amount=invoice.amount, reference=reference
    )


def _captured(invoice: Invoice, reference: str) -> PaymentCaptured:
    return PaymentCaptured(
        tenant=invoice.tenant, order_id=invoice.order_id, amount=invoice.amount, reference=reference
    )


# -- what the provider had answered, by the facts that told it: a replay asks nobody ----------------------------------


@billing.recalls(AuthorizePayment)
def recall_authorization(told: PaymentAuthorized | PaymentDeclined) -> Authorized | Declined:
    if isinstance(told, PaymentAuthorized):
        return Authorized(reference=told.reference)
    return Declined(reason=told.reason)


@billing.recalls(CapturePayment)
def recall_capture(told: PaymentCaptured | PaymentDeclined) -> Captured | Declined:
    if isinstance(told, PaymentCaptured):
        return Captured(reference=told.reference)
    return Declined(reason=told.reason)


@billing.recalls(ReversePayment)
def recall_reversal(
    told: PaymentVoided | PaymentRefunded | InvoiceCancelled,
) -> Voided | Refunded | NothingToReverse:
    match told:
        case PaymentVoided(reference=reference):
            return Voided(reference=reference)
        case PaymentRefunded(reference=reference, amount=amount):
            return Refunded(reference=reference, amount=amount)
        case InvoiceCancelled():
            return NothingToReverse()


# -- folds -----------------------------------------------------------------------------------------------------------


@billing.evolves(InvoiceOpened)
def opened(invoice: Invoice, fact: InvoiceOpened) -> Invoice:
    return replace(
        invoice,
        tenant=fact.tenant,
        status=Status.OPEN,
        amount_minor=fact.amount.amount_minor,
        currency=fact.amount.currency,
        method=fact.payment_method,
    )


@billing.evolves(PaymentAuthorized)
def authorized(invoice: Invoice, fact: PaymentAuthorized) -> Invoice:
    return replace(invoice, status=Status.AUTHORIZED, reference=fact.reference)


@billing.evolves(PaymentDeclined)
def declined(invoice: Invoice, fact: PaymentDeclined) -> Invoice:
    return replace(invoice, status=Status.DECLINED)


@billing.evolves(PaymentCaptured)
def captured(invoice: Invoice, fact: PaymentCaptured) -> Invoice:
    return replace(invoice, status=Status.CAPTURED, reference=fact.reference)


@billing.evolves(PaymentVoided)
def voided(invoice: Invoice, fact: PaymentVoided) -> Invoice:
    return replace(invoice, status=Status.VOIDED, reference=fact.reference)


@billing.evolves(PaymentRefunded)
def refunded(invoice: Invoice, fact: PaymentRefunded) -> Invoice:
    return replace(invoice, status=Status.REFUNDED, reference=fact.reference)


@billing.evolves(InvoiceCancelled)
def cancelled(invoice: Invoice, fact: InvoiceCancelled) -> Invoice:
    return replace(invoice, status=Status.CANCELLED)


billing.verify()
