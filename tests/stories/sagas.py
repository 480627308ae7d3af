"""Whole stories that more than one test expects."""

#: All that is said of an order that nothing stops.
CONFIRMED = [
    "OrderPlaced",
    "InvoiceOpened",
    "ShipmentPlanned",
    "StockReserved",
    "PaymentAuthorized",
    "ShipmentBooked",
    "PaymentCaptured",
    "OrderConfirmed",
    "StockDispatched",
]
