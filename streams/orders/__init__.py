"""Orders: takes orders at the shop's prices, and decides when one is confirmed or cancelled."""

from streams.orders.service import orders as service

__all__ = ["service"]
