"""The worker on real parts, with the counter service: what it promises in one instance, in several, and in trouble."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from streams.kit import envelope
from streams.kit.errors import WorldUnavailable
from streams.kit.events import Answer, Effect
from streams.kit.kafka import KafkaLog
from streams.kit.log import LogAway, Record, ToSay
from streams.kit.postgres import PostgresTransaction
from tests.kit.running import KEYS, Counting
from tests.waiting import eventually


async def test_what_is_asked_is_decided_committed_and_said(counting: Counting) -> None:
    await counting.start()
    await counting.ask(*((key, number) for number in range(1, 26) for key in KEYS))
    await counting.until_totals(dict.fromkeys(KEYS, 325))

    lanes = await counting.facts()
    assert await counting.said() == dict.fromkeys(KEYS, 325)
    assert all(counting.partition(record.key.decode()) == record.partition for lane in lanes for record in lane)
    first = envelope.read(lanes[0][0].headers)
    assert first.id == f"{counting.counter.name}/0/1"
    assert first.cause.startswith(f"{counting.counter.requests}/0/")
    assert first.correlation == "c"


async def test_facts_of_others_are_heard_after_their_causes_whichever_topic_comes_first(counting: Counting) -> None:
    counter = counting.counter
    left_knows = envelope.of_request("r", 0, 0, ())

    def told(topic: str, sequence: int, knowing: dict[str, int], amount: int) -> Record:
        headers = envelope.write(topic, 0, sequence, "Told", knowing, left_knows)
        return Record(topic, 0, 0, 0, b"k", counter.told("k", amount), headers)

    await counting.start()
    await counting.send(told(counter.left, 1, {counter.right: 1}, 10), told(counter.left, 2, {counter.right: 2}, 100))
    [instance] = counting.instances
    await eventually(lambda: 0 in instance.lanes and instance.worker.lanes[0].held_back() == 2)
    await counting.send(told(counter.right, 1, {}, 1), told(counter.right, 2, {counter.left: 1}, 2))
    await counting.until_totals({"k": 113})

    causes = [envelope.read(record.headers).cause.removeprefix(counter.name) for record in (await counting.facts())[0]]
    assert causes == ["-right/0/1", "-left/0/1", "-right/0/2", "-left/0/2"]


async def test_instances_that_come_and_go_share_the_lanes_and_nothing_is_lost_doubled_or_reordered(
    counting: Counting,
) -> None:
    first = await counting.start()
    await eventually(lambda: first.lanes == {0, 1})
    asked, is_over = 0, asyncio.Event()

    async def ask_until_it_is_over() -> None:
        nonlocal asked
        while not is_over.is_set():
            await counting.ask(*((key, 1) for key in KEYS * 5))
            asked += 5
            await asyncio.sleep(0.05)

    asking = asyncio.create_task(ask_until_it_is_over())
    second = await counting.start()
    before_shared = asked
    await eventually(lambda: len(first.lanes) == len(second.lanes) == 1)
    shared, before_left = await counting.epochs(), asked
    await first.stop()
    counting.instances.remove(first)
    await eventually(lambda: second.lanes == {0, 1})
    assert before_shared < before_left < asked, "records came while lanes changed hands"
    is_over.set()
    await asking
    await counting.until_totals(dict.fromkeys(KEYS, asked))

    assert await counting.said() == dict.fromkeys(KEYS, asked)
    assert min(shared.values()) > 1, "both lanes were taken again when the second instance came"
    assert sum((await counting.epochs()).values()) > sum(shared.values())
    assert first.worker.lanes == {}


async def test_shared_rows_are_added_to_from_all_lanes_by_all_instances(sharing: Counting) -> None:
    instances = [await sharing.start(batch_records=7), await sharing.start(batch_records=7)]
    await eventually(lambda: all(len(each.lanes) == 1 for each in instances))
    await sharing.ask(*((key, 1, "", "x,y" if number % 2 else "y,z") for number in range(20) for key in KEYS))
    await sharing.until_totals(dict.fromkeys(KEYS, 20))
    assert dict(await sharing.rows("SELECT name, amount FROM totals")) == {"x": 80, "y": 160, "z": 80}


async def test_effects_are_asked_for_and_answered_once_each(counting: Counting) -> None:
    await counting.start()
    await counting.ask(*((key, 0, "ring") for key in KEYS))
    await counting.until_totals(await _numbers(counting))
    assert sorted(counting.counter.bells.numbers) == KEYS
    asked = [key for asked in counting.counter.bells.rounds for key in asked]
    assert sorted(asked) == KEYS


async def test_a_batch_that_the_database_ended_for_another_one_is_done_again_and_no_lane_is_let_go(
    sharing: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, ended = PostgresTransaction.commit, 0

    async def commit(transaction: PostgresTransaction, *what: Any) -> None:
        nonlocal ended
        if ended < 2:
            ended += 1
            raise psycopg.errors.DeadlockDetected("deadlock detected")
        await right(transaction, *what)

    monkeypatch.setattr(PostgresTransaction, "commit", commit)
    await sharing.start()
    await sharing.ask(*((key, 1, "", "x") for key in KEYS))
    await sharing.until_totals(dict.fromkeys(KEYS, 1))
    assert ended == 2
    assert await sharing.rows("SELECT amount FROM totals") == [(len(KEYS),)]
    assert set((await sharing.epochs()).values()) == {1}


async def _numbers(counting: Counting) -> dict[str, int]:
    await eventually(lambda: len(counting.counter.bells.numbers) == len(KEYS))
    return counting.counter.bells.numbers


async def test_deadlines_are_kept_and_one_that_cannot_be_decided_is_put_aside_once(counting: Counting) -> None:
    await counting.start()
    await counting.ask(("a", 300, "later"), ("b", 0, "stuck"))

    async def notes() -> dict[str, str]:
        return dict(await counting.rows("SELECT counter, note FROM counts"))

    await eventually(lambda: equal(notes, {"a": "expired", "b": "stuck"}))
    await eventually(counting.letters)
    names = [dict(record.headers)["ce_type"] for lane in await counting.facts() for record in lane]
    assert sorted(names) == [b"Expired", b"Postponed", b"Postponed"]
    await counting.ask(("c", 300, "later"))
    await eventually(lambda: equal(notes, {"a": "expired", "b": "stuck", "c": "expired"}))
    [letter] = await counting.letters()
    assert b"neither" in letter["dead_letter_message"]


async def test_what_the_log_does_not_take_is_bounded_and_nothing_of_it_is_lost(counting: Counting) -> None:
    taking = asyncio.Event()

    def slow(log: KafkaLog) -> KafkaLog:
        append = log.append

        async def wait_and_append(partition: int, facts: Sequence[ToSay]) -> None:
            await taking.wait()
            await append(partition, facts)

        log.append = wait_and_append  # type: ignore[method-assign]
        return log

    instance = await counting.start(slow, unacknowledged_facts=20, batch_records=10)
    await counting.ask(*((key, 1) for key in KEYS for _ in range(20)))

    def unacknowledged() -> int:
        return sum(outbox.unacknowledged_facts for outbox in instance.worker.outboxes.values())

    await eventually(lambda: unacknowledged() >= 20)
    steps = 0
    step = instance.worker.step

    async def count_and_step(wait_seconds: float = 0.0) -> int:
        nonlocal steps
        steps += 1
        return await step(wait_seconds)

    instance.worker.step = count_and_step  # type: ignore[method-assign]
    # As many as the rest would need, were it not for the bound.
    await eventually(lambda: steps > len(KEYS) * 20 / 10)
    assert 20 <= unacknowledged() < 20 + 10
    assert sum((await counting.totals()).values()) == unacknowledged()
    taking.set()
    await counting.until_totals(dict.fromkeys(KEYS, 20))
    assert await counting.said() == dict.fromkeys(KEYS, 20)


async def test_a_worker_that_is_stopped_says_what_it_committed_and_lets_go(counting: Counting) -> None:
    instance = await counting.start()
    await counting.ask(*((key, 1) for key in KEYS))
    await eventually(lambda: equal(counting.totals, dict.fromkeys(KEYS, 1)))
    await asyncio.wait_for(instance.stop(), 15)
    counting.instances.clear()
    assert await counting.said() == dict.fromkeys(KEYS, 1)
    assert (instance.worker.lanes, instance.worker.outboxes) == ({}, {})


async def test_an_effect_is_asked_until_the_world_answers_under_the_same_key(counting: Counting) -> None:
    bells, refusals = counting.counter.bells, 3
    asked: list[list[str]] = []
    right = bells.ask

    async def ask(effects: Sequence[Effect]) -> Sequence[Answer]:
        asked.append([effect.key for effect in effects])
        if len(asked) <= refusals:
            raise WorldUnavailable("the bells are away")
        return await right(effects)

    bells.ask = ask  # type: ignore[method-assign]
    await counting.start()
    await counting.ask(("k0", 0, "ring"))
    await counting.until_totals({"k0": 1})
    assert asked == [["k0"]] * (refusals + 1)
    assert len((await counting.facts())[counting.partition("k0")]) == 3


async def test_a_worker_can_be_stopped_while_the_world_does_not_answer_and_nothing_is_lost(counting: Counting) -> None:
    bells, is_away = counting.counter.bells, asyncio.Event()
    right = bells.ask

    async def ask(effects: Sequence[Effect]) -> Sequence[Answer]:
        is_away.set()
        raise WorldUnavailable("the bells are away")

    bells.ask = ask  # type: ignore[method-assign]
    instance = await counting.start()
    await counting.ask(("k0", 0, "ring"))
    await asyncio.wait_for(is_away.wait(), 20)
    await asyncio.wait_for(instance.stop(), 15)
    counting.instances.clear()
    assert await counting.facts() == [[], []]
    bells.ask = right  # type: ignore[method-assign]
    await counting.start()
    await counting.until_totals({"k0": 1})


async def test_lanes_are_taken_again_when_the_log_did_not_say_where_it_begins(counting: Counting) -> None:
    refusals = 2

    def unsure(log: KafkaLog) -> KafkaLog:
        extents = log.extents

        async def refuse_first(partition: int, *also: str) -> Any:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise LogAway("Kafka does not answer")
            return await extents(partition, *also)

        log.extents = refuse_first  # type: ignore[method-assign,assignment]
        return log

    with capture_logs() as lines:
        await counting.start(unsure)
        await counting.ask(("k0", 5), ("k1", 5))
        await counting.until_totals({"k0": 5, "k1": 5})
    assert (refusals, [line["event"] for line in lines].count("kafka_away")) == (0, 2)


async def test_a_partition_of_which_the_log_says_nothing_holds_up_no_other_lane_and_is_taken_from_nobody(
    counting: Counting,
) -> None:
    leaderless = {1}

    def unsure(log: KafkaLog) -> KafkaLog:
        extents = log.extents

        async def refuse(partition: int, *also: str) -> Any:
            if partition in leaderless:
                raise LogAway("Kafka knows no leader")
            return await extents(partition, *also)

        log.extents = refuse  # type: ignore[method-assign]
        return log

    here = next(key for key in KEYS if counting.partition(key) == 0)
    there = next(key for key in KEYS if counting.partition(key) == 1)
    instance = await counting.start(unsure)
    await counting.ask((here, 5), (there, 5))
    await counting.until_totals({here: 5})
    told = instance.readiness()
    assert (told["ready"], told["away"], instance.lanes) == (False, ["Kafka knows no leader"], {0})
    assert 1 not in await counting.epochs()

    leaderless.clear()
    await counting.until_totals({here: 5, there: 5})
    await eventually(lambda: instance.readiness()["ready"])


async def equal(asked: Callable[[], Awaitable[Any]], expected: Any) -> bool:
    return bool(await asked() == expected)
