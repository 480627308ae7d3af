"""Customers as the services know them: by a token in place of their number, and never by their address in plain text.

Whatever the gateway puts on the log, into Redis or into a question to the timeline holds tokens (`kit.protection`), so
that nothing of a customer can be read once their key is destroyed. A customer who is forgotten and orders again is
somebody new: earlier orders are not theirs any more.
"""

from collections.abc import Awaitable
from typing import NamedTuple, TypeVar

from api.errors import BeingForgotten, Unavailable
from api.events import ALL
from api.tokens import Caller
from streams.kit.events import Request
from streams.kit.keyring import Keys, KeysAway
from streams.kit.keystore import Person
from streams.kit.language import Language
from streams.kit.logs import logger
from streams.kit.personal import Marks
from streams.kit.protection import DataKey

R = TypeVar("R", bound=Request)
T = TypeVar("T")

#: The field of an order's request in which the number stands: a token opens only there.
_NUMBER = "customer"


class Customer(NamedTuple):
    """A caller who orders. `subject`: the token that stands for `number` wherever it is kept; "" before the first
    order."""

    tenant: str
    number: str
    subject: str
    key: DataKey | None


class Customers:
    """The customers of all tenants. Everything raises `Unavailable` when keys cannot be had."""

    def __init__(self, keys: Keys, language: Language) -> None:
        self._keys = keys
        self._marks = {request: Marks.of(language, request) for request in ALL if request.person}

    async def known(self, caller: Caller) -> Customer:
        """The caller, for looking at what there is."""
        person = Person(caller.tenant, caller.subject)
        return _customer(person, (await _had(self._keys.of([person]))).get(person))

    async def ordering(self, caller: Caller) -> Customer:
        """The caller, with a key for what is new. Raises `BeingForgotten`."""
        person = Person(caller.tenant, caller.subject)
        key = (await _had(self._keys.made_for([person])))[person]
        if key.is_closing:
            raise BeingForgotten
        return _customer(person, key)

    def protected(self, customer: Customer, request: R) -> R:
        """The request, which says the customer's number and address in plain text, as it may go onto the log."""
        key = customer.key
        assert key is not None, "only who has a key has an order"

        def sealed(field: str, text: str) -> str:
            # The number was sealed when the customer was recognised.
            is_number = (field, text) == (_NUMBER, customer.number)
            return customer.subject if is_number else key.protect(field, text)

        return self._marks[type(request)].changed(request, sealed)


def _customer(person: Person, key: DataKey | None) -> Customer:
    subject = "" if key is None else key.protect(_NUMBER, person.customer)
    return Customer(person.tenant, person.customer, subject, key)


async def _had(keys: Awaitable[T]) -> T:
    try:
        return await keys
    except KeysAway as error:
        logger().warning("person_keys_away", error=str(error))
        raise Unavailable("Orders can be neither taken nor shown for now; what was accepted goes on.") from error
