"""The audit's own error."""

from streams.kit.errors import PavaneError


class EvidenceMissing(PavaneError):
    """Something that the audit must read cannot be read: nothing is known about the invariants."""
