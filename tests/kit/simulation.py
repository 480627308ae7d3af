"""One run of the simulation: instances come, go, freeze and die while a dance goes on; then everything is checked.

For every service: each committed fact is heard exactly once, in its speaker's order, and after everything that its
speaker had heard or said before saying it. For the log: sequences without a gap, in order of first appearance. For the
databases: the rows are the fold of the service's own topic.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, cast

import fastavro
import msgspec

from streams.kit import envelope
from streams.kit.codec import Codec
from streams.kit.log import ToSay
from streams.kit.service import Service
from streams.kit.settings import WorkerSettings
from streams.kit.worker import Worker
from tests.kit.dance import EVENTS, Asked, Rung, dance, language
from tests.kit.simulated import (
    PARTITIONS,
    Cluster,
    Database,
    Faults,
    Host,
    SimulatedLog,
    SimulatedStore,
    SimulatedWorld,
    VirtualLoop,
    now,
)

SESSION_SECONDS = 3.0
QUIET_SECONDS = 30.0
SETTINGS = WorkerSettings(
    kafka="simulated", registry="http://simulated", database="postgresql://simulated", batch_records=6, queue_records=4,
    outbox_keep_seconds=0.0, due_poll_seconds=0.2, unacknowledged_facts=40,
)  # fmt: skip


class SchemaIds:
    """A registry that knows the schemas of the dance."""

    def __init__(self) -> None:
        self._schemas = [schema.text for schema in language()]

    async def id_of(self, subject: str, schema: str) -> int:
        return self._schemas.index(schema)

    async def schema_of(self, schema_id: int) -> str | None:
        return self._schemas[schema_id]


@dataclass(eq=False)
class Instance:
    """One process of a service: alive until it is killed; frozen now and then."""

    service: str
    host: Host
    log: SimulatedLog
    worker: Worker
    running: asyncio.Task[None]
    member: bool = True

    def kill(self) -> None:
        self.running.cancel()
        for outbox in self.worker.outboxes.values():
            outbox.drop()


@dataclass
class Simulation:
    """What one seed makes. `faults` counts what went wrong on the way."""

    seed: int
    requests: int = 8
    rng: random.Random = field(init=False)
    faults: Faults = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.faults = Faults(append_lost=0.1, commit_unknown=0.04, commit_failed=0.04, world_away=0.1, unanswered=0.3)

    def run(self) -> "Outcome":
        """Run it, in virtual time. Raises `AssertionError` when a promise was broken."""
        random.seed(self.seed)
        loop = VirtualLoop()
        try:
            return loop.run_until_complete(self._run())
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()

    async def _run(self) -> "Outcome":
        self.cluster = Cluster()
        self.services = dance()
        causes: dict[str, frozenset[str]] = {}
        self.databases = {name: Database(causes) for name in self.services}
        self.causes = causes
        self.bells: dict[str, int] = {}
        self.instances: list[Instance] = []
        self.group = asyncio.Lock()
        self.given = 0
        for name in self.services:
            for _ in range(2):
                self._start(name)
            await self._rebalance(name)
        await asyncio.gather(self._ask(), self._trouble())
        await self._settle()
        return Outcome(self)

    # -- instances and their group -----------------------------------------------------------------------------------

    def _start(self, name: str) -> Instance:
        service = self.services[name]
        host = Host(random.Random(self.rng.random()), self.faults)
        log = SimulatedLog(self.cluster, host, service.topics)
        world = SimulatedWorld(self.bells, host, Rung)
        store = SimulatedStore(self.databases[name], host)
        codec = Codec(language(), SchemaIds())
        worker = Worker(service, log, cast("Any", store), codec, world, SETTINGS, lambda key: key[-1] % PARTITIONS, now)

        async def run() -> None:
            await codec.prepare(name, service.says.values())
            await worker.run()

        instance = Instance(name, host, log, worker, asyncio.create_task(run(), name=f"{name}-worker"))
        self.instances.append(instance)
        return instance

    def _members(self, name: str) -> list[Instance]:
        return [i for i in self.instances if i.service == name and i.member]

    async def _rebalance(self, name: str) -> None:
        """Take all lanes back from the members, wait until they have let go, and give each lane to one of them."""
        async with self.group:
            members = self._members(name)
            for member in members:
                member.log.given = {}
            await asyncio.gather(*(m.worker.let_go() for m in members if m.host.thawed.is_set()))
            self.given += 1
            members = [m for m in self._members(name) if not m.running.done()]
            for partition in range(PARTITIONS if members else 0):
                self.rng.choice(members).log.given[partition] = self.given

    # -- what happens ------------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        codec = Codec(language(), SchemaIds())
        await codec.prepare("a.requests", [Asked])
        for number in range(self.requests):
            await asyncio.sleep(self.rng.expovariate(2.0))
            asked = Asked(about=f"k{number}-{self.rng.randrange(PARTITIONS)}", seed=self.rng.randrange(10**9), depth=0)
            key = asked.key.encode()
            self.cluster.append(key[-1] % PARTITIONS, ToSay("a.requests", 0, key, codec.encode(asked), ()))

    async def _trouble(self) -> None:
        for _ in range(10):
            await asyncio.sleep(self.rng.expovariate(1.0))
            instance = self.rng.choice([i for i in self.instances if i.member])
            trouble = self.rng.choice([self._kill, self._freeze, self._join_again])
            await trouble(instance)

    async def _kill(self, instance: Instance) -> None:
        self.faults.note("killed")
        instance.kill()
        instance.member = False
        await asyncio.sleep(self.rng.expovariate(1.0))
        self._start(instance.service)
        await self._rebalance(instance.service)

    async def _freeze(self, instance: Instance) -> None:
        """Frozen beyond its session: others take over; it wakes up and believes for a while that nothing happened."""
        self.faults.note("frozen")
        instance.host.thawed.clear()
        await asyncio.sleep(SESSION_SECONDS)
        instance.member = False
        await self._rebalance(instance.service)
        await asyncio.sleep(self.rng.expovariate(0.5))
        instance.host.thawed.set()
        await asyncio.sleep(self.rng.expovariate(1.0))
        instance.member = True
        await self._rebalance(instance.service)

    async def _join_again(self, instance: Instance) -> None:
        await self._rebalance(instance.service)

    async def _settle(self) -> None:
        """End all faults and wait until nothing happens any more."""
        self.faults.off = True
        quiet_since, last = asyncio.get_running_loop().time(), self._progress()
        while asyncio.get_running_loop().time() - quiet_since < QUIET_SECONDS:
            await asyncio.sleep(1.0)
            if (progress := self._progress()) != last:
                quiet_since, last = asyncio.get_running_loop().time(), progress
        for instance in self.instances:
            if instance.member and instance.running.done():
                instance.running.result()

    def _progress(self) -> tuple[int, int]:
        heard = sum(len(lane.applied) for database in self.databases.values() for lane in database.lanes)
        return heard, sum(map(len, self.cluster.partitions.values()))


class Outcome:
    """What is true after a run. Making it checks every promise."""

    def __init__(self, simulation: Simulation) -> None:
        self.seed = simulation.seed
        self.happened = simulation.faults.happened
        self._simulation = simulation
        for partition in range(PARTITIONS):
            logs = {topic: self._sequences(topic, partition) for topic in simulation.services}
            requests = len(simulation.cluster.records("a.requests", partition))
            for name, service in simulation.services.items():
                self._check_heard(name, service, partition, logs, requests)
        for name, service in simulation.services.items():
            self._check_rows(name, service)
            self._check_consequences(name, service)
        heard = [d.envelope.id for db in simulation.databases.values() for lane in db.lanes for d in lane.applied]
        self.heard = len(heard)
        self.appended = sum(map(len, simulation.cluster.partitions.values()))
        self.story = hash((tuple(heard), self.appended))

    def _fail(self, what: str) -> None:
        raise AssertionError(f"seed {self.seed}: {what}")

    def _sequences(self, topic: str, partition: int) -> int:
        """The log holds each sequence once the first time, in order. How many facts there are."""
        last = 0
        for record in self._simulation.cluster.records(topic, partition):
            sequence = envelope.read(record.headers).sequence
            if sequence > last + 1:
                self._fail(f"{topic}/{partition}: sequence {sequence} appears after {last}")
            last = max(last, sequence)
        said = self._simulation.databases[topic].lanes[partition].clock.get(topic, 0)
        if said != last:
            self._fail(f"{topic}/{partition}: {said} facts were committed, {last} are in the log")
        return last

    def _check_heard(self, name: str, service: Service, partition: int, logs: dict[str, int], requests: int) -> None:
        lane = self._simulation.databases[name].lanes[partition]
        expected = {f"{t}/{partition}/{n}" for t in service.topics if t in logs for n in range(1, logs[t] + 1)}
        if "a.requests" in service.topics:
            expected |= {f"a.requests/{partition}/{offset}" for offset in range(requests)}
        ids = [delivery.envelope.id for delivery in lane.applied]
        if len(ids) != len(set(ids)):
            self._fail(f"{name} heard twice: {sorted(each for each in set(ids) if ids.count(each) > 1)[:3]}")
        if set(ids) != expected:
            self._fail(f"{name}/{partition} missed {sorted(expected - set(ids))[:3]}")
        if lane.parked:
            self._fail(f"{name}/{partition}: {len(lane.parked)} records are parked still")
        heard_of: dict[str, list[str]] = {}
        for delivery in lane.applied:
            heard_of.setdefault((delivery.record.key or b"").decode(), []).append(delivery.envelope.id)
        for key, order in heard_of.items():
            if lane.decided[key] != order:
                self._fail(f"{name} decided about {key} in the order {lane.decided[key]}, but heard {order}")
        heard: set[str] = set()
        last: dict[str, int] = {}
        for delivery in lane.applied:
            said = delivery.envelope
            if said.sequence <= last.get(said.speaker, 0):
                self._fail(f"{name} heard {said.id} after a later one")
            last[said.speaker] = said.sequence
            early = {cause for cause in self._simulation.causes.get(said.id, ()) if cause in expected} - heard
            if early:
                self._fail(f"{name} heard {said.id} before its causes {sorted(early)[:3]}")
            heard.add(said.id)

    def _check_consequences(self, name: str, service: Service) -> None:
        """Every record had exactly the consequences that its decision gives: none was heard and then forgotten."""
        answered: Counter[str] = Counter()
        for partition in range(PARTITIONS):
            facts = {envelope.read(r.headers).id: r for r in self._simulation.cluster.records(name, partition)}
            answered.update(envelope.read(record.headers).cause for record in facts.values())
        [state] = service.states
        views = {(view.topic, view.__name__): view for view in service.views}
        for lane in self._simulation.databases[name].lanes:
            for delivery in lane.applied:
                topic = delivery.record.topic
                event = _decoded(EVENTS[topic], delivery.record.value)
                heard = msgspec.convert(msgspec.to_builtins(event), views[topic, type(event).__name__])
                expected = len(service.decide(state.new(event.key), heard))
                if answered[delivery.envelope.id] != expected:
                    found = answered[delivery.envelope.id]
                    self._fail(f"{name} said {found} facts because of {delivery.envelope.id}, not {expected}")

    def _check_rows(self, name: str, service: Service) -> None:
        """The rows are the fold of the service's own topic."""
        [state], [fact] = service.states, service.says.values()
        rebuilt: dict[str, Any] = {}
        for partition in range(PARTITIONS):
            last = 0
            for record in self._simulation.cluster.records(name, partition):
                said = envelope.read(record.headers)
                if said.sequence <= last:
                    continue
                last = said.sequence
                assert record.key is not None
                key = record.key.decode()
                row = rebuilt.get(key) or state.new(key, partition)
                rebuilt[key] = service.evolve(row, _decoded(fact, record.value))
        live = {
            key: msgspec.json.decode(row, type=state) for (_, key), row in self._simulation.databases[name].rows.items()
        }
        if rebuilt != live:
            self._fail(f"{name}: the rows are not the fold of its own topic")


def _decoded(fact: Any, value: bytes | None) -> Any:
    assert value is not None
    [topic] = [topic for topic, event in EVENTS.items() if event is fact]
    schema = language().latest(topic, fact.__name__)
    fields = fastavro.schemaless_reader(BytesIO(value[5:]), fastavro.parse_schema(schema.raw), None)
    return msgspec.convert(fields, fact)
