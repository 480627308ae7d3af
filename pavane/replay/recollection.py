"""What the outside world had answered, recalled from the facts that told it.

This is all that answers effects in a replay. It holds facts and pure functions of the service (`recalls`), and no
client: there is nothing in it that could ask a provider, so no setting can be forgotten that would keep it from asking.
"""

from collections.abc import Iterator, Mapping, Sequence

from streams.kit.events import Answer, Fact
from streams.kit.fold import Asked
from streams.kit.service import Service


class Recollection(Mapping[Asked, Answer]):
    """The answers to whatever was asked when `facts` were said. An effect of which they tell nothing has none."""

    def __init__(self, service: Service, facts: Sequence[Fact]) -> None:
        self._service = service
        self._facts = facts

    def __getitem__(self, asked: Asked) -> Answer:
        recall = self._service.recalling.get(asked[0], {})
        for fact in self._facts:
            if (of_this := recall.get(type(fact).__name__)) is not None:
                return of_this(fact)
        raise KeyError(asked)

    def __iter__(self) -> Iterator[Asked]:
        return iter(())

    def __len__(self) -> int:
        return 0
