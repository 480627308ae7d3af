"""`forget`: everything personal of a customer becomes unreadable, by destroying the one key that reads it.

    look ─▶ close the key ─▶ wait until no gateway protects under it any more, and all it took was heard
         ─▶ look again ─▶ destroy the key ─▶ receipt ─▶ wait until nobody remembers it

A key that was closed and not destroyed, as somebody broke this off, opens again by itself. It is destroyed only if it
stayed closed; an order in plain text opens it (`streams.kit.keyring`). Forgetting twice is forgetting once. The receipt
names the key and never the customer.
"""

import asyncio
from collections.abc import Iterator

import psycopg
from confluent_kafka import KafkaException
from rich.console import Console
from rich.text import Text

from infra.addresses import Addresses
from infra.stack import KEYS_DATABASE
from pavane import settled
from pavane.forget.receipt import FORGET, receipt
from pavane.forget.traces import Traces, parked_in_plain, traces_of
from pavane.lines import a_console
from pavane.operators import operations
from pavane.operators.agreeing import agreed
from pavane.operators.errors import DatabaseUnreadable, NotAsked
from pavane.operators.reach import Connection, Reach
from pavane.operators.words import count
from streams.kit.keyring import CACHE_SECONDS
from streams.kit.keystore import Kept, KeyStore, Person
from streams.kit.protection import DataKey

DONE, NOT_DONE = 0, 1
#: What a gateway took before the key was closed is on the log by then (`api.log.PATIENCE_SECONDS`).
UNDER_WAY_SECONDS = 6.0
HEARD_SECONDS = 30.0
#: Longer than what follows takes; if not, it is told, and nothing is destroyed.
CLOSED_SECONDS = 120.0

REMAINS = (
    "order ids, SKUs, quantities, prices and amounts, countries, times: the books of the shop, which the law keeps",
    "tokens that nobody can read any more, equal for all orders of this customer, with the id of the destroyed key",
    "the payment method's token, references of provider and carrier, and whatever those two keep themselves",
    "backups of the database of keys: a backup older than this brings the key back, so delete those",
)


class OrdersOpen(NotAsked):
    """The customer has orders under way, whose parcels could not be sent any more."""

    def __init__(self, traces: Traces) -> None:
        super().__init__(
            f"{count(len(traces.open), 'order')} of this customer have not ended: {traces.named()}. Nothing was "
            f"forgotten. Wait, cancel them, or say --force: an order whose parcel is not booked by then is cancelled."
        )


class OpenedAgain(NotAsked):
    """The key did not stay closed until it was to be destroyed: something new may have come under it."""

    def __init__(self) -> None:
        super().__init__(
            f"the key did not stay closed: an order of this customer came in plain text, another 'pavane forget' "
            f"closed it too, or looking took longer than {CLOSED_SECONDS:g} s. This one forgot nothing. Do it again."
        )


class ReceiptNotWritten(NotAsked):
    """The key is destroyed, and the database of orders went away before it could be told."""

    def __init__(self, number: int, written: str, why: DatabaseUnreadable) -> None:
        super().__init__(
            f"{why}. The customer is forgotten: {written}. But operation {number} of orders still says 'under way'. "
            f"When that database answers, 'pavane keys destroy-again' writes the receipt."
        )


class Forgetting:
    """One customer to be forgotten. Raises `NotAsked` when it cannot be done; then nothing was."""

    def __init__(self, reach: Reach, store: KeyStore, tenant: str, customer: str) -> None:
        self._reach = reach
        self._store = store
        self._person = Person(tenant, customer)
        self._console: Console = a_console()

    async def carry_out(self, who: str, why: str, *, asks: bool, dry_run: bool, force: bool) -> int:
        """Show what there is; then forget it, if somebody agrees."""
        async with self._reach.database(KEYS_DATABASE) as keys:
            key = (await self._store.of(keys, [self._person])).get(self._person)
            kept = await self._store.kept(keys, self._person)
            if key is None or kept is None:
                for line in _without_key(await parked_in_plain(self._reach, self._person)):
                    self._say(line)
                return DONE
            traces = await traces_of(self._reach, self._person, key)
            for line in _told(kept, traces):
                self._say(line)
            if dry_run:
                self._say("Nothing was changed.")
                return DONE
            if traces.open and not force:
                raise OrdersOpen(traces)
            if asks and not await agreed("Forget this customer for ever?"):
                self._say("Nothing was changed.")
                return NOT_DONE
            return await self._recorded(keys, key, kept, operations.somebody(who), why, force)

    async def _recorded(self, keys: Connection, key: DataKey, kept: Kept, who: str, why: str, force: bool) -> int:
        """Forget, and write down how it ended, beside the other operations on orders."""
        subject = f"the key of a customer of {self._person.tenant}"
        async with self._reach.database("orders") as orders:
            number = await operations.begin(orders, who, FORGET, [key.id], subject, why)
        closed = await self._store.close(keys, key.id, CLOSED_SECONDS)
        try:
            traces = await self._unused(key, force)
        except (NotAsked, asyncio.CancelledError) as error:
            await self._store.reopen(keys, key.id, closed)
            await self._not_forgotten(number, error)
            raise
        # Cut off from here on, the operation stays under way: 'keys destroy-again' looks what became of the key.
        at = await self._store.destroy_closed(keys, key.id, closed)
        if at is None and await self._store.readable(keys, [key.id]):
            await self._not_forgotten(number, opened := OpenedAgain())
            raise opened
        written = receipt(kept, at, traces)
        try:
            async with self._reach.database("orders") as orders:
                await operations.end(orders, number, written)
        except DatabaseUnreadable as error:
            raise ReceiptNotWritten(number, written, error) from error
        self._say(f"Receipt {number} of orders ('pavane dead-letters list --operations'), by {who}: {written}")
        self._say(f"Waiting {CACHE_SECONDS:g} s until no process remembers the key ...")
        await asyncio.sleep(CACHE_SECONDS)
        await self._store.sweep(keys)
        self._say("Done.")
        return DONE

    async def _not_forgotten(self, number: int, why: BaseException) -> None:
        async with self._reach.database("orders") as orders:
            await operations.end(orders, number, f"not forgotten: {type(why).__name__}")

    async def _unused(self, key: DataKey, force: bool) -> Traces:
        """Return once nothing new can come under the key, with what there is then. Raises `NotAsked`."""
        seconds = CACHE_SECONDS + UNDER_WAY_SECONDS
        self._say(f"Closed the key. Waiting {seconds:g} s until no order is under way to the log under it ...")
        await asyncio.sleep(seconds)
        if not force:
            await self._all_heard()
        traces = await traces_of(self._reach, self._person, key)
        if traces.open and not force:
            raise OrdersOpen(traces)
        return traces

    async def _all_heard(self) -> None:
        addresses = Addresses(self._reach.kafka, "", self._reach.databases, "", "")
        for topic in ("orders.requests", "orders"):
            try:
                await settled.wait_until_heard(addresses, [topic], HEARD_SECONDS)
            except (TimeoutError, KafkaException, psycopg.Error) as error:
                raise NotAsked(
                    f"whether this customer has orders under way cannot be told: {_why(error)}. Nothing was forgotten. "
                    f"Try again when that is heard, or say --force"
                ) from error

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def _why(error: Exception) -> str:
    if isinstance(error, KafkaException):
        return f"Kafka does not answer: {error.args[0].str()}"
    if isinstance(error, psycopg.Error):
        return f"a service's database does not answer: {str(error).strip()}"
    return str(error)


def _without_key(plain: int) -> Iterator[str]:
    yield "There is no key of this customer: of what is protected under one, nothing can be read."
    yield "What another producer than the gateway put on the log in plain text cannot be ruled out by that: it stays in"
    yield "orders.requests and in dead letters of orders as long as those keep it (docs/privacy.md)."
    if plain:
        yield _parked_in_plain(plain)


def _parked_in_plain(number: int) -> str:
    return (
        f"{count(number, 'parked record')} may hold the customer's number in plain text: see 'pavane dead-letters list'"
    )


def _told(kept: Kept, traces: Traces) -> Iterator[str]:
    yield f"The key {kept.id} of this customer, made {kept.made_at:%Y-%m-%d}, reads: {traces.told()}."
    yield "Without it nobody can read the customer's number, name, street, postal code and city any more, be it in the"
    yield "log, the outbox, a table, a parked record, a dead letter or a backup of these. What remains:"
    for each in REMAINS:
        yield f"  - {each}"
    came = "some came" if kept.asked_in_plain else "orders has heard none; what it could not read it does not know"
    yield f"  - requests in plain text, by another producer than the gateway ({came}): they stay in"
    yield "    orders.requests, and in dead letters of orders, as long as those keep them (docs/privacy.md)"
    if traces.plain:
        yield f"  - {_parked_in_plain(traces.plain)}"
