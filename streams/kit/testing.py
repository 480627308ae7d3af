"""Tests of decisions as stories: given these facts, when this is heard, then that is said.

    given = Given(billing, key=ORDER)

    def test_a_free_order_is_paid_without_asking_for_money():
        given(InvoiceOpened(...)).when(StockReserved(order_id=ORDER)).then(PaymentAuthorized(...))

Pure and in memory: facts are folded into rows as the worker folds them (shared rows too), and what is said is folded as
well, so that a story can go on. Assertions fail with a readable difference.

Stories of the whole platform are told by a `Shop` (`streams.kit.shop`), on real parts.
"""

import difflib
from collections.abc import Iterable
from typing import Any, Self, TypeVar, cast

from streams.kit.errors import Refused
from streams.kit.events import Answer, Due, Effect, Event, Fact, Heard, State
from streams.kit.service import Said, Service
from streams.kit.shop import Shop

__all__ = ["Given", "Shop", "Story"]

S = TypeVar("S", bound=State)


class Story:
    """One service, its rows, and what it said last."""

    def __init__(self, service: Service, key: str | None = None, partition: int = 0) -> None:
        self._service = service
        self._key = key
        self._partition = partition
        self._rows: dict[tuple[type[State], str], State] = {}
        self._about = ""
        self._row: tuple[type[State], str] | None = None
        self._said: tuple[Said, ...] = ()
        self._refusal: Refused | None = None

    def heard(self, *events: Event) -> Self:
        """Fold what was said before (by a projection: what it heard), without deciding anything."""
        for event in events:
            self._fold(event)
        return self

    def when(self, event: Event, *, key: str | None = None, read: Iterable[State] = ()) -> Self:
        """Decide. `key`: the record's, where the event's own fields do not show it. `read`: rows to find as well."""
        for row in read:
            self._rows[type(row), row.row_key] = row
        reaction = self._service.reactions[type(event)]
        self._about = key or self._key_of(event)
        self._said, self._refusal, self._row = (), None, None
        try:
            self._row = (reaction.state, reaction.key(event) if reaction.key else self._about)
            wanted = reaction.reads.keys(event) if reaction.reads else ()
            reads = {key: self.row(reaction.reads.state, key) for key in wanted} if reaction.reads else {}
            self._say(self._service.decide(self.row(*self._row), event, reads))
        except Refused as refusal:
            self._refusal = refusal
        return self

    def answered(self, answer: Answer) -> Self:
        """The world answers the one effect that was asked; a service that recalls answers recalls this one."""
        effects = [said for said in self._said if isinstance(said, Effect)]
        assert len(effects) == 1, f"one effect was to be answered, but the service said {_lines(self._said)}"
        assert self._row is not None
        self._say(self._service.answer(self.row(*self._row), effects[0], answer))
        self._check_recalled(effects[0], answer)
        return self

    def then(self, *expected: Said) -> Self:
        """Exactly this was said or asked, in this order; `then()` is silence."""
        if self._refusal is not None:
            raise AssertionError(f"{self._service.name} refused: {self._refusal}") from self._refusal
        if self._said != expected:
            difference = "\n".join(difflib.ndiff(_lines(expected), _lines(self._said)))
            raise AssertionError(f"{self._service.name} said something else (- expected, + said):\n{difference}")
        return self

    def refused(self, words: str = "") -> Self:
        """The decision refused the event, with these words in its message."""
        assert self._refusal is not None, f"{self._service.name} did not refuse but said {_lines(self._said)}"
        assert words in str(self._refusal), f"{words!r} is not in the refusal: {self._refusal}"
        return self

    def remembers(self, **fields: Any) -> Self:
        """The row that the last decision was about holds these values now."""
        assert self._row is not None, "nothing was decided yet"
        row = self.row(*self._row)
        found = {name: getattr(row, name) for name in fields}
        assert found == fields, f"{row!r} does not hold {fields}"
        return self

    def row(self, state: type[S], key: str) -> S:
        """The row as it is now."""
        return cast("S", self._rows.get((state, key)) or state.new(key, self._partition))

    @property
    def said(self) -> tuple[Said, ...]:
        """What was said or asked last."""
        return self._said

    def rows(self, state: type[S]) -> dict[str, S]:
        """Every row of a table that something was said about, by key."""
        return {key: cast("S", row) for (kind, key), row in self._rows.items() if kind is state}

    def _say(self, said: tuple[Said, ...]) -> None:
        self._said = said
        for each in said:
            if isinstance(each, Fact):
                assert type(each).__name__ in self._service.says, f"{self._service.name} never says {each!r}"
                assert each.key == self._about, f"{each!r} is not about {self._about!r}, so it is in another partition"
                self._fold(each)

    def _check_recalled(self, effect: Effect, answer: Answer) -> None:
        if self._service.recalling:
            recall = self._service.recalling.get(type(effect), {})
            named = [(type(said).__name__, said) for said in self._said if isinstance(said, Fact)]
            recalled = [recall[name](fact) for name, fact in named if name in recall]
            assert recalled == [answer], f"a replay recalls {recalled} for {effect!r}, which was answered by {answer!r}"

    def _fold(self, event: Event) -> None:
        evolutions = self._service.evolutions.get(type(event))
        assert evolutions, f"{self._service.name} folds no {type(event).__name__}"
        for evolution in evolutions:
            for key in evolution.keys_of(event, self._key_of(event)):
                self._rows[evolution.state, key] = evolution.evolve(self.row(evolution.state, key), event)

    def _key_of(self, event: Event) -> str:
        """The key of the event's record: a fact knows it, a view shows its order or its item."""
        if isinstance(event, Fact):
            return event.key
        if isinstance(event, Heard) and hasattr(event, "order_id"):
            return str(event.order_id)
        if isinstance(event, Heard) and hasattr(event, "tenant") and hasattr(event, "sku"):
            return f"{event.tenant}/{event.sku}"
        if self._key is None:
            what = "a deadline" if isinstance(event, Due) else type(event).__name__
            raise LookupError(f"what {what} is about is not known: give the story a key, or `when(..., key=...)`")
        return self._key


class Given:
    """Starts stories about one service: `given = Given(billing)`, then `given(fact, ...)`."""

    def __init__(self, service: Service, key: str | None = None, partition: int = 0) -> None:
        self._service = service
        self._key = key
        self._partition = partition

    def __call__(self, *facts: Event) -> Story:
        """A story in which these facts were said already."""
        return Story(self._service, self._key, self._partition).heard(*facts)


def _lines(said: Iterable[Event]) -> list[str]:
    return [repr(each) for each in said] or ["(nothing)"]
