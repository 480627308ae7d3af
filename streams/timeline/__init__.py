"""Every order's story, as told by all services; see README.md."""

from streams.timeline.service import timeline as service

__all__ = ["service"]
