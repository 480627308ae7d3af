"""What cannot be handled waits with its order, everything else flows, and an operator decides what becomes of it."""

import asyncio
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from pavane.dead_letters import carrying_out
from pavane.dead_letters.carrying_out import Orders, foretell
from pavane.dead_letters.errors import NoSuchItem
from pavane.dead_letters.events import Events
from pavane.dead_letters.items import ItemId
from pavane.dead_letters.recorded import INTERRUPTED
from pavane.dead_letters.redriving import LOOK_SECONDS, Outcome, Redrive
from pavane.dead_letters.selection import Selection, to_redrive
from pavane.dead_letters.showing import show
from pavane.operators.reach import Reach
from streams.kit import envelope
from streams.kit.events import Answer, Due, Effect, Unanswered
from streams.kit.log import Record
from tests.kit import conftest as kit
from tests.kit.counter import Added, Expired, Ring, add, decode
from tests.kit.running import Counting
from tests.waiting import eventually

counter_database, database, counting = kit.counter_database, kit.database, kit.counting

OTHERS = [f"other{number}" for number in range(20)]
#: Records a second: slowly, so that a failure is seen before all have been tried.
RATE = 4
WAITING = [("a", "Unanswered"), ("a", "Behind"), ("a", "Behind")]
Decide = Callable[[Any, Any], Any]
pytestmark = pytest.mark.usefixtures("luck")


def desk(counting: Counting) -> Reach:
    counter = counting.counter
    return Reach(
        {counter.name: counting.database},
        counting.bootstrap,
        counter.registry,
        counter.language,
        lambda _: counter.service,
    )


def orders(counting: Counting, patience_seconds: float = 20.0) -> Orders:
    return Orders(desk(counting), "ada", "the code is right now", asks=False, patience_seconds=patience_seconds)


def redeploy(counting: Counting, decide: Decide) -> None:
    """From now on, this is what the service does with requests."""
    reactions = counting.counter.service.reactions
    [heard] = [heard for heard in reactions if heard.__name__ == "Add"]
    reactions[heard] = reactions[heard]._replace(decide=decide)


def repaired(count: Any, asked: Any) -> Any:
    return add(count, replace(asked, how=asked.how.replace("raise", "")))


async def parked(counting: Counting) -> list[tuple[str, str, int]]:
    """Key, reason and attempts of every parked record, lane by lane in order."""
    return await counting.rows("SELECT key, reason, attempts FROM parked ORDER BY partition, number")  # type: ignore[return-value]


async def id_of(counting: Counting, key: str, place: int = 0) -> ItemId:
    rows = await counting.rows("SELECT partition, number FROM parked WHERE key = %s ORDER BY number", key)
    return ItemId(counting.counter.name, *rows[place])


async def amounts(counting: Counting, key: str) -> list[int]:
    """What was added to the counter, in the order of the log."""
    return [
        decode(counting.counter, Added, record.value).amount
        for lane in await counting.facts()
        for record in lane
        if record.key == key.encode() and dict(record.headers)["ce_type"] == b"Added"
    ]


def equals(ask: Callable[[], Awaitable[Any]], expected: Any) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return bool(await ask() == expected)

    return is_so


async def operations(counting: Counting) -> list[tuple[Any, ...]]:
    return await counting.rows("SELECT who, what, why, outcome, ended_at IS NOT NULL FROM operations ORDER BY number")


def mixed(luck: random.Random, lines: Iterable[Sequence[Any]]) -> Iterator[Any]:
    """All that stand in these lines, each line in its order."""
    left = [deque(line) for line in lines]
    while left:
        line = luck.choice(left)
        yield line.popleft()
        if not line:
            left.remove(line)


async def poison(counting: Counting, luck: random.Random, *keys: str) -> None:
    """Each key: one that is decided, one whose decision raises, two that come after it; and everybody else."""
    await counting.start()
    poisoned = [[(key, 1), (key, 2, "raise"), (key, 3), (key, 4)] for key in keys]
    await counting.ask(*mixed(luck, [*poisoned, *([(other, 1)] for other in OTHERS)]))
    await counting.until_totals({**dict.fromkeys(keys, 1), **dict.fromkeys(OTHERS, 1)})
    await eventually(equals(lambda: counting.rows("SELECT count(*) FROM parked"), [(3 * len(keys),)]))
    assert len(await counting.letters()) == len(keys), "only what failed is a dead letter, not what waits behind it"


# -- the platform's own doing ------------------------------------------------------------------------------------------


async def test_a_poisoned_order_waits_with_its_followers_in_order_and_all_others_finish(
    counting: Counting, luck: random.Random
) -> None:
    await poison(counting, luck, "a")

    assert await parked(counting) == [("a", "ZeroDivisionError", 1), ("a", "Behind", 1), ("a", "Behind", 1)]
    assert await counting.rows("SELECT 1 FROM parked WHERE retry_at IS NOT NULL") == []
    redeploy(counting, repaired)
    assert await orders(counting).redrive(Selection(), [], 1000) == carrying_out.DONE

    assert await parked(counting) == []
    assert await amounts(counting, "a") == [1, 2, 3, 4]
    await counting.ask(("a", 5))
    await counting.until_totals({"a": 15, **dict.fromkeys(OTHERS, 1)})
    assert await operations(counting) == [("ada", "redrive", "the code is right now", "3 handled, 0 left", True)]


async def test_an_effect_that_is_not_answered_for_a_while_comes_back_by_itself_and_in_order(counting: Counting) -> None:
    bells, answers = counting.counter.bells, counting.counter.bells.ask
    away = True

    async def ask(effects: Sequence[Effect]) -> Sequence[Answer]:
        given = await answers(effects)
        pairs = zip(effects, given, strict=True)
        return [Unanswered(reason="busy") if away and effect.key == "a" else answer for effect, answer in pairs]

    bells.ask = ask  # type: ignore[method-assign]
    await counting.start()
    await counting.ask(("a", 0, "ring"), ("a", 100), ("a", 200), *((other, 1, "ring") for other in OTHERS))

    async def was_tried_again() -> bool:
        waiting = await parked(counting)
        return [each[:2] for each in waiting] == WAITING and waiting[0][2] > 1

    await eventually(was_tried_again)
    [(retries,)] = await counting.rows("SELECT array_agg(retry_at IS NOT NULL ORDER BY number) FROM parked")
    assert retries == [True, False, False]
    assert await counting.letters() == []
    assert len(await counting.rows("SELECT 1 FROM counts WHERE note = 'after'")) == len(OTHERS)

    away = False
    await eventually(equals(lambda: parked(counting), []))
    await eventually(equals(lambda: amounts(counting, "a"), [0, bells.numbers["a"], 0, 100, 200]))


async def test_a_deadline_whose_effect_is_not_answered_comes_again_and_is_no_dead_letter(counting: Counting) -> None:
    reactions, bells = counting.counter.service.reactions, counting.counter.bells
    answers, asked = bells.ask, 0

    async def ask(effects: Sequence[Effect]) -> Sequence[Answer]:
        nonlocal asked
        asked += 1
        return await answers(effects) if asked > 3 else [Unanswered(reason="busy") for _ in effects]

    def ring_and_expire(count: Any, due: Due) -> Any:
        yield Ring(bell=count.counter)
        yield Expired(counter=count.counter)

    bells.ask = ask  # type: ignore[method-assign]
    reactions[Due] = reactions[Due]._replace(decide=ring_and_expire)
    await counting.start()
    await counting.ask(("a", 0, "later"))

    await eventually(equals(lambda: counting.rows("SELECT note FROM counts"), [("expired",)]))
    assert asked > 3, "the fault happened"
    assert (await counting.letters(), await parked(counting)) == ([], [])


async def test_parked_records_survive_the_death_of_their_worker_and_hold_their_key_at_the_next_one(
    counting: Counting, tmp_path: Any
) -> None:
    command = ["-m", "tests.faults.dying_counter", counting.counter.name, counting.bootstrap, counting.database]
    with (tmp_path / "log").open("wb") as log:
        dying = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=log, stderr=log)
    try:
        await counting.ask(("a", 1), ("a", 2, "raise"), ("a", 3), ("b", 1))
        await eventually(equals(lambda: parked(counting), [("a", "ZeroDivisionError", 1), ("a", "Behind", 1)]), 40)
        await counting.until_totals({"a": 1, "b": 1})
        before = await counting.epochs()
    finally:
        dying.kill()
    assert await dying.wait() == -signal.SIGKILL

    await counting.ask(("a", 4), ("b", 1))
    await counting.start()
    await counting.until_totals({"a": 1, "b": 2}, within_seconds=40)
    home = counting.partition("a")
    assert (await counting.epochs())[home] > before[home], "the lane was taken over"
    assert await parked(counting) == [("a", "ZeroDivisionError", 1), ("a", "Behind", 1), ("a", "Behind", 1)]
    redeploy(counting, repaired)
    assert await orders(counting).redrive(Selection(key="a"), [], 1000) == carrying_out.DONE
    assert await amounts(counting, "a") == [1, 2, 3, 4]
    assert await parked(counting) == []


async def test_bytes_that_are_no_request_are_parked_alone_and_their_key_goes_on(counting: Counting) -> None:
    await counting.start()
    home = counting.partition("a")
    await counting.ask(("a", 1))
    await counting.send(Record(counting.counter.requests, home, 0, 0, b"a", b"garbage", ()))
    await counting.ask(("a", 2))
    await counting.until_totals({"a": 3})
    assert await parked(counting) == [("a", "Undecodable", 1)]

    assert await orders(counting).redrive(Selection(), [], 1000) == carrying_out.STOPPED
    assert await parked(counting) == [("a", "Undecodable", 2)]
    assert await orders(counting).discard(await id_of(counting, "a")) == carrying_out.DONE
    assert await parked(counting) == []
    await counting.ask(("a", 4))
    await counting.until_totals({"a": 7})


async def test_a_fact_of_a_schema_that_the_registry_does_not_know_waits_until_it_does(counting: Counting) -> None:
    counter, home = counting.counter, counting.partition("a")
    released, later = counter.told("a", 10), len(counter.registry.texts)
    unknown = released[:1] + later.to_bytes(4, "big") + released[5:]
    cause = envelope.of_request("r", 0, 0, ())
    headers = envelope.write(counter.left, home, 1, "Told", {}, cause)
    await counting.start()
    await counting.send(Record(counter.left, home, 0, 0, b"a", unknown, headers))
    await counting.ask(("a", 1), ("b", 1))
    await counting.until_totals({"b": 1})
    await eventually(equals(lambda: parked(counting), [("a", "Undecodable", 1), ("a", "Behind", 1)]))
    [(why,)] = await counting.rows("SELECT message FROM parked WHERE reason = 'Undecodable'")
    assert f"knows no schema with id {later}. Nothing is lost" in why and "'pavane dead-letters redrive'" in why
    assert await orders(counting).redrive(Selection(), [], 1000) == carrying_out.STOPPED

    counter.registry.texts.append(counter.registry.texts[int.from_bytes(released[1:5], "big")])
    assert await orders(counting).redrive(Selection(), [], 1000) == carrying_out.DONE
    await counting.until_totals({"a": 11, "b": 1})
    assert await amounts(counting, "a") == [10, 1]


async def test_two_records_of_which_the_database_refuses_what_follows_fail_each_alone_and_hold_up_nothing(
    counting: Counting, luck: random.Random
) -> None:
    await poison(counting, luck, "a", "b")
    redeploy(counting, lambda count, asked: add(count, replace(asked, how=asked.how.replace("raise", "zero"))))
    # Both at once, which no redrive does before one has succeeded: so that one batch has both.
    await counting.rows("UPDATE parked SET retry_at = now() WHERE reason = 'ZeroDivisionError'")

    async def failed() -> list[tuple[str, str, int]]:
        return [row for row in await parked(counting) if row[1] != "Behind"]

    await eventually(lambda: _sorted(failed, [("a", "Undecidable", 2), ("b", "Undecidable", 2)]))
    await counting.ask(("c", 300, "later"))
    await eventually(equals(lambda: counting.rows("SELECT note FROM counts WHERE counter = 'c'"), [("expired",)]))


async def _sorted(ask: Callable[[], Awaitable[list[Any]]], expected: list[Any]) -> bool:
    return sorted(await ask()) == expected


# -- what operators do -------------------------------------------------------------------------------------------------


async def test_a_first_record_that_fails_again_stops_the_redrive_before_the_others_are_tried(
    counting: Counting, luck: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    await poison(counting, luck, "a", "b", "c")

    assert await orders(counting).redrive(Selection(), [], 1000) == carrying_out.STOPPED

    tried = [row for row in await parked(counting) if row[1] == "ZeroDivisionError"]
    assert sorted(attempts for _, _, attempts in tried) == [1, 1, 2]
    assert await counting.rows("SELECT 1 FROM parked WHERE retry_at IS NOT NULL") == []
    assert "failed: ZeroDivisionError: the decision divides by zero" in capsys.readouterr().out
    [(_, _, _, outcome, ended)] = await operations(counting)
    assert (outcome.startswith("0 handled, 9 left: "), ended) == (True, True)


async def test_a_redrive_stops_at_the_first_failure_and_goes_on_when_that_is_repaired(
    counting: Counting, luck: random.Random
) -> None:
    keys = [f"k{number}" for number in range(8)]
    await poison(counting, luck, *keys)
    heads = await counting.rows("SELECT key FROM parked WHERE reason <> 'Behind' ORDER BY parked_at, partition, number")
    [_, (failing,), *_, (last,)] = heads
    redeploy(counting, lambda count, asked: (add if count.counter == failing else repaired)(count, asked))

    begun = time.monotonic()
    assert await orders(counting).redrive(Selection(), [], RATE) == carrying_out.STOPPED
    took = time.monotonic() - begun
    left = await parked(counting)
    assert (failing, "ZeroDivisionError", 2) in left
    assert await counting.rows("SELECT 1 FROM parked WHERE retry_at IS NOT NULL") == []
    [(_, _, _, outcome, _)] = await operations(counting)
    assert outcome.startswith(f"{24 - len(left)} handled, {len(left)} left: "), outcome
    assert 3 <= len(left) < 24
    assert (last, "ZeroDivisionError", 1) in left, "it was not tried any more"
    after_the_first = len(keys) - sum(each[1:] == ("ZeroDivisionError", 1) for each in left) - 1
    assert took >= (after_the_first - 1) / RATE - LOOK_SECONDS, f"{after_the_first} were tried, faster than asked"

    redeploy(counting, repaired)
    assert await orders(counting).redrive(Selection(), [], 1000) == carrying_out.DONE
    assert [await amounts(counting, key) for key in keys] == [[1, 2, 3, 4]] * 8


async def test_a_redrive_of_a_record_that_was_tried_by_itself_since_it_was_chosen_tries_it(
    counting: Counting, luck: random.Random
) -> None:
    await poison(counting, luck, "a")
    reach, name = desk(counting), counting.counter.name
    chosen = await to_redrive(reach, Selection(), Events(reach.language, reach.registry), [])
    redeploy(counting, repaired)
    async with reach.database(name) as connection:
        await connection.execute("UPDATE parked SET attempts = attempts + 1 WHERE reason <> 'Behind'")

        assert await Redrive(connection, name, [each.item for each in chosen]).run() == Outcome(3, 0)
    assert await amounts(counting, "a") == [1, 2, 3, 4]


async def test_what_waits_behind_a_discarded_record_goes_on_without_it_and_so_does_what_comes_later(
    counting: Counting, luck: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    await poison(counting, luck, "a")

    assert await orders(counting).discard(await id_of(counting, "a")) == carrying_out.DONE

    await eventually(equals(lambda: parked(counting), []))
    await counting.ask(("a", 5))
    await counting.until_totals({"a": 13, **dict.fromkeys(OTHERS, 1)})
    assert await amounts(counting, "a") == [1, 3, 4, 5]
    [instance] = counting.instances
    assert [lane.held for lane in instance.worker.lanes.values()] == [{}, {}]
    assert "will never act on Add" in capsys.readouterr().out
    assert await operations(counting) == [("ada", "discard", "the code is right now", "discarded", True)]


async def test_a_record_that_a_try_under_way_handles_while_it_is_marked_was_not_discarded(
    counting: Counting, luck: random.Random
) -> None:
    await poison(counting, luck, "a")
    head, bells, answers = await id_of(counting, "a"), counting.counter.bells, counting.counter.bells.ask
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slowly(effects: Sequence[Effect]) -> Sequence[Answer]:
        is_asked.set()
        await may_answer.wait()
        return await answers(effects)

    bells.ask = slowly  # type: ignore[method-assign]
    redeploy(counting, lambda count, asked: add(count, replace(asked, how="ring")))
    redriving = asyncio.create_task(orders(counting).redrive(Selection(), [], 1000))
    await is_asked.wait()
    discarding = asyncio.create_task(orders(counting).discard(head))
    await eventually(equals(lambda: parked(counting), [("a", "Discarded", 1), ("a", "Behind", 1), ("a", "Behind", 1)]))
    may_answer.set()

    with pytest.raises(NoSuchItem):
        await discarding
    assert await redriving == carrying_out.DONE
    assert await amounts(counting, "a") == [1, *[0, bells.numbers["a"], 0] * 3]
    assert ("ada", "discard", "the code is right now", "it was handled meanwhile", True) in await operations(counting)


async def test_a_waiting_record_that_was_discarded_is_passed_over_when_its_turn_comes(
    counting: Counting, luck: random.Random
) -> None:
    await poison(counting, luck, "a")
    assert await orders(counting).discard(await id_of(counting, "a", 1)) == carrying_out.DONE
    assert await parked(counting) == [("a", "ZeroDivisionError", 1), ("a", "Discarded", 1), ("a", "Behind", 1)]

    redeploy(counting, repaired)
    assert await orders(counting).redrive(Selection(), [], 1000) == carrying_out.DONE
    assert await parked(counting) == []
    assert await amounts(counting, "a") == [1, 2, 4]


async def test_a_dry_run_says_what_would_be_decided_and_changes_nothing(
    counting: Counting, luck: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    await poison(counting, luck, "a")
    await counting.stop()
    counting.instances.clear()
    before = await everything(counting)

    assert await foretell(desk(counting), Selection(), []) == carrying_out.STOPPED
    assert "would fail\n    ZeroDivisionError: the decision divides by zero" in (failing := capsys.readouterr().out)
    assert failing.count("would wait\n    for what becomes of") == 2
    redeploy(counting, repaired)
    assert await foretell(desk(counting), Selection(), []) == carrying_out.DONE
    handled = capsys.readouterr().out
    assert [handled.index(f"says Added counter=a, amount={amount}") for amount in (2, 3, 4)] == sorted(
        handled.index(f"says Added counter=a, amount={amount}") for amount in (2, 3, 4)
    )
    redeploy(counting, lambda count, asked: add(count, replace(asked, how="ring")))
    assert await foretell(desk(counting), Selection(), []) == carrying_out.DONE
    assert "asks Ring bell=a\n    what follows depends on the answer" in capsys.readouterr().out

    assert await everything(counting) == before
    assert counting.counter.bells.rounds == []


async def everything(counting: Counting) -> list[Any]:
    """Every row with the transaction that wrote it and the one that locked it."""
    tables = ("lanes", "parked", "outbox", "counts", "entries", "operations")
    return [await counting.rows(f"SELECT xmin, xmax, t.* FROM {table} t ORDER BY ctid") for table in tables]


async def test_a_redrive_that_no_worker_takes_says_so_and_leaves_everything_as_it_was(
    counting: Counting, luck: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    await poison(counting, luck, "a")
    await counting.stop()
    counting.instances.clear()
    before = await counting.rows("SELECT * FROM parked ORDER BY number")

    assert await orders(counting, 0.5).redrive(Selection(), [], 1000) == carrying_out.NOT_ASKED
    assert await counting.rows("SELECT * FROM parked ORDER BY number") == before
    assert f"{counting.counter.name} does not seem to run" in " ".join(capsys.readouterr().out.split())

    head = await id_of(counting, "a")
    assert await orders(counting, 0.5).discard(head) == carrying_out.NOT_ASKED
    assert (await parked(counting))[0] == ("a", "Discarded", 1), "the decision is made"
    await counting.start()
    await eventually(equals(lambda: parked(counting), []))
    assert await amounts(counting, "a") == [1, 3, 4]


async def test_a_redrive_that_is_interrupted_takes_back_what_was_not_tried(
    counting: Counting, luck: random.Random
) -> None:
    await poison(counting, luck, "a")
    await counting.stop()
    counting.instances.clear()
    redriving = asyncio.create_task(orders(counting).redrive(Selection(), [], 1000))
    await eventually(lambda: counting.rows("SELECT 1 FROM parked WHERE retry_at IS NOT NULL"))

    redriving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await redriving

    assert await counting.rows("SELECT 1 FROM parked WHERE retry_at IS NOT NULL") == []
    [(_, _, _, outcome, ended)] = await operations(counting)
    assert (outcome, ended) == (INTERRUPTED, True)


async def test_a_parked_record_is_shown_with_its_event_its_stack_and_what_waits_behind_it(
    counting: Counting, luck: random.Random
) -> None:
    await poison(counting, luck, "a")
    head, behind = await id_of(counting, "a"), await id_of(counting, "a", 1)

    shown = "\n".join(await show(desk(counting), head))

    home = counting.partition("a")
    [origin] = await counting.rows(
        "SELECT log_offset FROM parked WHERE number = %s AND partition = %s", head.number, home
    )
    assert f"{counting.counter.requests}, partition {home}, offset {origin[0]}" in shown
    assert "event      Add\n" in shown
    assert '"how": "raise"' in shown
    assert 'raise ZeroDivisionError("the decision divides by zero")' in shown
    assert f"2 records of the same key wait behind it:\n  {behind}  Add" in shown
    assert f"pavane dead-letters redrive {head} --dry-run" in shown
    assert f"See {head}: when that one is handled" in "\n".join(await show(desk(counting), behind))
