"""Billing: one invoice an order, and the money for it."""

from streams.billing.service import billing as service

__all__ = ["service"]
