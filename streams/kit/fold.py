"""One batch in memory: a pure function of rows, records and the world's answers.

Nothing here reads a clock, a database or a network, so a fold can always be done again: for a row that turns out to be
needed, and with the answers to the effects it asked for. A record either has all its consequences or none: when its
decision raises, what it had changed is taken back and the record is put aside.
"""

import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from streams.kit.codec import Codec
from streams.kit.errors import RegistryAway, Undecidable
from streams.kit.events import (
    Answer,
    Due,
    Effect,
    Event,
    Fact,
    State,
    Unanswered,
    Unasked,
    from_milliseconds,
    milliseconds,
)
from streams.kit.lane import REQUESTS, Delivery, Draft
from streams.kit.opening import Opened
from streams.kit.parking import BEHIND, DISCARDED, UNANSWERED, UNREAD, WITHOUT_LETTER, Parked, next_try
from streams.kit.rows import Place, RowMissing, Rows
from streams.kit.service import Reaction, Said, Service

MOST_STACK_BYTES = 4_000
MOST_FACT_BYTES = 900_000
"""A fact must fit into one produce request of 1 MiB with its headers."""

Asked = tuple[type[Effect], str]
Answers = Mapping[Asked, Answer]
Want = Callable[[type[State], Iterable[str]], None]


class NotAnswered(Exception):
    """The world did not answer an effect for now: the record is parked and tried again."""

    def __init__(self, answer: Unanswered) -> None:
        super().__init__(answer.reason)
        self.retry_after_seconds = answer.retry_after_seconds
        self.was_asked = not isinstance(answer, Unasked)


class Fold:
    """Folds the lanes of one batch over `rows`.

    `asked` holds the effects that `answers` does not answer yet. Records that come after an unanswered one, about its
    row or under its key, are left out, so with anything asked the fold is not complete: ask, then fold again from the
    start. All others are folded, so that one round asks for all that can be asked for; but in a service whose rows are
    not apart (`Service.keeps_rows_apart`) a lane stops at the first record that is left out. `turns`: which of them are
    asked first, if there is no time for all: what was to be tried again first, then the oldest.
    """

    def __init__(self, service: Service, codec: Codec, rows: Rows, answers: Answers, timestamp: int) -> None:
        self._service = service
        self._codec = codec
        self._rows = rows
        self._answers = answers
        self._timestamp = timestamp
        self._rows_are_apart = service.keeps_rows_apart
        self.asked: dict[Asked, Effect] = {}
        self.turns: dict[Asked, tuple[int, int]] = {}
        self.put_aside: list[tuple[Opened, Exception]] = []
        self.failed_again: list[tuple[Opened, Exception]] = []
        self.released: list[Opened] = []
        self.parked = 0

    def lane(self, draft: Draft, opened: Sequence[Opened]) -> None:
        """Hear the deliveries of one lane in order. Raises `RowMissing`."""
        draft.begin()
        waiting: set[Place] = set()
        unsettled: set[str] = set()
        called_off: set[str] = set()
        for one in opened:
            reaction = self._service.reactions.get(type(one.event)) if one.event is not None else None
            place = (reaction.state, one.row) if reaction is not None else None
            if waiting and (place in waiting or one.key in unsettled):
                if not self._rows_are_apart:
                    return
                unsettled.add(one.key)
                if place is not None:
                    waiting.add(place)
                continue
            if one.delivery.is_new:
                draft.hear(one.delivery)
            elif one.delivery.parked is not None and self._service.is_projection:
                draft.retry()
            if draft.parking.held and self._must_wait(draft, one, reaction):
                continue
            if one.delivery.parked is not None and one.key in called_off:
                continue  # it is parked already
            if one.event is None and one.problem is None and one.delivery.parked is None:
                continue
            asked = self._hear(draft, one, reaction)
            if reaction is not None and reaction.overtakes:
                called_off.add(one.key)
            if asked and place is not None:
                waiting.add(place)
                unsettled.add(one.key)

    def _must_wait(self, draft: Draft, one: Opened, reaction: Reaction | None) -> bool:
        """Its key is held: a new record is parked behind, a deadline comes again when the key is free."""
        if one.delivery.parked is not None or not draft.parking.holds(one.key):
            return False
        if reaction is not None and reaction.overtakes and self._calls_off(draft, one, reaction):
            return False
        if isinstance(one.problem, Undecidable) and is_request(one):
            return False
        if one.delivery.is_new and (one.event is not None or one.problem is not None):
            record, said = one.delivery.record, one.delivery.envelope
            reason = UNREAD if one.problem is not None else BEHIND
            draft.parking.add(record, said, one.key, reason, "an earlier record of the same key is parked")
            self.parked += 1
        return True

    def _calls_off(self, draft: Draft, one: Opened, reaction: Reaction) -> bool:
        return reaction.may_overtake(self._rows.get(reaction.state, one.row, draft.lane.partition))

    def _hear(self, draft: Draft, one: Opened, reaction: Reaction | None) -> bool:
        """One record with all its consequences, or put aside. True: it waits for an answer."""
        parked = one.delivery.parked
        if parked is not None and parked.reason == DISCARDED:
            draft.put_aside(one.delivery, self._timestamp, _letter(DISCARDED, parked.message))
            self._release(draft, one, parked)
            return False
        rows_mark, said_mark = self._rows.mark(), draft.mark()
        try:
            if one.problem is not None:
                raise one.problem
            if one.event is None:
                asked = False
            elif reaction is not None:
                asked = self._decide(draft, one, one.event, reaction)
            else:
                evolve(self._service, self._rows, one.event, one.key, draft.lane.partition)
                asked = False
        except RowMissing:
            raise
        except Exception as error:
            # Whatever a decision raises is a wrong event or wrong code: no retry helps, and others must go on.
            self._rows.undo(rows_mark)
            draft.undo(said_mark)
            self._park(draft, one, error)
            return False
        if parked is not None and not asked:
            self._release(draft, one, parked)
        return asked

    def _release(self, draft: Draft, one: Opened, parked: Parked) -> None:
        draft.parking.release(parked)
        self.released.append(one)

    def _park(self, draft: Draft, one: Opened, error: Exception) -> None:
        """Keep the record for later: tried again by itself if the world or the registry did not answer, else when
        somebody asks. What failed for the first time by its own fault is told as a dead letter, whatever it had to wait
        for before."""
        reason, message, now = type(error).__name__, str(error)[:MOST_STACK_BYTES], from_milliseconds(self._timestamp)
        before = one.delivery.parked
        retry_at, attempts = None, 1
        if isinstance(error, NotAnswered) and not error.was_asked:
            if before is not None:
                return  # it was not tried, and its time has come: it stays as it is
            reason, retry_at, attempts = UNANSWERED, now, 0
        elif isinstance(error, NotAnswered | RegistryAway):
            if isinstance(error, NotAnswered):
                reason = UNANSWERED
            retry_at = next_try(now, before.attempts + 1 if before else 1, error.retry_after_seconds)
        if retry_at is None and (before is None or before.reason in WITHOUT_LETTER):
            self.put_aside.append((one, error))
            draft.put_aside(one.delivery, self._timestamp, reasons(error))
        elif before is not None:
            self.failed_again.append((one, error))
        if isinstance(one.event, Due):
            return  # its row keeps it: it comes again with the next look at deadlines
        # A request that is itself wrong concerns its sender alone; anything else would leave a hole in its order.
        holds = bool(one.key) and not (is_request(one) and isinstance(error, Undecidable))
        if before is not None:
            draft.parking.try_later(before, reason, message, retry_at, holds=holds)
            return
        record, said = one.delivery.record, one.delivery.envelope
        draft.parking.add(record, said, one.key, reason, message, holds=holds, attempts=attempts, retry_at=retry_at)
        self.parked += 1

    def _decide(self, draft: Draft, one: Opened, event: Event, reaction: Reaction) -> bool:
        partition = draft.lane.partition
        state = self._rows.get(reaction.state, one.row, partition)
        to_do: deque[Said] = deque(self._service.decide(state, event, self._read(reaction, event)))
        while to_do:
            said = to_do.popleft()
            if isinstance(said, Effect):
                place = (type(said), said.key)
                answer = self._answers.get(place)
                if answer is None:
                    self.asked[place] = said
                    self.turns[place] = self._turn(one.delivery)
                    return True
                if isinstance(answer, Unanswered):
                    raise NotAnswered(answer)
                state = self._rows.get(reaction.state, one.row, partition)
                to_do.extendleft(reversed(self._service.answer(state, said, answer)))
            else:
                self._say(draft, one, said)
        if isinstance(event, Due):
            row = self._rows.get(reaction.state, one.row, partition)
            due_at = getattr(row, "due_at")  # noqa: B009
            if due_at is not None and due_at <= event.at:
                raise Undecidable(f"the deadline of {one.key} has passed, and the decision neither moves nor clears it")
        return False

    def _turn(self, delivery: Delivery) -> tuple[int, int]:
        again_at = delivery.parked.retry_at if delivery.parked is not None else None
        return milliseconds(again_at) if again_at is not None else self._timestamp, delivery.record.timestamp

    def _read(self, reaction: Reaction, event: Event) -> dict[str, State] | None:
        if reaction.reads is None:
            return None
        return {key: self._rows.get(reaction.reads.state, key) for key in reaction.reads.keys(event)}

    def _say(self, draft: Draft, one: Opened, fact: Fact) -> None:
        name = type(fact).__name__
        if name not in self._service.says:
            raise Undecidable(f"{self._service.name} does not declare that it says {name}")
        if fact.key != one.key:
            raise Undecidable(
                f"{name} is about {fact.key!r}, but the record that it answers is about {one.key!r}: everything about "
                f"one key stays in one partition"
            )
        value = self._codec.encode(fact)
        if len(value) > MOST_FACT_BYTES:
            raise Undecidable(f"{name} takes {len(value)} bytes; a fact may take {MOST_FACT_BYTES}")
        evolve(self._service, self._rows, fact, fact.key, draft.lane.partition)
        draft.say(name, fact.key, value, self._timestamp, one.delivery.envelope)


def evolve(service: Service, rows: Rows, event: Event, key: str, partition: int) -> None:
    """What the event, about `key`, makes of all the rows that it changes. Raises `RowMissing`."""
    for evolution in service.evolutions.get(type(event), ()):
        for row in evolution.keys_of(event, key):
            rows.put(evolution.evolve(rows.get(evolution.state, row, partition), event))


def wanted(service: Service, opened: Iterable[Opened], *, shared: bool, rows: Rows) -> dict[type[State], set[str]]:
    """The rows that the records need, as far as can be known before they are folded.

    `shared=False`: own rows, and rows of other keys that decisions only read. `shared=True`: shared rows, once the own
    rows are in memory: those that decisions read, and those that their facts will change. Decisions are pure, so the
    facts are found by deciding once ahead of time; a row that this misses is still added to rightly, unlocked.
    """
    found: dict[type[State], set[str]] = {}

    def want(state: type[State], keys: Iterable[str]) -> None:
        if state.shared is shared and not state.append_only:
            found.setdefault(state, set()).update(keys)

    for one in opened:
        if one.event is None:
            continue
        reaction = service.reactions.get(type(one.event))
        try:
            if reaction is not None:
                _want_for_decision(service, reaction, one, want, rows if shared else None)
            elif not shared:
                # A projection's shared rows need no reading: they are added to.
                for evolution in service.evolutions.get(type(one.event), ()):
                    if not (evolution.state.shared or evolution.state.append_only):
                        want(evolution.state, evolution.keys_of(one.event, one.key))
        except RowMissing:
            raise
        except Exception:
            # A key function or decision that raises will raise again in the fold, where the record is put aside.
            continue
    return found


def _want_for_decision(service: Service, reaction: Reaction, one: Opened, want: Want, rows: Rows | None) -> None:
    assert one.event is not None
    want(reaction.state, (one.row,))
    if reaction.reads is not None:
        want(reaction.reads.state, reaction.reads.keys(one.event))
    elif rows is not None:
        for fact in service.decide(rows.get(reaction.state, one.row), one.event):
            for evolution in service.evolutions.get(type(fact), ()):
                want(evolution.state, evolution.keys_of(fact, one.key))


def is_request(one: Opened) -> bool:
    """It comes from outside, where anybody may write."""
    return one.delivery.record.topic.endswith(REQUESTS)


def reasons(error: Exception) -> list[tuple[str, bytes]]:
    """Why a record was put aside, as headers: the kind of error, its message, and where the decision raised it."""
    stack = "" if isinstance(error, Undecidable) else "".join(traceback.format_exception(error))
    return _letter(type(error).__name__, str(error), stack)


def _letter(reason: str, message: str, stack: str = "") -> list[tuple[str, bytes]]:
    return [
        ("dead_letter_reason", reason.encode()),
        ("dead_letter_message", message[:MOST_STACK_BYTES].encode(errors="replace")),
        ("dead_letter_stack", stack[-MOST_STACK_BYTES:].encode(errors="replace")),
    ]
