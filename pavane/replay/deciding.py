"""One decision again, by the worker's own fold: today's code, rows of then, the world's answers of then."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pavane.audit.decoding import Decoder
from pavane.replay.errors import CannotReplay
from pavane.replay.history import SchemaOf, Schemas
from pavane.replay.outcome import Outcome, Said, personal
from pavane.replay.recollection import Recollection
from pavane.replay.states import States
from streams.kit.codec import Codec
from streams.kit.compiled import HEAD_BYTES
from streams.kit.errors import Undecodable
from streams.kit.events import Fact, State
from streams.kit.fold import Fold
from streams.kit.lane import Delivery, Draft, Lane
from streams.kit.language import Language
from streams.kit.log import Record
from streams.kit.opening import Opened, Opener
from streams.kit.personal import personal_paths
from streams.kit.rows import RowMissing, Rows
from streams.kit.service import Service

Read = Mapping[str, State]


class Decider:
    """Decides for one service. Not from within a running event loop: schemas that it meets are looked up."""

    def __init__(
        self,
        service: Service,
        language: Language,
        schema_of: SchemaOf,
        states: States,
        partition_of: Callable[[bytes], int],
    ) -> None:
        schemas = Schemas(schema_of)
        self._service = service
        self._personal = {name: personal_paths(language.latest(service.name, name)) for name in service.says}
        self._states = states
        self._codec = Codec(language, schemas)
        self._decoder = Decoder(language, schemas.text_of)
        self._opener = Opener(service, self._codec, partition_of)
        self._heads: set[bytes] = set()
        asyncio.run(self._codec.prepare(service.name, service.says.values()))

    def open(self, lane: Lane, delivery: Delivery) -> Opened:
        """The record as the service's view of it."""
        value = delivery.record.value
        if value is not None and value[:HEAD_BYTES] not in self._heads:
            asyncio.run(self._codec.learn([value]))
            self._heads.add(value[:HEAD_BYTES])
        return self._opener.open(Draft(lane, [delivery], {}))[0]

    def recall(self, record: Record) -> tuple[Fact, Said]:
        """A fact of then, as today's code has it. Raises `CannotReplay`."""
        where = f"{record.topic}/{record.partition}, offset {record.offset}"
        try:
            name, fields = self._decoder.decode(record.topic, record.value)
            if (said := self._service.says.get(name)) is None:
                raise CannotReplay(
                    f"{where}: {self._service.name} said {name} then, and this code does not: what followed from it "
                    f"cannot be told. List it in 'says', with its 'evolves', as long as the log holds one."
                )
            return msgspec.convert(fields, said), self._told(name, fields, record.key)
        except msgspec.ValidationError as error:
            raise CannotReplay(f"{where}: {name} of then is none of this code: {error}") from None
        except (Undecodable, UnicodeDecodeError) as error:
            raise CannotReplay(f"{where}: {self._service.name} said what cannot be read: {error}") from error

    def decide(
        self, lane: Lane, opened: Opened, facts: Sequence[Fact], read: Read | None = None, row: State | None = None
    ) -> Outcome:
        """What would be said upon the rows as they are; `facts`: what was said then. `read`, `row`: instead of the rows
        of other keys, and of its own, as they are."""
        rows = Rows()
        partition = lane.partition
        if opened.event is not None:
            own = row or self._states.get(self._service.reactions[type(opened.event)].state, opened.row, partition)
            rows.give(type(own), [own], ())
            for other in (self.read(opened) if read is None else read).values():
                rows.give(type(other), [other], ())
        draft = Draft(lane, [opened.delivery], {})
        while True:
            rows.reset()
            # The time is only that of what would be said, which is not compared.
            fold = Fold(self._service, self._codec, rows, Recollection(self._service, facts), timestamp=0)
            try:
                fold.lane(draft, [opened])
                return self._outcome(draft, fold)
            except RowMissing as missing:
                self._give(rows, missing.state, missing.key, partition)

    def read(self, opened: Opened) -> dict[str, State]:
        """The rows of other keys that the decision reads, as they are."""
        reaction = self._service.reactions.get(type(opened.event)) if opened.event is not None else None
        if reaction is None or reaction.reads is None:
            return {}
        try:
            keys = list(reaction.reads.keys(opened.event))
        except Exception:
            return {}  # it raises again in the fold, and the record is put aside
        return {key: self._states.get(reaction.reads.state, key, -1) for key in keys}

    def row(self, lane: Lane, opened: Opened) -> State | None:
        """Its own row as it is; None for what cannot be read."""
        if opened.event is None:
            return None
        return self._states.get(self._service.reactions[type(opened.event)].state, opened.row, lane.partition)

    def overtakes(self, opened: Opened) -> bool:
        """Does it wait behind nothing that is parked?"""
        return opened.event is not None and self._service.reactions[type(opened.event)].overtakes

    def reaction(self, opened: Opened) -> str:
        """What it is called in a report: what was heard, and which function decides."""
        if opened.event is None:
            return f"{opened.delivery.record.topic}: what cannot be read"
        heard = type(opened.event)
        return f"{heard.__name__} -> {self._service.reactions[heard].decide.__name__}"

    def _give(self, rows: Rows, state: type[State], key: str, partition: int) -> None:
        rows.give(state, [self._states.get(state, key, partition)], [key])

    def _outcome(self, draft: Draft, fold: Fold) -> Outcome:
        if fold.put_aside:
            _, error = fold.put_aside[0]
            return Outcome(failed=(type(error).__name__, str(error)))
        said = [self._said(fact.key, fact.value) for fact in draft.said]
        return Outcome(said, asked=", ".join(type(effect).__name__ for effect in fold.asked.values()))

    def _said(self, key: bytes | None, value: bytes) -> Said:
        return self._told(*self._decoder.decode(self._service.name, value), key)

    def _told(self, name: str, fields: Mapping[str, Any], key: bytes | None) -> Said:
        return Said(name, (key or b"").decode(), personal(fields, self._personal[name]))
