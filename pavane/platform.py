"""The whole platform on a stack: databases migrated, topics and schemas there, services and gateway running.

    async with Stack(Path("data")) as stack, Platform(stack, instances={"billing": 2}) as platform:
        token = platform.issuer.token("shop", "customer-1")
        platform.children["billing"][0].kill()
        await platform.start("billing")

Nothing is restarted silently: a process that ends by itself is told once, by `next_death`; or, within `supervise`, is
told of and started again.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence, Set
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from infra import topics
from infra.addresses import Addresses
from infra.errors import NotReady
from infra.server import HOST, first_error, free_ports
from infra.stack import Stack
from pavane import prepare, settled
from pavane.audit.databases import lane_count
from pavane.given import DESK_FILE, JWKS, LOCAL_GATEWAY, given
from pavane.instance import DESK, GATEWAY, MODULES, Instance
from pavane.issuer import Issuer
from pavane.supervisor import Bounds, Say, Supervisor
from streams.kit.run import services

READY_SECONDS = 60.0
HEARD_SECONDS = 60.0
BETWEEN_QUESTIONS_SECONDS = 0.05
BETWEEN_DEATH_WATCHES_SECONDS = 0.2


class Step(NamedTuple):
    """One thing that is done, for the table shown to the user."""

    name: str
    detail: str
    seconds: float


OnStep = Callable[[Step], None]


class Platform:
    """Everything that runs on a started stack, from the block's beginning to its end.

    `instances`: how many processes of a service, or of the gateway (default 1). `environment`: settings for all of
    them, such as `PAVANE_SESSION_TIMEOUT_MS`. Raises an `InfraError` or a `PavaneError` when something does not come
    up, and then leaves nothing of its own running.
    """

    def __init__(
        self,
        stack: Stack,
        instances: Mapping[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
        on_step: OnStep = lambda step: None,
    ) -> None:
        self.stack = stack
        #: Every process ever started, by service (and "gateway"), in the order of their starts.
        self.children: dict[str, list[Instance]] = {}
        self._instances = instances or {}
        self._environment = environment or {}
        self._on_step = on_step
        self._jwks_file = stack.data.path / "jwks.json"
        self._desk_port = 0
        self._issuer: Issuer | None = None
        self._told: set[int] = set()
        #: The setting under which a gateway comes back where it was, by its number.
        self._gateway_ports: dict[int, dict[str, str]] = {}
        self._keep: Callable[[Instance], object] | None = None

    @property
    def issuer(self) -> Issuer:
        """Signs the tokens that the gateway takes."""
        assert self._issuer is not None, "the platform is not started"
        return self._issuer

    @property
    def gateway_url(self) -> str:
        """Where the gateway that was started last takes requests, http://host:port."""
        return self.children[GATEWAY][-1].url

    async def start(self, name: str) -> Instance:
        """One more process of a service, or another gateway; ready when this returns. Its lanes may come later."""
        instance = self._launch(name)
        await self._until_ready([instance])
        if self._keep is not None:
            self._keep(instance)
        return instance

    async def next_death(self) -> Instance:
        """Return when a process has ended that nobody asked to; each is told once."""
        while True:
            for instance in self._all():
                if not instance.is_running and not instance.asked_to_end and instance.pid not in self._told:
                    self._told.add(instance.pid)
                    return instance
            await asyncio.sleep(BETWEEN_DEATH_WATCHES_SECONDS)

    async def supervise(self, say: Say, bounds: Bounds = Bounds()) -> None:
        """Keep everything running that nobody asks to end, also what is started later. Never returns: it is called off.

        `say` is told of every end, why, and of every new start, which has the number and the log file of the process
        before it. The gateway comes back at the address where it was.
        """
        supervisor = Supervisor(say, bounds)
        async with asyncio.TaskGroup() as group:
            self._keep = lambda each: group.create_task(supervisor.keep(each, self._start_again, came_up=True))
            try:
                for instance in self._all():
                    if not instance.asked_to_end and instance.pid not in self._told:
                        self._keep(instance)
                await asyncio.Event().wait()
            finally:
                self._keep = None

    async def heard(self, *names: str, timeout_seconds: float = HEARD_SECONDS) -> None:
        """Return once all who hear these topics have heard what is in them now. `TimeoutError` says who has not."""
        await settled.wait_until_heard(self.stack.addresses, names, timeout_seconds)

    async def settled(self, timeout_seconds: float = HEARD_SECONDS) -> None:
        """Return once everything that was said was heard by all. `TimeoutError` says by whom it was not."""
        await settled.wait_until_settled(self.stack.addresses, timeout_seconds)

    async def __aenter__(self) -> Self:
        try:
            await self._come_up()
        except BaseException as error:
            await self._stop()
            raise first_error(error) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    # -- coming up, and down -----------------------------------------------------------------------------------------

    async def _come_up(self) -> None:
        self._issuer = Issuer(self._jwks_file)
        addresses = self.stack.addresses
        # An embedded registry keeps its schemas in this folder, so a note in the folder is as true as the registry.
        note = self.stack.data.path / "schemas.registered" if self.stack.apicurio is not None else None
        async with asyncio.TaskGroup() as group:
            group.create_task(self._step("databases", lambda: prepare.migrate_databases(addresses.postgres)))
            group.create_task(self._step("topics", lambda: prepare.apply_topics(addresses.kafka_bootstrap)))
            group.create_task(self._step("schemas", lambda: prepare.push_schemas(addresses.registry_url, note)))
        # Chosen here, since gateways must know it; and the desk comes back where it was.
        [self._desk_port] = free_ports(1)
        (self.stack.data.path / DESK_FILE).write_text(f"http://{HOST}:{self._desk_port}\n")
        names = [*services(), DESK, GATEWAY]
        lanes = await asyncio.to_thread(_lanes, addresses)
        started = time.monotonic()
        for name in names:
            for _ in range(self._instances.get(name, 1)):
                self._launch(name)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._tell_when_ready(name, set() if name in MODULES else lanes, started))

    async def _step(self, name: str, work: Callable[[], str]) -> None:
        started = time.monotonic()
        detail = await asyncio.to_thread(work)
        self._on_step(Step(name, detail, time.monotonic() - started))

    def _launch(self, name: str) -> Instance:
        number = max((each.number for each in self.children.get(name, ())), default=0) + 1
        return self._launch_as(name, number, {})

    def _start_again(self, ended: Instance) -> Instance:
        self._told.add(ended.pid)
        same = {}
        if ended.name == GATEWAY:
            # One that died before anybody looked at it has not said its address: it has the one of those before it.
            same = self._gateway_ports.get(ended.number, {})
            if port := urlsplit(ended.url).port:
                same = self._gateway_ports[ended.number] = {"PAVANE_GATEWAY_PORT": str(port)}
        return self._launch_as(ended.name, ended.number, same)

    def _launch_as(self, name: str, number: int, settings: Mapping[str, str]) -> Instance:
        log_file = self.stack.data.path / "logs" / f"{name}-{number}.log"
        instance = Instance(name, number, {**self._settings(name), **settings}, log_file)
        self.children.setdefault(name, []).append(instance)
        return instance

    def _settings(self, name: str) -> dict[str, str]:
        """What a process is started with: free ports, as several share the machine."""
        return {
            **given(name, {**os.environ, **self.stack.addresses.environment()}),
            JWKS: self.issuer.jwks_url,
            "PAVANE_DESK": (self.stack.data.path / DESK_FILE).read_text().strip(),
            "PAVANE_DESK_PORT": str(self._desk_port),
            **LOCAL_GATEWAY,
            **self._environment,
            "PAVANE_MANAGEMENT_PORT": "0",
        }

    async def _tell_when_ready(self, name: str, lanes: Set[int], started: float) -> None:
        await self._until_ready(self.children[name], lanes)
        pids = ", ".join(str(each.pid) for each in self.children[name])
        detail = self.gateway_url if name == GATEWAY else f"pid {pids}"
        self._on_step(Step(name, detail, time.monotonic() - started))

    async def _until_ready(self, instances: Sequence[Instance], lanes: Set[int] = frozenset()) -> None:
        """Wait until all these are ready, and these lanes owned among them. Raises as soon as one has ended."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            found = [await each.health() for each in instances]
            ready = [health for health in found if health is not None and health["ready"]]
            owned = {lane for health in ready for lane in health.get("lanes", ())}
            if len(ready) == len(instances) and owned >= lanes:
                return
            if time.monotonic() > deadline:
                why = f"{len(ready)} of {len(instances)} ready, lanes {sorted(lanes - owned)} not owned"
                last = instances[-1]
                raise NotReady(last.name, READY_SECONDS, why, last.log_file, last.child.log_tail())
            await asyncio.sleep(BETWEEN_QUESTIONS_SECONDS)

    async def _stop(self) -> None:
        # The gateway first: what it took is then on the log.
        await asyncio.gather(*(each.stop() for each in self.children.get(GATEWAY, ())))
        await asyncio.gather(*(each.stop() for each in self._all()))
        if self._issuer is not None:
            self._issuer.close()

    def _all(self) -> list[Instance]:
        return [each for of_service in self.children.values() for each in of_service]


def _lanes(addresses: Addresses) -> set[int]:
    """All lanes: as many as the databases remember, or else as the topics have partitions."""
    return set(range(lane_count(addresses.environment()) or topics.wanted(addresses.kafka_bootstrap)[0].partitions))
