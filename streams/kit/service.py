"""What a service is: what it hears, says and remembers, as two pure functions made of small declared ones.

    billing = Service("billing", states=[Invoice], says=[InvoiceOpened, PaymentAuthorized], world=payment_provider)

    @billing.hears(StockReserved)                     # decide: what to say (facts) or to ask (effects)
    def authorize_reserved_order(invoice: Invoice, reserved: StockReserved) -> Iterator[Said]: ...

    @billing.answers(AuthorizePayment)                # decide, once the world has answered
    def note_authorization(invoice: Invoice, answer: Authorized | Declined) -> Iterator[Said]: ...

    @billing.recalls(AuthorizePayment)                # what the world had answered, by the fact that told it
    def recall_authorization(told: PaymentAuthorized | PaymentDeclined) -> Authorized | Declined: ...

    @billing.evolves(PaymentAuthorized)               # evolve: what the fact makes of the state
    def authorized(invoice: Invoice, fact: PaymentAuthorized) -> Invoice: ...

Everything the kit, the choreography's checks and its pictures know about a service is read from these declarations.
A wrong declaration raises `WrongDeclaration` when the module is imported, never while orders flow.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import UnionType
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from streams.kit.errors import WrongDeclaration
from streams.kit.events import Answer, Due, Effect, Event, Fact, Heard, State

Said: TypeAlias = Fact | Effect
Keys: TypeAlias = Callable[[Any], str]
EachKey: TypeAlias = Callable[[Any], Iterable[str]]
F = TypeVar("F", bound=Callable[..., Any])


class World(Protocol):
    """The outside world as one service sees it. Asked a round at a time; answers come in the order of the effects."""

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        """Ask for all effects at once, the first of them first. One that could not be answered now is answered with
        `Unanswered`: with `Unreached` when nothing came back, with `Unasked` when there was no time for it. When none
        can be asked, `WorldUnavailable` may be raised instead."""
        ...


Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[World]]


class Reads(NamedTuple):
    """Rows of another key that a decision reads: the state's type, and which keys the event names."""

    state: type[State]
    keys: EachKey


class Reaction(NamedTuple):
    """What a service does when it hears one event type. `overtakes`: it waits behind no parked record."""

    heard: type[Event]
    decide: Callable[..., Iterable[Said] | None]
    state: type[State]
    key: Keys | None
    reads: Reads | None
    overtakes: bool = False

    def may_overtake(self, row: State) -> bool:
        """It calls off what waits about the row, and there is something to call off: of a row as new, the first that is
        ever said may be what waits."""
        return self.overtakes and row != self.state.new(row.row_key, getattr(row, "partition", -1))


class Evolution(NamedTuple):
    """What one fact type makes of one kind of row."""

    fact: type[Event]
    evolve: Callable[[Any, Any], State]
    state: type[State]
    keys: EachKey | None

    def keys_of(self, fact: Any, key: str) -> Iterable[str]:
        """The rows to change: by default the one row of the fact's own key."""
        return (key,) if self.keys is None else self.keys(fact)


Recall: TypeAlias = Callable[[Any], Answer]
"""What the world had answered, by the fact that told it."""


class Service:
    """One service: a name, which is also its topic, its consumer group and its database, and what was declared on it.

    `states`: the kinds of row it remembers. `says`: the facts it may say; none for a projection, whose rows are the
    fold of what it hears (declare `evolves` on `Heard` views, and no `hears`). `world`: connects to what effects are
    asked of.
    """

    def __init__(
        self,
        name: str,
        *,
        states: Sequence[type[State]],
        says: Sequence[type[Fact]] = (),
        world: Connect | None = None,
    ) -> None:
        self.name = name
        self.states = tuple(states)
        self.says = {fact.__name__: fact for fact in says}
        self.world = world
        self.reactions: dict[type[Event], Reaction] = {}
        self.answering: dict[type[Effect], Callable[..., Iterable[Said] | None]] = {}
        self.recalling: dict[type[Effect], dict[str, Recall]] = {}
        self.evolutions: dict[type[Event], list[Evolution]] = {}

    # -- declaring ---------------------------------------------------------------------------------------------------

    def hears(
        self, heard: type[Event], *, key: Keys | None = None, reads: Reads | None = None, overtakes: bool = False
    ) -> Callable[[F], F]:
        """Decide when `heard` comes. `key`: which row, if not that of the record's key. `reads`: rows of other keys.

        `overtakes`: it calls off what is parked about its key, and so does not wait behind it. Once it is decided, what
        waits finds a row in which it has nothing to do any more.
        """

        def declare(decide: F) -> F:
            state = self._state_of(decide)
            if heard in self.reactions:
                raise WrongDeclaration(f"{self._at(decide)}: {self.name} already reacts to {heard.__name__}")
            if issubclass(heard, Heard) and not heard.topic:
                raise WrongDeclaration(f'{self._at(decide)}: {heard.__name__} names no topic: write topic="..."')
            if reads is not None and reads.state not in self.states:
                raise WrongDeclaration(f"{self._at(decide)}: {reads.state.__name__} is not among {self.name}'s states")
            self.reactions[heard] = Reaction(heard, decide, state, key, reads, overtakes)
            return decide

        return declare

    def due(self, decide: F) -> F:
        """Decide when the `due_at` of a row has passed. The decision must move or clear `due_at` by a fact."""
        state = self._state_of(decide)
        if not {"due_at", "partition"} <= set(state.__struct_fields__):
            raise WrongDeclaration(f"{self._at(decide)}: {state.__name__} needs the fields 'due_at' and 'partition'")
        return self.hears(Due)(decide)

    def answers(self, effect: type[Effect]) -> Callable[[F], F]:
        """Decide when the world has answered `effect`."""

        def declare(decide: F) -> F:
            self._state_of(decide)
            if self.world is None:
                raise WrongDeclaration(f"{self._at(decide)}: {self.name} has no 'world' to ask for {effect.__name__}")
            self.answering[effect] = decide
            return decide

        return declare

    def recalls(self, effect: type[Effect]) -> Callable[[F], F]:
        """Say what the world had answered to `effect`, by the fact that told it: a replay asks nobody.

        The parameter's annotation names the facts that may tell it. It must not lean on what `answers` decides: a
        replay is to see when that has changed.
        """

        def declare(recall: F) -> F:
            told = _types_of_first(recall)
            if unsaid := [str(fact) for fact in told if fact not in self.says.values()]:
                raise WrongDeclaration(f"{self._at(recall)}: {self.name} never says {', '.join(unsaid)}")
            self.recalling[effect] = dict.fromkeys((fact.__name__ for fact in told), recall)
            return recall

        return declare

    def evolves(self, *facts: type[Event], key: Keys | None = None, each: EachKey | None = None) -> Callable[[F], F]:
        """Fold `facts` into a row: that of the fact's key, of `key(fact)`, or every row of `each(fact)`."""

        def declare(evolve: F) -> F:
            state = self._state_of(evolve)
            keys: EachKey | None = each
            if key is not None:
                keys = lambda fact: (key(fact),)  # noqa: E731
            for fact in facts:
                if self.says and fact.__name__ not in self.says:
                    raise WrongDeclaration(f"{self._at(evolve)}: {self.name} never says {fact.__name__}")
                self.evolutions.setdefault(fact, []).append(Evolution(fact, evolve, state, keys))
            return evolve

        return declare

    # -- what was declared -------------------------------------------------------------------------------------------

    @property
    def views(self) -> tuple[type[Heard], ...]:
        """Every event type heard from a topic."""
        heard = [*self.reactions, *self.evolutions] if self.is_projection else [*self.reactions]
        return tuple(dict.fromkeys(view for view in heard if issubclass(view, Heard)))

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics heard, in a fixed order."""
        return tuple(sorted({view.topic for view in self.views}))

    @property
    def is_projection(self) -> bool:
        """It says nothing: its rows are the fold of what it hears."""
        return not self.says

    @property
    def shares(self) -> bool:
        """Some of its rows are changed from several partitions."""
        return any(state.shared for state in self.states)

    @property
    def keeps_rows_apart(self) -> bool:
        """What becomes of one row follows from the records about it alone: no decision reads another's, and no fact
        changes another's but one that nobody reads."""
        read = any(reaction.reads is not None for reaction in self.reactions.values())
        evolutions = (each for of_fact in self.evolutions.values() for each in of_fact)
        return not read and all(each.keys is None or each.state.append_only for each in evolutions)

    @property
    def timed(self) -> tuple[type[State], ...]:
        """The states whose `due_at` is watched."""
        reaction = self.reactions.get(Due)
        return (reaction.state,) if reaction else ()

    def verify(self) -> "Service":
        """Check the declarations against each other once all are made. Returns itself; raises `WrongDeclaration`."""
        if self.shares and self.answering:
            raise WrongDeclaration(
                f"{self.name}: asks effects and has shared rows; a decision under row locks must not wait for the "
                f"world. Split the service in two."
            )
        unfolded = [name for name, fact in self.says.items() if fact not in self.evolutions]
        if unfolded:
            raise WrongDeclaration(f"{self.name}: says {', '.join(unfolded)}, but no 'evolves' folds it")
        return self

    # -- the two pure functions ----------------------------------------------------------------------------------------

    def decide(self, state: State, event: Event, read: Mapping[str, State] | None = None) -> tuple[Said, ...]:
        """What the service says and asks when it hears `event` in `state`; `read`: the rows it declared to read."""
        reaction = self.reactions[type(event)]
        said = reaction.decide(state, event) if reaction.reads is None else reaction.decide(state, event, read or {})
        return () if said is None else tuple(said)

    def answer(self, state: State, effect: Effect, answer: Answer) -> tuple[Said, ...]:
        """What the service says once the world has answered `effect`."""
        said = self.answering[type(effect)](state, answer)
        return () if said is None else tuple(said)

    def evolve(self, state: State, fact: Event) -> State:
        """What `fact` makes of one row of it. A row of a kind that the fact does not concern stays as it is."""
        for evolution in self.evolutions.get(type(fact), ()):
            if evolution.state is type(state):
                state = evolution.evolve(state, fact)
        return state

    # -- what it stands on -------------------------------------------------------------------------------------------

    def _state_of(self, function: Callable[..., Any]) -> type[State]:
        first = next(iter(inspect.signature(function).parameters.values()), None)
        state = get_type_hints(function).get(first.name) if first else None
        if not (isinstance(state, type) and issubclass(state, State)):
            raise WrongDeclaration(f"{self._at(function)}: the first parameter must be annotated with a State")
        if state not in self.states:
            raise WrongDeclaration(f"{self._at(function)}: {state.__name__} is not among {self.name}'s states")
        return state

    @staticmethod
    def _at(function: Callable[..., Any]) -> str:
        return f"{function.__module__}.{function.__qualname__}"


def _types_of_first(function: Callable[..., Any]) -> tuple[Any, ...]:
    """The types that a function's first parameter may have, by its annotation."""
    first = next(iter(inspect.signature(function).parameters))
    hint = get_type_hints(function).get(first)
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


__all__ = ["Connect", "Evolution", "Iterator", "Reaction", "Reads", "Said", "Service", "World"]
