"""What a mutation is: one thing that is broken on purpose in a finished run."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.pavane.finished import Run

STRAY = "00000000-0000-4000-8000-00000000dead"
"""An order that nobody placed."""


class Mutation(NamedTuple):
    """How it is planted, which verdict of the audit must name it, and words that the verdict must say.

    In the words, `{confirmed}`, `{free}`, `{cancelled}`, `{rejected}` and `{item}` are those of the run.
    """

    name: str
    plant: Callable[[Run], Any]
    verdict: str
    words: str
