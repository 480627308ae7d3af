"""What a rebuild reads of a log that holds what is nobody's fact, or not all facts any more, in memory."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

import pytest
from msgspec.structs import replace

from pavane.audit.ledger import Where
from pavane.audit.log import LogReader
from pavane.lanes.reading import LogView
from pavane.rebuild.errors import FactsMissing
from pavane.rebuild.placing import behind
from pavane.rebuild.rebuilding import last_said
from pavane.rebuild.stretches import HeardFacts, OwnFacts, Stretch
from pavane.rehearing import Strays
from streams.kit import envelope
from streams.kit.codec import Codec
from streams.kit.kafka import partition_of
from streams.kit.log import Extent, Record
from streams.kit.run import find
from tests.pavane.audited import LANGUAGE, PARTITIONS, Ids, headed
from tests.pavane.replayed import a_busy_shop

Log = dict[Where, list[Record]]
STRANGE = Record("billing", 0, 0, 0, b"k", b"v", ())


class Reading:
    """Reads a log in memory, as `LogReader` and `LogView` do."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.asked = 0

    def records(
        self, topics: Sequence[str], ends: Mapping[Where, int], starts: Mapping[Where, int] = MappingProxyType({})
    ) -> Iterator[Record]:
        for where, end in ends.items():
            yield from (each for each in self._log.get(where, ()) if starts.get(where, 0) <= each.offset < end)


class Looking(Reading):
    def records(self, topic: str, partition: int, first: int, end: int, most: int) -> list[Record]:  # type: ignore[override]
        self.asked += 1
        return [each for each in self._log[topic, partition] if first <= each.offset < end][:most]


async def told_again(log: Log, partition: int) -> tuple[list[object], Mapping[str, int]]:
    """The events that the timeline is made of in this lane, and where it then is."""
    timeline = find("timeline")
    logs = {topic: cast("LogReader", Reading(log)) for topic in timeline.topics}
    codec = Codec(LANGUAGE, Ids())
    facts = HeardFacts(timeline, codec, logs, partition, {}, {}, lambda key: partition_of(key, PARTITIONS))
    last = Stretch((), {}, {}, 0)
    events: list[object] = []
    async for stretch in facts.up_to({topic: len(log.get((topic, partition), ())) for topic in timeline.topics}):
        events += [event for event, _ in stretch.events]
        last = stretch
    return events, last.positions


async def said_again(
    log: Log, partition: int, positions: Mapping[str, int] = MappingProxyType({}), known: int = 0
) -> tuple[list[object], Mapping[str, int]]:
    """The events that billing's rows are made of in this lane from there on, and where it then is."""
    billing = find("billing")
    reading = cast("LogReader", Reading(log))
    facts = OwnFacts(billing, Codec(LANGUAGE, Ids()), reading, partition, positions, {"billing": known})
    events: list[object] = []
    at = positions
    async for stretch in facts.up_to({"billing": len(log["billing", partition])}):
        events += [event for event, _ in stretch.events]
        at = stretch.positions
    return events, at


def renumbered(records: Sequence[Record], partition: int) -> list[Record]:
    return [replace(each, partition=partition, offset=offset) for offset, each in enumerate(records)]


async def a_log() -> tuple[Log, int]:
    """And the lane in which billing has said most."""
    shop = await a_busy_shop()
    log = {where: list(records) for where, records in shop.log.items()}
    return log, max(range(PARTITIONS), key=lambda partition: len(log.get(("billing", partition), ())))


@pytest.mark.parametrize("at", [0, 2, -1], ids=["first", "between", "last"])
async def test_what_is_nobodys_fact_is_passed_over(at: int) -> None:
    log, lane = await a_log()
    right, _ = await told_again(log, lane)
    of_billing = log["billing", lane]
    of_billing.insert(at if at >= 0 else len(of_billing), STRANGE)
    log["billing", lane] = renumbered(of_billing, lane)

    events, positions = await told_again(log, lane)

    assert len(events) == len(right) > 0
    assert positions["billing"] == len(of_billing), "nobody has to decide about it again"


async def test_who_has_no_more_than_an_id_of_the_service_said_nothing() -> None:
    log, lane = await a_log()
    right, _ = await said_again(log, lane)
    said = log["billing", lane]
    forged = [
        replace(said[0], headers=[("ce_id", f"billing/{lane}/{sequence}".encode())])
        for sequence in (len(said) + 1, 99_999)
    ]
    log["billing", lane] = renumbered([*said, *forged], lane)

    assert await said_again(log, lane) == (right, {"billing": len(log["billing", lane])})


@pytest.mark.parametrize("foreign", [0, 1, 99, 1_000])
async def test_the_last_fact_is_found_behind_whatever_others_wrote(foreign: int) -> None:
    log, lane = await a_log()
    said = log["billing", lane]
    elsewhere = headed(said[-1], ce_id="orders/1/99999")
    log["billing", lane] = renumbered([*said, *[STRANGE, elsewhere] * foreign], lane)
    looking = cast("LogView", Looking(log))

    assert last_said(looking, "billing", lane, Extent(0, len(log["billing", lane]))) == len(said)
    assert last_said(looking, "billing", lane, Extent(len(said), len(log["billing", lane]))) == 0


def with_strays(said: Sequence[Record], partition: int) -> list[Record]:
    """As a log is after it was restored: some facts stand before those that it had lost, and once more behind them."""
    return renumbered([*said[:2], *said[4:6], *said[2:]], partition)


async def test_facts_that_stand_before_what_was_missing_are_heard_where_they_stand_once_more() -> None:
    log, lane = await a_log()
    right, _ = await told_again(log, lane)
    own, _ = await said_again(log, lane)
    assert len(log["billing", lane]) >= 6
    log["billing", lane] = with_strays(log["billing", lane], lane)

    events, positions = await told_again(log, lane)

    assert len(events) == len(right) > 0
    assert positions["billing"] == len(log["billing", lane])
    assert await said_again(log, lane) == (own, {"billing": len(log["billing", lane])})


async def test_what_was_missing_and_does_not_come_is_missing() -> None:
    log, lane = await a_log()
    log["billing", lane] = with_strays(log["billing", lane], lane)[:5]

    with pytest.raises(FactsMissing, match="offset 2: fact 5 follows 3"):
        await told_again(log, lane)
    with pytest.raises(FactsMissing, match="offset 2: fact 5 follows 3"):
        await said_again(log, lane)


@pytest.mark.parametrize(
    ("strays", "known", "position"), [([], 2, 9), ([5], 2, 2), ([5], 4, 2), ([5], 5, 9), ([3, 7], 3, 3), ([7, 3], 7, 9)]
)
def test_who_is_interrupted_before_what_was_missing_came_reads_on_before_it(
    strays: list[int], known: int, position: int
) -> None:
    found = Strays()
    for offset, sequence in enumerate(strays, 2):
        found.pass_over(offset, sequence)
    assert found.held(9, known) == position


async def test_facts_that_were_given_up_cannot_be_told_again_and_the_backup_that_helps_is_named() -> None:
    log, lane = await a_log()
    kept = log["billing", lane][3:]
    first = envelope.read(kept[0].headers).sequence
    log["billing", lane] = renumbered(kept, lane)

    with pytest.raises(FactsMissing, match=f"a backup of timeline that knows fact {first - 1} or a later one"):
        await told_again(log, lane)


@pytest.mark.parametrize("given_up", [0, 3])
@pytest.mark.parametrize("repeated", [0, 2])
async def test_a_backup_is_gone_on_from_where_it_ends_whatever_was_given_up_or_said_again(
    given_up: int, repeated: int
) -> None:
    log, lane = await a_log()
    said = log["billing", lane]
    log["billing", lane] = renumbered([*said[given_up : given_up + 4], *said[given_up + 4 - repeated :]], lane)
    looking = Looking(log)
    end = len(log["billing", lane])

    for known in range(given_up, len(said) + 1):
        position = behind(cast("LogView", looking), "billing", lane, Extent(0, end), known, known)
        sequences = [envelope.read(each.headers).sequence for each in log["billing", lane]]
        assert max(sequences[:position], default=0) <= known or repeated
        assert set(range(known + 1, len(said) + 1)) <= set(sequences[position:])
    assert looking.asked <= 4 * len(said)
