"""Places: so many of a kind at once, and so many of one address: who is slow keeps nobody else from being served."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from api.errors import Overloaded


class Places:
    """`most` places, of which one address may have `most_of_an_address`."""

    def __init__(self, most: int, most_of_an_address: int | None = None) -> None:
        self._most = most
        self._most_of_an_address = most if most_of_an_address is None else most_of_an_address
        self._of: Counter[str] = Counter()
        self._taken = 0

    @contextmanager
    def taken(self, address: str) -> Iterator[None]:
        """A place for as long as the block runs. Raises `Overloaded` when there is none."""
        if self._taken >= self._most or self._of[address] >= self._most_of_an_address:
            raise Overloaded
        self._taken += 1
        self._of[address] += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._of[address] -= 1
            if not self._of[address]:
                del self._of[address]
