"""The error of replays."""

from streams.kit.errors import PavaneError


class CannotReplay(PavaneError):
    """What was heard then cannot be told from what is there: nothing is known about differences."""
