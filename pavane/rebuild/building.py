"""Filling the fresh tables: a lane at a time in each of some processes, since one Python uses one core.

    python -m pavane.rebuild.building SERVICE '{"0": {"orders": 5123}, ...}'      the lanes and where to stop

It is told where everything is by the PAVANE_* variables. How far it is stands in the fresh `lanes`, for whoever looks.
"""

import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from infra.addresses import KAFKA, REGISTRY, database_variable
from infra.processes import Child
from pavane.audit.log import LogReader
from pavane.rebuild import beside
from pavane.rebuild.errors import CannotRebuild
from pavane.rebuild.folding import Folding
from pavane.rebuild.stretches import Ends, HeardFacts, OwnFacts, Stretch, stretches_of, topics_of
from streams.kit import logs, run
from streams.kit.codec import Codec
from streams.kit.errors import PavaneError
from streams.kit.kafka import partition_of
from streams.kit.language import Language
from streams.kit.registry import ConfluentRegistry
from streams.kit.service import Service

BETWEEN_LOOKS_SECONDS = 0.5
Tell = Callable[[int], None]
#: Most orders begin and end within so many: their rows are written once. What they take is kept in memory.
RECORDS_A_TRANSACTION = 30_000
#: So long a transaction is gathered at most: whoever looks sees it go on, and little is done again.
SECONDS_A_TRANSACTION = 2.0
#: Each looks at all records that are queued, too.
TRANSACTIONS_A_COLLECTION = 10
_ends = msgspec.json.Decoder(dict[int, dict[str, int]])


async def a_codec(service: Service, registry: str) -> Codec:
    """A codec that can read what the rows of the service follow from."""
    codec = Codec(Language.load(), ConfluentRegistry(registry))
    await codec.expect(topics_of(service))
    return codec


class Filling:
    """Folds one lane into the fresh tables, from where they are. Raises `CannotRebuild`, `EvidenceMissing`,
    `RefusedToGuess`."""

    def __init__(
        self,
        connection: beside.Connection,
        service: str,
        lane: beside.Lane,
        stretches: OwnFacts | HeardFacts,
        folding: Folding,
    ) -> None:
        self._connection = connection
        self._service = service
        self._lane = lane
        self.stretches = stretches
        self._folding = folding
        self._unwritten: Stretch | None = None
        self._written_at = time.monotonic()
        self._written = 0

    async def up_to(self, ends: Ends) -> None:
        """Everything below these offsets."""
        async for stretch in self.stretches.up_to(ends):
            await self.fold(stretch)
            if self._is_enough():
                await self.write()
        await self.write()

    async def fold(self, stretch: Stretch) -> None:
        """What the stretch makes of rows, in memory."""
        await self._folding.fold(stretch)
        before = self._unwritten.records if self._unwritten is not None else 0
        self._unwritten = stretch._replace(events=(), records=before + stretch.records)

    def _is_enough(self) -> bool:
        gathered = time.monotonic() - self._written_at
        records = self._unwritten.records if self._unwritten is not None else 0
        return records >= RECORDS_A_TRANSACTION or gathered >= SECONDS_A_TRANSACTION

    async def write(self) -> None:
        """Write what was folded, and that it is."""
        if self._unwritten is not None:
            self._lane = await beside.write(
                self._connection, self._service, self._lane, self._unwritten, self._folding.made
            )
            self._folding.begin()
            self._unwritten = None
            self._written += 1
            if self._written % TRANSACTIONS_A_COLLECTION == 0:
                gc.collect()
        self._written_at = time.monotonic()


async def build(
    service: Service,
    environment: Mapping[str, str],
    ends: Mapping[int, Ends],
    processes: int,
    tell: Tell,
) -> None:
    """Fill all lanes up to their ends, in so many processes. `tell`: how many records are folded by now."""
    order = sorted(ends, key=lambda partition: -sum(ends[partition].values()))
    shares = [share for number in range(processes) if (share := order[number::processes])]
    with tempfile.TemporaryDirectory(prefix="pavane-rebuild-") as folder:
        children = [
            _child(service.name, {p: ends[p] for p in share}, environment, Path(folder) / f"{number}.log")
            for number, share in enumerate(shares)
        ]
        try:
            await _watch(service, environment, children, tell)
        finally:
            await asyncio.gather(*(child.stop() for child in children))


def _child(service: str, ends: Mapping[int, Ends], environment: Mapping[str, str], log_file: Path) -> Child:
    words = [sys.executable, "-m", __name__, service, msgspec.json.encode(ends).decode()]
    return Child(f"rebuild-{service}", words, {**os.environ, **environment}, log_file)


async def _watch(
    service: Service, environment: Mapping[str, str], children: Sequence[Child], tell: Tell
) -> None:
    """Return when all have ended well. Raises `CannotRebuild` with what one said that did not."""
    async with beside.connected(service.name, environment[database_variable(service.name)]) as connection:
        while True:
            codes = [child.poll() for child in children]
            tell(sum(lane.facts for lane in (await beside.lanes(connection)).values()))
            for child, code in zip(children, codes, strict=True):
                if code not in (None, 0):
                    raise CannotRebuild("\n".join(child.log_tail(5)) or f"a process of the rebuild ended with {code}")
            if all(code == 0 for code in codes):
                return
            await asyncio.sleep(BETWEEN_LOOKS_SECONDS)


async def _main(name: str, ends: Mapping[int, Ends]) -> None:
    service = run.find(name)
    codec = await a_codec(service, os.environ[REGISTRY])
    # Events and rows are frozen values without cycles: the collector would look at all of them for nothing, again and
    # again. What little there is of cycles is collected after some transactions.
    gc.disable()
    async with beside.connected(name, os.environ[database_variable(name)]) as connection:
        begun = await beside.begun(connection)
        lanes = await beside.lanes(connection)
        parked = begun.parked if begun is not None else ()
        for partition in ends:
            with ExitStack() as stack:

                def new_log(stack: ExitStack = stack) -> LogReader:
                    return stack.enter_context(closing(LogReader(os.environ[KAFKA])))

                folding = Folding(service, partition, connection)
                await folding.prepare()
                stretches = stretches_of(
                    service, codec, new_log, lanes[partition], lambda key: partition_of(key, len(lanes)), parked
                )
                await Filling(connection, name, lanes[partition], stretches, folding).up_to(ends[partition])


def main() -> None:
    """A known error is its message and exit code 1, no stack."""
    logs.set_up("pavane-rebuild", "error")
    begun = time.process_time()
    try:
        asyncio.run(_main(sys.argv[1], _ends.decode(sys.argv[2])))
    except PavaneError as error:
        raise SystemExit(str(error)) from None
    print(f"{time.process_time() - begun:.1f} s of CPU")  # noqa: T201


if __name__ == "__main__":
    main()
