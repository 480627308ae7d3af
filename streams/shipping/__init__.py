"""Shipping: one parcel an order, and the carrier that takes it."""

from streams.shipping.service import shipping as service

__all__ = ["service"]
