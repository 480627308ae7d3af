"""The schemas that values were written with, by the ids in them, as the registry knows them.

A registry that does not answer holds nobody up for longer than once for `PATIENCE_SECONDS`: the question stays asked in
the background, and until it is answered whoever needs that schema is told `RegistryAway`; everything else goes on.
"""

import asyncio
import struct
from collections.abc import Collection, Iterable
from typing import Any, Protocol

import fastavro
import msgspec

from streams.kit.compiled import HEAD_BYTES
from streams.kit.errors import RegistryAway, Undecodable
from streams.kit.logs import logger

HEAD = struct.Struct(">bI")
PATIENCE_SECONDS = 1.0
#: Whoever may write to a request topic may invent ids: so many are asked for at once.
MOST_QUESTIONS = 8
Writer = tuple[str, Any]
"""The name of the event, and the schema as fastavro wants it."""


class Registry(Protocol):
    """Where schema ids are kept: the two questions that a running process asks of it."""

    async def id_of(self, subject: str, schema: str) -> int:
        """The id of a schema that was registered. Raises `LanguageError`."""
        ...

    async def schema_of(self, schema_id: int) -> str | None:
        """The schema with that id, as JSON; None if the registry knows none."""
        ...


class Writers:
    """Writers' schemas by the head of a value, its first five bytes. `known`: those that need not be asked for."""

    def __init__(self, registry: Registry) -> None:
        self.known: dict[bytes, Writer] = {}
        self._registry = registry
        self._no_events: set[bytes] = set()
        self._asked: dict[bytes, asyncio.Task[str | None]] = {}
        self._unanswered: dict[bytes, RegistryAway] = {}
        self._is_away = False

    async def learn(self, values: Iterable[bytes | None], patience_seconds: float | None = None) -> None:
        """Ask for the schemas of these values that are not known. Without a patience: raises `RegistryAway`."""
        heads = {value[:HEAD_BYTES] for value in values if value} - self.known.keys() - self._no_events
        wanted = [head for head in heads if len(head) == HEAD_BYTES and head[0] == 0]
        self._unanswered.clear()
        if not wanted:
            return
        asked = self._ask(wanted, len(wanted) if patience_seconds is None else MOST_QUESTIONS)
        if asked:
            # Who let us wait once is not waited for before it has answered: next time there may be an answer.
            is_patient = patience_seconds is None or not self._is_away
            await asyncio.wait(asked, timeout=patience_seconds if is_patient else 0)
        for head in wanted:
            self._note(head)
        if patience_seconds is None and self._unanswered:
            raise next(iter(self._unanswered.values()))

    def of(self, value: bytes | None) -> Writer:
        """How the value was written. Raises `Undecodable`, and `RegistryAway` while that cannot be said."""
        if value is None or len(value) < HEAD_BYTES or value[0] != 0:
            start = "nothing" if value is None else repr(bytes(value[:8]))
            raise Undecodable(f"not in Confluent wire format (a zero byte and a schema id): it starts with {start}")
        head, schema_id = value[:HEAD_BYTES], HEAD.unpack_from(value)[1]
        if (found := self.known.get(head)) is not None:
            return found
        if head in self._no_events:
            raise Undecodable(f"the schema with id {schema_id} is no Avro record, so this is no event")
        if (away := self._unanswered.get(head)) is not None:
            raise away
        raise Undecodable(
            f"the registry knows no schema with id {schema_id}. Nothing is lost: the record is kept as it came, and if "
            f"it is a fact, what concerns the same order waits behind it. Have its writer register the schema (ours: "
            f"'pavane schemas push'), then 'pavane dead-letters redrive'; or go on without this one record: "
            f"'pavane dead-letters discard'"
        )

    def _ask(self, wanted: Collection[bytes], most: int) -> list[asyncio.Task[str | None]]:
        """The questions for these heads: those that are under way, and new ones as far as there is room."""
        for head in [head for head, question in self._asked.items() if question.done() and head not in wanted]:
            del self._asked[head]
        for head in wanted:
            if head not in self._asked and len(self._asked) < most:
                self._asked[head] = asyncio.create_task(self._registry.schema_of(HEAD.unpack(head)[1]))
                self._asked[head].add_done_callback(_looked_at)
        return [self._asked[head] for head in wanted if head in self._asked]

    def _note(self, head: bytes) -> None:
        schema_id, question = HEAD.unpack(head)[1], self._asked.get(head)
        if question is None or not question.done():
            self._is_away = True
            self._unanswered[head] = RegistryAway(f"the registry has not said yet what the schema {schema_id} is")
            return
        del self._asked[head]
        try:
            text = question.result()
        except RegistryAway as error:
            self._is_away = True
            self._unanswered[head] = error
            return
        self._is_away = False
        if text is None:
            return
        try:
            raw = msgspec.json.decode(text)
            self.known[head] = written_by(raw)
        except Exception as error:
            # Anybody may register anything; what is no Avro record cannot be the schema of an event.
            logger().warning("schema_no_event", schema_id=schema_id, error=str(error))
            self._no_events.add(head)


def written_by(raw: Any) -> Writer:
    """The event's name and the schema, of a schema as JSON."""
    return str(raw["name"]).rpartition(".")[2], parsed(raw)


def parsed(raw: Any) -> Any:
    """A schema as fastavro wants it; `uuid` stays text, since a UUID object would only be turned back into text."""
    return fastavro.parse_schema(_without_uuid(raw), _write_hint=False)


def _without_uuid(raw: Any) -> Any:
    if isinstance(raw, dict):
        return {k: _without_uuid(v) for k, v in raw.items() if not (k == "logicalType" and v == "uuid")}
    if isinstance(raw, list):
        return [_without_uuid(item) for item in raw]
    return raw


def _looked_at(question: "asyncio.Task[str | None]") -> None:
    """Nobody may ask for that head again: then its failure is nobody's business."""
    if not question.cancelled():
        question.exception()
