"""The edge to the world: parcels are planned with protected addresses, and booked with readable ones.

Of what the carrier says, nothing that was revealed comes back: its reasons are kept in facts for ever.

What cannot be revealed any more, as the customer was forgotten, is called off at the carrier before it counts as
refused: an earlier question may have booked it, and after a refusal nobody would ever call it off.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from streams.kit.errors import WorldUnavailable
from streams.kit.events import Answer, Effect, Unanswered
from streams.kit.keyring import Keys, KeysAway
from streams.kit.personal import replaced
from streams.kit.protection import DataKey, Unreadable, key_id
from streams.kit.service import World
from streams.shipping.carrier import BookShipment, CancelBooking, NotBooked
from streams.shipping.events import Address

FORGOTTEN = "the customer was forgotten, so nobody can read where the parcel goes"
PERSONAL = "(personal)"
_FIELDS = tuple((name,) for name in Address.__struct_fields__)

KeysFound = Mapping[str, DataKey | None]


class Question(NamedTuple):
    """What the carrier is asked instead. `refusal`: why the parcel counts as refused, whatever the carrier says.
    `revealed`: what was made readable for it."""

    effect: Effect
    refusal: str = ""
    revealed: tuple[str, ...] = ()

    def answered(self, answer: Answer) -> Answer:
        if self.refusal and not isinstance(answer, Unanswered):
            return NotBooked(reason=self.refusal)
        if isinstance(answer, NotBooked | Unanswered):
            return replace(answer, reason=without(self.revealed, answer.reason))
        return answer


class RevealingCarrier:
    """A carrier that is asked with protected addresses. Plain ones pass as they are."""

    def __init__(self, carrier: World, keys: Keys) -> None:
        self._carrier = carrier
        self._keys = keys

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        """Answer all effects, in their order. Raises `WorldUnavailable` when keys cannot be had."""
        ids = {key for effect in effects for key in _key_ids(effect)}
        try:
            keys = await self._keys.find(ids) if ids else {}
        except KeysAway as error:
            raise WorldUnavailable(str(error)) from error
        questions = [_question(effect, keys) for effect in effects]
        asked = [each for each in questions if isinstance(each, Question)]
        answers = iter(await self._carrier.ask([each.effect for each in asked]) if asked else ())
        return [each.answered(next(answers)) if isinstance(each, Question) else each for each in questions]


def _question(effect: Effect, keys: KeysFound) -> Question | Unanswered:
    """What to ask of the carrier; no answer for now, when the key is not there but may come back with its database."""
    if not isinstance(effect, BookShipment):
        return Question(effect)
    for key in _key_ids(effect):
        if key not in keys:
            return Unanswered(reason=f"the key {key} of its address is not in PAVANE_DATABASE_KEYS, nor ever destroyed")
        if keys[key] is None:
            return Question(CancelBooking(order_id=effect.order_id), FORGOTTEN)
    try:
        ship_to = revealed(effect.ship_to, keys)
    except Unreadable as error:
        return Question(CancelBooking(order_id=effect.order_id), str(error))
    secret = tuple(getattr(ship_to, name) for (name,) in _FIELDS if key_id(getattr(effect.ship_to, name)))
    return Question(replace(effect, ship_to=ship_to), revealed=secret)


def revealed(address: Address, keys: KeysFound) -> Address:
    """The address in plain text. Raises `Unreadable`; all of its keys must be there."""

    def reveal(field: str, text: str) -> str:
        key = keys.get(key_id(text) or "")
        return text if key is None else key.reveal(field, text)

    return replaced(address, _FIELDS, reveal)


def without(texts: Sequence[str], said: str) -> str:
    """What was said, with `PERSONAL` in place of every word of these texts, whatever its case."""
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    if not words:
        return said
    word = rf"\b(?:{'|'.join(sorted(words, key=len, reverse=True))})\b"
    return re.sub(rf"{word}(?:\W+{word})*", PERSONAL, said, flags=re.IGNORECASE)


def _key_ids(effect: Effect) -> Iterator[str]:
    if isinstance(effect, BookShipment):
        for name in Address.__struct_fields__:
            if key := key_id(getattr(effect.ship_to, name)):
                yield key
