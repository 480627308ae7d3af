"""The whole dance in memory, for the audit to look at: the real services, lanes, folds and simulators, no process.

    shop = Shop()
    shop.stock("lamp", 10)
    order = shop.place("lamp", 2)
    await shop.settle()
    look = shop.look()          # what an audit would see; tests may change it before they ask
    assert look.clean()

Every service is taken a step at a time, so an audit can be held at any moment, its looks at any distance.
"""

import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import fastavro
import msgspec
from msgspec import structs

from pavane.audit import snapshot as seen_by_audit
from pavane.audit.decoding import Decoder
from pavane.audit.examination import Evidence, examine
from pavane.audit.live import topics_of
from pavane.audit.report import Verdict
from pavane.audit.snapshot import Clocks, Snapshot
from pavane.audit.world import Charge, Parcel, World
from streams.billing import simulator as provider
from streams.kit import envelope, run
from streams.kit.batch import Batches
from streams.kit.codec import Codec
from streams.kit.envelope import Envelope
from streams.kit.events import Answer, Effect, State, Unanswered
from streams.kit.kafka import partition_of
from streams.kit.lane import Delivery, Draft, Holding, Lane
from streams.kit.language import Language
from streams.kit.log import Record, ToSay
from streams.kit.parking import Parked, Parking
from streams.kit.rows import Changes, Wanted
from streams.kit.service import Service
from streams.kit.simulation import Script
from streams.kit.store import Found, Move
from streams.shipping import simulator as carrier

PARTITIONS = 3
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LANGUAGE = Language.load()
SCHEMAS = [schema.text for schema in LANGUAGE]
SERVICES = ("orders", "inventory", "billing", "shipping", "timeline")
Where = tuple[str, int]


class Ids:
    """A registry that knows the released schemas by their place in the list."""

    async def id_of(self, subject: str, schema: str) -> int:
        return SCHEMAS.index(schema)

    async def schema_of(self, schema_id: int) -> str | None:
        return SCHEMAS[schema_id]


def wire(topic: str, name: str, fields: Mapping[str, Any]) -> bytes:
    """An event as a producer outside writes it."""
    schema = LANGUAGE.latest(topic, name)
    buffer = BytesIO()
    buffer.write(struct.pack(">bI", 0, SCHEMAS.index(schema.text)))
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema.raw), dict(fields))
    return buffer.getvalue()


class Party:
    """The payment provider or the carrier: its script on rows in memory, and how often what really happened.

    `is_away` is asked before every effect: whether this one is not answered for now (it may happen all the same).
    """

    def __init__(self, script: Script[Any]) -> None:
        self._script = script
        self.is_away: Callable[[], bool] = lambda: False
        self.records: dict[str, Any] = {}
        self.happened: dict[tuple[str, str], int] = {}

    async def ask(self, effects: Sequence[Effect]) -> Sequence[Answer]:
        return [self._answer(effect) for effect in effects]

    def _answer(self, effect: Any) -> Answer:
        before = self.records.get(effect.key) or self._script.record(key=effect.key, order_id=effect.order_id)
        after, answer = self._script.answer(before, effect, NOW)
        self.records[effect.key] = after
        if after != before:
            place = (effect.key, type(answer).__name__)
            self.happened[place] = self.happened.get(place, 0) + 1
        return Unanswered(reason="it is away") if self.is_away() else answer


class Database:
    """One service's database; implements what `Batches` asks of a store."""

    def __init__(self) -> None:
        self.rows: dict[type[State], dict[str, State]] = {}
        self.lanes = {partition: Holding(1, {}, {}, 0, 0) for partition in range(PARTITIONS)}
        self.outbox: dict[int, list[list[ToSay]]] = {partition: [] for partition in range(PARTITIONS)}
        self.parked: dict[int, dict[int, Parked]] = {partition: {} for partition in range(PARTITIONS)}

    async def load(self, wanted: Wanted) -> Found:
        return {
            state: [self.rows[state][key] for key in keys if key in self.rows.get(state, {})]
            for state, keys in wanted.items()
        }

    @asynccontextmanager
    async def transaction(self, drafts: Sequence[Draft]) -> AsyncIterator["Database"]:
        yield self

    async def commit(self, moves: Sequence[Move], changes: Sequence[Changes]) -> None:
        for draft, acknowledged in moves:
            row = draft.lane.row + bool(draft.said)
            self.lanes[draft.lane.partition] = Holding(1, dict(draft.positions), dict(draft.clock), row, acknowledged)
            if draft.said:
                self.outbox[draft.lane.partition].append(list(draft.said))
            self._park(self.parked[draft.lane.partition], draft.parking)
        for change in changes:
            rows = self.rows.setdefault(change.state, {})
            for row in change.rows:
                before = rows.get(row.row_key)
                if change.state.append_only and before is not None:
                    continue
                rows[row.row_key] = _sum(before, row) if change.state.shared and before is not None else row

    @staticmethod
    def _park(parked: dict[int, Parked], parking: Parking) -> None:
        """Records in and out; the next one of a key whose head was released may be tried at once."""
        parked.update({each.number: each for each in (*parking.added, *parking.tried)})
        for released in parking.released:
            del parked[released.number]
        for key in parking.freed:
            behind = [number for number, each in parked.items() if each.holds and each.key == key]
            if behind:
                parked[min(behind)] = structs.replace(parked[min(behind)], retry_at=NOW)


def _sum(before: State, added: State) -> State:
    numbers = {
        name: value + getattr(before, name)
        for name, value in msgspec.structs.asdict(added).items()
        if type(value) is int
    }
    return msgspec.structs.replace(added, **numbers)


class Instance:
    """One service at work on all lanes."""

    def __init__(self, service: Service, world: Party | None, log: dict[Where, list[Record]]) -> None:
        self.service = service
        self.database = Database()
        self._log = log
        self._lanes = {p: Lane(service.name, p, service.topics, self.database.lanes[p]) for p in range(PARTITIONS)}
        self._read: dict[Where, int] = {}
        self._acknowledged = dict.fromkeys(range(PARTITIONS), 0)
        self._codec = Codec(LANGUAGE, Ids())
        self._world = world
        self._batches: Batches | None = None

    async def step(self, partition: int, limit: int = 100, *, retry: bool = True) -> bool:
        """Hear up to `limit` records of one lane in one transaction; with `retry`, parked ones too. Were there any?"""
        if self._batches is None:
            await self._codec.prepare(self.service.name, self.service.says.values())
            home = lambda key: partition_of(key, PARTITIONS)  # noqa: E731
            self._batches = Batches(self.service, self._codec, self.database, self._world, home, lambda: NOW)  # type: ignore[arg-type]
        lane = self._lanes[partition]
        for topic in self.service.topics:
            records = self._log.get((topic, partition), [])
            for record in records[self._read.get((topic, partition), 0) :]:
                lane.push(record)
            self._read[topic, partition] = len(records)
        draft = lane.order(limit)
        parked = self.database.parked[partition].values()
        last = {each.key: each.number for each in parked if each.holds and each.retry_at is not None}
        for each in parked:
            # What waits is not tried, unless it calls off what is before it.
            if retry and each.retry_at is not None and not (each.holds and last[each.key] != each.number):
                draft.deliveries.append(Delivery(each.record, each.envelope, each))
        if not draft.moved and not draft.deliveries:
            return False
        await self._batches.run([draft], self._acknowledged)
        lane.adopt(draft)
        return True

    def say(self, partition: int, *, again: bool = False) -> bool:
        """Append to the log what the outbox holds beyond the last acknowledged row; `again`: as if no answer came."""
        rows = self.database.outbox[partition][self._acknowledged[partition] :]
        for fact in (fact for row in rows for fact in row):
            records = self._log.setdefault((fact.topic, partition), [])
            records.append(
                Record(fact.topic, partition, len(records), fact.timestamp, fact.key, fact.value, fact.headers)
            )
        if not again:
            self._acknowledged[partition] += len(rows)
        return bool(rows)

    def go_on(self, partition: int, topic: str, at: int) -> None:
        """Hear a topic of requests from there on (`pavane lanes skip`)."""
        held = self.database.lanes[partition]
        held = held._replace(positions={**held.positions, topic: at}, clock={**held.clock, topic: at})
        self.database.lanes[partition] = held
        self._lanes[partition] = Lane(self.service.name, partition, self.service.topics, held)
        self._read = {where: 0 if where[1] == partition else read for where, read in self._read.items()}

    def snapshot(self) -> "Seen":
        """What its database holds now."""
        unsaid = [
            (partition, fact)
            for partition, rows in self.database.outbox.items()
            for row in rows[self.database.lanes[partition].acknowledged :]
            for fact in row
        ]
        parked = [
            seen_by_audit.Parked(
                partition, each.number, each.key, each.holds, each.record.topic, each.record.offset,
                each.reason, each.message, each.retry_at,
            )
            for partition, all_parked in self.database.parked.items()
            for each in all_parked.values()
        ]  # fmt: skip
        rows = {state: dict(self.database.rows.get(state, {})) for state in self.service.states}
        return Seen(self.service, dict(self.database.lanes), unsaid, parked, rows)

    def clocks(self) -> dict[int, dict[str, int]]:
        return {partition: dict(lane.clock) for partition, lane in self.database.lanes.items()}


@dataclass
class Seen:
    """What an audit sees of one database; may be changed by a test."""

    service: Service
    lanes: dict[int, Holding]
    unsaid: list[tuple[int, ToSay]]
    parked: list[seen_by_audit.Parked]
    rows: dict[type[State], dict[str, State]]
    decisions: list[list[str]] = field(default_factory=list)

    def put(self, row: State, **changes: Any) -> None:
        """Change a row behind the service's back."""
        self.rows[type(row)][row.row_key] = msgspec.structs.replace(row, **changes)

    def copy(self) -> "Seen":
        rows = {state: dict(found) for state, found in self.rows.items()}
        return Seen(self.service, dict(self.lanes), list(self.unsaid), list(self.parked), rows, list(self.decisions))

    def frozen(self) -> Snapshot:
        def documents(state: type[State]) -> Iterable[bytes]:
            return map(msgspec.json.encode, self.rows[state].values())

        return Snapshot(self.service, self.lanes, self.unsaid, self.parked, documents, self.decisions)


@dataclass
class Look:
    """Everything that an audit looks at. Tests change it, then ask."""

    seen: dict[str, Seen]
    charges: dict[str, list[Charge]]
    parcels: dict[str, list[Parcel]]
    log: dict[Where, list[Record]]
    ends: dict[Where, int]
    later: Mapping[str, Clocks]
    now: datetime = field(default=NOW + timedelta(seconds=1))
    partitions: int = PARTITIONS
    schema_of: Callable[[int], str | None] = lambda schema_id: SCHEMAS[schema_id] if schema_id < len(SCHEMAS) else None
    starts: dict[Where, int] = field(default_factory=dict)
    world: World | None = None
    """What is at hand of the provider and the carrier, where that is not `charges` and `parcels`."""

    def copy(self) -> "Look":
        """The same once more, to be changed. Rows and records never are: others are put in their place."""
        return replace(
            self,
            seen={name: seen.copy() for name, seen in self.seen.items()},
            charges={order_id: list(charges) for order_id, charges in self.charges.items()},
            parcels={order_id: list(parcels) for order_id, parcels in self.parcels.items()},
            log={where: list(records) for where, records in self.log.items()},
            ends=dict(self.ends),
        )

    def evidence(self) -> Evidence:
        """All of it, as the audit is given it."""
        return Evidence(
            snapshots={name: seen.frozen() for name, seen in self.seen.items()},
            world=self.world or World(self.charges, self.parcels),
            records=self.between({}, {where: len(records) for where, records in self.log.items()}),
            ends=self.ends,
            later=lambda: self.later,
            decoder=Decoder(LANGUAGE, self.schema_of),
            partition_of=self.home,
            now=self.now,
            starts=self.starts,
        )

    def between(self, starts: Mapping[Where, int], ends: Mapping[Where, int]) -> list[Record]:
        """The records from some offsets on, below others, as the audit reads them."""
        topics = topics_of([seen.service for seen in self.seen.values()])
        return [
            record
            for topic in topics
            for (of, partition), records in sorted(self.log.items())
            if of == topic
            for record in records[starts.get((of, partition), 0) : ends.get((of, partition), 0)]
        ]

    def verdicts(self) -> dict[str, Verdict]:
        """What the audit says, by name."""
        return {verdict.name: verdict for verdict in examine(self.evidence())}

    def broken(self) -> dict[str, tuple[str, ...]]:
        """The names of the invariants that are broken, and in which words."""
        return {name: verdict.violations for name, verdict in self.verdicts().items() if not verdict.clean}

    def home(self, key: bytes) -> int:
        """The partition that the key belongs in."""
        return partition_of(key, self.partitions)

    def records(self, topic: str, key: str) -> list[Record]:
        """All records of a topic about one key."""
        where = (topic, self.home(key.encode()))
        return [record for record in self.log[where] if record.key == key.encode()]

    def wipe(self, service: str, *partitions: int) -> None:
        """The service's database was made anew; with `partitions`, it only does not remember these lanes any more."""
        seen = self.seen[service]
        gone = partitions or tuple(seen.lanes)
        kept = {partition: clock for partition, clock in self.later[service].items() if partition not in gone}
        self.later = {**self.later, service: kept}
        seen.lanes = {partition: lane for partition, lane in seen.lanes.items() if partition not in gone}
        if not partitions:
            seen.rows = {state: {} for state in seen.rows}
            seen.unsaid, seen.parked = [], []

    def replace(self, record: Record, *instead: Record) -> None:
        """Put other records in the place of one."""
        records = self.log[record.topic, record.partition]
        at = records.index(record)
        records[at : at + 1] = instead


class Shop:
    """All services, the log, the provider and the carrier."""

    def __init__(self) -> None:
        self.log: dict[Where, list[Record]] = {}
        self.provider, self.carrier = Party(provider.SCRIPT), Party(carrier.SCRIPT)
        worlds = {"billing": self.provider, "shipping": self.carrier}
        self.instances = {name: Instance(run.find(name), worlds.get(name), self.log) for name in SERVICES}
        self._placed = 0

    @staticmethod
    def home(key: str) -> int:
        """The partition that the key belongs in."""
        return partition_of(key.encode(), PARTITIONS)

    # -- asking ------------------------------------------------------------------------------------------------------

    def ask(self, topic: str, name: str, key: str, **fields: Any) -> None:
        """Append a request."""
        self.append(topic, key, wire(topic, name, {"tenant": "shop", **fields}))

    def append(self, topic: str, key: str, value: bytes) -> None:
        where = (topic, partition_of(key.encode(), PARTITIONS))
        records = self.log.setdefault(where, [])
        at = int(NOW.timestamp() * 1000)
        records.append(Record(topic, where[1], len(records), at, key.encode(), value, ()))

    def stock(self, sku: str, quantity: int, price: int = 1000) -> None:
        """Receive goods and set their price."""
        money = {"amount_minor": price, "currency": "EUR"}
        self.ask("inventory.requests", "ReceiveStock", f"shop/{sku}", sku=sku, quantity=quantity, request_id=f"r-{sku}")
        self.ask("orders.requests", "SetPrice", f"shop/{sku}", sku=sku, price=money, request_id=f"p-{sku}")

    def place(
        self, sku: str, quantity: int = 1, method: str = "card-ok", country: str = "DE", lines: Sequence[Any] = ()
    ) -> str:
        """Ask for an order, of `lines` if there are any; its id."""
        self._placed += 1
        order_id = str(uuid5(NAMESPACE_URL, str(self._placed)))
        address = {"recipient": "A", "street": "B 1", "postal_code": "12345", "city": "C", "country": country}
        self.ask(
            "orders.requests", "PlaceOrder", order_id, order_id=order_id, customer="c-1", currency="EUR",
            lines=list(lines) or [{"sku": sku, "quantity": quantity}], payment_method=method, ship_to=address,
        )  # fmt: skip
        return order_id

    def cancel(self, order_id: str) -> None:
        self.ask("orders.requests", "CancelOrder", order_id, order_id=order_id, asked_by="c-1")

    # -- going on ----------------------------------------------------------------------------------------------------

    async def settle(self, *names: str) -> None:
        """Go on until nothing happens any more; with `names`, only these services work."""
        instances = [self.instances[name] for name in names or SERVICES]
        moved = True
        while moved:
            moved = False
            for instance in instances:
                for partition in range(PARTITIONS):
                    heard = await instance.step(partition)
                    said = instance.say(partition)
                    moved = moved or heard or said

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self) -> Look:
        """Look at everything at this moment."""
        return self.look_at_log(self.look_at_databases(), *self.look_at_world())

    def look_at_databases(self, names: Iterable[str] = SERVICES) -> dict[str, Seen]:
        return {name: self.instances[name].snapshot() for name in names}

    def look_at_world(self) -> tuple[dict[str, list[Charge]], dict[str, list[Parcel]]]:
        charges = {
            each.order_id: [
                Charge(
                    key, each.order_id, each.status.value, each.amount_minor, each.currency,
                    self.provider.happened.get((key, "Captured"), 0),
                )
            ]
            for key, each in self.provider.records.items()
        }  # fmt: skip
        parcels = {
            each.order_id: [
                Parcel(
                    key, each.order_id, each.status.value, each.items, self.carrier.happened.get((key, "Booked"), 0)
                )
            ]
            for key, each in self.carrier.records.items()
        }
        return charges, parcels

    def look_at_log(
        self, seen: dict[str, Seen], charges: dict[str, list[Charge]], parcels: dict[str, list[Parcel]]
    ) -> Look:
        log = {where: list(records) for where, records in self.log.items()}
        ends = {where: len(records) for where, records in log.items()}
        later = {name: instance.clocks() for name, instance in self.instances.items()}
        return Look(seen, charges, parcels, log, ends, later)


def said_by(look: Look, speaker: str, key: str, name: str, **fields: Any) -> Record:
    """Plant a well-formed fact at the end of its lane, as if the service had said it next; its rows do not know it."""
    partition = partition_of(key.encode(), PARTITIONS)
    records = look.log.setdefault((speaker, partition), [])
    known = [envelope.read(record.headers) for record in records]
    last = max(known, key=lambda said: said.sequence, default=None)
    requests = len(look.log.get(("orders.requests", partition), []))
    cause = Envelope(f"{speaker}.due/{partition}/{key}", speaker, partition, 0, {}, "", key, None)
    clock = dict(last.heard) if last is not None else {"orders.requests": requests}
    headers = envelope.write(speaker, partition, last.sequence + 1 if last else 1, name, clock, cause)
    record = Record(
        speaker, partition, len(records), int(NOW.timestamp() * 1000), key.encode(),
        wire(speaker, name, {"tenant": "shop", **fields}), headers,
    )  # fmt: skip
    records.append(record)
    return record


def headed(record: Record, **headers: str) -> Record:
    """The record with other values in some headers."""
    return structs.replace(
        record, headers=[(name, headers[name].encode() if name in headers else value) for name, value in record.headers]
    )
