"""What a replay of one service reads: the log of its lanes, the schemas, and how far its database says it has heard."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from streams.kit.log import Record

SchemaOf = Callable[[int], str | None]
Origin = tuple[str, int, int]
"""Topic, partition and offset of a record."""
MADE_UP = 1 << 31


@dataclass(frozen=True)
class History:
    """One service's past.

    `records`: those of one partition of a topic, from the log's start. `heard`: by partition, the clock of the lane at
    the end of this past. `waiting`: records that were heard, and not handled by then. `facts`: how many records the
    service's own topic has, for the progress.
    """

    partition_count: int
    records: Callable[[str, int], Iterator[Record]]
    schema_of: SchemaOf
    heard: Mapping[int, Mapping[str, int]]
    waiting: frozenset[Origin]
    facts: int


class Schemas:
    """The registry of a replay: ids of then are looked up; what would be said today gets ids that no registry gives."""

    def __init__(self, schema_of: SchemaOf) -> None:
        self._schema_of = schema_of
        self._made_up: dict[str, int] = {}

    async def id_of(self, subject: str, schema: str) -> int:
        return self._made_up.setdefault(schema, MADE_UP + len(self._made_up))

    async def schema_of(self, schema_id: int) -> str | None:
        return self.text_of(schema_id)

    def text_of(self, schema_id: int) -> str | None:
        """The schema with that id, as JSON; None if nobody knows it."""
        made_up = next((text for text, number in self._made_up.items() if number == schema_id), None)
        return made_up if made_up is not None else self._schema_of(schema_id)
