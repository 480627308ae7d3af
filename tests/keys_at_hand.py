"""Keys of persons in memory: real keys and tokens, without the database in which they lie otherwise."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from streams.kit.keyring import KeysAway
from streams.kit.keystore import Person
from streams.kit.protection import DataKey, key_id


class KeysAtHand:
    """`Keys`, and what a gateway expects of a keyring besides. `plain`: who asked in plain text."""

    def __init__(self) -> None:
        self.persons: dict[Person, DataKey] = {}
        self.ids: dict[str, DataKey | None] = {}
        self.plain: set[Person] = set()
        self._are_away = False

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def reachable(self) -> None: ...

    async def of(self, persons: Collection[Person]) -> dict[Person, DataKey]:
        self._raise_if_away()
        return {person: self.persons[person] for person in persons if person in self.persons}

    async def made_for(self, persons: Collection[Person], *, plain: bool = False) -> dict[Person, DataKey]:
        self._raise_if_away()
        self.plain |= set(persons) if plain else set()
        return {person: self.of_person(*person) for person in persons}

    async def find(self, ids: Collection[str]) -> dict[str, DataKey | None]:
        self._raise_if_away()
        return {name: self.ids[name] for name in ids if name in self.ids}

    def of_person(self, tenant: str, customer: str) -> DataKey:
        """The person's key, made where there is none."""
        person = Person(tenant, customer)
        if person not in self.persons:
            self.persons[person] = key = DataKey.new()
            self.ids[key.id] = key
        return self.persons[person]

    def destroy(self, tenant: str, customer: str) -> None:
        self.ids[self.persons.pop(Person(tenant, customer)).id] = None

    def reveal(self, field: str, token: str) -> str:
        """What the token stands for, which must be readable."""
        key = self.ids[key_id(token) or ""]
        assert key is not None
        return key.reveal(field, token)

    @contextmanager
    def away(self) -> Iterator[None]:
        self._are_away = True
        yield
        self._are_away = False

    def _raise_if_away(self) -> None:
        if self._are_away:
            raise KeysAway("the database of keys does not answer")
