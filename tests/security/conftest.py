"""A gateway under attack: on doubles, and on the embedded stack."""

from tests.api.conftest import door, environment, shop

__all__ = ["door", "environment", "shop"]
