"""Requests that came in plain text are protected before anything is decided: what is said of them holds tokens only.

The gateway protects what it puts on the log. A producer of the shop's own may not be able to; then the plain text stays
in its request, for as long as the request topic keeps it, and nowhere else. Protecting is deterministic, so a request
that is heard again is the same event.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from streams.kit.errors import Refused
from streams.kit.events import Event, Heard
from streams.kit.keyring import Keys
from streams.kit.keys import is_plain, is_tenant, is_token
from streams.kit.keystore import Person
from streams.kit.language import Language
from streams.kit.opening import Opened
from streams.kit.personal import Marks
from streams.kit.protection import DataKey, is_protected


class Protector:
    """Protects the events of one service. Knows nothing of views that declare no `person`."""

    def __init__(self, views: Iterable[type[Heard]], language: Language, keys: Keys) -> None:
        self._marks: dict[type[Event], Marks] = {view: Marks.of(language, view) for view in views if view.person}
        self._keys = keys

    async def protect(self, opened: Sequence[Opened]) -> list[Opened]:
        """The same, in the same order. Raises `KeysAway`, and then nothing was changed."""
        whose = {number: person for number, one in enumerate(opened) if (person := self._plain(one.event)) is not None}
        keys = await self._keys.made_for(set(whose.values()), plain=True) if whose else {}
        return [
            self._refused_if_mixed(one) if number not in whose else self._protected(one, keys[whose[number]])
            for number, one in enumerate(opened)
        ]

    def _plain(self, event: Event | None) -> Person | None:
        """Whose personal data it holds in plain text; nobody's, if the service refuses its tenant or customer."""
        if event is None or (marks := self._marks.get(type(event))) is None:
            return None
        if any(map(is_protected, marks.texts(event))):
            return None
        person = marks.person_of(event)
        return person if is_tenant(person.tenant) and is_token(person.customer) else None

    def _protected(self, one: Opened, key: DataKey) -> Opened:
        assert one.event is not None

        def protect(field: str, text: str) -> str:
            # What no field may hold is left for the service to refuse; it says so without repeating it.
            return key.protect(field, text) if is_plain(text) else text

        return replace(one, event=self._marks[type(one.event)].changed(one.event, protect))

    def _refused_if_mixed(self, one: Opened) -> Opened:
        """Whose the plain part of a half protected request is, nobody can tell."""
        if one.event is None or (marks := self._marks.get(type(one.event))) is None:
            return one
        if len({is_protected(text) for text in marks.texts(one.event)}) < 2:
            return one
        problem = Refused("some of its personal texts are protected and some are not: protect all of them, or none")
        return replace(one, event=None, problem=problem)
