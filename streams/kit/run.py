"""Runs one service as a process: everything connected, until SIGTERM or SIGINT; then drained within a bound.

python -m streams.kit.run billing
"""

import asyncio
import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import streams
from streams.kit import logs
from streams.kit.announcing import announce, announcement
from streams.kit.codec import Codec
from streams.kit.collecting import collect_seldom
from streams.kit.effects import Guarded, guarded
from streams.kit.ending import Ending
from streams.kit.errors import PavaneError, RegistryAway, WrongSetting
from streams.kit.kafka import KafkaLog, hear_late_errors, partition_of
from streams.kit.keyring import Keyring, KeySettings
from streams.kit.language import Language
from streams.kit.logs import logger
from streams.kit.management import Management
from streams.kit.postgres import PostgresStore
from streams.kit.protecting import Protector
from streams.kit.registry import ConfluentRegistry
from streams.kit.service import Service
from streams.kit.settings import WorkerSettings
from streams.kit.store import DatabaseAway
from streams.kit.worker import Worker

DATABASE_PAUSE_SECONDS = 1.0
TRANSACTION_SHARE = 0.8
"""A transaction must end well before the group gives the partition to somebody else."""


def services() -> list[str]:
    """The names of all services: the packages of `streams` that hold one."""
    packages = (module.name for module in pkgutil.iter_modules(streams.__path__) if module.ispkg)
    return [name for name in packages if name != "kit"]


def find(name: str) -> Service:
    """The service in the folder `streams/<name>`. Raises `WrongSetting` for a name without one."""
    if name not in services():
        raise WrongSetting(f"there is no service {name!r}; there are {', '.join(services())}")
    service = importlib.import_module(f"streams.{name}").service
    assert isinstance(service, Service)
    return service


Now = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


async def run(service: Service, settings: WorkerSettings, stop: asyncio.Event, now: Now = _now) -> None:
    """Run the service until `stop` is set. `now`: the clock by which facts are dated and deadlines pass."""
    async with AsyncExitStack() as stack:
        language = Language.load()
        codec = Codec(language, ConfluentRegistry(settings.registry))
        await _learn_language(codec, service, stop)
        world = await _world(service, settings, stack)
        protector = await _protector(service, language, stack)
        log = KafkaLog(
            settings.kafka, service.name, service.topics, settings.session_timeout_ms, unhurried=not service.says
        )
        transaction_seconds = TRANSACTION_SHARE * settings.session_timeout_ms / 1000
        store = PostgresStore(settings.database, transaction_seconds, service.name)
        worker = Worker(
            service, log, store, codec, world, settings, lambda key: partition_of(key, log.partition_count), now,
            protector,
        )  # fmt: skip
        log.let_go = worker.let_go
        management = Management(
            settings.management_host, settings.management_port, lambda: readiness(worker, log, world)
        )
        stack.callback(management.close)
        version = announcement(service, language)
        stack.callback(asyncio.create_task(announce(settings.database, version), name="announcing").cancel)
        where = f"http://{management.address}"
        worker.away = "it is starting, and has not joined its group yet"
        logger().info("starting", version=version.version, management=where)
        lanes = await _lane_count(store, worker, stop)
        if not stop.is_set():
            await log.open(lanes)
            worker.away = None
            stack.push_async_callback(log.close)
            logger().info("started", topics=service.topics, version=version.version, management=where)
            collect_seldom()
            await _until(stop, worker)
    logger().info("stopped")


async def _learn_language(codec: Codec, service: Service, stop: asyncio.Event) -> None:
    """Ask the registry for the ids of what will be said and heard; while it is away, wait as for any other server."""
    while not stop.is_set():
        try:
            await codec.prepare(service.name, service.says.values())
            await codec.expect(service.topics)
        except RegistryAway as error:
            logger().warning("waits_for_registry", error=str(error))
        else:
            break


async def _lane_count(store: PostgresStore, worker: Worker, stop: asyncio.Event) -> int | None:
    """What the service's database remembers; while it is away, wait as for any other server, and say so."""
    while not stop.is_set():
        try:
            return await store.lane_count()
        except DatabaseAway as error:
            worker.away = str(error)
            logger().warning("database_away", error=str(error), again_in_seconds=DATABASE_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), DATABASE_PAUSE_SECONDS)
    return None


async def _world(service: Service, settings: WorkerSettings, stack: AsyncExitStack) -> Guarded | None:
    if service.world is None:
        return None
    return await stack.enter_async_context(guarded(service, settings.redis, settings.effects_keep_days))


async def _protector(service: Service, language: Language, stack: AsyncExitStack) -> Protector | None:
    """For a service that may hear personal data in plain text; no other gets at keys."""
    if not any(view.person for view in service.views):
        return None
    keys = await stack.enter_async_context(Keyring.at(KeySettings.read()))
    return Protector(service.views, language, keys)


def readiness(worker: Worker, log: KafkaLog, world: Guarded | None) -> dict[str, Any]:
    """Is the worker ready, and if not, why. Without a lane it is ready: another instance may own them all.

    A dependency whose breaker is open makes it `degraded`, not unready: what does not need it goes on.
    `idle_with_lag_seconds`: for so long it has got nowhere though records wait, or the log has not answered though it
    answers others; under some seconds when all is well.
    """
    dependencies = {each.name: each.state() for each in (world.dependencies if world is not None else ())}
    trouble = [outbox.trouble for outbox in tuple(worker.outboxes.values())]
    away = [each for each in (worker.away, log.away, log.trouble, *trouble) if each]
    halted = {str(partition): str(refusal) for partition, refusal in dict(worker.halted).items()}
    return {
        "ready": not halted and not away,
        "service": worker.service.name,
        "lanes": sorted(worker.lanes),
        "halted": halted,
        "away": away,
        "idle_with_lag_seconds": round(max(worker.progress.idle_with_lag_seconds, log.unanswered_seconds), 1),
        "degraded": [name for name, state in dependencies.items() if state.is_degraded],
        "dependencies": {name: state._asdict() for name, state in dependencies.items()},
    }


async def _until(stop: asyncio.Event, worker: Worker) -> None:
    working = asyncio.create_task(worker.run(), name="worker")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    worker.stop()
    stopping.cancel()
    await working


async def _main(name: str, ending: Ending, now: Now) -> None:
    service = find(name)
    settings = WorkerSettings.of(name)
    logs.set_up(name, settings.log_level)
    hear_late_errors(asyncio.get_running_loop())
    stop = asyncio.Event()
    ending.sets(stop)
    await run(service, settings, stop, now)


def main(now: Now = _now) -> None:
    """The entry of one service's process. A known error is one line of explanation and exit code 1, no stack."""
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: python -m streams.kit.run SERVICE   (one of {', '.join(services())})")
    runner: Any = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        runner = uvloop.run
    ending = Ending()
    try:
        runner(_main(sys.argv[1], ending, now))
    except PavaneError as error:
        raise SystemExit(f"{sys.argv[1]}: {error}") from None


if __name__ == "__main__":
    main()
