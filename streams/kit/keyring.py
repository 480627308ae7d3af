"""The keys of persons as a process uses them: asked of the store once, remembered for some seconds, never longer.

`CACHE_SECONDS` is a promise to `pavane forget`: a process that learned a key before it was closed or destroyed has
dropped it after that time, whatever happened in between.
"""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Generic, Protocol, TypeVar

import psycopg
from msgspec import Meta
from psycopg.rows import tuple_row

from streams.kit.errors import PavaneError, Then
from streams.kit.keystore import Connection, IndexLost, KeyStore, Person
from streams.kit.masters import Masters, NoSuchMaster
from streams.kit.pool import Pool
from streams.kit.protection import DataKey
from streams.kit.settings import Settings
from streams.kit.together import Together

CACHE_SECONDS = 5.0
MOST_CACHED = 10_000
CONNECTIONS = 4
WAIT_SECONDS = 2.0
STATEMENT_SECONDS = 5

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class KeySettings(Settings, frozen=True, kw_only=True):
    """What a process is given that protects or reveals personal text."""

    database_keys: Annotated[
        str, Meta(pattern=r"^postgres(ql)?://", description="PostgreSQL URL of the keys of persons")
    ]
    master_keys: Annotated[str, Meta(min_length=1, description="master keys, 'id:secret,id:secret', the newest first")]


class KeysAway(PavaneError):
    """Keys of persons cannot be had now: the database does not answer or lost its index, or a master key is missing."""

    then = Then.LATER


class MasterAway(KeysAway):
    """A master key is missing: what it wraps cannot be opened, all else can."""


class Keys(Protocol):
    """What is asked of a keyring. Everything raises `KeysAway`."""

    async def of(self, persons: Collection[Person]) -> dict[Person, DataKey]:
        """The keys of those who have one."""
        ...

    async def made_for(self, persons: Collection[Person], *, plain: bool = False) -> dict[Person, DataKey]:
        """A key for each, made where there was none. `plain`: they asked in plain text, which the log keeps; a key that
        is closing opens for that, and who is about to destroy it finds it so."""
        ...

    async def find(self, ids: Collection[str]) -> dict[str, DataKey | None]:
        """Keys by their ids: None for one that was destroyed, nothing for one that was never heard of."""
        ...


class Keyring:
    """`Keys` of the database that the settings name. It may be away and come later."""

    def __init__(
        self, pool: Pool[tuple[Any, ...]], store: KeyStore, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._store = store
        self._persons = Lately[Person, DataKey](now)
        self._ids = Lately[str, DataKey | None](now)
        self._finding = Together(self._found, WAIT_SECONDS, _late, alone_after=MasterAway)
        self._making = Together(self._made, WAIT_SECONDS, _late, alone_after=MasterAway)
        self._noted_plain: set[str] = set()

    @classmethod
    def on(cls, settings: KeySettings) -> "Keyring":
        """Not connected yet. Raises `WrongSetting`."""
        pool = Pool(
            settings.database_keys,
            "pavane-keys",
            connections=CONNECTIONS,
            wait_seconds=WAIT_SECONDS,
            question_seconds=STATEMENT_SECONDS,
            row_factory=tuple_row,
        )
        return cls(pool, KeyStore(Masters.read(settings.master_keys)))

    @classmethod
    @asynccontextmanager
    async def at(cls, settings: KeySettings) -> "AsyncIterator[Keyring]":
        """From the block's beginning to its end. Raises `WrongSetting`."""
        keyring = cls.on(settings)
        await keyring.open()
        try:
            yield keyring
        finally:
            await keyring.close()

    async def open(self) -> None:
        """Begin to connect; returns at once."""
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close()

    async def of(self, persons: Collection[Person]) -> dict[Person, DataKey]:
        found, missing = self._persons.known(persons)
        return found | await self._finding.answers(missing) if missing else found

    async def made_for(self, persons: Collection[Person], *, plain: bool = False) -> dict[Person, DataKey]:
        found, missing = self._persons.known(persons)
        if missing:
            found |= await self._making.answers(missing)
        if plain:
            found |= await self._opened({person: key for person, key in found.items() if key.is_closing})
            await self._note_plain({key.id for key in found.values()})
        return found

    async def find(self, ids: Collection[str]) -> dict[str, DataKey | None]:
        return await self._ask(self._ids, ids, self._store.find)

    async def reachable(self) -> None:
        """Raises `KeysAway` when keys cannot be had."""
        await self._asked(lambda connection: self._store.find(connection, ()))

    async def _found(self, persons: Collection[Person]) -> dict[Person, DataKey]:
        return await self._ask(self._persons, persons, self._store.of)

    async def _made(self, persons: Collection[Person]) -> dict[Person, DataKey]:
        found = await self._found(persons)
        if missing := [person for person in persons if person not in found]:
            asked_at = self._persons.now()
            made = await self._asked(lambda connection: self._store.make(connection, missing))
            self._persons.learn(made, asked_at)
            found |= made
            # Somebody else was quicker for the rest.
            found |= await self._found([person for person in missing if person not in made])
        return found

    async def _opened(self, closing: Mapping[Person, DataKey]) -> dict[Person, DataKey]:
        """These keys, open again; new ones for those that were destroyed meanwhile."""
        if not closing:
            return {}
        asked_at = self._persons.now()
        ids = [key.id for key in closing.values()]
        left = await self._asked(lambda connection: self._store.reopen_all(connection, ids))
        opened = {person: DataKey(key.id, key.secret) for person, key in closing.items() if key.id in left}
        self._persons.learn(opened, asked_at)
        gone = closing.keys() - opened.keys()
        self._persons.drop(gone)
        return opened | (await self.made_for(gone, plain=True) if gone else {})

    async def _ask(
        self,
        lately: "Lately[K, V]",
        wanted: Collection[K],
        ask: Callable[[Connection, Collection[K]], Awaitable[dict[K, V]]],
    ) -> dict[K, V]:
        """What is remembered, and what the store says of the rest."""
        found, missing = lately.known(wanted)
        if missing:
            # Remembered from before it was asked for: what is closed meanwhile must be forgotten in time.
            asked_at = lately.now()
            news = await self._asked(lambda connection: ask(connection, missing))
            lately.learn(news, asked_at)
            found |= news
        return found

    async def _note_plain(self, ids: set[str]) -> None:
        """Once a process and key: the note stays in the store."""
        if news := ids - self._noted_plain:
            await self._asked(lambda connection: self._store.note_plain(connection, news))
            self._noted_plain = news if len(self._noted_plain) > MOST_CACHED else self._noted_plain | news

    async def _asked(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """Ask the store something that may be asked twice. Raises `KeysAway`."""
        try:
            return await self._pool.ask(question)
        except psycopg.Error as error:
            raise KeysAway(f"the database of keys (PAVANE_DATABASE_KEYS) does not answer: {error}") from error
        except NoSuchMaster as error:
            raise MasterAway(str(error)) from error
        except IndexLost as error:
            raise KeysAway(str(error)) from error


def _late() -> KeysAway:
    return KeysAway("the database of keys (PAVANE_DATABASE_KEYS) is late with what others asked")


class Lately(Generic[K, V]):
    """What was learned in the last `CACHE_SECONDS`; of more than `MOST_CACHED`, the newest."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self._learned: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._learned)

    def known(self, wanted: Collection[K]) -> tuple[dict[K, V], list[K]]:
        """What is known of these, and of which nothing is."""
        since = self.now() - CACHE_SECONDS
        self._drop_learned_before(since)
        # Learned in nearly the order in which it was asked for: what is left behind something newer does not count.
        lately = ((key, self._learned[key]) for key in wanted if key in self._learned)
        found = {key: value for key, (value, at) in lately if at > since}
        return found, [key for key in dict.fromkeys(wanted) if key not in found]

    def learn(self, news: Mapping[K, V], at: float) -> None:
        for key, value in news.items():
            self._learned.pop(key, None)
            self._learned[key] = value, at
        while len(self._learned) > MOST_CACHED:
            self._learned.popitem(last=False)

    def drop(self, keys: Iterable[K]) -> None:
        for key in keys:
            self._learned.pop(key, None)

    def _drop_learned_before(self, since: float) -> None:
        while self._learned and next(iter(self._learned.values()))[1] <= since:
            self._learned.popitem(last=False)
