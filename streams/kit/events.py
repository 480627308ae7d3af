"""The kinds of values that services hear, say, remember and ask: all frozen, all compared by value.

- `Fact`: what became true; said by the one service that owns it, on the topic that bears the service's name.
- `Request`: what anybody who keeps the contract may ask of a service, on its request topic.
- `Heard`: a consumer's own view of somebody else's fact or request; it declares only the fields it reads.
- `State`: one row of a service's table, the fold of the facts that the service has said about one key.
- `Effect`: something to ask of the outside world, under an idempotency key; `Answer`: what the world said.
- `Due`: a deadline that a state row carries has passed.

Subclasses need no decorator: every one is a frozen, keyword-only `msgspec.Struct`.
"""

from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, ClassVar, Self, dataclass_transform

import msgspec


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class _Frozen(msgspec.StructMeta):
    """Makes frozen, keyword-only structs, and keeps class arguments such as `topic="orders"` as class variables."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **declared: Any) -> Any:
        # What is frozen is made of what was there before it, so it is part of no cycle that somebody had to look for.
        cls: Any = super().__new__(mcls, name, bases, namespace, frozen=True, kw_only=True, gc=False)
        for key, value in declared.items():
            if key not in cls._declares:
                raise TypeError(f"{name}: {key!r} is not something a {bases[0].__name__} declares")
            setattr(cls, key, value)
        if "table" in declared:
            # What the property says of a text column, without a call into Python for each row.
            cls.row_key = property(attrgetter(cls.key))
        return cls


class Value(msgspec.Struct, metaclass=_Frozen):
    """A frozen value inside an event or a state, such as an order line."""

    _declares: ClassVar[frozenset[str]] = frozenset()


class Event(Value):
    """Anything that a decision can be given or can say."""


class Fact(Event):
    """What became true, said by its owner. Each service's facts define `key`: what they are about.

    Where it stands in the dance is declared for the checks: `class StockReleased(Fact, undoes=(StockReserved,))`.
    `failure`: the order cannot go on, somebody must react. `undoes`: the steps that it takes back. `commits`: from here
    the order only goes forward, so what follows is never undone.
    """

    _declares: ClassVar[frozenset[str]] = frozenset({"failure", "undoes", "commits"})
    failure: ClassVar[bool] = False
    undoes: ClassVar[tuple[type["Fact"], ...]] = ()
    commits: ClassVar[bool] = False

    @property
    def key(self) -> str:
        """The record key: an order id, or what else the fact is about. It decides the partition."""
        raise TypeError(f"{type(self).__name__} defines no 'key': say what the fact is about")


class Request(Event):
    """What is asked of a service on its request topic: `class PlaceOrder(Request, topic="orders.requests")`.

    `person`: the field that holds the customer's number, where the request says something personal of a customer
    (fields marked `personal` in its schema, see `personal`).
    """

    _declares: ClassVar[frozenset[str]] = frozenset({"topic", "person"})
    topic: ClassVar[str] = ""
    person: ClassVar[str] = ""

    @property
    def key(self) -> str:
        """The record key. It decides the partition, so it must be that of the facts that will follow."""
        raise TypeError(f"{type(self).__name__} defines no 'key': say what the request is about")


class About(Value):
    """What the envelope of an event says: who said it, why, and when it was heard here.

    `id`: speaker/partition/sequence (topic/partition/offset for requests). `cause`: the id of the event that it
    answers. `ordinal`: grows with every event that this service hears in the partition; causes have lower ones.
    """

    id: str
    name: str
    speaker: str
    cause: str
    correlation: str
    ordinal: int


class Heard(Event):
    """A consumer's view of an event of another service or of a producer outside: `class X(Heard, topic="orders")`.

    The class bears the event's name. Two fields are given by the kit where a view declares them and the event has none
    of that name: `at: datetime`, the time (UTC) at which it was said, so that decisions need no clock, and
    `about: About`, what its envelope says.

    `person`: as in `Request`, for a view of a request that others may send in plain text: the kit protects what is
    personal in it before anything is decided (`protecting`).
    """

    _declares: ClassVar[frozenset[str]] = frozenset({"topic", "person"})
    topic: ClassVar[str] = ""
    person: ClassVar[str] = ""


class Due(Event):
    """The deadline `due_at` of a state row has passed; `at` is the time (UTC) that the worker gives the decision."""

    at: datetime


class Effect(Event):
    """Something to ask of the outside world. `key` is the idempotency key: equal keys are one effect, ever."""

    @property
    def key(self) -> str:
        raise TypeError(f"{type(self).__name__} defines no 'key': an effect without one could happen twice")


class Answer(Event):
    """What the outside world said to an effect; it comes back to the decision as a value."""


class Unanswered(Answer):
    """The outside world did not answer for now, and nobody knows what it did; asking again under the key is safe.

    Decisions never see it: the kit parks the record and asks again, not before `retry_after_seconds`.
    """

    reason: str
    retry_after_seconds: float = 0.0


class Unreached(Unanswered):
    """Nothing came back, so maybe nobody is there: a round with no more than this counts against the dependency."""


class Unasked(Unanswered):
    """Others came first and took all the time there was: it is asked with the next batch, and nothing has failed."""


class State(Event):
    """One row of `table`, found by the text column `key`: `class Invoice(State, table="invoices", key="order_id")`.

    All other fields have defaults: the row that nothing was ever said about. A `shared` row is changed from several
    partitions (stock, by orders of every partition), so it is locked in the transaction and its folds must be additive.
    An `append_only` row is written once, by the first fact that makes it, and never loaded (an order's history).
    A field `partition` is filled in by the kit; a field `due_at` makes the row one that deadlines are taken from.
    """

    _declares: ClassVar[frozenset[str]] = frozenset({"table", "key", "shared", "append_only"})
    table: ClassVar[str] = ""
    key: ClassVar[str] = ""
    shared: ClassVar[bool] = False
    append_only: ClassVar[bool] = False

    @classmethod
    def new(cls, key: str, partition: int = -1) -> Self:
        """The row of `key` before anything was said about it."""
        fields: dict[str, Any] = {cls.key: key}
        if "partition" in cls.__struct_fields__:
            fields["partition"] = partition
        return cls(**fields)

    @property
    def row_key(self) -> str:
        """The value of the key column."""
        return str(getattr(self, self.key))


def milliseconds(at: datetime) -> int:
    """Milliseconds since 1970 (UTC), as Kafka's record timestamps count."""
    return int(at.timestamp() * 1000)


def from_milliseconds(ms: int) -> datetime:
    """The time (UTC) of a Kafka record timestamp."""
    return datetime.fromtimestamp(ms / 1000, UTC)
