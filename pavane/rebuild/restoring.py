"""`pavane log restore`: what a log has lost of a service's facts is said again, as far as databases still hold it.

Every lane of the service knows the last fact that it said, and its topic shows which one is the last there. The outbox
keeps said facts for a while (`PAVANE_OUTBOX_KEEP_SECONDS`): those that are not in the log any more count as not said
again, and whoever owns the lane says them, in order. What is older is gone from the log for good: it is listed, and has
to be given up before the lane goes on. Rows hold what followed from it; only a rebuild cannot be made any more.

Who hears the topic looks again from its present end: facts known there are passed over, so that loses nothing.

A service notices the loss when the log gives it an offset again that it had given before, and so by facts that then
stand where others are missing before them: strays. They are said again with the rest, in order. In a topic that was
empty they are all there is, and are deleted; elsewhere they stay where they are.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import LiteralString, NamedTuple

import msgspec
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.types.json import Jsonb
from rich.text import Text

from pavane.lanes.reading import LogView
from pavane.lines import a_console
from pavane.operators import operations
from pavane.operators.agreeing import agreed
from pavane.operators.errors import NotAsked
from pavane.operators.reach import Connection, Reach
from pavane.operators.words import count
from streams.kit import envelope
from streams.kit.log import Extent, ToSay
from streams.kit.postgres import GIVEN_UP

DONE, NOT_AGREED = 0, 1
LOOK_BACK_RECORDS = 20_000
DELETE_SECONDS = 20.0
RESTORE = "log restore"
_LANES: LiteralString = """
SELECT partition, coalesce((clock ->> %s)::bigint, 0), acknowledged,
       (SELECT coalesce(max(split_part(item, '/', 3)::bigint), 0) FROM operations, jsonb_array_elements_text(items) item
         WHERE what = %s AND split_part(item, '/', 2) = l.partition::text)
  FROM lanes l ORDER BY partition
"""
_KEPT: LiteralString = "SELECT number, facts FROM outbox WHERE partition = %s ORDER BY number"
#: Nobody deletes it then before this transaction ends.
_HOLD: LiteralString = "SELECT FROM outbox WHERE partition = %s AND number = %s FOR UPDATE"
_SAY_AGAIN: LiteralString = (
    "UPDATE lanes SET acknowledged = least(acknowledged, %s), epoch = epoch + 1, halted = NULL WHERE partition = %s"
)
_LOOK_AGAIN: LiteralString = (
    "UPDATE lanes SET positions = positions || %s, epoch = epoch + 1, halted = NULL "
    "WHERE partition = %s AND ((positions ->> %s)::bigint > %s OR %s)"
)
_END_WORKERS: LiteralString = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
    "AND usename = current_user AND application_name = 'pavane-worker'"
)
_facts = msgspec.msgpack.Decoder(list[ToSay])


class Loss(NamedTuple):
    """What a lane lacks in the log: facts `last + 1` to `said`; from `first_kept` on, outbox rows after `row` do.

    `end`: where the topic ends now. `strays`: the facts beyond a gap that are in it all the same. `given_up`: up to
    which fact somebody has accepted that some are missing.
    """

    partition: int
    last: int
    said: int
    first_kept: int
    row: int
    end: int
    strays: Set[int] = frozenset()
    given_up: int = 0

    @property
    def begins_anew(self) -> bool:
        """The topic holds nothing but strays, and all of them are said again."""
        return self.last == 0 and min(self.strays, default=0) >= self.first_kept

    @property
    def gone(self) -> range:
        """The facts that nobody can say again."""
        return range(max(self.last, self.given_up) + 1, self.first_kept)

    @property
    def kept(self) -> int:
        """How many facts the outbox holds that the log lacks."""
        return self.said + 1 - self.first_kept

    def told(self, service: str) -> str:
        what = f"{service}/{self.partition}: the log ends with fact {self.last:,} of {self.said:,}"
        if self.strays:
            then = "they are deleted from it" if self.begins_anew else "'pavane audit' notes them there"
            what += f", and has {count(len(self.strays), 'fact')} from behind the gap ({then})"
        again = f"{count(self.kept, 'fact')} will be said again" if self.kept else "nothing is kept to be said again"
        if not self.gone:
            return f"{what}; {again}: nothing is lost."
        return f"{what}; {again}; facts {self.gone[0]:,} to {self.gone[-1]:,} are gone."


def question(losses: Sequence[Loss]) -> str:
    """What somebody has to agree to."""
    if not any(loss.gone for loss in losses):
        return "Say them again?"
    return "Say again what is kept, and give up the rest?" if any(loss.kept for loss in losses) else "Give them up?"


def done(service: str, losses: Sequence[Loss]) -> Iterator[str]:
    """What comes of it, and what to do next."""
    what = "The lanes' owners say them again." if any(loss.kept for loss in losses) else "The lanes go on without them."
    yield f"Done. {what} Run 'pavane audit': it names the orders concerned."
    if any(loss.gone for loss in losses):
        yield f"The tables of {service} and of views that hear it cannot be made from this log alone: back them up now."


def up_to_a_gap(sequences: Iterable[int], *, starts: bool, given_up: int = 0) -> tuple[int, Set[int]]:
    """The last fact before which none is missing, and the others beyond it. `starts`: these are all from the topic's
    start on; else nothing is known of what was before the first one. Up to `given_up` facts may be missing."""
    last = 0 if starts else None
    beyond: set[int] = set()
    for sequence in sequences:
        if last is None or sequence == last + 1 or last + 1 < sequence <= given_up + 1:
            last = sequence
        elif sequence > last:
            beyond.add(sequence)
    last = last or 0
    return last, frozenset(sequence for sequence in beyond if sequence > last)


class Restore:
    """One wish to restore. Raises `NotAsked` when it makes no sense; then nothing was changed."""

    def __init__(self, reach: Reach, service: str) -> None:
        self._reach = reach
        self._service = service

    async def carry_out(self, who: str, why: str, *, give_up: bool, asks: bool, dry_run: bool) -> int:
        """Show what is lost, then do what can be done, if somebody agrees."""
        self._reach.services([self._service])
        if self._reach.find(self._service).is_projection:
            raise NotAsked(f"{self._service} says nothing: what it heard is its speakers' to restore")
        console = a_console()
        losses = await self.losses()
        for line in self._told(losses):
            console.print(Text(line), soft_wrap=True)
        if dry_run or not losses:
            console.print("Nothing was changed.")
            return DONE
        if any(loss.gone for loss in losses) and not give_up:
            raise NotAsked("some facts are gone for good: restore the topic from a copy, or accept that with --give-up")
        if asks and not await agreed(question(losses)):
            console.print("Nothing was changed.")
            return NOT_AGREED
        await self._do(losses, operations.somebody(who), why)
        for line in (*done(self._service, losses), *await asyncio.to_thread(self._delete_strays, losses)):
            console.print(Text(line), soft_wrap=True)
        return DONE

    async def losses(self) -> list[Loss]:
        """What each lane's topic lacks; only lanes that lack something."""
        async with self._reach.database(self._service, reading=True) as connection:
            cursor = await connection.execute(_LANES, (self._service, GIVEN_UP))
            lanes = await cursor.fetchall()
            ends = await asyncio.to_thread(self._look, {p: (said, given_up) for p, said, _, given_up in lanes})
            found = [
                (await self._loss(connection, p, said, row, ends[p], given_up), row) for p, said, row, given_up in lanes
            ]
        return [loss for loss, row in found if (loss.last < loss.said and loss.row < row) or loss.gone]

    def _look(self, lanes: dict[int, tuple[int, int]]) -> dict[int, tuple[int, Set[int], int]]:
        """The last fact in each lane's topic before any gap, the strays behind it, and where the topic ends. `lanes`:
        by partition, the last fact said, and the last one given up."""
        found = {}
        with LogView.at(self._reach.kafka) as log:
            extents = log.extents([(self._service, partition) for partition in lanes])
            for partition, (said, given_up) in lanes.items():
                extent = extents.get((self._service, partition))
                if extent is None:
                    raise NotAsked(f"Kafka has no {self._service}/{partition}: run 'pavane topics apply'")
                last, strays = self._last(log, partition, extent, said, given_up)
                found[partition] = last, strays, extent.end
        return found

    def _last(
        self, log: LogView, partition: int, extent: Extent, said: int, given_up: int
    ) -> tuple[int, Set[int]]:
        if extent.start == extent.end > 0:
            return said, frozenset()  # retention has taken everything: nobody can tell

        def found(first: int) -> tuple[int, Set[int]]:
            sequences = self._sequences(log, partition, first, extent.end)
            return up_to_a_gap(sequences, starts=first == 0, given_up=given_up)

        first = max(extent.start, extent.end - LOOK_BACK_RECORDS)
        last, strays = found(first)
        # The repetition of a much older fact looks the same: only the whole topic tells.
        return found(extent.start) if strays and first > extent.start else (last, strays)

    def _sequences(self, log: LogView, partition: int, first: int, end: int) -> Iterator[int]:
        """Of the facts at these offsets, in their order."""
        while records := log.records(self._service, partition, first, end, LOOK_BACK_RECORDS):
            first = records[-1].offset + 1
            for record in records:
                if (said := envelope.of_own(record.topic, record.partition, record.headers)) is not None:
                    yield said.sequence

    async def _loss(
        self,
        connection: Connection,
        partition: int,
        said: int,
        acknowledged: int,
        end: tuple[int, Set[int], int],
        given_up: int,
    ) -> Loss:
        last, strays, offset = end
        cursor = await connection.execute(_KEPT, (partition,))
        first_kept, row = said + 1, acknowledged
        for number, facts in reversed(await cursor.fetchall()):
            own = [fact for fact in _facts.decode(facts) if fact.topic == self._service]
            if own and envelope.read(own[-1].headers).sequence <= last:
                break
            if own:
                first_kept, row = envelope.read(own[0].headers).sequence, number - 1
        return Loss(partition, last, said, max(first_kept, last + 1), row, offset, strays, given_up)

    def _told(self, losses: Sequence[Loss]) -> Iterator[str]:
        if not losses:
            yield f"The log has everything that {self._service} has said, or its outbox is about to say it."
        for loss in losses:
            yield loss.told(self._service)

    # -- doing -------------------------------------------------------------------------------------------------------

    async def _do(self, losses: Sequence[Loss], who: str, why: str) -> None:
        """All that was promised, or nothing. Raises `NotAsked`."""
        async with self._reach.database(self._service) as connection, connection.transaction():
            await self._hold(connection, losses)
            # Listeners first: what is said again must not lie before where they look.
            for name in self._reach.services():
                if self._service in self._reach.find(name).topics:
                    await self._look_again(name, losses)
            gone = [f"{self._service}/{loss.partition}/{loss.gone[-1]}" for loss in losses if loss.gone]
            for what, about in ((RESTORE, [f"{self._service}/{loss.partition}" for loss in losses]), (GIVEN_UP, gone)):
                if about:
                    subject = "; ".join(loss.told(self._service) for loss in losses)
                    number = await operations.begin(connection, who, what, about, subject, why)
                    await operations.end(connection, number, "the lanes' owners say again what is kept")
            for loss in losses:
                await connection.execute(_SAY_AGAIN, (loss.row, loss.partition))
            await connection.execute(_END_WORKERS)

    async def _hold(self, connection: Connection, losses: Sequence[Loss]) -> None:
        """Keep what is to be said again. A worker with nothing to say has not noticed the loss, and goes on deleting
        what is old enough, the oldest first: also while somebody thought about the question."""
        for loss in losses:
            held = await connection.execute(_HOLD, (loss.partition, loss.row + 1))
            if loss.kept and held.rowcount != 1:
                raise NotAsked(
                    f"{self._service}/{loss.partition}: the outbox does not hold fact {loss.first_kept:,} any more, "
                    f"which was to be said again first: it has grown older than PAVANE_OUTBOX_KEEP_SECONDS. Nothing "
                    f"was changed. Stop {self._service}, so that no more is deleted, and look again: "
                    f"'pavane log restore {self._service} --reason ... --dry-run'"
                )

    async def _look_again(self, name: str, losses: Sequence[Loss]) -> None:
        async with self._reach.database(name) as connection, connection.transaction():
            for loss in losses:
                at_the_end = Jsonb({self._service: loss.end})
                values = (at_the_end, loss.partition, self._service, loss.end, loss.begins_anew)
                await connection.execute(_LOOK_AGAIN, values)
            await connection.execute(_END_WORKERS)

    def _delete_strays(self, losses: Sequence[Loss]) -> Sequence[str]:
        """From a topic that holds nothing else, up to where it was seen to end; what went wrong with it. Called when
        they are sure to be said again: a topic without them would seem to lack nothing."""
        ends = [TopicPartition(self._service, loss.partition, loss.end) for loss in losses if loss.begins_anew]
        if ends:
            admin = AdminClient({"bootstrap.servers": self._reach.kafka, "log_level": 0})
            try:
                for deleted in admin.delete_records(ends, operation_timeout=DELETE_SECONDS).values():
                    deleted.result(DELETE_SECONDS)
            except (KafkaException, TimeoutError) as error:
                return [f"The strays could not be deleted, and 'pavane audit' notes them: {error!r}"]
        return []
