"""`pavane lanes skip` on a halted lane of a running service: what is lost is shown first, and then the lane goes on."""

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from pavane.lanes.listing import lines, stand_of
from pavane.lanes.skipping import Skip
from pavane.operators.errors import NotAsked
from pavane.operators.reach import Reach
from streams.kit.log import Record
from tests.conftest import NewTopics
from tests.kit.running import Counting
from tests.kit.test_halts import done, heard_and_stopped, key_of, made_again, told
from tests.waiting import eventually

TAKEN_AGAIN_SECONDS = 60.0


def desk(counting: Counting) -> Reach:
    counter = counting.counter
    databases = {counter.name: counting.database}
    return Reach(databases, counting.bootstrap, counter.registry, counter.language, lambda _: counter.service)


async def halted(counting: Counting) -> str:
    """Why lane 0 is halted, as operators see it, once it is."""
    query = "SELECT halted FROM lanes WHERE partition = 0 AND halted IS NOT NULL"
    [(why,)] = await eventually(lambda: counting.rows(query))
    assert why in "\n".join(lines(await stand_of(desk(counting), ())))
    return str(why)


async def skip_as_told(counting: Counting, why: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Carry out the command that the refusal names, first dry; what it has shown."""
    service, partition, topic, _, to = why.partition("pavane lanes skip ")[2].split(" ")[:5]
    before = await counting.rows("SELECT xmin, xmax, l.* FROM lanes l ORDER BY partition")
    skip = Skip(desk(counting), service, int(partition), topic, to)
    assert await skip.carry_out("ada", "shown only", asks=False, dry_run=True) == 0
    assert await counting.rows("SELECT xmin, xmax, l.* FROM lanes l ORDER BY partition") == before
    shown = capsys.readouterr().out
    assert await skip.carry_out("ada", "they are gone", asks=False, dry_run=False) == 0
    assert await counting.rows("SELECT who, what, why, ended_at IS NOT NULL FROM operations") == [
        ("ada", "skip", "they are gone", True)
    ]
    return shown


async def until_total(counting: Counting, key: str, total: int) -> None:
    async def is_so() -> bool:
        return (await counting.totals()).get(key) == total

    await eventually(is_so, TAKEN_AGAIN_SECONDS, f"{key} has {total}")


@pytest.fixture
def admin(counting: Counting) -> AdminClient:
    return AdminClient({"bootstrap.servers": counting.bootstrap, "log_level": 0})


@pytest.mark.parametrize(
    ("sent", "lost", "total"),
    [
        ([1, 3, 4], "will never have heard 1 fact of", 11_010),
        ([1, None, 2, 3], "misses no fact of", 1_110),
        ([1, None, 3], "will never have heard 1 fact of", 1_010),
    ],
    ids=["a gap", "a foreign record", "a foreign record before a gap"],
)
async def test_a_running_worker_goes_on_behind_what_halted_its_lane(
    counting: Counting, capsys: pytest.CaptureFixture[str], sent: Sequence[int | None], lost: str, total: int
) -> None:
    instance = await counting.start()
    await counting.send(*(told(counting, n) if n else replace(told(counting, 1), headers=()) for n in sent))
    why = await halted(counting)
    epoch = (await counting.epochs())[0]

    assert f"It {lost}" in await skip_as_told(counting, why, capsys)

    await until_total(counting, "k", total)
    assert (await counting.epochs())[0] >= epoch + 2, "the skip raised it, and whoever took the lane again"
    assert instance.worker.halted == {}
    assert await counting.rows("SELECT 1 FROM lanes WHERE halted IS NOT NULL") == []


async def test_requests_that_retention_took_are_given_up_and_later_ones_are_heard(
    counting: Counting, admin: AdminClient, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await heard_and_stopped(counting)
    await counting.ask((key, 10), (key, 100), (key, 1000))
    await done(admin.delete_records([TopicPartition(counting.counter.requests, 0, 5)]))
    await counting.start()

    assert "never have heard 2 requests" in await skip_as_told(counting, await halted(counting), capsys)
    await until_total(counting, key, 1003)


async def test_a_log_that_lost_what_was_heard_is_heard_from_its_new_end_on(
    counting: Counting, admin: AdminClient, new_topics: NewTopics, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await heard_and_stopped(counting)
    topic = counting.counter.requests
    await made_again(admin, new_topics, topic)
    await counting.start()

    assert "never have heard 0 requests" in await skip_as_told(counting, await halted(counting), capsys)
    await counting.ask((key, 10))
    await until_total(counting, key, 13)


async def test_requests_that_came_after_the_log_was_lost_are_shown_and_may_be_heard(
    counting: Counting, admin: AdminClient, new_topics: NewTopics, capsys: pytest.CaptureFixture[str]
) -> None:
    key = await heard_and_stopped(counting)
    topic = counting.counter.requests
    await made_again(admin, new_topics, topic)
    await counting.ask((key, 10), (key, 100))
    await counting.start()
    why = await halted(counting)
    assert f"pavane lanes skip {counting.counter.name} 0 {topic} --to 2" in why

    def skip(to: str) -> Skip:
        return Skip(desk(counting), counting.counter.name, 0, topic, to)

    await skip("2").carry_out("ada", "look", asks=False, dry_run=True)
    shown = capsys.readouterr().out
    assert "never have heard 2 requests" in shown
    assert shown.count("nobody knows if heard") == 2
    assert "with '--to start'" in shown

    await skip("start").carry_out("ada", "they are new", asks=False, dry_run=False)
    await until_total(counting, key, 113)


@pytest.mark.parametrize(("to", "total"), [("start", 11_112), ("end", 10_002)])
async def test_a_topic_of_requests_that_was_made_again_and_has_grown_is_heard_from_where_somebody_says(
    counting: Counting,
    admin: AdminClient,
    new_topics: NewTopics,
    capsys: pytest.CaptureFixture[str],
    to: str,
    total: int,
) -> None:
    async def ask(*amounts: int) -> None:
        headers = [[("correlation", f"{amount}-{number}".encode())] for number, amount in enumerate(amounts)]
        asked = zip(amounts, headers, strict=True)
        await counting.send(*(Record(topic, 0, 0, 0, key.encode(), add(key, amount), h) for amount, h in asked))

    topic, add = counting.counter.requests, counting.counter.add
    key = key_of(counting, 0)
    instance = await counting.start()
    await ask(1, 1)
    await counting.until_totals({key: 2})
    await instance.stop()
    counting.instances.clear()
    await made_again(admin, new_topics, topic)
    await ask(10, 100, 1_000)
    await counting.start()

    why = await halted(counting)
    assert f"{topic}/0: what is at offset 1 is not the request that was heard there" in why
    assert (await counting.totals())[key] == 2
    if to == "start":
        await skip_as_told(counting, why, capsys)
    else:
        wish = Skip(desk(counting), counting.counter.name, 0, topic, to)
        await wish.carry_out("ada", "they were sent twice", asks=False, dry_run=False)
        assert capsys.readouterr().out.count("nobody knows if heard") == 3
    await ask(10_000)
    await until_total(counting, key, total)
    # Whoever takes the lane next sees the same facts, and that somebody has decided since.
    [instance] = counting.instances
    await instance.stop()
    counting.instances.clear()
    await counting.start()
    await ask(100_000)
    await until_total(counting, key, total + 100_000)


async def test_facts_that_stand_behind_a_later_one_are_looked_for(
    counting: Counting, capsys: pytest.CaptureFixture[str]
) -> None:
    await counting.start()
    await counting.send(*(told(counting, n) for n in (1, 4, 2, 3, 4)))
    service, partition, topic, _, to = (await halted(counting)).partition("pavane lanes skip ")[2].split(" ")[:5]
    assert to == "1"

    await Skip(desk(counting), service, int(partition), topic, to).carry_out("ada", "look", asks=False, dry_run=True)
    assert "with '--to 2' it misses none of it" in capsys.readouterr().out

    await Skip(desk(counting), service, int(partition), topic, "2").carry_out("ada", "go", asks=False, dry_run=False)
    await until_total(counting, "k", 11_110)


async def test_a_lane_that_goes_on_is_never_skipped(counting: Counting) -> None:
    await heard_and_stopped(counting)

    for wanted, what in _nonsense(counting):
        with pytest.raises(NotAsked, match=what):
            await Skip(desk(counting), *wanted).carry_out("ada", "why not", asks=False, dry_run=False)
    assert await counting.rows("SELECT 1 FROM operations") == []


def _nonsense(counting: Counting) -> list[tuple[tuple[Any, ...], str]]:
    name, topic = counting.counter.name, counting.counter.requests
    return [
        ((name, 0, topic, "end"), "is not halted"),
        ((name, 9, topic, "end"), "was never taken"),
        ((name, 0, "weather", "end"), "does not hear 'weather'"),
        (("nobody", 0, topic, "end"), "there is no service"),
    ]
