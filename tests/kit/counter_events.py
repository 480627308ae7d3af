"""What the counter service of the kit's tests hears, says, asks and remembers, and its tables."""

from datetime import datetime

from streams.kit.events import Answer, Effect, Event, Fact, Request, State

TABLES = """
CREATE TABLE counts
    (counter text PRIMARY KEY, partition int, total bigint, facts bigint, note text, due_at timestamptz);
CREATE INDEX ON counts (partition, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE totals (name text PRIMARY KEY, amount bigint, note text);
CREATE TABLE entries (entry text PRIMARY KEY, amount bigint);
"""


class Add(Request, topic="requests"):
    """Add an amount to a counter, and to the totals named in `into`."""

    counter: str
    amount: int
    how: str = ""
    into: str = ""

    @property
    def key(self) -> str:
        return self.counter


class Told(Fact):
    """What the other speakers say: it is added to the counter as well."""

    counter: str
    amount: int

    @property
    def key(self) -> str:
        return self.counter


class Added(Fact):
    """An amount was added."""

    counter: str
    amount: int
    note: str = ""
    into: str = ""

    @property
    def key(self) -> str:
        return self.counter


class Postponed(Fact):
    """The counter has a deadline now."""

    counter: str
    due_at: datetime
    note: str = ""

    @property
    def key(self) -> str:
        return self.counter


class Expired(Fact):
    """The deadline has passed."""

    counter: str

    @property
    def key(self) -> str:
        return self.counter


class Unsaid(Fact):
    """The service does not declare that it says this."""

    counter: str

    @property
    def key(self) -> str:
        return self.counter


class Ring(Effect):
    """Ask the world for the number of the bell with that name."""

    bell: str

    @property
    def key(self) -> str:
        return self.bell


class Rung(Answer):
    """The bell has this number."""

    number: int


class Count(State, table="counts", key="counter"):
    """What was added to one counter."""

    counter: str
    partition: int = -1
    total: int = 0
    facts: int = 0
    note: str = ""
    due_at: datetime | None = None


class Total(State, table="totals", key="name", shared=True):
    """What was added from all partitions."""

    name: str
    amount: int = 0
    note: str = ""


class Entry(State, table="entries", key="entry", append_only=True):
    """One addition, written once."""

    entry: str
    amount: int = 0


EVENTS: dict[str, tuple[type[Event], ...]] = {
    ".requests": (Add,),
    "-left": (Told,),
    "-right": (Told,),
    "": (Added, Postponed, Expired),
}
