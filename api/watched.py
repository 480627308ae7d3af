"""What was asked for lately, and how it was when it was read: so that a change of it is noticed."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from api.cache import Name

WATCH_SECONDS = 10.0
MOST_WATCHED = 1_000
"""Of each kind."""


@dataclass
class _Watch:
    mark: str | None
    asked_at: float


class Watched:
    """Names with a mark each: that of the reading which is given out, or None while there is none."""

    def __init__(self) -> None:
        self._watches: dict[Name, _Watch] = {}
        self._counts: Counter[str] = Counter()

    def __contains__(self, name: Name) -> bool:
        return name in self._watches

    def add(self, name: Name) -> bool:
        """Watch it for some seconds from now on; False: there is no room."""
        if watch := self._watches.get(name):
            watch.asked_at = time.monotonic()
            return True
        if self._counts[name.kind] >= MOST_WATCHED:
            return False
        self._watches[name] = _Watch(None, time.monotonic())
        self._counts[name.kind] += 1
        return True

    def is_marked(self, name: Name) -> bool:
        """A reading of it is given out and was watched until now."""
        watch = self._watches.get(name)
        return watch is not None and watch.mark is not None

    def mark(self, name: Name, mark: str) -> None:
        """A reading with this mark is given out from now on."""
        if watch := self._watches.get(name):
            watch.mark = mark

    def drop(self, name: Name) -> None:
        """Watch it no more; harmless when said twice."""
        if self._watches.pop(name, None):
            self._counts[name.kind] -= 1

    def drop_old(self) -> None:
        """Watch no more what nobody asks for."""
        since = time.monotonic() - WATCH_SECONDS
        for name in [name for name, watch in self._watches.items() if watch.asked_at < since]:
            self.drop(name)

    def of(self, kind: str) -> list[Name]:
        """All of a kind."""
        return [name for name in self._watches if name.kind == kind]

    def changed(self, names: Iterable[Name], marks: Mapping[Name, str]) -> list[Name]:
        """Those that are not as they were read, or not read yet: a reading under way may be older."""
        found = ((name, self._watches.get(name)) for name in names)
        return [name for name, watch in found if watch is not None and watch.mark != marks.get(name)]
