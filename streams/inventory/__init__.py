"""Inventory: what is on hand, and what of it is set aside for which order."""

from streams.inventory.service import inventory as service

__all__ = ["service"]
